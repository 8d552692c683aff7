"""The questions of several tasks, one task after the other, as often as they are asked for."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from medreward_eval.records import Question
from medreward_eval.tasks.questions import Mistakes, Questions, open_questions
from medreward_eval.tasks.tasks import Task


class QuestionSource:
    """Reads the data sets of tasks, each time anew.

    Rows that cannot be asked are in `mistakes`, by task, once they were read.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        data_dir: Path | None = None,
        images_dir: Path | None = None,
        limit: int | None = None,
    ) -> None:
        self._tasks = tasks
        self._data_dir = data_dir
        self._images_dir = images_dir
        self._limit = limit
        self.mistakes: dict[str, Mistakes] = {}

    def questions(self) -> Iterator[Question]:
        """Read them in the order of the tasks.

        Raises:
            BadData: a data set cannot be opened, or cannot be read further on.
        """
        for task in self._tasks:
            opened = self._open(task)
            yield from opened
            if opened.mistakes.count:
                self.mistakes[task.name] = opened.mistakes

    def count(self) -> int | None:
        """Open each data set, and count the questions; None where that takes reading them.

        Raises:
            BadData: one cannot be opened, which is better known before the first is asked.
        """
        counts = [self._open(task).count for task in self._tasks]
        known = [count for count in counts if count is not None]
        return sum(known) if len(known) == len(counts) else None

    def _open(self, task: Task) -> Questions:
        return open_questions(
            task, data_dir=self._data_dir, images_dir=self._images_dir, limit=self._limit
        )
