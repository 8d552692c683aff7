"""A sample, parsed: its completion and references, and what rules and guards decide without a model."""

import sys
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import NamedTuple

import structlog

from medreward.errors import Problem, ProblemKind
from medreward.guards.chain import GuardChain
from medreward.guards.decoration import undecorated
from medreward.guards.normal import normal
from medreward.guards.pair import Pair
from medreward.parsing.completion import Completion, read_completion
from medreward.parsing.references import parse_references, reference_problem
from medreward.parsing.signal import Signal
from medreward.recipes.recipe import Recipe
from medreward.samples import Limits, Sample, is_over, over_limit, too_long
from medreward.telemetry.logs import place_of

log = structlog.get_logger(__name__)


GUARD_FAILED = Problem(
    ProblemKind.JUDGE_ABSTAINED, "answer: a guard failed on it; the log tells where"
)
CanRead = Callable[[str], bool]
Reading = CanRead | None
"""Tells whether the judge can read a text; None if texts that it cannot read are judged, too."""

EXACT, REJECTED = Signal(1.0, "exact", rule="equal"), Signal(0.0, "rule", rule="rejected")
UNREADABLE = Signal(0.0, "rule", rule="unreadable")
FORMAT = {is_right: Signal(float(is_right), "rule", rule="format") for is_right in (False, True)}
MODALITY = {
    is_right: Signal(float(is_right), "rule", rule="modality") for is_right in (False, True)
}


@dataclass(frozen=True, slots=True, eq=False)
class ParsedSample:
    """What is known of a sample before any model is asked. Compared by identity."""

    references: tuple[str, ...] = ()
    """References that a model is asked about."""
    question: str | None = None
    completion: Completion | None = None
    """None if the response is over its limit and was not parsed."""
    modality: Signal | None = None
    """None if the modality is unknown."""
    accuracy: Signal | None = None
    """The signal of both judge and embedder if a rule or guard decides without them; else None."""
    problem: Problem | None = None
    """Reason why the sample cannot be scored, whatever a model would say; else None."""
    flags: tuple[str, ...] = ()
    answer: str = ""
    """Answer that a model is asked about; under guards, without its decoration."""
    well_formed: bool = False
    """True if the response has the form that the recipe's format signal rewards."""
    needs_models: bool = False
    """True if it has neither an `accuracy` nor a `problem`: models decide."""


class Said(NamedTuple):
    """Everything of a sample that its parsed sample depends on, under one recipe."""

    recipe: str
    completion: Completion
    reference: str | tuple[str, ...]
    question: str | None
    modality: str | None


