"""Items that deserve a look, collected from a stream of grades of any length in bounded memory."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from medreward_eval.grading.answers import read_answer
from medreward_eval.grading.witness import is_unwitnessed
from medreward_eval.records import BEST, Grade, Graded, Prediction, SettledBy, Vote
from medreward_eval.report.markup import visible

LOW_REPORT: Final = 2.0
"""The highest score, of 5, that counts as a low report."""
LONGEST_TEXT: Final = 4_000
LONGEST_RESPONSE: Final = 8_000
"""Characters of a response; a longer one is cut, with a note of its length."""
MOST_CHARACTERS: Final = 30_000_000
"""Characters of all findings together; a browser could not open a much larger page."""
ANY: Final = "any"
SETTLED: Final[Mapping[SettledBy, str]] = {
    "option": "an option named in plain words",
    "exact": "the reference itself",
    "rule": "an empty answer",
    "judge": "the judge",
}


class Kind(NamedTuple):
    """A reason to look at an item, with its test."""

    words: str
    tells: Callable[[Graded], bool]


def is_low(graded: Graded) -> bool:
    """Return True if a report's score is `LOW_REPORT` or less, or a rubric's 0 or less."""
    score = graded.grade.score
    lowest = {"report": LOW_REPORT, "rubric": 0.0}.get(graded.prediction.template)
    return score is not None and lowest is not None and score <= lowest


KINDS: Final[Mapping[str, Kind]] = {
    "wrong": Kind(
        "judged wrong",
        lambda graded: graded.prediction.template == "equivalence" and graded.grade.score == 0,
    ),
    "split": Kind("split votes", lambda graded: graded.grade.is_split),
    "low": Kind(f"report of {LOW_REPORT:g} or less, rubric of 0 or less", is_low),
    "unwitnessed": Kind("right by the judge alone", is_unwitnessed),
    "unjudged": Kind("unjudged", lambda graded: graded.grade.score is None),
}


class Findings:
    """The first *most* items of each task and kind, and the counts of all.

    Without texts, items have no question, reference, answer or response.
    `found` counts by task and kind, with `any` for items of at least one kind. `reports` counts
    the scores of reports by task, each at the nearest whole number from 0 to 5.
    """

    def __init__(self, *, most: int, with_texts: bool = True) -> None:
        self.most = most
        self.with_texts = with_texts
        self.items: list[dict[str, Any]] = []
        self.found: dict[str, Counter[str]] = {}
        self.reports: dict[str, Counter[int]] = defaultdict(Counter)
        self._room = MOST_CHARACTERS

    def add(self, graded: Graded) -> None:
        """Count an item, and keep it if it has a kind and there is room."""
        task, score = graded.prediction.task, graded.grade.score
        if graded.prediction.template == "report" and score is not None:
            self.reports[task][int(score + 0.5)] += 1
        kinds = [name for name, kind in KINDS.items() if kind.tells(graded)]
        if not kinds:
            return
        found = self.found.setdefault(task, Counter())
        kept_as = [kind for kind in kinds if found[kind] < self.most]
        found.update([ANY, *kinds])
        if kept_as and self._room > 0:
            self._keep(graded, kept_as)

    @property
    def is_full(self) -> bool:
        """True if texts have taken all the room, so that later items are only counted."""
        return self._room <= 0

    @property
    def is_tight(self) -> bool:
        """True if half the room is taken: whole responses are then left out, for the sake of later tasks."""
        return self._room <= MOST_CHARACTERS / 2

    def _keep(self, graded: Graded, kinds: list[str]) -> None:
        texts, response = self._texts(graded.prediction) if self.with_texts else ([], "")
        if self.is_tight:
            response = ""
        item = {
            "task": visible(graded.prediction.task),
            "id": visible(graded.prediction.id),
            "kinds": kinds,
            "why": ", ".join(KINDS[kind].words for kind in kinds),
            "outcome": outcome(graded),
            "facts": grade_facts(graded.grade),
            "texts": texts,
            "response": response,
        }
        self._room -= len(response) + sum(len(text) for _, text in texts) + 300
        self.items.append(item)

    def _texts(self, prediction: Prediction) -> tuple[list[tuple[str, str]], str]:
        """Return the texts to show, and the whole response if it is longer than the answer."""
        response = prediction.response or ""
        answer = read_answer(response)
        texts = [
            ("question", shown(prediction.question, LONGEST_TEXT)),
            ("reference", shown(prediction.reference, LONGEST_TEXT)),
        ]
        texts += [("criterion", shown(line.text, LONGEST_TEXT)) for line in prediction.criteria]
        if prediction.response is not None:
            texts.append(("answer", shown(answer, LONGEST_TEXT)))
        return texts, "" if answer == response else shown(response, LONGEST_RESPONSE)


def outcome(graded: Graded) -> str:
    """Return an item's outcome in a word or two."""
    grade, template = graded.grade, graded.prediction.template
    if grade.score is None:
        return "unjudged"
    if template != "equivalence":
        return f"{grade.score:.3g} of {BEST[template]:g}"
    return "right" if grade.score else "wrong"


def grade_facts(grade: Grade) -> list[tuple[str, str]]:
    """Return the source of a grade as names and values, without texts of the item."""
    error = grade.error
    told = {
        "settled by": SETTLED[grade.settled_by] if grade.settled_by else "",
        "P(YES)": "" if grade.p_yes is None else f"{grade.p_yes:.3f}",
        "votes": "; ".join(map(_vote, grade.votes)),
        "points": "; ".join("no verdict" if one is None else f"{one:g}" for one in grade.points),
        "why unjudged": visible(f"{error.kind}: {error.message}") if error else "",
    }
    return [(name, value) for name, value in told.items() if value]


def shown(text: str, longest: int) -> str:
    """Escape a text's invisible characters, and cut it to *longest* characters."""
    if len(text) <= longest:
        return visible(text)
    return f"{visible(text[:longest])} … ({len(text):,} characters in all)"


def _vote(vote: Vote) -> str:
    sure = "" if vote.p_yes is None else f" at P(YES) {vote.p_yes:.3f}"
    return f"{visible(vote.view).replace('_', ' ')} {vote.verdict or 'no verdict'}{sure}"
