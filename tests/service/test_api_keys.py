"""The keys that callers send: how they are written, and their file."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog

from medreward.api_keys import ApiKey, KeyRing, read_key_file, read_keys, split_keys


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("one, two ,", [("one", ""), ("two", "")]),
        ("ward:=one,ward:=two", [("one", "ward"), ("two", "ward")]),
        ("ward-7.b_x:=one\r\nlab:=two\r\n", [("one", "ward-7.b_x"), ("two", "lab")]),
        ("\ufeffone\n", [("one", "")]),
        # What keys of services without names may look like.
        ("c2VjcmV0==", [("c2VjcmV0==", "")]),
        ("id:secret", [("id:secret", "")]),
        ("a=b:c=", [("a=b:c=", "")]),
        ("clé à", [("clé à", "")]),
        ("one,one", [("one", ""), ("one", "")]),
    ],
)
def test_keys_are_read_with_their_names(text: str, keys: list[tuple[str, str]]) -> None:
    """Only `:=` makes a name; a byte order mark and ends of lines belong to no key."""
    assert read_keys(split_keys(text)) == tuple(ApiKey(*key) for key in keys)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fine,Ward:=hunter2", "key 2 holds :=, which ends a name"),
        ("hun:=", "key 1 holds :=, which ends a name"),
        (":=hunter2", "key 1 holds :=, which ends a name"),
        ("a b:=hunter2", "key 1 holds :=, which ends a name"),
        ("ward:= hunter2", "key 1 holds :=, which ends a name"),
        ("ward:=hun:=ter2", "key 1 holds :=, which ends a name"),
        ("hunter2,ward:=hunter2", "key 2 is also listed with another name, or without one"),
        ("ward:=hunter2,lab:=hunter2", "key 2 is also listed with another name, or without one"),
        ("hun\x00ter2", "key 1 holds a character that cannot be printed"),
        ("hunter2\ufeff", "key 1 holds a character that cannot be printed"),
    ],
)
def test_a_key_that_would_be_read_otherwise_is_refused(text: str, said: str) -> None:
    """The refusal tells which and why, and quotes nothing of it."""
    with pytest.raises(ValueError, match=said) as caught:
        read_keys(split_keys(text))

    assert "hun" not in str(caught.value)


def test_a_name_keeps_its_namespace() -> None:
    """That of a key without a name is as ever, and no key has the namespace of a name."""
    assert ApiKey("old", "ward").namespace == ApiKey("new", "ward").namespace
    assert ApiKey("old", "ward").namespace != ApiKey("old", "lab").namespace
    assert ApiKey("k").namespace == hashlib.sha256(b"namespace:k").hexdigest()[:16]
    assert len(ApiKey("k", "k").namespace) > len(ApiKey("k").namespace)


# The file.


def callers(ring: KeyRing) -> set[str]:
    """The keys that are let in."""
    return {sent.decode() for sent in ring.namespaces}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with two keys."""
    file = tmp_path / "medreward_api_keys"
    file.write_text("key-one,key-two")
    return file


@pytest.fixture
def ring(file: Path) -> KeyRing:
    """The keys of that file."""
    return KeyRing(read_key_file(file), file)


@pytest.mark.parametrize("content", ["\ufeffkey-two\r\nkey-three\r\n", "key-two,key-three"])
def test_new_keys_are_in_force_once_the_file_is_at_rest(
    file: Path, ring: KeyRing, content: str
) -> None:
    """A second reading that equals the first shows that nobody is writing any more."""
    file.write_text(content)
    ring.reread()
    early = callers(ring)
    ring.reread()

    assert early == {"key-one", "key-two"}
    assert callers(ring) == {"key-two", "key-three"}


def test_a_key_is_known_with_the_name_in_front_of_it_too(ring: KeyRing, file: Path) -> None:
    """Whoever copies the whole entry of the file is let in, under the same namespace."""
    file.write_text("ward:=key-one")
    ring.reread()
    ring.reread()

    assert callers(ring) == {"key-one", "ward:=key-one"}
    assert len(set(ring.namespaces.values())) == 1


def _write(content: bytes) -> Callable[[Path], object]:
    return lambda file: file.write_bytes(content)


def _make_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize(
    "spoil",
    [
        _write(b""),
        _write(b" ,\r\n"),
        _write(b"\xef\xbb\xbf"),
        _write(b"key-one,key-t"),  # cut off within a key that is in force
        _write(b"key-thr\xc3"),  # cut off within a letter
        _write("key-three".encode("utf-16")),
        _write(b"ward:="),
        Path.unlink,
        _make_folder,
    ],
)
def test_keys_stay_in_force_if_the_file_is_spoilt(
    file: Path, ring: KeyRing, spoil: Callable[[Path], object]
) -> None:
    """It is logged once, without a key, and the file is read on until it is whole."""
    spoil(file)
    with structlog.testing.capture_logs() as logged:
        for _ in range(4):
            ring.reread()
    while_spoilt = callers(ring)
    if file.is_dir():
        file.rmdir()
    file.write_text("key-four")
    ring.reread()
    ring.reread()

    assert while_spoilt == {"key-one", "key-two"}
    assert [line["event"] for line in logged] == ["api_keys_kept"]
    assert str(file) in logged[0]["reason"]
    assert "key-" not in logged[0]["reason"].replace(str(file), "")
    assert callers(ring) == {"key-four"}


@pytest.mark.parametrize("content", ["ward:=one,l", "ward:=one,lab", "ward:=one,lab:=tw", "war"])
def test_what_is_left_of_a_named_key_opens_nothing(tmp_path: Path, content: str) -> None:
    """A file that was cut off holds the key of nobody, least of all a name as a key."""
    file = tmp_path / "medreward_api_keys"
    file.write_text("ward:=one,lab:=two")
    ring = KeyRing(read_key_file(file), file)
    before = callers(ring)
    file.write_text(content)
    for _ in range(3):
        ring.reread()

    assert callers(ring) == before


def test_a_key_may_be_taken_away(file: Path, ring: KeyRing) -> None:
    """A key in force that is no longer in the file opens nothing."""
    file.write_text("key-two")
    ring.reread()
    ring.reread()

    assert callers(ring) == {"key-two"}
