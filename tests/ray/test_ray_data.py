"""Grading as a stage of Ray Data, on a local Ray."""

from collections.abc import Iterator
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

ray = pytest.importorskip("ray", reason="`make ray` has it")
pytest.importorskip("ray.data", reason="`make ray` has it")

import pyarrow as pa  # noqa: E402 - where there is Ray
import pyarrow.parquet as pq  # noqa: E402 - the same

from medreward_eval.errors import BadData, OtherRun  # noqa: E402 - the same
from tests.support.process import Service, serving  # noqa: E402 - the same

pytestmark = [
    pytest.mark.ray,
    # Ray's own processes and sockets outlast it a little.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning",
                               "ignore::FutureWarning", "ignore::UserWarning"),
]  # fmt: skip

ROWS = 2_000
SCRIPT = Path(__file__).parents[2] / "examples" / "evaluation" / "ray_data.py"


def loaded(path: Path) -> ModuleType:
    """A script as a module.

    It is kept out of `sys.modules`: only then does Ray send its classes to workers by value, and
    workers could not import it by name.
    """
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


script = loaded(SCRIPT)


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """A service whose judge says YES to the reference's own words."""
    with serving(None, judge="scripted", embedder="hashed") as running:
        yield running


@pytest.fixture(scope="module", autouse=True)
def local_ray() -> Iterator[None]:
    """Two processors' worth of Ray, without its dashboard."""
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield
    ray.shutdown()


def written(folder: Path) -> Path:
    """Predictions in two Parquet files: right, wrong, of options, and without a response."""
    rows = [
        {
            "id": f"q{n}",
            "question": "Which organ?",
            "reference": "spleen",
            "response": ("SPLEEN", f"liver {n}", "B", None)[n % 4],
            "options": ["liver", "spleen"] if n % 4 == 2 else None,
        }
        for n in range(ROWS)
    ]
    half = ROWS // 2
    for name, part in (("a", rows[:half]), ("b", rows[half:])):
        pq.write_table(pa.Table.from_pylist(part), folder / f"{name}.parquet")
    return folder


def test_every_row_gets_its_grade(service: Service, tmp_path: Path) -> None:
    """The rules are those of one machine, and a row without a response is unjudged, not 0."""
    rows = ray.data.read_parquet(str(written(tmp_path)))
    graded = rows.map_batches(**script.grading(service.url, workers=2)).take_all()
    by_id = {row["id"]: row["grade"] for row in graded}

    assert len(by_id) == ROWS
    assert {by_id[f"q{n}"]["score"] for n in range(0, ROWS, 4)} == {1.0}
    assert {by_id[f"q{n}"]["score"] for n in range(1, ROWS, 4)} == {0.0}
    assert {by_id[f"q{n}"]["settled_by"] for n in range(2, ROWS, 4)} == {"option"}
    assert {(by_id[f"q{n}"]["score"], by_id[f"q{n}"]["unjudged"]) for n in range(3, ROWS, 4)} == {
        (None, "no_response")
    }


def test_a_row_that_is_no_prediction_costs_its_neighbours_nothing(service: Service) -> None:
    """The row is unjudged, and its message names the wrong column."""
    rows = ray.data.from_items(
        [
            {"id": "q0", "reference": "spleen", "response": "spleen"},
            {"id": "q1", "reference": None, "response": "spleen"},
        ]
    )
    graded = rows.map_batches(**script.grading(service.url, workers=1)).take_all()
    by_id = {row["id"]: row["grade"] for row in graded}

    assert by_id["q0"]["score"] == 1.0
    assert (by_id["q1"]["score"], by_id["q1"]["unjudged"]) == (None, "invalid_prediction")
    assert "`reference`" in by_id["q1"]["message"]


def test_rows_that_are_graded_already_are_refused(service: Service) -> None:
    """The error comes before a second column of that name is made."""
    rows = pa.table({"id": ["q0"], "reference": ["a"], "response": ["a"], "grade": [1.0]})
    stage = script.grading(service.url)
    grade = stage["fn"](**stage["fn_constructor_kwargs"])

    with pytest.raises(BadData, match="a column `grade` already"):
        grade(rows)


def test_finished_files_are_not_graded_again(service: Service, tmp_path: Path) -> None:
    """A second run leaves them alone, and a run by another judge is refused."""
    predictions, grades = written(tmp_path), tmp_path / "grades"
    stage = script.grading(service.url, workers=1)
    script.grade_files(predictions, grades, stage)
    before = {path: path.stat().st_mtime_ns for path in grades.rglob("*.parquet")}
    script.grade_files(predictions, grades, stage)

    assert {path.parent.name for path in before} == {"a", "b"}
    assert {path: path.stat().st_mtime_ns for path in grades.rglob("*.parquet")} == before
    arguments = stage["fn_constructor_kwargs"]
    other = {**arguments, "identity": replace(arguments["identity"], service="0.0")}
    with pytest.raises(OtherRun, match="service"):
        script.grade_files(predictions, grades, {**stage, "fn_constructor_kwargs": other})
