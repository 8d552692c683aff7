"""The exam of `medreward check --exam` in words and tables."""

from rich.console import Console
from rich.text import Text

from medreward.cli.tables import counted, plain_table
from medreward.cli.terminal import shown
from medreward.exam.result import LEAST_BALANCED, MOST_WRONG_YES, ExamResult, Part, faults

FLOOR = (
    f"the floor is {LEAST_BALANCED:g}, with YES to at most {MOST_WRONG_YES:.0%} of the wrong answers "
    "and never to all of a kind"
)


def summary(result: ExamResult) -> str:
    """Return the score and the floor in one line."""
    score = f"YES to {_of(result.right)} right answers, NO to {_of(result.wrong)} wrong ones"
    if result.unanswered:
        kinds = list(result.unanswered.elements())
        score += f", {len(kinds)} without a verdict ({counted(kinds)})"
    balanced = result.balanced_accuracy
    if balanced is None:
        return f"{score}: too few verdicts for a result"
    return f"{score}: balanced accuracy {balanced:.3f}; {FLOOR}"


def limits(result: ExamResult) -> str:
    """Return what a judge of terms gets wrong in whole answers, which do not count."""
    told = faults(result.uncounted)
    return (
        f"It is a judge of terms. Of whole answers, which do not count, it {told}." if told else ""
    )


def print_exam(console: Console, result: ExamResult) -> None:
    """Print the exam by kind, the pairs with a wrong verdict, the score and the advice."""
    console.print(Text("\nExam", "bold underline"))
    table = plain_table("right verdict", "answers", "pairs", "answered", "passed")
    for parts in (result.parts, result.uncounted):
        for part in parts:
            passed = Text(str(part.passed), "red" if part.passed < part.answered else "")
            table.add_row(part.due, part.kind, str(part.asked), str(part.answered), passed)
        table.add_section()
    console.print(table)
    if result.failed:
        table = plain_table("verdict", "question", "reference", "answer")
        for mark in result.failed:
            pair = mark.pair
            texts = (pair.question, pair.reference, pair.answer)
            table.add_row(Text(mark.verdict or "", "red"), *map(shown, texts))
        console.print(table)
    console.print(shown(summary(result)), soft_wrap=True)
    if result.advice:
        console.print(shown(result.advice, "red"), soft_wrap=True)
    if told := limits(result):
        console.print(shown(told), soft_wrap=True)


def _of(part: Part) -> str:
    return f"{part.passed} of {part.answered}"
