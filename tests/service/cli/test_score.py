"""`medreward score`: rewards over HTTP, shown and kept."""

import io
import json
import os
import re
import signal
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from statistics import fmean, stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from medreward.app import create_app
from medreward.cli.tables import RewardRun, Scored, print_groups
from medreward.engines.supervisor import LIMITS_WITHOUT_LLM
from medreward.http.schemas import (
    RewardCounts,
    RewardProvenance,
    RewardReply,
    SampleResult,
    Timings,
)
from medreward.samples import Sample
from tests.service.cli.conftest import (
    PATIENT_TEXT,
    PROGRAM,
    ROLLOUTS,
    Run,
    outage,
    rows_of,
    settings,
)
from tests.support.engines import TroubledJudge, hang
from tests.support.process import Program, Service
from tests.support.service import served
from tests.support.wait import wait_until

Write = Callable[..., Path]

RIGHT = {
    "id": "right",
    "response": "<X_RAY><thinking>t</thinking><answer>Left lower lobe</answer>",
    "reference": "left lower lobe",
    "modality": "X_RAY",
}
WRONG = RIGHT | {
    "id": "wrong",
    "response": "<CT_SCAN><thinking>t</thinking><answer>spleen</answer>",
}
UNSCORABLE = RIGHT | {"id": "empty-reference", "reference": " "}


def test_every_sample_gets_a_row(run: Run, url: str, jsonl: Write) -> None:
    """The row tells the reward, and each signal with the number behind it."""
    told = run("score", jsonl(RIGHT, WRONG), "--url", url)

    assert told.code == 0
    assert _row(told.stdout, "right") == ["right", "1.0000", "1", "1.000", "1", "1.000", "1", "1"]
    assert _row(told.stdout, "wrong")[:4] == ["wrong", "0.1000", "0", "0.000"]
    assert "Means by kind" not in told.stdout  # most files name none


def test_the_summary_tells_what_the_rewards_are_like(run: Run, url: str, jsonl: Write) -> None:
    """Mean, spread, signals, work and what it all depends on."""
    told = run("score", jsonl(RIGHT, WRONG), "--url", url).stdout

    assert "samples   2, all scored" in told
    assert "mean 0.5500, median 0.5500, least 0.1000, greatest 1.0000" in told
    assert "judge 0.50, embed 0.50, modality 0.50, format 1.00" in told
    assert "judge calls" in told
    assert "medix-r1 sha256:" in told
    assert "hashed:" in told


def test_the_histogram_puts_a_reward_into_its_tenth(run: Run, url: str, jsonl: Write) -> None:
    """An edge belongs to the bin above it, and 1 to the last."""
    told = run("score", jsonl(RIGHT, WRONG, WRONG), "--url", url).stdout
    bars = {line[:7]: line[7:].split() for line in told.splitlines() if line[3:4] == "-"}

    assert bars["0.1-0.2"][1:] == ["2"]
    assert bars["0.9-1.0"][1:] == ["1"]
    assert len(bars["0.1-0.2"][0]) == 2 * len(bars["0.9-1.0"][0])
    assert bars["0.0-0.1"] == []


def test_the_histogram_covers_the_range_of_the_recipe(run: Run, url: str, jsonl: Write) -> None:
    """A reward below zero has its bin, from the least that the recipe declares."""
    criteria = [{"text": "Names a lobe.", "points": 2}, {"text": "Is rude.", "points": -1}]
    silent = {"response": "", "reference": "", "criteria": criteria}

    told = run("score", jsonl(silent), "--url", url, "--recipe", "rubric").stdout
    bars = {line[:14]: line[14:].split() for line in told.splitlines() if line[6:8] == "to"}

    assert len(bars) == 10
    assert bars["-0.50 to -0.20"][1:] == ["1"]


def test_forty_rows_are_enough_for_a_look(run: Run, url: str) -> None:
    """The rest is counted, and --all shows it."""
    few = run("score", ROLLOUTS, "--url", url).stdout
    whole = run("score", ROLLOUTS, "--url", url, "--all").stdout

    assert "… and 70 more; --all shows them" in few
    assert "more; --all" not in whole
    assert len(whole.splitlines()) > len(few.splitlines()) + 60


