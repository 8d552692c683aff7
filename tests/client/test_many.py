"""`score_many`: results in a file, which a later run continues."""

import asyncio
import json
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from medreward_client import (
    Choice,
    ChoiceCriterion,
    Criterion,
    RequestRefused,
    RewardClient,
    Sample,
    Scored,
    Unavailable,
    Unscored,
)
from medreward_client._many import Tally, score_many
from medreward_client._results import OtherResults, read_results
from tests.client.stand_in import PATIENT_TEXT, PROBLEM, SCORED, UNSCORED, URL, reward_body
from tests.support.wait import wait_until


class StandIn:
    """A scripted service that records the samples of each request."""

    def __init__(self) -> None:
        self.asked: list[list[dict[str, Any]]] = []
        self.unscored: set[str | None] = set()
        self.provenance: dict[str, str] = {}
        self.before_reply: Callable[[], Awaitable[object]] | None = None
        self.refusal: httpx.Response | None = None

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        samples = json.loads(request.content)["samples"]
        self.asked.append(samples)
        if self.before_reply is not None:
            await self.before_reply()
        if self.refusal is not None:
            return self.refusal
        body = reward_body(*map(self._result, samples))
        body["provenance"] |= self.provenance
        return httpx.Response(200, json=body)

    @property
    def ids(self) -> list[str | None]:
        """The ids of all samples that were sent."""
        return [sample.get("id") for samples in self.asked for sample in samples]

    def _result(self, sample: dict[str, Any]) -> dict[str, Any]:
        name = sample.get("id")
        return {**(UNSCORED if name in self.unscored else SCORED), "id": name}


@pytest.fixture
def service() -> StandIn:
    """A service that scores everything."""
    return StandIn()


@pytest.fixture
def client(service: StandIn) -> Iterator[RewardClient]:
    """A client of that service."""
    with RewardClient(URL, transport=httpx.MockTransport(service)) as client:
        yield client


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of the results."""
    return tmp_path / "results.jsonl"


def samples_of(number: int) -> list[Sample]:
    """Make samples `s0`, `s1`, ... that differ in what they say."""
    return [Sample(f"{PATIENT_TEXT} {n}", "left lower lobe", id=f"s{n}") for n in range(number)]


def lines_of(path: Path) -> list[dict[str, Any]]:
    """Read a file of JSON Lines."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def tally_of(*, scored: int, found: int, **reasons: int) -> Tally:
    """Build the tally of a run; `reasons` are the counts of unscored samples by kind."""
    return Tally(scored, sum(reasons.values()), found, reasons)


def test_each_sample_becomes_a_line_that_says_what_its_reward_depends_on(
    client: RewardClient, path: Path
) -> None:
    """A line can be read without the others, and holds no text: results are shared more widely."""
    tally = score_many(client, [replace(samples_of(1)[0], question="Which lobe of Mrs Roe?")], path)

    assert "Roe" not in path.read_text("utf-8")
    assert "lower lobe" not in path.read_text("utf-8")
    (line,) = lines_of(path)
    components = line.pop("components")
    assert len(line.pop("digest")) == 32
    assert line == {
        "id": "s0",
        "status": "scored",
        "reward": 1.0,
        "flags": ["two_answers"],
        "error": None,
        "recipe": "medix-r1",
        "fingerprint": "sha256:1f",
        "judge": "Qwen3-4B",
        "embedder": "MedEmbed",
    }
    assert components["accuracy_llm"]["p_yes"] == 0.998
    assert tally == tally_of(scored=1, found=0)


def test_results_are_read_as_the_client_gives_them(
    service: StandIn, client: RewardClient, path: Path
) -> None:
    """The results in the file equal those of the call."""
    service.unscored = {"s1"}
    score_many(client, samples_of(2), path)

    results = read_results(path)

    assert list(results) == ["s0", "s1"]
    assert results == {r.id: r for r in client.reward(samples_of(2)).results}
    assert isinstance(results["s0"], Scored)
    assert isinstance(results["s1"], Unscored)
    assert results["s1"].error.kind == PROBLEM["kind"]


