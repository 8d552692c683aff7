"""Rewards by rubrics over HTTP: the reply, its range, and what the judge is asked."""

import json
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from medreward.app import create_app
from medreward.engines.embedders.hashed import HashedEmbedder
from medreward.engines.judge import Inquiry, Judgement
from medreward.engines.judges.scripted import ScriptedJudge, certain
from medreward.engines.templates import Template
from medreward.errors import BackendDown, Problem, ProblemKind
from medreward.http import schemas
from medreward.settings import Settings
from tests.conftest import Serve
from tests.support.engines import TroubledJudge, raising
from tests.support.service import over_asgi

LOST = Problem(ProblemKind.JUDGE_UNREACHABLE, "judge: nobody home")
CRITERIA: list[dict[str, Any]] = [
    {"text": "Advises to call an ambulance.", "points": 6},
    {"text": "Names a dose of aspirin.", "points": 4},
    {"text": "Tells to wait until morning.", "points": -8},
]


class CriteriaJudge(ScriptedJudge):
    """A judge whose verdict depends on the criterion alone; the default is NO."""

    def __init__(self, said: Mapping[str, str | Problem], *, batch: int = 64) -> None:
        super().__init__(batch=batch)
        self._said = said

    async def decide(self, inquiries: Sequence[Inquiry]) -> Sequence[Judgement | Problem]:
        """Look the criterion up."""
        self.batches.append(list(inquiries))
        return [self._verdict(inquiry) for inquiry in inquiries]

    def _verdict(self, inquiry: Inquiry) -> Judgement | Problem:
        said = self._said.get(inquiry.criterion or "", "NO")
        return said if isinstance(said, Problem) else certain(inquiry.template, said)


def sample(response: str = "Call an ambulance.", **fields: Any) -> dict[str, Any]:
    """A sample with a rubric and no reference."""
    return {"response": response, "reference": "", "criteria": CRITERIA, **fields}


async def replied(serve: Serve, judge: CriteriaJudge, *samples: dict[str, Any]) -> dict[str, Any]:
    """Score samples by the recipe `rubric`."""
    async with serve(judge=judge, recipe="rubric") as client:
        reply = await client.post("/reward", json={"samples": samples})
        body: dict[str, Any] = reply.json()
    assert schemas.RewardReply.model_validate(body).model_dump(mode="json") == body
    return body


@pytest.mark.anyio
async def test_a_rubric_is_told_criterion_by_criterion(serve: Serve) -> None:
    """Reward, range, and of each criterion verdict, points and P(YES), or its error."""
    judge = CriteriaJudge({CRITERIA[0]["text"]: "YES", CRITERIA[2]["text"]: "YES"})

    body = await replied(serve, judge, sample())

    (result,) = body["results"]
    met = {"verdict": "YES", "choice": None, "p_yes": 1.0, "source": "judge", "error": None}
    assert result["status"] == "scored"
    assert result["reward"] == pytest.approx(-0.2)
    assert body["range"] == [-2.0, 1.0]
    assert result["components"]["rubric"]["value"] == result["reward"]
    assert result["unanswered"] == 0
    assert result["criteria"] == [
        met | {"points": 6.0},
        met | {"points": 0.0, "verdict": "NO", "p_yes": 0.0},
        met | {"points": -8.0},
    ]


@pytest.mark.anyio
async def test_a_failed_criterion_is_left_out_and_told(serve: Serve) -> None:
    """With four fifths of the points answered there is a reward; with fewer, the failure."""
    few = [*CRITERIA[:2], {"text": "Is polite.", "points": 2}]
    judge = CriteriaJudge({"Is polite.": LOST, CRITERIA[0]["text"]: "YES"})

    body = await replied(serve, judge, sample(criteria=few), sample(criteria=few[::2][::-1]))

    scored, unscored = body["results"]
    assert scored["reward"] == 0.6
    assert scored["unanswered"] == unscored["unanswered"] == 1
    assert scored["criteria"][2]["error"]["kind"] == "judge_unreachable"
    assert (unscored["reward"], unscored["error"]["kind"]) == (None, "judge_unreachable")