class ParsedMemory:
    """Parsed samples of this process by what was said, bounded in bytes. Thread-safe.

    The least recently used ones go first. A policy repeats its answers from step to step, and
    rules and guards take longer than all else that is done for a sample in the cache.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._parsed: OrderedDict[Said, tuple[ParsedSample, int]] = OrderedDict()
        # The event loop parses small requests, and a thread the large ones.
        self._lock = Lock()
        self.size_bytes = 0

    def get(self, said: Said) -> ParsedSample | None:
        """Return a parsed sample, and mark it as used; None if it is not known."""
        with self._lock:
            found = self._parsed.get(said)
            if found is None:
                return None
            self._parsed.move_to_end(said)
            return found[0]

    def put(self, said: Said, parsed: ParsedSample) -> None:
        """Keep a parsed sample, unless it would displace a large share of the others."""
        size = counted_bytes(said, parsed)
        if size > self._max_bytes // 16 or parsed.problem is GUARD_FAILED:
            return
        with self._lock:
            # Another thread may have put an equal one.
            if said not in self._parsed:
                self._parsed[said] = parsed, size
                self.size_bytes += size
            while self.size_bytes > self._max_bytes:
                self.size_bytes -= self._parsed.popitem(last=False)[1][1]


BYTES_A_SAMPLE = 2_000
"""Memory of a parsed sample without its texts, at most; a test measures it."""


def counted_bytes(said: Said, parsed: ParsedSample) -> int:
    """Return the memory of a remembered sample, by a high estimate."""
    references = (said.reference,) if isinstance(said.reference, str) else said.reference
    texts = (said.completion.answer, said.completion.heading, said.question or "")
    more = (parsed.answer, *references, *parsed.references)
    return BYTES_A_SAMPLE + sum(map(sys.getsizeof, (*texts, *more)))


class SampleParser:
    """Parses the samples of one request; samples with equal texts share one parsed sample."""

    def __init__(
        self,
        recipe: Recipe,
        limits: Limits,
        reading: Reading = None,
        memory: ParsedMemory | None = None,
    ) -> None:
        needs_readable = recipe.guards is not None and recipe.guards.needs_readable
        self._reading = reading if needs_readable else None
        self._recipe = recipe
        self._limits = limits
        self._memory = memory
        self._parsed: dict[Said, ParsedSample] = {}

    def parse(self, sample: Sample) -> ParsedSample:
        """Parse a sample and apply the recipe's rules and guards."""
        recipe, limits = self._recipe, self._limits
        if is_over(sample.response, limits.response_bytes):
            return ParsedSample(problem=over_limit("response", limits.response_bytes))
        is_guarded = recipe.guards is not None
        completion = read_completion(sample.response, recipe.tags, as_meant=is_guarded)
        said = Said(recipe.name, completion, sample.reference, sample.question, sample.modality)
        parsed = self._parsed.get(said)
        if parsed is None:
            parsed = self._parsed[said] = self._remembered(said, sample)
        return parsed

    def _remembered(self, said: Said, sample: Sample) -> ParsedSample:
        memory = self._memory
        parsed = None if memory is None else memory.get(said)
        if parsed is None:
            parsed = _parsed(said.completion, sample, self._recipe, self._limits, self._reading)
            if memory is not None:
                memory.put(said, parsed)
        return parsed


def parse_sample(sample: Sample, recipe: Recipe, limits: Limits) -> ParsedSample:
    """Parse a single sample."""
    return SampleParser(recipe, limits).parse(sample)


def _parsed(
    completion: Completion, sample: Sample, recipe: Recipe, limits: Limits, reading: Reading
) -> ParsedSample:
    references = parse_references(sample, recipe)
    is_rejected = _is_rejected(completion, recipe)
    accuracy: Signal | None = None
    problem = reference_problem(references, limits)
    if problem is None:
        # A rejected answer is wrong even if it equals the reference: this order
        # is that of the published reward.
        is_equal = completion.answer in references.texts
        accuracy = REJECTED if is_rejected else EXACT if is_equal else None
    if problem is None and accuracy is None:
        problem = too_long("answer", completion.answer, limits)
        problem = problem or too_long("question", sample.question or "", limits)
    guarded = Guarded(references.texts, completion.answer)
    if recipe.guards is not None and problem is None and accuracy is None:
        guarded = decide(
            completion.answer, references.texts, sample.question, recipe.guard_chain, reading
        )
    accuracy, problem = accuracy or guarded.accuracy, problem or guarded.problem
    well_formed = is_well_formed(completion, recipe)
    flags = {
        "no_answer_tag": recipe.tags.answer is not None and not completion.has_answer_tag,
        "malformed": recipe.signals.format is not None and not well_formed,
        "no_modality": recipe.signals.modality is not None and references.modality is None,
        "rejected_answer": is_rejected,
    }
    return ParsedSample(
        references=guarded.references,
        question=sample.question,
        completion=completion,
        modality=_modality_signal(completion, references.modality),
        accuracy=accuracy,
        problem=problem,
        flags=tuple([flag for flag, is_so in flags.items() if is_so]),
        answer=guarded.answer,
        well_formed=well_formed,
        needs_models=problem is None and accuracy is None,
    )