def test_a_second_run_asks_about_nothing_that_was_scored(
    service: StandIn, client: RewardClient, path: Path
) -> None:
    """A second run sends only samples without a reward, `batch` of them in a request."""
    score_many(client, samples_of(3), path)
    tally = score_many(client, samples_of(8), path, batch=2, in_flight=1)

    assert service.ids == [f"s{n}" for n in range(8)]
    assert [len(samples) for samples in service.asked] == [3, 2, 2, 1]
    assert tally == tally_of(scored=8, found=3)


def test_what_was_unscored_is_asked_about_again_and_the_last_line_holds(
    service: StandIn, client: RewardClient, path: Path
) -> None:
    """An unscored sample is sent again, and the reader returns its last result."""
    service.unscored = {"s1"}
    first = score_many(client, samples_of(3), path)
    service.unscored = set()
    second = score_many(client, samples_of(3), path)

    assert first == tally_of(scored=2, found=0, judge_timeout=1)
    assert second == tally_of(scored=3, found=2)
    assert service.ids == ["s0", "s1", "s2", "s1"]
    assert [line["id"] for line in lines_of(path)] == ["s0", "s1", "s2", "s1"]
    assert all(isinstance(result, Scored) for result in read_results(path).values())


@pytest.mark.parametrize("kept", [1, 6, 7, 40, -2])
def test_a_line_that_was_cut_off_is_done_again(
    service: StandIn, client: RewardClient, path: Path, kept: int
) -> None:
    """If a run was killed within a line, only that sample is scored again."""
    score_many(client, samples_of(2), path)
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + second[:kept])

    assert list(read_results(path)) == ["s0"]
    assert score_many(client, samples_of(2), path).found == 1
    assert service.ids == ["s0", "s1", "s1"]
    assert path.read_bytes() == first + second


def test_a_last_line_without_its_end_is_kept(
    service: StandIn, client: RewardClient, path: Path
) -> None:
    """Editors drop the last line feed; the next line must not be glued to it."""
    score_many(client, samples_of(1), path)
    path.write_bytes(path.read_bytes().rstrip())
    score_many(client, samples_of(2), path)

    assert [line["id"] for line in lines_of(path)] == ["s0", "s1"]
    assert service.ids == ["s0", "s1"]


@pytest.mark.parametrize(
    "content",
    ["id,reward\ns0,1.0\n", "notes without an end", '{"id": "s0", "reward": 1.0}\n', "[]"],
)
def test_a_file_of_something_else_is_left_alone(
    service: StandIn, client: RewardClient, path: Path, content: str
) -> None:
    """A file of something else is not changed."""
    path.write_text(content)
    with pytest.raises(OtherResults, match="line 1 is no result"):
        score_many(client, samples_of(1), path)
    with pytest.raises(OtherResults, match="line 1 is no result"):
        read_results(path)

    assert path.read_text() == content
    assert service.asked == []


@pytest.mark.parametrize("field", ["fingerprint", "judge", "embedder"])
def test_rewards_that_cannot_be_compared_are_not_mixed(
    service: StandIn, client: RewardClient, path: Path, field: str
) -> None:
    """If the service changed between runs, nothing is written."""
    score_many(client, samples_of(1), path)
    before = path.read_bytes()
    service.provenance = {field: "another"}

    with pytest.raises(OtherResults, match=rf"{field} .*now 'another'.*write to a new file"):
        score_many(client, samples_of(2), path)
    assert path.read_bytes() == before


def test_another_recipe_is_refused_before_anything_is_asked(
    service: StandIn, client: RewardClient, path: Path
) -> None:
    """The name of the recipe is enough."""
    score_many(client, samples_of(1), path)

    with pytest.raises(OtherResults, match="of the recipe 'medix-r1', not 'strict'"):
        score_many(client, samples_of(2), path, recipe="strict")
    assert service.ids == ["s0"]