@pytest.mark.anyio
async def test_a_sample_with_an_unusable_rubric_is_refused_by_itself(serve: Serve) -> None:
    """Its neighbours are scored, and no question is asked about it."""
    judge = CriteriaJudge({})
    many = [{"text": f"Criterion {number}.", "points": 1} for number in range(201)]

    body = await replied(serve, judge, sample(criteria=many), sample(criteria=None), sample())

    kinds = [result["error"] and result["error"]["kind"] for result in body["results"]]
    assert kinds == ["invalid_request", "invalid_request", None]
    assert body["counts"]["judge_calls"] == 3


@pytest.mark.anyio
async def test_equal_criteria_are_asked_once_and_in_batches(serve: Serve) -> None:
    """64 samples by 12 criteria: 768 verdicts, a question for each distinct pair, full batches."""
    criteria = [{"text": f"Criterion {number}.", "points": 1} for number in range(12)]
    judge = CriteriaJudge({}, batch=32)
    samples = [sample(f"Answer {number // 2}.", criteria=criteria) for number in range(64)]

    body = await replied(serve, judge, *samples)

    _, *batches = judge.batches  # the first is the warm-up
    assert body["counts"]["scored"] == 64
    assert body["counts"]["judge_calls"] == sum(map(len, batches)) == 32 * 12
    assert len(batches) == 12  # a 64th of one request a verdict


@pytest.mark.anyio
async def test_criteria_are_counted_as_questions(serve: Serve) -> None:
    """A request with more questions than fit is refused, and told how many samples do."""
    samples = [sample(), sample(), sample()]
    async with serve(judge=CriteriaJudge({}), recipe="rubric", max_questions_in_flight=9) as client:
        reply = await client.post("/reward", json={"samples": samples})

    assert reply.status_code == 413
    assert reply.json()["error"]["fits"] == 2


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("characters", "of_choices", "status"), [(1000, 10, 413), (20_000, 1, 200), (1, 10, 200)]
)
async def test_the_questions_about_choices_count_as_memory(
    serve: Serve, characters: int, of_choices: int, status: int
) -> None:
    """Each repeats all choices, so a body that fits may not; one over the limit is not written."""
    texts = ["x" * (characters if number < of_choices else 1) for number in range(10)]
    choices = [{"text": text, "points": number} for number, text in enumerate(texts)]
    limits = {"max_bytes_in_flight": 300_000}
    rows = [sample(criteria=[{"text": "How plain?", "choices": choices}] * 3)]
    async with serve(judge=CriteriaJudge({}), recipe="rubric", **limits) as client:
        reply = await client.post("/reward", json={"samples": rows})

    assert reply.status_code == status


@pytest.mark.anyio
async def test_recipes_tell_their_range(serve: Serve) -> None:
    """`GET /recipes` has the range of each, and so has a metric."""
    async with serve() as client:
        recipes = (await client.get("/recipes")).json()["recipes"]
        metrics = (await client.get("/metrics")).text

    ranges = {recipe["name"]: recipe["range"] for recipe in recipes}
    assert ranges == {
        "medix-r1": [0.0, 1.0],
        "medix-r1-guarded": [0.0, 1.0],
        "medix-r1-guarded-rubric": [-0.85, 1.0],
        "rubric": [-2.0, 1.0],
    }
    assert 'medreward_reward_range{end="least",recipe="rubric"} -2.0' in metrics


@pytest.mark.anyio
async def test_a_run_is_watched_by_rewards_from_0_to_1(serve: Serve) -> None:
    """Reports, alerts and metrics have the reward mapped from its recipe's range."""
    judge = CriteriaJudge({CRITERIA[2]["text"]: "YES"})
    async with serve(judge=judge, recipe="rubric") as client:
        body = {"samples": [sample()], "run": {"id": "r", "step": 1}}
        reply = await client.post("/reward", json=body)
        report = (await client.get("/runs/r")).json()
        metrics = (await client.get("/metrics")).text

    # Prometheus takes a sum that falls for that of a process started anew.
    for name in ("reward", "component"):
        found = re.search(rf'medreward_{name}_sum{{.*recipe="rubric"}} (\S+)', metrics)
        assert found is not None
        assert float(found[1]) == pytest.approx(0.4)
    assert reply.json()["results"][0]["reward"] == -0.8
    assert report["total"]["reward"]["mean"] == pytest.approx(0.4)
    assert report["total"]["components"]["rubric"]["mean"] == -0.8


