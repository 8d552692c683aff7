"""`medreward calibrate`: a file of labelled answers becomes a calibration file."""

import asyncio
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from pydantic import BaseModel, ConfigDict, StrictBool
from rich.console import Console
from rich.text import Text

from medreward.audit.fit import ErrorRates, Fitted, Label, Origin, Unfitted, fit_families
from medreward.cli.client import Target, batches, connected
from medreward.cli.jsonl import (
    BadLine,
    Line,
    check_output,
    raise_bad_lines,
    read_lines,
    read_model,
    write_whole,
)
from medreward.cli.tables import NOTHING, counted, facts_grid, plain_table, print_disclaimer, short
from medreward.cli.terminal import CommandError, Misuse, output, shown
from medreward.engines.calibration import ANY, Calibration, Family, family_of, load_calibration
from medreward.engines.status import EngineState
from medreward.http.schemas import ItemResult, JudgeReply, JudgeRequest
from medreward.samples import Identifier

TEMPLATES: Final = ("equivalence",)
"""Templates of `/judge` with one question about an answer and a reference."""
CALIBRATED: Final = "+calibration"
"""Part of a calibrated judge's identity."""
SHARED: Final = ("beside[", "cascade[")
"""Prefixes of the identity of a judge that combines two engines."""


class LabelledAnswer(BaseModel):
    """One line: an answer, its reference, and the label: true if they mean the same."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    answer: str
    reference: str
    equivalent: StrictBool
    id: Identifier | None = None
    question: str | None = None
    family: Family | None = None
    """Family of the pair; by default that of the reference."""

    @property
    def texts(self) -> tuple[str | None, str, str]:
        """The texts that the judge reads."""
        return self.question, self.reference, self.answer

    @property
    def digest(self) -> str:
        """SHA-256 of the texts and the label."""
        content = json.dumps([*self.texts, self.equivalent])
        return hashlib.sha256(content.encode()).hexdigest()


Lines = Sequence[Line[LabelledAnswer]]


@dataclass(frozen=True, slots=True)
class Plan:
    """The options of one calibration."""

    file: Path
    target: Target
    template: str
    out: Path
    rates: ErrorRates
    batch: int | None
    limit: int | None


class JudgedLines(NamedTuple):
    """The judge's results, one for each line, and their origin."""

    results: Sequence[ItemResult]
    origin: Origin
    engines: dict[str, EngineState]


def calibrate_judge(plan: Plan) -> None:
    """Judge labelled answers, fit a calibration, print its gain, and write the file.

    Raises:
        Misuse: the file, an option or the service is unsuitable; nothing was written.
        CommandError: the service fails, or the labels certify nothing; nothing was written.
    """
    earlier = _check_out(plan)
    example = '{"answer": "…", "reference": "…", "equivalent": true}'
    read = partial(read_model, LabelledAnswer, example=example)
    lines, repeats = _distinct(read_lines(plan.file, read, plan.limit), plan.file)
    judged = asyncio.run(_ask(plan, lines))
    labels = _labels(lines, judged.results)
    if not labels:
        raise CommandError(f"the judge gave no P(YES): {_use(judged.results, repeats)}")
    console = output()
    fits = fit_families(labels, judged.origin, plan.rates)
    print_fits(console, fits)
    entries = [fit.entry for fit in fits if isinstance(fit, Fitted)]
    # The first fit is that of all labels, which serves every family without its own. Without it
    # the file would leave families uncalibrated, so nothing is written.
    if isinstance(fits[0], Unfitted):
        reason = fits[0].reason
        raise CommandError(f"nothing is written, since the labels do not suffice: {reason}")
    calibration = earlier.renewed(entries)
    write_whole(plan.out, calibration.model_dump_json(indent=2) + "\n")
    _print_facts(console, judged, _use(judged.results, repeats), plan.out, calibration)
    print_disclaimer(console, {role: s for role, s in judged.engines.items() if role == "judge"})


def _check_out(plan: Plan) -> Calibration:
    """Check the options before anything is sent, and return the existing calibration of the file."""
    if plan.template not in TEMPLATES:
        raise Misuse(
            f"--template: choose {' or '.join(TEMPLATES)}; no other asks for a verdict on an answer "
            "and its reference"
        )
    check_output("--out", plan.out)
    # Loading an existing file also refuses one that is not a calibration, so that the labels
    # cannot be overwritten by mistake.
    return load_calibration(plan.out) if plan.out.exists() else Calibration()


def _distinct(lines: Lines, path: Path) -> tuple[Lines, int]:
    """Keep the first of equal lines, since duplicate labels would certify too much.

    Raises:
        Misuse: lines with the same texts have different labels.
    """
    first: dict[tuple[str | None, str, str], Line[LabelledAnswer]] = {}
    bad: list[BadLine] = []
    for line in lines:
        known = first.setdefault(line.value.texts, line)
        if known.value.equivalent != line.value.equivalent:
            reason = f"equivalent: the same texts have the other label on line {known.number}"
            bad.append(BadLine(line.number, reason))
    if bad:
        raise_bad_lines(path, bad, len(lines))
    return list(first.values()), len(lines) - len(first)


async def _ask(plan: Plan, lines: Lines) -> JudgedLines:
    def request(batch: Lines) -> JudgeRequest:
        fields = {"id", "question", "reference", "answer"}
        items = [line.value.model_dump(include=fields, exclude_none=True) for line in batch]
        # The judge alone: rules would settle the plain cases, which have no P(YES).
        head = {
            "template": plan.template,
            "rules": False,
            "deadline_ms": plan.target.deadline_ms,
        }
        return JudgeRequest.model_validate({**head, "items": items})

    async with connected(plan.target) as service:

        def check(_batch: Lines, reply: JudgeReply) -> None:
            _check_judge(service.url, reply.provenance.judge)

        replies = await service.send_all(
            batches(lines, plan.batch), request, JudgeReply, title="judging", on_reply=check
        )
        results = [result for reply in replies for result in reply.results]
        return JudgedLines(results, _origin(replies), dict(service.engines))


