"""The zip file that MediX-R1's leaderboard accepts.

    MediX_R1_8B/MediX_R1_8B.jsonl         what the model answered
    MediX_R1_8B/MediX_R1_8B_eval.jsonl    and how it was graded: 0 or 1, reports 0 to 5
    MediX_R1_8B/MediX_R1_8B_score.txt     the table

Their format has no answer without a grade, so unjudged items are in the first file alone, and the
table counts them.
"""

from collections.abc import Iterator
from hashlib import md5
from pathlib import Path
from typing import Any, Final
from zipfile import ZIP_DEFLATED, ZipFile

from medreward_eval.errors import BadData
from medreward_eval.journal import line_of, writing
from medreward_eval.records import Graded, underscored
from medreward_eval.statistics.scores import Provenance, Scores
from medreward_eval.statistics.scoring import read_graded

ID_LETTERS: Final = 8


def write_submission(grades: Path, scores: Scores, folder: Path) -> Path:
    """Write the zip into *folder*, named as by their script, and return its path.

    Raises:
        BadData: nothing was judged, not all is generated and graded, or the predictions are of
            several models.
        Failed: the zip cannot be written; an earlier one is left unchanged.
    """
    _check_complete(grades, scores.provenance)
    if not any(task.judged for task in scores.tasks):
        raise BadData(f"{grades}: nothing is judged, so there is nothing to hand in")
    model = underscored(scores.model)
    path = folder / zip_name(model)
    unfinished = path.with_name(f"{path.name}.part")
    with writing(path):
        folder.mkdir(parents=True, exist_ok=True)
        with ZipFile(unfinished, "w", ZIP_DEFLATED) as file:
            answered = map(_answered, read_graded(grades))
            for ending, rows in (("", answered), ("_eval", _evaluated(grades))):
                with file.open(f"{model}/{model}{ending}.jsonl", "w") as out:
                    out.writelines(map(line_of, rows))
            file.writestr(f"{model}/{model}_score.txt", score_text(scores))
        unfinished.replace(path)
    return path


def _check_complete(grades: Path, told: Provenance) -> None:
    """Raise BadData if the predictions are of several models, or some or their grades are missing."""
    models = dict.fromkeys(str(way.get("model")) for way in told.generated)
    if len(models) > 1:
        raise BadData(
            f"{grades}: the predictions are of several models ({', '.join(models)}), and one "
            "model hands in; generate anew, to a new file"
        )
    if told.ungraded:
        raise BadData(
            f"{grades}: {told.graded:,} of {told.of:,} predictions are graded so far; run "
            "`medreward-eval grade` again, which goes on, and then this"
        )
    if told.unasked:
        raise BadData(
            f"{grades}: {told.of:,} of {told.of + told.unasked:,} questions have a prediction so "
            "far; run `medreward-eval generate` again, then `grade`, which go on, and then this"
        )


def zip_name(model: str) -> str:
    """Return the zip's name: eight digits of the model's digest, and the model."""
    base = f"{model}_submission"
    # MD5 is their script's choice; nothing here depends on its security.
    return f"{md5(base.encode(), usedforsecurity=False).hexdigest()[:ID_LETTERS]}_{base}.zip"


def score_text(scores: Scores) -> str:
    """Format the table: a line per task with its accuracy as a share and in per cent, the mean last."""
    rows = [(one.task, one.accuracy.value) for one in scores.tasks if one.accuracy is not None]
    if len(rows) > 1:
        rows.append(("Overall", sum(value for _, value in rows) / len(rows)))
    width = max(len(name) for name, _ in rows)
    lines = [f"{name:{width}}  {value:.6f}  {value:8.2%}" for name, value in rows]
    unjudged = sum(task.of - task.judged for task in scores.tasks)
    note = [f"\nIn no accuracy: {unjudged} answers that were not judged."] if unjudged else []
    return "\n".join(
        [f"Model: {scores.model}\n", f"{'Task':{width}}  Accuracy  Accuracy (%)", *lines, *note, ""]
    )


def _answered(graded: Graded) -> dict[str, Any]:
    one = graded.prediction
    return {
        "id": one.id,
        "question": one.question,
        "answer": one.reference,
        "response": one.response or "",
        "answer_idx": None,
    }


def _evaluated(grades: Path) -> Iterator[dict[str, Any]]:
    for graded in read_graded(grades):
        score = graded.grade.score
        if score is not None:
            is_verdict = graded.prediction.template == "equivalence"
            yield {
                **_answered(graded),
                "evaluation": {"score": int(score) if is_verdict else score},
            }