@pytest.mark.anyio
async def test_a_rubric_stands_beside_the_guarded_signals(serve: Serve) -> None:
    """J x (0.40 + 0.05 x E) + 0.40 x R + 0.05 x M + 0.10 x F, with R below zero too."""
    response = "<X_RAY><thinking>t</thinking><answer>left lower lobe</answer>"
    right = sample(response, reference="<X_RAY>left lower lobe")
    judge = CriteriaJudge({CRITERIA[0]["text"]: "YES", CRITERIA[2]["text"]: "YES"})
    async with serve(judge=judge, recipe="medix-r1-guarded-rubric") as client:
        reply = await client.post(
            "/reward", json={"samples": [right, {**right, "criteria": CRITERIA[:1]}]}
        )

    rewards = [result["reward"] for result in reply.json()["results"]]
    assert rewards == pytest.approx([0.6 - 0.4 * 0.2, 1.0])
    assert reply.json()["range"] == [-0.85, 1.0]


@pytest.mark.anyio
async def test_openrlhf_gets_scores_from_0_to_1(serve: Serve, tmp_path: Path) -> None:
    """`rewards` are the recipe's own, `scores` are mapped from its range."""
    path = tmp_path / "signed.toml"
    path.write_text(
        'name = "signed"\nversion = 1\ndescription = "Judge less a bad form."\n'
        'template = "match"\nrange = [-1.0, 1.0]\n[tags]\n'
        "[signals.accuracy_llm]\nweight = 1.0\n[signals.format]\nweight = -1.0\n"
    )
    said = "<thinking>t</thinking><answer>{}</answer>"
    query = [said.format("spleen"), said.format("liver"), "spleen"]
    body = {"query": query, "prompts": [""] * 3, "labels": ["spleen"] * 3}
    async with serve(recipes=str(path), recipe="signed") as client:
        reply = (await client.post("/compat/openrlhf", json=body)).json()

    assert reply["rewards"] == [0.0, -1.0, 1.0]
    assert reply["scores"] == [0.5, 0.0, 1.0]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("weights", "imputed"),
    # Only the embedder's 1 and the form's 1 are known; the judge failed.
    [
        ((1.0, 0.5, 0.5), 2.0),
        ((-1.0, 0.5, 0.5), 0.0),
        ((1.0, 1.0, -1.0), None),
        ((1.0, 1.0, -0.95), None),
    ],
)
async def test_what_is_imputed_is_scaled_to_all_weights_of_a_range(
    serve: Serve, tmp_path: Path, weights: tuple[float, ...], imputed: float | None
) -> None:
    """The known components, scaled up; of weights of either sign there is an error."""
    judge, embed, form = weights
    path = tmp_path / "signed.toml"
    path.write_text(
        'name = "signed"\nversion = 1\ndescription = "Signed."\ntemplate = "match"\n'
        f"range = [-3.0, 3.0]\n[tags]\n[signals.accuracy_llm]\nweight = {judge}\n"
        f"[signals.accuracy_embed]\nweight = {embed}\nthreshold = -1.0\n"
        f"[signals.format]\nweight = {form}\n"
    )
    said = "<thinking>t</thinking><answer>the spleen</answer>"
    async with serve(
        judge=TroubledJudge(raising(BackendDown("refused"))), recipes=str(path), recipe="signed"
    ) as client:
        reply = await client.post(
            "/compat/slime?on_unscored=impute", json={"response": said, "label": "spleen"}
        )

    assert (reply.json() if reply.status_code == 200 else None) == imputed