def test_kinds_are_compared_where_the_samples_name_them(run: Run, url: str) -> None:
    """`extra.kind` groups the rewards."""
    told = run("score", ROLLOUTS, "--url", url).stdout.split("Means by kind")[1]

    assert _row(told, "empty")[1] == "6"
    assert _row(told, "right")[1] == "22"


def test_groups_are_compared_where_one_has_two_members(run: Run, url: str, jsonl: Write) -> None:
    """Spread and groups without gradient, by value, and pass@k; the unscored are left out."""
    rows = [
        *({**row, "group": "p1"} for row in (RIGHT, RIGHT, WRONG, WRONG)),
        *({**row, "group": "p2"} for row in (RIGHT, UNSCORABLE, RIGHT)),
        {**UNSCORABLE, "group": "p3"},
        WRONG,
    ]
    told = run("score", jsonl(*rows), "--url", url).stdout
    alone = run("score", jsonl({**RIGHT, "group": "p1"}, {**WRONG, "group": "p2"}), "--url", url)

    section = told.split("Within groups")[1].split("0.0-0.1")[0]
    assert [line.rstrip() for line in section.splitlines() if line.strip()] == [
        " value      groups   mean sd   no gradient",
        " ─────────────────────────────────────────",
        " reward     2        0.2598    50.0%",
        " judge      2        0.2887    50.0%",
        " embed      2        0.2887    50.0%",
        " modality   2        0.2887    50.0%",
        " format     2        0.0000    100.0%",
        "groups  2 of 2 to 4 scored samples; left out, without a reward: 2",
        "pass@k  pass@1 0.7500, pass@2 0.9167",
    ]
    assert "Within groups" not in alone.stdout


def test_a_group_of_a_declared_size_is_scored_at_once(
    run: Run, url: str, jsonl: Write, tmp_path: Path
) -> None:
    """Whatever the batch, so it can be compared."""
    out, declared = tmp_path / "out.jsonl", {"group_size": 3}
    rows = [{**row, **declared, "group": name} for name in "ab" for row in (RIGHT, WRONG, WRONG)]

    run("score", jsonl(*rows), "--url", url, "--out", out, "--batch", "2")

    found = [json.loads(line)["relative"] for line in out.read_text("utf-8").splitlines()]
    assert found == pytest.approx([1.1547, -0.5774, -0.5774] * 2, abs=1e-4)


def test_groups_without_any_reward_are_told(run: Run, jsonl: Write) -> None:
    """There is nothing to compare, and no number stands for it."""
    with served(outage()) as url:
        rows = [{**RIGHT, "group": "p1", "response": f"lobe {n}"} for n in range(2)]
        told = run("score", jsonl(*rows), "--url", url, "--max-unscored", "1").stdout

    assert "groups  none; left out, without a reward: 2" in told
    assert _row(told, "reward") == ["reward", "0", "-", "-"]
    assert "pass@" not in told.split("Within groups")[1]


GROUPS = st.lists(
    st.lists(st.none() | st.sampled_from([0.0, 0.1, 0.1 + 0.2, 0.3, 1.0]), min_size=1, max_size=6),
    min_size=1,
    max_size=5,
)


@given(GROUPS)
def test_figures_of_groups_are_those_of_brute_force(groups: list[list[float | None]]) -> None:
    """Of all draws of k, of all pairs, and of the scored members alone; 1 is right."""
    console = Console(file=io.StringIO(), width=120)
    print_groups(console, run_of(groups))
    told = console.file.getvalue()  # type: ignore[attr-defined]

    kept = [[r for r in group if r is not None] for group in groups]
    kept = [rewards for rewards in kept if rewards]
    spread = [rewards for rewards in kept if len(rewards) > 1]
    if max(map(len, groups)) == 1:
        assert told == ""
        return
    level = sum(all(abs(a - b) < 1e-6 for a in rewards for b in rewards) for rewards in spread)
    row = _row(told, "reward")
    assert row[1] == str(len(spread))
    if spread:
        assert float(row[2]) == pytest.approx(fmean(map(stdev, spread)), abs=1e-4)
        assert row[3] == f"{level / len(spread):.1%}"
    for k in range(1, 8):
        is_told = bool(kept) and k in (1, 2, 4) and k <= min(map(len, kept))
        found = re.search(rf"pass@{k} ([0-9.]+)", told)
        assert (found is not None) == is_told
        if found:
            chances = [fmean(1.0 in draw for draw in combinations(group, k)) for group in kept]
            assert float(found[1]) == pytest.approx(fmean(chances), abs=1e-4)