def _check_judge(url: str, identity: str) -> None:
    """Refuse a judge whose P(YES) is not the uncalibrated one of a single engine.

    Raises:
        Misuse: the judge is calibrated already, or combines two engines.
    """
    if CALIBRATED in identity:
        raise Misuse(
            f"{url}: its judge is calibrated already, and a map of mapped numbers would hold for no "
            "other; set MEDREWARD_CALIBRATION=off where the service starts"
        )
    if identity.startswith(SHARED):
        raise Misuse(
            f"{url}: its judge is two engines, and an entry is for one; name one with "
            "MEDREWARD_JUDGE, and no MEDREWARD_LLM, where the service starts"
        )


def _origin(replies: Sequence[JudgeReply]) -> Origin:
    origins = {
        (r.provenance.judge, r.provenance.template, r.provenance.fingerprint) for r in replies
    }
    if len(origins) > 1:
        raise CommandError("the service changed its judge on the way; calibrate again")
    ((engine, template, fingerprint),) = origins
    return Origin(engine, template, fingerprint.removeprefix("sha256:"))


def _labels(lines: Lines, results: Sequence[ItemResult]) -> list[Label]:
    """Pair each P(YES) with its label; items that a rule decided or that are unjudged are left out."""
    return [
        Label(
            result.p_yes,
            line.value.equivalent,
            line.value.family or family_of(line.value.reference),
            line.value.digest,
        )
        for line, result in zip(lines, results, strict=True)
        if result.p_yes is not None
    ]


def _use(results: Sequence[ItemResult], repeats: int) -> str:
    """Describe how many lines were used, and how many were left out for each reason."""
    settled = [r.source or "rule" for r in results if r.p_yes is None and r.error is None]
    unjudged = [r.error.kind for r in results if r.error is not None]
    told = [f"{sum(result.p_yes is not None for result in results)} used"]
    if settled:
        told.append(f"{len(settled)} left out that rules settle ({counted(settled)})")
    if unjudged:
        told.append(f"{len(unjudged)} left out without a grade ({counted(unjudged)})")
    if repeats:
        told.append(f"{repeats} left out that repeat another")
    return ", ".join(told)


def _print_facts(
    console: Console, judged: JudgedLines, use: str, path: Path, calibration: Calibration
) -> None:
    facts: dict[str, Text | str] = {
        "labels": use,
        "judge": shown(judged.origin.engine),
        judged.origin.template: shown(short(f"sha256:{judged.origin.template_sha}")),
        "calibration": shown(short(f"sha256:{calibration.fingerprint}")),
        "written": shown(f"{path}; set MEDREWARD_CALIBRATION to it"),
    }
    console.print(facts_grid(facts))


def print_fits(console: Console, fits: Sequence[Fitted | Unfitted]) -> None:
    """Print each family's map and thresholds, and the families without their own."""
    fitted = [fit for fit in fits if isinstance(fit, Fitted)]
    if fitted:
        _print_maps(console, fitted)
        _print_thresholds(console, fitted)
        _print_promise(console, fitted[0])
    for fit in fits:
        if isinstance(fit, Unfitted) and fit.family != ANY:
            told = f"{fit.family} ({fit.labels} labels) has no entry of its own: {fit.reason}"
            console.print(shown(told, "yellow"), soft_wrap=True)


def _print_maps(console: Console, fitted: Sequence[Fitted]) -> None:
    table = plain_table("family", "labels", "right", "temperature", "bias", "ECE", "NLL", "Brier")
    for entry, before, after in ((fit.entry, fit.before, fit.after) for fit in fitted):
        table.add_row(
            entry.family,
            str(entry.labels),
            str(entry.positives),
            f"{entry.temperature:.3g}",
            f"{entry.bias:.3g}",
            _change(before.ece, after.ece),
            _change(before.nll, after.nll),
            _change(before.brier, after.brier),
        )
    console.print(table)


def _print_thresholds(console: Console, fitted: Sequence[Fitted]) -> None:
    table = plain_table(
        "family", "NO up to", "YES above", "abstains", "wrong, YES", "right, NO", "kappa", "AC1"
    )
    for fit in fitted:
        table.add_row(
            fit.entry.family,
            f"{fit.entry.no_below:.4f}",
            f"{fit.entry.yes_above:.4f}",
            f"{fit.entry.abstained:.1%}",
            _change(*fit.false_yes),
            _change(*fit.false_no),
            _agreement(fit.agreement.cohen_kappa),
            _agreement(fit.agreement.gwet_ac1),
        )
    console.print(table)


def _print_promise(console: Console, fit: Fitted) -> None:
    """Print the certified error rates and their conditions."""
    entry = fit.entry
    told = (
        f"Of answers like those labelled, at most {entry.alpha_fpr:.1%} of the wrong ones get a YES "
        f"and {entry.alpha_fnr:.1%} of the right ones a NO, each with {entry.confidence:.0%} "
        "confidence. NLL, Brier and ECE after calibration are of labels that their map did not see."
    )
    console.print(Text(told, "dim"))


def _change(before: float, after: float) -> str:
    return f"{before:.3f} to {after:.3f}"


def _agreement(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.2f}"