def test_a_failure_under_another_recipe_stands_in_nobodys_way(
    service: StandIn, client: RewardClient, path: Path
) -> None:
    """Only rewards have to share their origin, not unscored lines."""
    service.unscored = {"s0"}
    score_many(client, samples_of(1), path)
    service.unscored, service.provenance = set(), {"fingerprint": "sha256:2e"}

    assert score_many(client, samples_of(1), path).scored == 1


@pytest.mark.parametrize(
    "change",
    [
        {"response": "another"},
        {"reference": ["left lower lobe", "the lower lobe"]},
        {"question": "Which lobe?"},
        {"modality": "X_RAY"},
        {"criteria": [Criterion("names the side", 1.0)]},
        {"criteria": [ChoiceCriterion("names the side", [Choice("no", 0), Choice("yes", 1)])]},
        {"extra": {"language": "yo"}},
        {"group": "g", "group_size": 1},
    ],
)
def test_an_id_stands_for_one_content(
    client: RewardClient, path: Path, change: dict[str, Any]
) -> None:
    """A file of an earlier checkpoint's responses is refused."""
    (sample,) = samples_of(1)
    score_many(client, [sample], path)

    with pytest.raises(OtherResults, match="'s0' was another sample there"):
        score_many(client, [replace(sample, **change)], path)


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ({}, {"reference": ["left lower lobe"]}),
        ({}, {"group": "g"}),
        ({"extra": {"a": [1, 2], "b": {"c": 0}}}, {"extra": {"b": {"c": 0}, "a": (1, 2)}}),
    ],
)
def test_what_changes_no_reward_changes_no_content(
    client: RewardClient, path: Path, before: dict[str, Any], now: dict[str, Any]
) -> None:
    """A list of one reference equals that reference, and the keys of `extra` have no order."""
    (sample,) = samples_of(1)
    score_many(client, [replace(sample, **before)], path)

    assert score_many(client, [replace(sample, **now)], path).found == 1


WRITTEN_BEFORE_EXTRA_COUNTED = {
    "plain": "1933c1282118df284389b086feaac7ba",
    "rubric": "f8ae79decfc69b8f6b6a2a906b043416",
}
"""Digests that a version wrote which read neither `extra` nor `group_size`."""