def run_of(groups: list[list[float | None]]) -> RewardRun:
    """The results of a recipe without a judge, of groups by their rewards."""
    scored = [
        Scored(
            "label",
            Sample(response="", reference="r", group=str(number)),
            SampleResult(
                id=None,
                status="unscored" if reward is None else "scored",
                reward=reward,
                components={},
                flags=[],
            ),
        )
        for number, rewards in enumerate(groups)
        for reward in rewards
    ]
    counts = RewardCounts(scored=0, unscored=0, cache_hits=0, coalesced=0, judge_calls=0)
    reply = RewardReply(
        results=[one.result for one in scored],
        counts=counts,
        provenance=RewardProvenance(
            recipe="own", fingerprint="sha256:", judge="", embedder="", service=""
        ),
        timings_ms=Timings(queue=0, cache=0, judge=0, embed=0, total=0),
    )
    return RewardRun(scored, [reply], 1.0)


def test_results_are_kept_in_order(run: Run, url: str, tmp_path: Path) -> None:
    """--out has one object a sample: its place, its id and group, its result in whatever batch."""
    out = tmp_path / "out.jsonl"
    run("score", ROLLOUTS, "--url", url, "--out", out, "--batch", "7")
    rows, samples = rows_of(out), rows_of(ROLLOUTS)

    assert [(row["id"], row["group"]) for row in rows] == [(s["id"], s["group"]) for s in samples]
    assert [row["line"] for row in rows] == list(range(1, len(samples) + 1))
    assert {row["status"] for row in rows} == {"scored"}
    assert rows[0]["components"]["accuracy_llm"]["weight"] == 0.5175
    assert rows[0]["recipe"] == "medix-r1"
    assert rows[0]["fingerprint"].startswith("sha256:")

    run("score", ROLLOUTS, "--url", url, "--out", out, "--batch", "110")
    assert [row["reward"] for row in rows_of(out)] == [row["reward"] for row in rows]


def test_an_unscored_sample_is_no_zero(run: Run, url: str, jsonl: Write) -> None:
    """It has no number, is left out of the mean, and fails the command if more than allowed are."""
    file = jsonl(RIGHT, UNSCORABLE)
    told = run("score", file, "--url", url)

    assert told.code == 1
    assert _row(told.stdout, "empty-reference")[1] == "none"
    assert "invalid_reference: reference: empty" in told.stdout
    assert "2, 1 without a reward (50.0%): invalid_reference 1" in told.stdout
    assert "mean 1.0000" in told.stdout
    assert "1 of 2 samples have no reward, more than --max-unscored 0 allows" in told.stderr
    assert run("score", file, "--url", url, "--max-unscored", "0.5").code == 0
    assert run("score", file, "--url", url, "--max-unscored", "0.49").code == 1


def test_nothing_scored_at_all_is_still_told(run: Run, jsonl: Write) -> None:
    """An outage shows as one: no mean, no bars, only the reason."""
    with served(outage()) as url:
        told = run("score", jsonl(WRONG), "--url", url)

    assert told.code == 1
    assert "judge_unreachable 1" in told.stdout
    assert "reward    mean" not in told.stdout
    assert "0.0-0.1" not in told.stdout


def test_two_recipes_are_compared(run: Run, url: str, jsonl: Write, tmp_path: Path) -> None:
    """The largest difference comes first, then how many change; both results are kept."""
    out, file = tmp_path / "out.jsonl", jsonl(RIGHT, WRONG)
    told = run("score", file, "--url", url, "--compare", "strict", "--out", out).stdout
    words = told.split("medix-r1   strict")[1]

    assert "0.1000     0.0000   -0.1000" in words
    assert "From medix-r1 to strict, 1 of 2 rewards change; the mean difference is -0.0500" in words
    assert [(r["recipe"], r["reward"]) for r in rows_of(out)] == [
        *(("medix-r1", 1.0), ("medix-r1", 0.1), ("strict", 1.0), ("strict", 0.0))
    ]


