"""A repeatable source of the questions of several tasks."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from medreward_eval.errors import Mistakes
from medreward_eval.records import Question
from medreward_eval.tasks.questions import Questions
from medreward_eval.tasks.tasks import Task


class QuestionSource:
    """The questions of several tasks, read from their data sets at each iteration.

    Invalid rows are counted in `mistakes`, by task, after an iteration.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        data_dir: Path | None = None,
        images_dir: Path | None = None,
        limit: int | None = None,
    ) -> None:
        self._tasks = tasks
        self._open = partial(Questions, data_dir=data_dir, images_dir=images_dir, limit=limit)
        self.mistakes: dict[str, Mistakes] = {}

    def questions(self) -> Iterator[Question]:
        """Yield the questions in the order of the tasks.

        Raises:
            BadData: a data set cannot be opened, or a later part cannot be read.
        """
        for task in self._tasks:
            opened = self._open(task)
            yield from opened
            if opened.mistakes.count:
                self.mistakes[task.name] = opened.mistakes

    def count(self) -> int:
        """Return the number of questions; it takes a pass over the texts of each data set.

        Raises:
            BadData: a data set cannot be read; callers learn it before the first question is sent.
        """
        return sum(self._open(task).count() for task in self._tasks)
