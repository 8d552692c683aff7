"""A calibrated judge: probabilities mapped, a threshold set, and no verdict where none is earned."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from medreward.engines.calibration import Calibration, Entry
from medreward.engines.judge import Inquiry, Judgement, View
from medreward.engines.judges.calibrated import CalibratedJudge, swapped
from medreward.engines.judges.scripted import ScriptedJudge
from medreward.engines.templates import load_templates
from medreward.errors import BackendDown, Problem, ProblemKind, SetupError
from tests.support import calibration
from tests.support.problems import judgement, problem

pytestmark = pytest.mark.anyio

TEMPLATES = load_templates()
MATCH, EQUIVALENCE, REPORT = (TEMPLATES[n] for n in ("match", "equivalence", "report"))
ASKED = Inquiry(MATCH, answer="left", reference="left lobe")


def entry(**changed: Any) -> Entry:
    """Build an entry that halves the logit."""
    halving = {"temperature": 2.0, "threshold": 0.6, "no_below": 0.4, "yes_above": 0.8}
    return calibration.entry(**halving | changed)


def p(p_yes: float, coverage: float | None = None) -> Judgement:
    """A verdict of an engine."""
    return Judgement(("YES", "NO"), (p_yes, 1 - p_yes), coverage)


class Views(ScriptedJudge):
    """Says what it is told to say of each view; what is an error is raised."""

    def __init__(self, by_view: Mapping[View, Judgement | Problem | Exception]) -> None:
        super().__init__()
        self._by_view = by_view

    async def decide(self, inquiries: Sequence[Inquiry]) -> Sequence[Judgement | Problem]:
        """Look at the view alone."""
        self.batches.append(list(inquiries))
        said = [self._by_view[inquiry.view] for inquiry in inquiries]
        for what in said:
            if isinstance(what, Exception):
                raise what
        return [what for what in said if not isinstance(what, Exception)]


def calibrated(judge: ScriptedJudge, *entries: Entry, **options: Any) -> CalibratedJudge:
    """A judge with a calibration of these entries."""
    return CalibratedJudge(
        judge, Calibration(entries=entries or (entry(),)), templates=TEMPLATES, **options
    )


def halved(p_yes: float) -> float:
    """P(YES) at half its logit."""
    return 1 / (1 + math.sqrt((1 - p_yes) / p_yes))


async def test_p_yes_is_mapped_and_the_threshold_set() -> None:
    """The coverage stays what it was."""
    judge = calibrated(ScriptedJudge(default=p(0.9, coverage=0.7)))

    (told,) = await judge.decide([ASKED])

    mapped = judgement(told)
    assert mapped.p_yes == pytest.approx(halved(0.9))
    assert math.fsum(mapped.probabilities) == pytest.approx(1)
    assert (mapped.threshold, mapped.coverage, mapped.verdict) == (0.6, 0.7, "YES")


async def test_what_cannot_be_assessed_is_no_abstention() -> None:
    """Its label says so; how YES and NO share the rest is no doubt about it."""
    rubric = TEMPLATES["rubric"]
    said = Judgement(rubric.labels, (0.05, 0.05, 0.9))
    judge = calibrated(
        ScriptedJudge(default=said),
        entry(template="rubric", template_sha=rubric.sha),
        abstains=True,
    )

    (told,) = await judge.decide([ASKED._replace(template=rubric)])

    assert judgement(told).cannot_assess
    assert judgement(told).verdict == "NO"


async def test_what_cannot_be_assessed_keeps_its_share() -> None:
    """The map is of YES against NO, which share the rest anew."""
    rubric = TEMPLATES["rubric"]
    said = Judgement(rubric.labels, (0.45, 0.05, 0.5))
    judge = calibrated(
        ScriptedJudge(default=said), entry(template="rubric", template_sha=rubric.sha)
    )

    (told,) = await judge.decide([ASKED._replace(template=rubric)])

    mapped = judgement(told)
    assert mapped.probabilities[2] == 0.5
    assert mapped.p_yes == pytest.approx(halved(0.9))
    assert math.fsum(mapped.probabilities) == pytest.approx(1)


@pytest.mark.parametrize(
    ("inquiry", "said"),
    [
        (ASKED._replace(template=EQUIVALENCE), p(0.9)),
        (ASKED._replace(template=REPORT), Judgement(REPORT.labels, (0, 0, 0, 0, 0.5, 0.5))),
        (ASKED, Problem(ProblemKind.TOO_LONG, "judge: too long")),
        (ASKED, p(math.nan)),
        (ASKED, Judgement(("A", "B"), (0.5, 0.5))),
    ],
)
@pytest.mark.parametrize("abstains", [False, True])
async def test_what_there_is_no_map_for_passes_as_it_is(
    inquiry: Inquiry, said: Judgement | Problem, abstains: bool
) -> None:
    """Another template, a problem; and nonsense, which is not made to look like sense."""
    judge = calibrated(ScriptedJudge(default=said), abstains=abstains)

    (told,) = await judge.decide([inquiry])

    assert told is said


@pytest.mark.parametrize(
    ("reference", "threshold"), [("5 mg", 0.7), ("left lobe", 0.6), ("no " * 9, 0.6)]
)
async def test_each_family_of_references_has_its_map(reference: str, threshold: float) -> None:
    """And those without one share the one for any."""
    judge = calibrated(
        ScriptedJudge(default=p(0.9)), entry(), entry(family="quantity", threshold=0.7)
    )

    (told,) = await judge.decide([ASKED._replace(reference=reference)])

    assert judgement(told).threshold == threshold


# Abstaining: the bounds are 0.4 and 0.8, of the calibrated P(YES).

OPEN, SURE_YES, SURE_NO = 0.8, 0.99, 0.01
"""Before the map; after it 0.667, 0.909 and 0.091."""


@pytest.mark.parametrize(("p_yes", "verdict"), [(SURE_YES, "YES"), (SURE_NO, "NO")])
async def test_what_is_sure_is_asked_once(p_yes: float, verdict: str) -> None:
    """A second look costs only what needs it."""
    engine = ScriptedJudge(default=p(p_yes))

    (told,) = await calibrated(engine, abstains=True).decide([ASKED])

    assert judgement(told).verdict == verdict
    assert len(engine.batches) == 1


@pytest.mark.parametrize(("second", "verdict"), [(0.9999, "YES"), (0.001, "NO")])
async def test_two_looks_decide_by_the_mean_of_their_logits(second: float, verdict: str) -> None:
    """The other is the same question with its fields swapped, asked for those alone."""
    engine = Views({View.AS_WRITTEN: p(OPEN), View.SWAPPED: p(second)})

    (told,) = await calibrated(engine, abstains=True).decide([ASKED])

    odds = [halved(x) / (1 - halved(x)) for x in (OPEN, second)]
    mean = math.sqrt(odds[0] * odds[1])
    assert judgement(told).p_yes == pytest.approx(mean / (1 + mean))
    assert judgement(told).verdict == verdict
    assert engine.batches[1] == [ASKED._replace(view=View.SWAPPED)]


@pytest.mark.parametrize(
    "second", [p(OPEN), p(0.75), Problem(ProblemKind.JUDGE_UNPARSEABLE, "judge: nothing readable")]
)
async def test_what_stays_open_has_no_verdict(second: Judgement | Problem) -> None:
    """Nor has what has no reference to swap. The message tells P(YES) and the bounds, and no more."""
    engine = Views({View.AS_WRITTEN: p(OPEN), View.SWAPPED: second})

    (told,) = await calibrated(engine, abstains=True).decide([ASKED])
    (alone,) = await calibrated(engine, abstains=True).decide([ASKED._replace(reference=None)])

    assert len(engine.batches) == 3
    problem(alone, ProblemKind.JUDGE_ABSTAINED)
    abstained = problem(told, ProblemKind.JUDGE_ABSTAINED)
    assert not abstained.retryable
    assert abstained.message.startswith("judge: P(YES) 0.6")
    assert abstained.message.endswith("lies between 0.400 and 0.800")


@pytest.mark.parametrize(
    ("second", "kind"),
    [
        (BackendDown("gone"), ProblemKind.JUDGE_UNREACHABLE),
        (Problem(ProblemKind.JUDGE_TIMEOUT, "judge: late"), ProblemKind.JUDGE_TIMEOUT),
    ],
)
async def test_a_second_look_that_fails_costs_no_other(
    second: Problem | Exception, kind: ProblemKind
) -> None:
    """What was sure at the first keeps its verdict; the other may be sent again."""

    class Fading(Views):
        async def decide(self, inquiries: Sequence[Inquiry]) -> Sequence[Judgement | Problem]:
            told = await super().decide(inquiries)
            both = zip(inquiries, told, strict=True)
            return [p(SURE_YES) if i.answer == "sure" else t for i, t in both]

    engine = Fading({View.AS_WRITTEN: p(OPEN), View.SWAPPED: second})
    sure = ASKED._replace(answer="sure")

    lost, kept = await calibrated(engine, abstains=True).decide([ASKED, sure])

    assert problem(lost, kind).retryable
    judgement(kept)


async def test_an_engine_that_cannot_be_asked_at_all_says_so() -> None:
    """The whole batch is unscored, and the loss of the engine is noticed."""
    engine = Views({View.AS_WRITTEN: BackendDown("gone")})

    with pytest.raises(BackendDown):
        await calibrated(engine, abstains=True).decide([ASKED])


@pytest.mark.parametrize(
    ("view", "other", "question"),
    [
        (View.AS_WRITTEN, View.SWAPPED, "Where?"),
        (View.SWAPPED, View.AS_WRITTEN, "Where?"),
        (View.OTHER_ENGINE, View.SWAPPED, "Where?"),
        (View.WITHOUT_QUESTION, View.SWAPPED, None),
    ],
)
async def test_the_second_look_swaps_the_fields_and_adds_nothing(
    view: View, other: View, question: str | None
) -> None:
    """A view without the question stays without it."""
    inquiry = Inquiry(EQUIVALENCE, "left", "left lobe", "Where?", view=view)

    assert swapped(inquiry) == inquiry._replace(view=other, question=question)


# Starting.


async def test_the_identity_tells_the_calibration_and_whether_it_abstains() -> None:
    """Both change what is remembered; a calibration of another engine changes nothing."""
    engine, fingerprint = ScriptedJudge(), Calibration(entries=(entry(),)).fingerprint[:12]

    assert calibrated(engine).identity == f"scripted+calibration:{fingerprint}"
    assert (
        calibrated(engine, abstains=True).identity == f"scripted+abstains+calibration:{fingerprint}"
    )
    assert calibrated(engine, entry(engine="another")).identity == "scripted"
    assert calibrated(engine).capacity == engine.capacity


async def test_an_entry_for_another_wording_is_refused() -> None:
    """Its numbers were measured on other prompts."""
    stale = entry(template_sha=replace(MATCH, version=99).sha)

    with pytest.raises(SetupError, match="'match' is for another wording"):
        await calibrated(ScriptedJudge(), stale).start()

    await calibrated(ScriptedJudge(), entry()).start()
    await calibrated(ScriptedJudge(), stale.model_copy(update={"engine": "another"})).start()


async def test_a_judge_that_is_to_abstain_has_to_be_known() -> None:
    """Else it never would, and nobody would notice."""
    other = entry(engine="another")

    with pytest.raises(SetupError, match="holds nothing for the judge 'scripted'"):
        await calibrated(ScriptedJudge(), other, abstains=True, must_be_known=True).start()

    await calibrated(ScriptedJudge(), other, abstains=True).start()