def test_a_sample_unscored_under_one_recipe_is_left_out(run: Run, url: str, jsonl: Write) -> None:
    """There is no difference to a reward that is not there."""
    told = run("score", jsonl(RIGHT, UNSCORABLE), "--url", url, "--compare", "strict").stdout
    words = " ".join(told.split())

    assert "0 of 1 rewards change" in words
    assert "Left out, without a reward under one of them: 1." in words


def test_a_recipe_that_is_not_there_is_refused(run: Run, url: str, jsonl: Write) -> None:
    """Before anything is sent, naming those there are."""
    told = run("score", jsonl(RIGHT), "--url", url, "--compare", "medix")

    assert told.code == 2
    assert told.stderr == (
        "medreward: no recipe 'medix' here; choose from medix-r1-guarded-rubric, medix-r1-guarded, "
        "medix-r1, rubric, strict\n"
    )


def test_an_unknown_modality_is_refused_by_line(run: Run, url: str, jsonl: Write) -> None:
    """The service would refuse its whole batch, so it is found before."""
    told = run("score", jsonl(RIGHT, RIGHT | {"modality": "XRAY"}), "--url", url)

    assert told.code == 2
    assert "\n  line 2: modality: not a modality of the recipe 'medix-r1'" in told.stderr


def test_samples_come_from_standard_input(run: Run, url: str) -> None:
    """`-` is where a pipe ends; there is no path to name."""
    told = run("score", "-", "--url", url, stdin=json.dumps(RIGHT) + "\n")

    assert told.code == 0
    assert "samples   1, all scored" in told.stdout
    assert "standard input: empty" in run("score", "-", "--url", url).stderr


def test_the_table_shows_no_answers(run: Run, url: str, jsonl: Write) -> None:
    """Patient text has no place in a terminal's history."""
    told = run("score", jsonl(RIGHT | {"response": PATIENT_TEXT}), "--url", url)

    assert PATIENT_TEXT not in told.stdout + told.stderr


def test_ids_cannot_speak_to_the_terminal(run: Run, url: str, jsonl: Write) -> None:
    """Neither markup nor escape sequences nor emoji names do anything but stand there."""
    told = run("score", jsonl(RIGHT | {"id": "[red]x[/] :pill: \x1b[31m"}), "--url", url)

    assert "[red]x[/] :pill: \\x1b[31m" in told.stdout
    assert "\x1b" not in told.stdout