def test_a_file_of_before_is_read_as_it_was(client: RewardClient, path: Path) -> None:
    """Its samples are found again; one with an `extra` is refused, since nobody knows which it had."""
    rubric = [Criterion("names the side", 1.0)]
    samples = [
        Sample("left", "left lower lobe", id="plain", question="Where?"),
        Sample("left", "", id="rubric", criteria=rubric),
    ]
    score_many(client, samples, path)
    lines = [line | {"digest": WRITTEN_BEFORE_EXTRA_COUNTED[line["id"]]} for line in lines_of(path)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")

    assert score_many(client, samples, path).found == 2
    with pytest.raises(OtherResults, match="extra or group_size differ, or an older version"):
        score_many(client, [replace(samples[0], extra={"language": "yo"})], path)


def grouped(sizes: list[int]) -> list[Sample]:
    """Make groups of declared sizes, one after the other."""
    names = [(f"g{n}", size) for n, size in enumerate(sizes) for _ in range(size)]
    return [
        replace(sample, group=group, group_size=size)
        for sample, (group, size) in zip(samples_of(sum(sizes)), names, strict=True)
    ]


def test_a_group_of_a_declared_size_is_in_one_request(
    service: StandIn, client: RewardClient, path: Path
) -> None:
    """A request may then be larger than the batch; a single sample between two groups joins one."""
    samples = [*grouped([3, 3, 1]), Sample("alone", "left", id="alone")]

    score_many(client, samples, path, batch=4, in_flight=1)

    assert [len(request) for request in service.asked] == [6, 2]


def test_a_group_with_a_sample_without_a_reward_is_sent_whole(
    service: StandIn, client: RewardClient, path: Path
) -> None:
    """The reward of one may depend on the others; a group that has all of its rewards is not sent."""
    samples = grouped([2, 3])
    service.unscored = {"s3"}
    score_many(client, samples, path)
    service.asked, service.unscored = [], set()

    tally = score_many(client, samples, path)

    assert service.ids == ["s2", "s3", "s4"]
    assert tally == tally_of(scored=5, found=2)
    assert all(isinstance(result, Scored) for result in read_results(path).values())


def test_samples_without_ids_are_named_by_their_position(
    service: StandIn, client: RewardClient, path: Path
) -> None:
    """Positions identify the samples; a changed order is refused."""
    samples = [replace(sample, id=None) for sample in samples_of(3)]
    score_many(client, samples[:2], path)
    assert score_many(client, samples, path).found == 2

    assert list(read_results(path)) == ["#0", "#1", "#2"]
    assert service.ids == [None, None, None]
    with pytest.raises(OtherResults, match="'#0' was another sample"):
        score_many(client, samples[::-1], path)


def test_two_samples_with_one_id_are_refused(client: RewardClient, path: Path) -> None:
    """Duplicate ids are a ValueError, and earlier results are kept."""
    with pytest.raises(ValueError, match="two samples have the id 's1'"):
        score_many(client, [*samples_of(2), samples_of(2)[1]], path, batch=1)

    assert sorted(read_results(path)) == ["s0", "s1"]


def test_samples_are_read_as_they_are_needed(
    service: StandIn, client: RewardClient, path: Path
) -> None:
    """A generator is read as requests are sent, and requests in flight are limited."""
    read = most_ahead = at_once = most_at_once = 0
    meeting = asyncio.Barrier(3)

    def generated() -> Iterator[Sample]:
        nonlocal read, most_ahead
        for sample in samples_of(210):
            read += 1
            most_ahead = max(most_ahead, read - len(path.read_bytes().splitlines()))
            yield sample

    async def wait_for_others() -> None:
        nonlocal at_once, most_at_once
        at_once += 1
        most_at_once = max(most_at_once, at_once)
        await meeting.wait()
        at_once -= 1

    service.before_reply = wait_for_others
    tally = score_many(client, generated(), path, batch=10, in_flight=3)

    assert tally.scored == 210
    assert most_at_once == 3
    assert most_ahead <= 10 * (3 + 1)


def test_an_interruption_loses_nothing_that_was_answered(
    service: StandIn, client: RewardClient, path: Path
) -> None:
    """Ctrl-C ends the run at once, even with a request in flight; the next run continues."""
    freed = threading.Event()

    async def is_freed() -> None:
        await asyncio.to_thread(freed.wait)

    def interrupted() -> Iterator[Sample]:
        *first, last = samples_of(5)
        yield from first
        wait_until(lambda: len(path.read_bytes().splitlines()) == 4)
        service.before_reply = is_freed
        yield last
        wait_until(lambda: len(service.asked) == 5)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        score_many(client, interrupted(), path, batch=1, in_flight=2)
    assert sorted(read_results(path)) == ["s0", "s1", "s2", "s3"]

    freed.set()
    assert score_many(client, samples_of(5), path) == tally_of(scored=5, found=4)
    assert [line["id"] for line in lines_of(path)].count("s4") == 1


def test_a_request_that_fails_ends_the_run_and_says_where(
    service: StandIn, client: RewardClient, path: Path
) -> None:
    """The error has the service's message and the ids of the samples."""
    told = {"error": {"kind": "invalid_request", "message": "recipe: unknown", "retryable": False}}
    score_many(client, samples_of(2), path)
    service.refusal = httpx.Response(422, json=told | {"request_id": "r1"})

    with pytest.raises(RequestRefused) as caught:
        score_many(client, samples_of(6), path, batch=2, in_flight=1)
    assert caught.value.__notes__ == ["Samples asked about: 's2' to 's3'."]
    assert list(read_results(path)) == ["s0", "s1"]
    assert len(service.asked) == 2


@pytest.mark.parametrize("batch", [2, 6])
def test_a_sample_that_is_refused_ends_nothing(
    service: StandIn, client: RewardClient, path: Path, batch: int
) -> None:
    """It is unscored, also if it is alone in its request; the tally has its id and the reason."""

    async def refuse(request: httpx.Request) -> httpx.Response:
        asked = json.loads(request.content)["samples"]
        for place, one in enumerate(asked):
            if one["modality"] == "XRAY":
                told = {"kind": "invalid_request", "message": f"samples[{place}].modality: no tag"}
                return httpx.Response(422, json={"error": told | {"retryable": False}})
        return await service(request)

    samples = [replace(one, modality="XRAY" if one.id == "s4" else None) for one in samples_of(5)]
    with RewardClient(URL, transport=httpx.MockTransport(refuse)) as refusing:
        tally = score_many(refusing, samples, path, batch=batch)

    assert tally == tally_of(scored=4, found=0, sample_refused=1)
    assert [name for name, one in read_results(path).items() if isinstance(one, Unscored)] == ["s4"]
    assert tally.refused == {"s4": "status 422, invalid_request: the sample 's4', modality: no tag"}
    # Mended, it is scored by the next run.
    assert score_many(client, samples_of(4), path) == tally_of(scored=4, found=4)


def test_a_failure_keeps_what_others_are_answered_meanwhile(
    service: StandIn, client: RewardClient, path: Path
) -> None:
    """If one request fails, the results of another in flight are written."""
    other_asked = asyncio.Event()

    async def one_fails(request: httpx.Request) -> httpx.Response:
        if b'"s0"' in request.content:
            await other_asked.wait()
            raise httpx.ConnectError("gone")
        other_asked.set()
        return await service(request)

    transport = httpx.MockTransport(one_fails)
    with (
        RewardClient(URL, transport=transport, deadline_s=0.1) as failing,
        pytest.raises(Unavailable),
    ):
        score_many(failing, samples_of(2), path, batch=1, in_flight=2)
    assert list(read_results(path)) == ["s1"]


def test_samples_that_cannot_be_read_lose_nothing_that_was_answered(
    client: RewardClient, path: Path
) -> None:
    """An error of the user's iterator is raised unchanged."""

    def broken() -> Iterator[Sample]:
        yield from samples_of(2)
        raise LookupError("no more data")

    with pytest.raises(LookupError, match="no more data"):
        score_many(client, broken(), path, batch=2)
    assert list(read_results(path)) == ["s0", "s1"]


def test_two_runs_do_not_write_into_one_file(client: RewardClient, path: Path) -> None:
    """A second run on the same file is refused."""

    def second_run() -> Iterator[Sample]:
        with pytest.raises(OtherResults, match="another run is writing"):
            score_many(client, samples_of(1), path)
        yield from samples_of(1)

    assert score_many(client, second_run(), path).scored == 1


@pytest.mark.parametrize("number", [{"batch": 0}, {"in_flight": 0}])
def test_a_number_that_would_score_nothing_is_refused(
    client: RewardClient, path: Path, number: dict[str, int]
) -> None:
    """A number below 1 is a ValueError; no samples are none."""
    with pytest.raises(ValueError, match="at least 1"):
        score_many(client, samples_of(1), path, **number)  # type: ignore[arg-type]
    assert not path.exists()
    assert score_many(client, [], path) == tally_of(scored=0, found=0)


def test_a_bar_is_drawn_where_it_is_asked_for(
    service: StandIn, client: RewardClient, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The bar counts scored and unscored samples; without a terminal the default draws nothing."""
    service.unscored = {"s1"}
    score_many(client, samples_of(3), path)
    assert capsys.readouterr() == ("", "")

    score_many(client, samples_of(4), path, progress=True)

    said = capsys.readouterr()
    assert "4 of 4" in said.err
    assert "3 scored" in said.err
    assert "1 unscored" in said.err
    assert said.out == ""

    service.unscored = set()
    score_many(client, samples_of(4), path)
    score_many(client, iter(samples_of(4)), path, progress=True)
    # The total of a generator is not known.
    assert "4 of ? 4 scored 0 unscored" in capsys.readouterr().err