@pytest.mark.anyio
async def test_a_label_may_have_criteria(serve: Serve) -> None:
    """The trainers' routes take them in the label, written into a text too."""
    judge = CriteriaJudge({CRITERIA[1]["text"]: "YES"})
    label = {"reference": "", "criteria": CRITERIA}
    async with serve(judge=judge, recipe="rubric") as client:
        rewards = [
            (await client.post("/compat/slime", json={"response": "Aspirin.", "label": one})).json()
            for one in (label, json.dumps(label))
        ]

    assert rewards == [0.4, 0.4]


@pytest.mark.anyio
async def test_a_judge_that_cannot_judge_criteria_refuses_the_recipe_by_name(
    serve: Serve,
) -> None:
    """Every template that the default recipe needs is checked at the start."""
    app = create_app(
        Settings(judge="scripted", embedder="hashed", recipe="medix-r1-guarded-rubric"),
        judge=TermsJudge(),
        embedder=HashedEmbedder(),
    )
    async with over_asgi(app) as client:
        state = (await client.get("/readyz")).json()
    async with serve(judge=TermsJudge()) as client:
        refusal = await client.post("/reward", json={"samples": [sample()], "recipe": "rubric"})

    assert state["status"] == "failed"
    told = state["engines"]["judge"]["message"]
    assert "the template 'rubric', which the signal rubric of the recipe" in told
    assert "'medix-r1-guarded-rubric' needs" in told
    assert refusal.status_code == 422
    message = refusal.json()["error"]["message"]
    assert message.startswith("recipe: 'rubric' has the signal rubric, and ")
    assert "cannot answer 'rubric'" in message


@pytest.mark.anyio
async def test_a_recipe_of_the_operators_that_the_judge_cannot_answer_is_refused_at_the_start(
    tmp_path: Path,
) -> None:
    """By name, though it is not the default; a shipped one that nobody chose refuses no start."""
    shipped = resources.files("medreward") / "recipes" / "rubric.toml"
    mine = shipped.read_text("utf-8").replace('name = "rubric"', 'name = "mine"')
    (tmp_path / "mine.toml").write_text(mine)
    states = []
    for recipes in ((), (tmp_path,)):
        settings = Settings(judge="scripted", embedder="hashed", recipes=recipes)
        app = create_app(settings, judge=TermsJudge(), embedder=HashedEmbedder())
        async with over_asgi(app) as client:
            states.append((await client.get("/readyz")).json())

    assert [state["status"] for state in states] == ["ready", "failed"]
    assert "the signal rubric of the recipe 'mine' needs" in str(states[1]["engines"])


@pytest.mark.anyio
async def test_a_recipe_without_the_judges_signals_needs_no_template(
    serve: Serve, tmp_path: Path
) -> None:
    """Its own is named and never asked, so a judge that cannot answer it scores all the same."""
    (tmp_path / "mine.toml").write_text(
        'name = "mine"\nversion = 1\ndescription = "The form."\ntemplate = "rubric"\n'
        "[tags]\n[signals.format]\nweight = 1.0\n"
    )
    async with serve(judge=TermsJudge(), recipes=str(tmp_path), recipe="mine") as client:
        reply = await client.post("/reward", json={"samples": [sample()]})

    assert [result["reward"] for result in reply.json()["results"]] == [0.0]


@pytest.mark.anyio
async def test_recipes_tell_what_their_signals_need(serve: Serve) -> None:
    """`GET /recipes` has the needs of each signal: engines, tags, and fields of the samples."""
    async with serve() as client:
        recipe = (await client.get("/recipes/medix-r1-guarded-rubric")).json()

    assert recipe["needs"] == {
        "accuracy_llm": ["judge", "reference"],
        "accuracy_embed": ["embedder", "reference"],
        "modality": ["tags"],
        "format": ["tags"],
        "rubric": ["judge", "criteria"],
    }


class TermsJudge(ScriptedJudge):
    """A judge that answers no rubric."""

    def can_answer(self, template: Template) -> bool:
        """Return True for the others."""
        return template.name != "rubric"