@pytest.mark.parametrize("columns", [80, 120])
def test_tables_fit_their_terminal(
    run: Run, url: str, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    """No line is cut or broken by the terminal."""
    monkeypatch.setenv("COLUMNS", str(columns))
    told = run("score", ROLLOUTS, "--url", url, "--compare", "strict").stdout

    assert max(map(len, told.splitlines())) <= columns
    assert "several_answers" in told


def test_a_log_gets_a_few_lines_of_progress(run: Run, url: str) -> None:
    """Standard output has the result alone; standard error no bar where there is no terminal."""
    told = run("score", ROLLOUTS, "--url", url, "--batch", "1")

    lines = [line for line in told.stderr.splitlines() if not line.startswith("loading")]
    assert lines == [
        "scoring under medix-r1: 28 of 110",
        "scoring under medix-r1: 55 of 110",
        "scoring under medix-r1: 83 of 110",
        "scoring under medix-r1: 110 of 110",
    ]


@pytest.mark.usefixtures("no_models")
def test_without_a_url_a_service_is_started_for_the_while(run_apart: Run, jsonl: Write) -> None:
    """One command from a file to rewards."""
    told = run_apart("score", jsonl(RIGHT, WRONG))

    assert told.code == 0
    assert "samples   2, all scored" in told.stdout
    assert "not for clinical use" in told.stdout


@pytest.mark.usefixtures("no_models")
def test_a_proxy_does_not_stand_before_our_own_service(
    run: Run, jsonl: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loopback is reached directly, whatever the environment says of proxies."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")

    assert run("score", jsonl(RIGHT)).code == 0


def test_models_that_are_not_there_are_asked_for(
    run_apart: Run, jsonl: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A newcomer is told the command that fetches them, in one line."""
    monkeypatch.setenv("MEDREWARD_JUDGE", "causal_lm")
    monkeypatch.setenv("MEDREWARD_JUDGE_MODEL", "qwen2.5-coder-1.5b-instruct")
    monkeypatch.setenv("MEDREWARD_EMBEDDER", "hashed")
    monkeypatch.setenv("MEDREWARD_MODELS_DIR", str(tmp_path))
    told = run_apart("score", jsonl(RIGHT))

    assert told.code == 1
    assert "run `medreward models fetch qwen2.5-coder-1.5b-instruct`" in told.stderr
    assert "Traceback" not in told.stderr
    assert "loading_failed" not in told.stderr


def test_an_interrupted_run_keeps_what_it_has(jsonl: Write, tmp_path: Path) -> None:
    """Ctrl-C ends in one line, with 130, and --out holds the batches that came."""
    out = tmp_path / "out.jsonl"
    many = [RIGHT | {"id": str(n), "response": f"answer {n}"} for n in range(200)]
    file = jsonl(*many)
    with served(create_app(settings(), judge=TroubledJudge(hang, after=4, batch=1))) as url:
        options = (str(file), "--url", url, "--out", str(out), "--batch", "1")
        with Program([*PROGRAM, "score", *options], os.environ) as scoring:
            scoring.spawn()
            wait_until(lambda: out.exists() and len(out.read_text("utf-8").splitlines()) >= 2)
            code = scoring.stop(signal.SIGINT)

    kept = rows_of(out)
    assert code == 130
    assert scoring.stdout == ""
    assert scoring.stderr.splitlines() == [
        f"{out} keeps the {len(kept)} results there were",
        "medreward: interrupted",
    ]
    assert [row["id"] for row in kept] == [str(n) for n in range(len(kept))]


def test_a_failed_start_empties_no_earlier_file(run: Run, jsonl: Write, tmp_path: Path) -> None:
    """--out is opened when there is something to write."""
    out = tmp_path / "out.jsonl"
    out.write_text("earlier\n", "utf-8")
    run("score", jsonl(RIGHT), "--url", "http://127.0.0.1:9", "--out", out)

    assert out.read_text("utf-8") == "earlier\n"


def test_the_file_that_is_read_is_not_written(run: Run, url: str, jsonl: Write) -> None:
    """A slip of the keyboard costs no data."""
    file = jsonl(RIGHT)
    told = run("score", file, "--url", url, "--out", file)

    assert told.code == 2
    assert "is the file that is read" in told.stderr
    assert rows_of(file) == [RIGHT]


@pytest.mark.parametrize(
    ("out", "reason"), [("none/out.jsonl", "no folder"), (".", "is a folder; name a file")]
)
def test_a_place_that_cannot_be_written_is_refused_first(
    run: Run, jsonl: Write, tmp_path: Path, out: str, reason: str
) -> None:
    """Not after an hour of scoring."""
    told = run("score", jsonl(RIGHT), "--url", "http://127.0.0.1:9", "--out", tmp_path / out)

    assert told.code == 2
    assert reason in told.stderr


@pytest.mark.models
def test_real_models_score_the_example(run: Run, embedded_service: Service, tmp_path: Path) -> None:
    """Real models, and one real reward for every rollout of a question."""
    out = tmp_path / "out.jsonl"
    told = run("score", ROLLOUTS, "--url", embedded_service.url, "--limit", "5", "--out", out)
    rewards = {row["id"]: row["reward"] for row in rows_of(out)}

    assert told.code == 0
    assert rewards["q01-right"] == 1.0
    assert rewards["q01-wrong_side"] == rewards["q01-injected"] == pytest.approx(0.15)
    words = " ".join(told.stdout.split())
    assert "medreward-verifier tells whether a short medical answer means" in words
    assert f"limits {LIMITS_WITHOUT_LLM}" in words
    assert "not for clinical use" in told.stdout


def _row(table: str, label: str) -> list[str]:
    """The cells of the first row that begins with *label*."""
    return next(line.split() for line in table.splitlines() if line.split()[:1] == [label])


@pytest.mark.parametrize("role", ["judge", "embed"])
def test_a_part_of_a_service_scores_nothing(
    run: Run, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    """It is told before anything is loaded."""
    monkeypatch.setenv("MEDREWARD_ROLE", role)

    told = run("score", str(ROLLOUTS))

    assert told.code == 2
    assert f"MEDREWARD_ROLE={role} is a part of a service" in told.stderr
