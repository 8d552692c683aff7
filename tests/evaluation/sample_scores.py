"""A model's scores and grades as a real run leaves them, made up."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from medreward_eval.records import Failure, Grade, Graded, Prediction, Vote
from medreward_eval.statistics.intervals import Floats
from medreward_eval.statistics.scores import (
    Average,
    Estimate,
    Group,
    Interval,
    Judging,
    Scores,
    TaskScore,
)

TEXT_TASKS = {
    "mmlu_clinical_knowledge": (265, 0.71),
    "mmlu_college_biology": (144, 0.83),
    "mmlu_college_medicine": (173, 0.66),
    "mmlu_medical_genetics": (100, 0.79),
    "mmlu_professional_medicine": (272, 0.74),
    "mmlu_anatomy": (135, 0.68),
    "medmcqa": (4183, 0.55),
    "medqa": (1273, 0.61),
    "usmle_sa": (325, 0.64),
    "pubmedqa": (1000, 0.77),
    "mimic_cxr_report_summarization": (500, 0.58),
}
IMAGE_TASKS = {
    "slake_vqa": (1061, 0.72),
    "rad_vqa": (451, 0.58),
    "path_vqa": (6719, 0.49),
    "pmc_vqa": (2000, 0.56),
    "pmc_vqa_hard": (2000, 0.31),
    "mimic_cxr_report_generation": (500, 0.36),
}
"""The number of items of each task, and the share that the model gets right."""
GROUPS: dict[Group, dict[str, tuple[int, float]]] = {"llm": TEXT_TASKS, "vlm": IMAGE_TASKS}
HEADER: dict[str, Any] = {
    "medreward_eval": "grades",
    "version": 1,
    "model": "medix-r1-8b",
    "tasks": "sha256:5f0c1d2e3a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5",
    "service": "0.1.0",
    "judges": {"equivalence": "Qwen/Qwen3-14B", "report": "Qwen/Qwen3-14B"},
    "templates": {"equivalence": "sha256:" + "ab" * 32, "report": "sha256:" + "cd" * 32},
    "votes": 2,
}
QUESTION = (
    "A 54-year-old woman has had chest pain for two hours.\n\nChoices:\nA. Aspirin\nB. Heparin"
)


Credits = tuple[Group, Floats, Floats, bool]
"""A task's group, the credits of two models, and whether these are right or wrong."""


def binary(
    both: int, only_first: int, only_second: int, neither: int, group: Group = "llm"
) -> Credits:
    """So many questions that both models got right, one of them alone, and neither."""
    counts = [both, only_first, only_second, neither]
    first, second = (np.repeat(credit, counts) for credit in ([1.0, 1, 0, 0], [1.0, 0, 1, 0]))
    return group, first, second, True


def estimate(value: float, width: float = 0.03) -> Estimate:
    """An estimate with about that interval."""
    return Estimate(value, Interval(max(0.0, value - width), min(1.0, value + 0.9 * width)))


def sure(found: Estimate | None) -> Estimate:
    """An estimate that there is."""
    assert found is not None
    return found


def task_score(
    task: str, n: int, group: Group, *, unjudged: int = 0, share: float = 0.7
) -> TaskScore:
    """A task of *n* items."""
    judged = n - unjudged
    by_option, by_exact = judged // 3, judged // 5
    return TaskScore(
        task=task,
        group=group,
        template="report" if "report" in task else "equivalence",
        judged=judged,
        unjudged={"judge_timeout": unjudged} if unjudged else {},
        accuracy=estimate(share, 0.9 / n**0.5),
        corrected=estimate(share - 0.04, 1.3 / n**0.5),
        settled_by={
            "option": by_option,
            "exact": by_exact,
            "rule": 1,
            "judge": judged - by_option - by_exact - 1,
        },
        split=n // 40,
        unanswered=n // 90,
        mean_answer_characters=40.0 if group == "llm" else 93.5,
    )


def sample_scores() -> Scores:
    """All seventeen tasks, one with unjudged items."""
    tasks = [
        task_score(task, n, group, share=share, unjudged=37 if task == "medqa" else 0)
        for group, known in GROUPS.items()
        for task, (n, share) in known.items()
    ]
    return Scores(
        model="medix-r1-8b",
        headers=[HEADER],
        tasks=tasks,
        averages=[
            Average("LLM", 11, 11, estimate(0.687, 0.012), estimate(0.649, 0.02)),
            Average("VLM", 6, 6, estimate(0.503, 0.011), estimate(0.464, 0.019)),
            Average("Overall", 17, 17, estimate(0.622, 0.009), estimate(0.583, 0.016)),
        ],
        judging=[
            Judging("short answers", 240, 0.94, 0.91, 0.85, 0.86),
            Judging("long answers", 120, 0.88, 0.83, 0.71, None),
        ],
    )


def uncorrected(scores: Scores) -> Scores:
    """The same, without a calibration."""
    return replace(
        scores,
        tasks=[replace(score, corrected=None) for score in scores.tasks],
        averages=[replace(average, corrected=None) for average in scores.averages],
        judging=(),
    )


def item(task: str, number: int, grade: Grade, **changes: Any) -> Graded:
    """A graded prediction of a task."""
    prediction = Prediction(
        id=f"{task}_{number}",
        task=task,
        question=QUESTION,
        reference="Aspirin",
        response=f"<think>Case {number}. The pain began at rest, so platelets matter.</think>"
        "<answer>Heparin</answer>",
        template="report" if "report" in task else "equivalence",
    )
    return Graded(replace(prediction, **changes), grade)


WRONG = Grade(0.0, "judge", 0.08, (Vote("as_written", "NO", 0.07), Vote("swapped", "NO", 0.09)))
SPLIT = Grade(1.0, "judge", 0.56, (Vote("as_written", "YES", 0.81), Vote("swapped", "NO", 0.31)))
RIGHT = Grade(1.0, "option")
UNJUDGED = Grade(None, error=Failure("judge_timeout", "no verdict within 60 s", retryable=True))


def sample_grades() -> Iterator[Graded]:
    """Some of each kind, and many that need no look."""
    for number in range(60):
        yield item("medqa", number, RIGHT)
    for number in range(60, 105):
        yield item("medqa", number, WRONG)
    for number in range(3):
        yield item("pubmedqa", number, SPLIT)
        yield item("medmcqa", number, UNJUDGED)
    for number, score in enumerate([0, 1, 2, 2, 3, 3, 3, 3.67, 4, 4, 4, 4, 5, 5]):
        yield item("mimic_cxr_report_generation", number, Grade(float(score), "judge"))
        yield item("mimic_cxr_report_summarization", number, Grade(min(5.0, score + 1.0), "judge"))
