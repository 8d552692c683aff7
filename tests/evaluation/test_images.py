"""Images as they are found, checked and sent."""

import base64
import io
import re
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from medreward_eval.errors import BadData
from medreward_eval.tasks.images import MOST_PIXELS, ImageFiles, data_url, read_image, sendable


def picture(kind: str = "PNG", mode: str = "RGB", size: tuple[int, int] = (4, 3)) -> bytes:
    """A small image."""
    written = io.BytesIO()
    Image.new(mode, size, 1).save(written, kind)
    return written.getvalue()


def pixels(content: bytes) -> tuple[str | None, str, list[int]]:
    """A grey image's format, mode and first row."""
    with Image.open(io.BytesIO(content)) as image:
        return image.format, image.mode, np.asarray(image)[0, :, 0].tolist()


def deep(values: list[int]) -> bytes:
    """A row of 16-bit greys, as a TIFF."""
    written = io.BytesIO()
    Image.fromarray(np.array([values], dtype=np.uint16)).save(written, "TIFF")
    return written.getvalue()


def files(folder: Path, zip_name: str | None = None, **given: Path) -> ImageFiles:
    """The image files in a data set's folder."""
    return ImageFiles(folder.joinpath, zip_name, "imgs", given.get("images_dir"))


@pytest.mark.parametrize(
    "content",
    [
        picture("JPEG"),
        picture("JPEG", "L"),
        picture("PNG"),
        picture("PNG", "RGBA"),
        picture("PNG", "P"),
        picture("WEBP"),
    ],
)
def test_what_every_server_reads_passes_unchanged(content: bytes) -> None:
    """Nothing is lost to a second compression."""
    assert sendable(content) is content


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("BMP", "RGB"), ("TIFF", "RGB"), ("TIFF", "L"), ("GIF", "P"), ("JPEG", "CMYK")],
)
def test_what_some_servers_do_not_read_becomes_a_png(kind: str, mode: str) -> None:
    """The PNG is in RGB and has the same size."""
    with Image.open(io.BytesIO(sendable(picture(kind, mode)))) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "RGB", (4, 3))


def test_deep_greys_keep_their_shades() -> None:
    """The darkest of 16 bits becomes black and the brightest white; cut off, all would be white."""
    assert pixels(sendable(deep([1000, 2000, 3000]))) == ("PNG", "RGB", [0, 128, 255])
    assert pixels(sendable(deep([1000, 1000]))) == ("PNG", "RGB", [0, 0])


def test_a_picture_that_lies_on_its_side_is_written_upright() -> None:
    """The EXIF orientation is applied before it is lost."""
    written = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (4, 3)).save(written, "TIFF", exif=exif)

    with Image.open(io.BytesIO(sendable(written.getvalue()))) as image:
        assert image.size == (3, 4)


def test_an_image_of_too_many_pixels_is_not_decoded() -> None:
    """A small file may hold more than the memory does."""
    side = int(MOST_PIXELS**0.5) + 1

    for width, height in ((side, side), (side * 2, side * 2)):
        content = bytearray(picture("BMP"))
        content[18:26] = struct.pack("<ii", width, height)
        with pytest.raises(ValueError, match="more than 64 million pixels"):
            sendable(bytes(content))


def test_what_is_too_large_to_be_sent_is_refused() -> None:
    """Servers bound what they take, and would say less."""
    with pytest.raises(ValueError, match=r"an image of 21 MiB, and 20 may be sent; shrink it"):
        sendable(picture("PNG") + bytes(21 << 20))


@given(st.binary(max_size=200), st.sampled_from([b"", *map(picture, ["PNG", "GIF", "TIFF"])]))
def test_what_is_no_image_is_said_to_be_none(content: bytes, start: bytes) -> None:
    """Whatever the bytes are, they become an image that can be sent, or one kind of error."""
    try:
        sent = sendable(start[: len(start) - 20] + content)
    except ValueError as exc:
        assert "image" in str(exc)  # noqa: PT017 - either outcome is right
    else:
        assert data_url(sent)