class Guarded(NamedTuple):
    """References and answer that the guards leave to the models, or the decision without them."""

    references: tuple[str, ...]
    answer: str
    accuracy: Signal | None = None
    problem: Problem | None = None


def decide(
    answer: str,
    references: tuple[str, ...],
    question: str | None,
    chain: GuardChain,
    reading: Reading = None,
) -> Guarded:
    """Decide an answer by rules and guards, as far as they can, against each reference.

    With *reading*, what is left is read by the judge, or is not judged.
    """
    try:
        found = _decided(answer, references, question, chain)
        if reading is None or found.accuracy is not None:
            return found
        return _read(found, question, reading)
    except Exception as exc:  # noqa: BLE001 - a guard that falls over costs its sample alone
        # The error's message might quote the sample, so only its type and place are logged.
        log.error("guard_raised", error=type(exc).__name__, where=place_of(exc))  # noqa: TRY400
        return Guarded(references, answer, problem=GUARD_FAILED)


def _decided(
    answer: str, references: tuple[str, ...], question: str | None, chain: GuardChain
) -> Guarded:
    """Run the guards on an answer and each reference.

    An answer that is right by one reference is right. A reference that the answer contradicts is
    not sent to a model, and an answer that contradicts all references is wrong.
    """
    asked, said = None if question is None else normal(question), normal(answer)
    pairs = [Pair(said, normal(text), asked) for text in references]
    findings = [chain.decide(pair) for pair in pairs]
    bare = undecorated(said).text
    for finding in findings:
        if finding is not None and finding.says_yes:
            return Guarded(references, bare, Signal(1.0, "rule", rule=finding.rule))
    left = tuple(text for text, found in zip(references, findings, strict=True) if found is None)
    if left:
        return Guarded(left, bare)
    # The veto is that of the first reference; there is at least one.
    first = next(finding for finding in findings if finding is not None)
    return Guarded(references, bare, Signal(0.0, "veto", veto=first.veto, rule=first.rule))


def _read(found: Guarded, question: str | None, reading: CanRead) -> Guarded:
    """Leave to the judge what it can read.

    An answer beyond it is wrong: else a policy would be paid, or excused, for what nobody reads. But
    it may be right by a reference that is beyond it, too.
    """
    references = found.references
    read = tuple(text for text in references if reading(text))
    if not read:
        return found._replace(problem=unreadable("reference"))
    if question is not None and not reading(question):
        return found._replace(problem=unreadable("question"))
    if reading(found.answer):
        return found._replace(references=read)
    if len(read) < len(references):
        return found._replace(problem=unreadable("answer and a reference"))
    return found._replace(accuracy=UNREADABLE)


def unreadable(name: str) -> Problem:
    """Return the problem of a text that the judge's tokenizer does not know."""
    return Problem(
        ProblemKind.UNREADABLE,
        f"{name}: the judge's tokenizer does not know most of it; use a judge for its language",
    )


def _modality_signal(completion: Completion, modality: str | None) -> Signal | None:
    if modality is None:
        return None
    return MODALITY[completion.heading.upper() == f"<{modality}>"]


def is_well_formed(completion: Completion, recipe: Recipe) -> bool:
    """Return whether a response has the form that the recipe's format signal rewards."""
    is_strict = recipe.signals.format is not None and recipe.signals.format.single
    is_enough = not is_strict or (completion.is_single and bool(completion.answer.strip()))
    return completion.well_formed and is_enough


def _is_rejected(completion: Completion, recipe: Recipe) -> bool:
    """Return whether the recipe's rules reject the answer, regardless of the reference."""
    answer = completion.answer
    if len(answer) < recipe.rules.min_answer_characters:
        return True
    if recipe.rules.needs_answer_tag and not completion.has_one_answer:
        return True
    # A plain loop: a generator for each of thousands of answers would double
    # the cost of this function.
    for rejected in recipe.rules.rejected_substrings:  # noqa: SIM110 - see above
        if rejected in answer:
            return True
    return False
