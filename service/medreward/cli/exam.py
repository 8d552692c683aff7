"""The exam of `medreward check --exam` in words and tables."""

from rich.console import Console
from rich.text import Text

from medreward.audit.exam import LEAST_BALANCED, MOST_WRONG_YES, ExamResult
from medreward.audit.figures import Rate
from medreward.cli.tables import counted, plain_table
from medreward.cli.terminal import shown

FLOOR = (
    f"the floor is {LEAST_BALANCED:g}, with YES to at most {MOST_WRONG_YES:.0%} of the wrong answers "
    "and never to all of a kind"
)
CHOICE = "Choose another, such as a larger language model (docs/engines.md)"


def summary(result: ExamResult) -> str:
    """Return the score and the floor in one line."""
    score = f"YES to {_of(result.right)} right answers, NO to {_of(result.wrong)} wrong ones"
    if result.unanswered:
        score += f", {len(result.unanswered)} without a verdict ({counted(result.unanswered)})"
    balanced = result.balanced_accuracy
    if balanced is None:
        return f"{score}: too few verdicts for a result"
    return f"{score}: balanced accuracy {balanced:.3f}; {FLOOR}"


def advice(result: ExamResult) -> str:
    """Return what the judge gets wrong and what to do about it; nothing if it passes."""
    if result.is_passed:
        return ""
    if result.balanced_accuracy is None:
        return "Find out why the judge gives no verdict, and examine it again."
    weak = [part for part in result.parts if part.is_weak]
    told = [
        f"says {verdict} to {', '.join(kinds)}"
        for verdict, due in (("YES", "NO"), ("NO", "YES"))
        if (kinds := [part.kind for part in weak if part.due == due])
    ]
    return f"This judge {'; it '.join(told) or 'errs in many places'}. {CHOICE}."


def print_exam(console: Console, result: ExamResult) -> None:
    """Print the exam by kind, the pairs with a wrong verdict, the score and the advice."""
    console.print(Text("\nExam", "bold underline"))
    table = plain_table("right verdict", "answers", "pairs", "answered", "passed")
    for part in result.parts:
        hits, of = part.passed
        passed = Text(str(hits), "red" if hits < of else "")
        table.add_row(part.due, part.kind, str(part.asked), str(of), passed)
    console.print(table)
    if result.failed:
        table = plain_table("verdict", "question", "reference", "answer")
        for mark in result.failed:
            pair = mark.pair
            texts = (pair.question, pair.reference, pair.answer)
            table.add_row(Text(mark.verdict or "", "red"), *map(shown, texts))
        console.print(table)
    console.print(shown(summary(result)), soft_wrap=True)
    if not result.is_passed:
        console.print(shown(advice(result), "red"), soft_wrap=True)


def _of(passed: Rate) -> str:
    return f"{passed.hits} of {passed.of}"