@given(st.binary(), st.sampled_from(["JPEG", "PNG", "WEBP"]))
def test_a_data_url_holds_the_content(tail: bytes, kind: str) -> None:
    """Read back, it is the same file."""
    content = picture(kind) + tail
    head, _, body = data_url(content).partition(",")

    assert head == f"data:image/{kind.lower()};base64"
    assert base64.b64decode(body, validate=True) == content


def test_a_data_url_is_of_what_is_sent() -> None:
    """Other formats have to be rewritten first."""
    with pytest.raises(ValueError, match="neither JPEG nor PNG nor WebP"):
        data_url(picture("BMP"))


def test_an_image_is_found_where_the_row_says(tmp_path: Path) -> None:
    """The image is in the row, in the hub's struct, or in a file of the data set's folder."""
    content = picture()
    (tmp_path / "imgs").mkdir()
    (tmp_path / "imgs" / "a.png").write_bytes(content)
    found = files(tmp_path)

    for value in (
        content,
        {"bytes": content, "path": None},
        {"bytes": None, "path": "a.png"},
        "a.png",
    ):
        assert read_image(value, found) == content


def test_an_image_is_read_from_an_archive_or_what_was_in_it(tmp_path: Path) -> None:
    """A folder of the unpacked archive replaces the archive."""
    content = picture()
    with zipfile.ZipFile(tmp_path / "imgs.zip", "w") as archive:
        archive.writestr("imgs/x1/source.png", content)
    packed = files(tmp_path, "imgs.zip")
    assert read_image("x1/source.png", packed) == content
    with pytest.raises(ValueError, match=r"^a path to no file in imgs\.zip$"):
        read_image("x2/source.png", packed)
    packed.close()

    with zipfile.ZipFile(tmp_path / "imgs.zip") as archive:
        archive.extractall(tmp_path)
    (tmp_path / "imgs.zip").unlink()
    assert read_image("x1/source.png", files(tmp_path, "imgs.zip")) == content


def test_a_url_names_a_file_of_the_folder_of_images(tmp_path: Path) -> None:
    """Its last part does; nothing is fetched."""
    (tmp_path / "a b.png").write_bytes(picture())
    url = "https://example.org/files/p10/a%20b.png?download"

    assert read_image(url, files(tmp_path, images_dir=tmp_path)) == picture()
    with pytest.raises(BadData, match="give it as --images-dir"):
        read_image(url, files(tmp_path))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "no image"),
        ("", "no image"),
        ({"bytes": None, "path": None}, "no image"),
        (7, "int; it takes bytes, a path, or the hub's images"),
        (b"the patient", "an image that cannot be read (UnidentifiedImageError)"),
        ("the patient", "a path to no file in imgs"),
        ("the \0 patient", "a path to no file in imgs"),
        ("x" * 5000, "a path to no file in imgs"),
        ("../the patient", "a path that leads out of imgs"),
        ("/the patient", "a path that leads out of imgs"),
    ],
)
def test_what_is_wrong_with_an_image_is_said_without_its_content(
    tmp_path: Path, value: object, said: str
) -> None:
    """A wrong column may hold a patient's text, and a data set may name any file."""
    (tmp_path / "imgs").mkdir()
    (tmp_path / "the patient").write_bytes(picture())

    with pytest.raises(ValueError, match=re.escape(said.replace("imgs", str(tmp_path / "imgs")))):
        read_image(value, files(tmp_path))


def test_a_data_set_without_its_images_stops_at_once(tmp_path: Path) -> None:
    """Its rows are not at fault."""
    with pytest.raises(BadData, match=r"imgs, which should hold the images, is no folder"):
        read_image("a.png", files(tmp_path))
    with pytest.raises(
        BadData, match=r"imgs\.zip, which holds the images, cannot be read: FileNot"
    ):
        read_image("a.png", files(tmp_path, "imgs.zip"))
    (tmp_path / "imgs.zip").write_bytes(b"PK")
    with pytest.raises(BadData, match="cannot be read: BadZipFile"):
        read_image("a.png", files(tmp_path, "imgs.zip"))
