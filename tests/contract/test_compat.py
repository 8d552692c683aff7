"""Trainers' own protocols: the reward of `/reward`, in the words of each; a failure is never a 0."""

import ast
import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from medreward.engines.judges.scripted import ScriptedJudge
from medreward.errors import BackendDown, NonsenseReply
from tests.conftest import Serve
from tests.support.engines import Held, Trouble, TroubledJudge, hang, raising

pytestmark = pytest.mark.anyio

PROMPT = "<|im_start|>user\nWhich lobe is affected?<|im_end|>\n<|im_start|>assistant\n"
RIGHT = "<X_RAY><thinking>Basal.</thinking><answer>Left lower lobe</answer>"
WRONG = "<X_RAY><thinking>Basal.</thinking><answer>Right lung</answer>"
LABEL = {"reference": "left lower lobe", "modality": "X_RAY"}
ENGLISH = "The pain is in the lower part of the left lung, and it began two days ago."
SPOKEN = """
name = "spoken"
version = 1
description = "The language of the answer alone."
template = "match"
tags = "none"

[signals.language]
weight = 1.0
tags_share = 0.0
"""


def openrlhf(*responses: str, label: Any = LABEL) -> dict[str, Any]:
    """What OpenRLHF sends of these responses to one prompt."""
    return {
        "query": [f"{PROMPT}{response}<|im_end|>" for response in responses],
        "prompts": [PROMPT] * len(responses),
        "labels": [label] * len(responses),
    }


def slime(response: str = RIGHT, label: Any = LABEL) -> dict[str, Any]:
    """What slime sends of one sample."""
    return {"prompt": PROMPT, "response": f"{response}<|im_end|>", "label": label}


def row(said: str = RIGHT, **more: Any) -> dict[str, Any]:
    """What NeMo Gym sends of one rollout."""
    text = {"type": "output_text", "text": said, "annotations": []}
    message = {"id": "m", "type": "message", "role": "assistant", "content": [text]}
    thought: dict[str, Any] = {"id": "r", "type": "reasoning", "summary": [], "content": None}
    return {
        "responses_create_params": {"input": [{"role": "user", "content": PROMPT}]},
        "response": {"id": "x", "object": "response", "output": [thought, message]},
        "_ng_task_index": 3,
        **LABEL,
        **more,
    }


async def score(client: httpx.AsyncClient, *responses: str) -> list[float]:
    """The rewards that /reward gives."""
    samples = [{"response": response, **LABEL} for response in responses]
    reply = (await client.post("/reward", json={"samples": samples})).json()
    return [result["reward"] for result in reply["results"]]


# The same rewards, in their words.


async def test_openrlhf_gets_lists_for_lists(serve: Serve) -> None:
    """Rewards and scores are those of /reward; the logs are numbers, one of each for each sample."""
    async with serve() as client:
        reply = (await client.post("/compat/openrlhf", json=openrlhf(RIGHT, WRONG))).json()
        rewards = await score(client, RIGHT, WRONG)

    assert reply == {
        "rewards": rewards,
        "scores": rewards,
        "extra_logs": {
            "scored": [1.0, 1.0],
            "accuracy_llm": [1.0, 0.0],
            "accuracy_embed": [1.0, 0.0],
            "modality": [1.0, 1.0],
            "format": [1.0, 1.0],
        },
    }
    assert rewards == [1.0, pytest.approx(0.145)]


async def test_openrlhf_gets_back_what_it_sends(serve: Serve) -> None:
    """Scalars for scalars; empty lists for those that older versions send to each URL but the first."""
    body = {name: values[0] for name, values in openrlhf(WRONG).items()}
    async with serve() as client:
        one = (await client.post("/compat/openrlhf", json=body)).json()
        none = (await client.post("/compat/openrlhf", json=openrlhf())).json()

    assert one["rewards"] == one["scores"] == pytest.approx(0.145)
    assert one["extra_logs"]["scored"] == 1.0
    assert (none["rewards"], none["extra_logs"]["scored"]) == ([], [])


async def test_what_is_logged_has_the_same_names_for_every_sample(serve: Serve) -> None:
    """OpenRLHF stacks the logs of a batch: a name that one sample lacks would end its step."""
    async with serve() as client:
        url = "/compat/openrlhf"
        known = (await client.post(url, json=openrlhf(RIGHT))).json()
        unknown = (await client.post(url, json=openrlhf(RIGHT, label="left lower lobe"))).json()

    assert list(known["extra_logs"]) == list(unknown["extra_logs"])


async def test_slime_gets_the_bare_number_or_an_object(serve: Serve) -> None:
    """`--reward-key` picks the reward in the object; beside it stands what it is made of."""
    async with serve() as client:
        bare = await client.post("/compat/slime", json=slime(WRONG))
        reply = (await client.post("/compat/slime?key=score", json=slime(WRONG))).json()

    assert bare.headers["content-type"] == "application/json"
    assert bare.json() == reply["score"] == pytest.approx(0.145)
    assert (reply["scored"], reply["accuracy_llm"], reply["format"]) == (1.0, 0.0, 1.0)


async def test_nemo_gym_gets_its_row_back_with_components_that_add_up(serve: Serve) -> None:
    """NeMo RL compares the sum with the reward; the names are the same for every task."""
    async with serve() as client:
        known = (await client.post("/verify", json=row(WRONG))).json()
        unknown = (await client.post("/verify", json=row(modality=None))).json()

    assert known | row(WRONG) == known
    assert known["reward"] == sum(known["reward_components"].values()) == pytest.approx(0.145)
    assert unknown["reward"] == sum(unknown["reward_components"].values()) == pytest.approx(1.0)
    assert list(known["reward_components"]) == list(unknown["reward_components"])
    assert known["mask_sample"] is False
    assert known["medreward_accuracy_llm"] == 0.0
    assert known["medreward_fingerprint"].startswith("sha256:")


async def test_a_row_may_call_its_reference_as_other_rows_of_gyms(serve: Serve) -> None:
    """Many of its data sets say `expected_answer`."""
    given = row(expected_answer="left lower lobe")
    del given["reference"]
    async with serve() as client:
        reply = (await client.post("/verify", json=given)).json()

    assert reply["reward"] == pytest.approx(1.0)


async def test_a_row_of_nemo_gym_may_have_a_rubric(serve: Serve) -> None:
    """Its criteria are scored as in /reward, with choices and points of either sign."""
    criteria = [
        {"text": "Names the side.", "points": 3},
        {"text": "Tells to wait.", "points": -6},
        {"text": "Says how sure.", "choices": [{"text": "no", "points": 0}, {"text": "yes", "points": 3}]},
    ]  # fmt: skip
    given = row("Left.", reference="", criteria=criteria)
    sample = {"response": "Left.", "reference": "", "criteria": criteria}
    async with serve(judge=ScriptedJudge(default="YES"), recipe="rubric") as client:
        verified = (await client.post("/verify", json=given)).json()
        plain = (await client.post("/reward", json={"samples": [sample]})).json()["results"][0]
        empty = (await client.post("/verify", json=row("Left.", reference=""))).json()

    assert verified["reward"] == verified["reward_components"]["rubric"] == plain["reward"] == 0.0
    assert (verified["mask_sample"], verified["criteria"]) == (False, criteria)
    assert empty["mask_sample"] is True
    assert empty["failure_reason"].startswith("invalid_request: criteria: ")


async def test_a_row_of_nemo_gym_may_have_what_further_signals_read(
    serve: Serve, tmp_path: Path
) -> None:
    """`extra` reaches the recipe's signals; a missing key is named."""
    (tmp_path / "spoken.toml").write_text(SPOKEN, encoding="utf-8")
    async with serve(recipes=str(tmp_path), recipe="spoken") as client:
        spoken = (await client.post("/verify", json=row(ENGLISH, extra={"language": "en"}))).json()
        other = (await client.post("/verify", json=row(ENGLISH, extra={"language": "ja"}))).json()
        missing = (await client.post("/verify", json=row(ENGLISH))).json()

    assert (spoken["reward"], other["reward"]) == (1.0, 0.0)
    assert missing["mask_sample"] is True
    assert "extra.language" in missing["failure_reason"]


@pytest.mark.parametrize("output", [[], [{"type": "function_call", "name": "look"}]])
async def test_a_rollout_that_says_nothing_has_a_reward(serve: Serve, output: list[Any]) -> None:
    """A missing answer is a legitimate low reward."""
    async with serve() as client:
        reply = (await client.post("/verify", json=row(response={"output": output}))).json()

    assert (reply["reward"], reply["mask_sample"]) == (0.0, False)


async def test_nemo_gyms_other_questions_are_answered(serve: Serve) -> None:
    """A session needs nothing kept, and any row can be verified again."""
    async with serve() as client:
        seeded = await client.post("/seed_session", json=row())
        mode = await client.get("/reverify_mode")
        empty = await client.post("/aggregate_metrics", json={"verify_responses": []})

    assert (seeded.status_code, seeded.json(), mode.json()) == (200, {}, "stateless")
    assert empty.json() == {"group_level_metrics": [], "agent_metrics": {}, "key_metrics": {}}


async def test_an_evaluation_is_described_without_what_has_no_reward(serve: Serve) -> None:
    """Each task by itself and all together; a masked row counts nowhere."""
    rows = [
        {"_ng_task_index": 0, "reward": 1.0, "medreward_format": 1.0, "response": {}},
        {"_ng_task_index": 0, "reward": 0.0, "medreward_format": 1.0},
        {"_ng_task_index": 1, "reward": 0.5, "medreward_format": 0.0},
        {"_ng_task_index": 1, "reward": 0.0, "mask_sample": True},
        {"_ng_task_index": 2, "reward": 0.0, "_ng_failure_class": "judge_failed"},
    ]
    async with serve() as client:
        asked = await client.post("/aggregate_metrics", json={"verify_responses": rows})

    reply = asked.json()
    assert reply["key_metrics"] == {
        "mean/reward": 0.5,
        "mean/medreward_format": pytest.approx(2 / 3),
    }
    assert [group["_ng_task_index"] for group in reply["group_level_metrics"]] == [0, 1]
    assert reply["group_level_metrics"][0]["std/reward"] == pytest.approx(0.5**0.5)
    assert reply["agent_metrics"]["max/reward"] == 1.0


# Labels.


@pytest.mark.parametrize(
    "label",
    [
        "<X_RAY>left lower lobe",
        ["<X_RAY>left lower lobe", "<X_RAY>basal left"],
        LABEL,
        LABEL | {"reference": ["left lower lobe"]},
        json.dumps(LABEL),
        str(LABEL),
        str(LABEL | {"question": None}),
        json.dumps(["<X_RAY>basal left", "<X_RAY>left lower lobe"]),
        str(["<X_RAY>basal left's", "<X_RAY>left lower lobe"]),
        LABEL | {"reference": json.dumps(["basal left", "left lower lobe"])},
        str(LABEL | {"reference": ["basal \t left", "left lower lobe"]}),
    ],
)
async def test_a_label_is_a_text_or_several_or_an_object(serve: Serve, label: Any) -> None:
    """Written into a text by JSON or Python, too, since many data sets have a column of texts."""
    async with serve() as client:
        many = (await client.post("/compat/openrlhf", json=openrlhf(RIGHT, label=label))).json()
        one = (await client.post("/compat/slime", json=slime(label=label))).json()

    assert many["rewards"] == [one] == [1.0]
    assert many["extra_logs"]["modality"] == [1.0]


@pytest.mark.parametrize(
    "label",
    [
        "{left} lobe",
        '{"left": 1}',
        "{left",
        "[left]",
        "[1.5, 2.5]",
        "['left' 'right']",
        "['\\d']",
        "{['left']: 1}",
        f"[0x{'f' * 9999}, 'left']",
        "[" * 5000 + "]" * 5000,
        f"[{'-' * 9999}1]",
    ],
)
@pytest.mark.filterwarnings("error")
async def test_a_text_that_only_looks_like_a_label_is_the_reference(
    serve: Serve, label: str
) -> None:
    """An object says what the reference is, a list is not one of numbers, and both are whole."""
    async with serve() as client:
        reply = await client.post("/compat/slime", json=slime(f"<answer>{label}</answer>", label))
        expected = {"response": f"<answer>{label}</answer>", "reference": label}
        plain = await client.post("/reward", json={"samples": [expected]})

    assert reply.json() == plain.json()["results"][0]["reward"]


@pytest.mark.parametrize("label", ["[]", '["left", 1]', "['left', None]", '[["left"]]'])
async def test_a_list_in_a_text_is_refused_as_a_list_is(serve: Serve, label: str) -> None:
    """Not scored by a text that nobody could answer."""
    async with serve() as client:
        written = await client.post("/compat/slime", json=slime(label=label))
        as_list = await client.post("/compat/slime", json=slime(label=ast.literal_eval(label)))

    assert written.status_code == as_list.status_code == 422
    assert written.json()["error"] == as_list.json()["error"]


async def test_the_question_is_the_labels_and_never_the_prompt(serve: Serve) -> None:
    """A prompt holds instructions and a chat's marks; a judge is not shown them unasked."""
    judge = ScriptedJudge()
    async with serve(judge=judge) as client:
        url = "/compat/openrlhf"
        await client.post(url, json=openrlhf(WRONG))
        await client.post(url, json=openrlhf(WRONG, label=LABEL | {"question": "Which lobe?"}))

    heard = [
        inquiry for batch in judge.batches for inquiry in batch if inquiry.answer == "Right lung"
    ]
    assert heard
    assert all("im_start" not in (inquiry.question or "") for inquiry in heard)


# No reward.

OPEN = "<answer>Basal left</answer>"
SETTLED = "<X_RAY><thinking>Basal.</thinking><answer>left lower lobe</answer>"


ASKED_OF_THE_JUDGE = [("/compat/openrlhf", openrlhf(OPEN)), ("/compat/slime", slime(OPEN))]
"""Of each trainer that knows rewards alone."""


@pytest.mark.parametrize(("path", "body"), ASKED_OF_THE_JUDGE)
@pytest.mark.parametrize(
    ("trouble", "refusal"),
    [
        (raising(BackendDown("refused")), (503, "judge_unreachable")),
        (hang, (503, "judge_timeout")),
        (raising(NonsenseReply("?")), (422, "judge_unparseable")),
    ],
)
async def test_a_trainer_that_knows_rewards_alone_gets_an_error_for_none(
    serve: Serve, path: str, body: Any, trouble: Trouble, refusal: tuple[int, str]
) -> None:
    """It tries again where that may help, and stops; a 0 would be trained on."""
    async with serve(judge=TroubledJudge(trouble), judge_timeout_s=0.05) as client:
        reply = await client.post(path, json=body)

    error = reply.json()["error"]
    assert (reply.status_code, error["kind"]) == refusal
    assert error["retryable"] is (reply.status_code == 503)
    assert "Basal left" not in reply.text


async def test_zeros_have_to_be_asked_for(serve: Serve) -> None:
    """And `scored` says which they are."""
    async with serve(judge=TroubledJudge(raising(BackendDown("refused")))) as client:
        url = "/compat/openrlhf?on_unscored=zero"
        many = (await client.post(url, json=openrlhf(OPEN, SETTLED))).json()
        url = "/compat/slime?on_unscored=zero&key=score"
        one = (await client.post(url, json=slime(OPEN))).json()

    assert (many["rewards"], many["extra_logs"]["scored"]) == ([0.0, 1.0], [0.0, 1.0])
    assert (one["score"], one["scored"]) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("path", "body"),
    [("/compat/openrlhf", openrlhf("Lie down.")), ("/compat/slime", slime("Lie down."))],
)
async def test_zeros_are_refused_where_they_would_pay_a_failure(
    serve: Serve, path: str, body: Any
) -> None:
    """A rubric's rewards go below 0; refused before anything is judged, in words."""
    judge = ScriptedJudge(default="YES")
    async with serve(judge=judge) as client:
        reply = await client.post(f"{path}?recipe=rubric&on_unscored=zero", json=body)

    assert reply.status_code == 422
    told = reply.json()["error"]["message"]
    assert told.startswith("on_unscored=zero: the rewards of the recipe rubric go from -2 to 1")
    assert len(judge.batches) == 1  # its warm-up


async def test_what_is_imputed_is_the_mean_of_what_was_had(serve: Serve) -> None:
    """The embedder's say and the form, weighted as in the recipe; the judge's is not known."""
    response = "<thinking>Basal.</thinking><answer>the left lower lobe</answer>"
    label = {"reference": "left lower lobe"}
    async with serve(judge=TroubledJudge(raising(BackendDown("refused")))) as client:
        url = "/compat/slime?on_unscored=impute&key=reward"
        reply = (await client.post(url, json=slime(response, label))).json()

    embed, form = reply["accuracy_embed"], reply["format"]
    assert reply["reward"] == pytest.approx((0.3375 * embed + 0.1 * form) / 0.4375)
    assert (form, reply["scored"]) == (1.0, 0.0)


@pytest.mark.parametrize("label", ["", " ", {"reference": ""}])
async def test_nothing_is_imputed_from_rules_alone(serve: Serve, label: Any) -> None:
    """They would give full reward for a form well filled in."""
    async with serve() as client:
        reply = await client.post("/compat/slime?on_unscored=impute", json=slime(label=label))

    assert reply.status_code == 422
    assert reply.json()["error"]["kind"] == "invalid_reference"


async def test_one_sample_without_a_reward_is_named(serve: Serve) -> None:
    """A batch has no way to say it of one; the others would come again in any case."""
    async with serve() as client:
        body = openrlhf(RIGHT, RIGHT) | {"labels": [LABEL, ""]}
        reply = await client.post("/compat/openrlhf", json=body)

    assert reply.json()["error"]["message"].startswith("query[1]: reference: empty")


@pytest.mark.parametrize(
    ("trouble", "kind"),
    [
        (raising(BackendDown("refused")), "judge_failed"),
        (raising(NonsenseReply("?")), "judge_unparseable"),
    ],
)
async def test_nemo_gym_is_told_that_the_judge_failed(
    serve: Serve, trouble: Trouble, kind: str
) -> None:
    """The row is masked for the loss and set aside by the evaluation; what else it says stays."""
    config = {"instance_config": {"seed": 7}}
    async with serve(judge=TroubledJudge(trouble)) as client:
        answer = await client.post("/verify", json=row(OPEN, **config))

    reply = answer.json()
    assert answer.status_code == 200
    assert reply["_ng_failure_class"] == "judge_failed"
    assert reply["_ng_failure_judge_error"].startswith(("judge_unreachable", "judge_unparse"))
    assert (reply["failure_kind"], reply["mask_sample"]) == (kind, True)
    assert reply["instance_config"] == {"seed": 7, "mask_sample": True}
    assert reply["reward"] == sum(reply["reward_components"].values()) == 0.0
    assert reply["response"] == row(OPEN)["response"]
    assert "Basal left" not in reply["failure_reason"]


async def test_a_row_that_is_verified_again_loses_its_failure(serve: Serve) -> None:
    """Gym sends the whole row back; a flag of an environment's own stays as it is."""
    failed: dict[str, Any] = {
        "_ng_failure_class": "judge_failed",
        "_ng_failure_judge_error": "judge_timeout: late",
        "failure_kind": "judge_failed",
        "failure_reason": "judge_timeout: late",
        "mask_sample": True,
        "instance_config": {"mask_sample": True},
        "reward": 0.0,
    }
    async with serve() as client:
        again = (await client.post("/verify", json=row(**failed))).json()
        flagged: dict[str, Any] = {"instance_config": {"mask_sample": True}, "mask_sample": True}
        own = (await client.post("/verify", json=row(**flagged))).json()

    assert (again["reward"], again["mask_sample"]) == (pytest.approx(1.0), False)
    assert again["instance_config"] == {"mask_sample": False}
    assert not {"_ng_failure_class", "_ng_failure_judge_error", "failure_reason"} & set(again)
    assert (own["mask_sample"], own["instance_config"]) == (True, {"mask_sample": True})


async def test_a_full_service_and_a_late_one_are_asked_again(serve: Serve) -> None:
    """429 with a time, 503 past the deadline that the URL names: both pass."""
    held = Held()
    async with serve(judge=TroubledJudge(held), max_requests_in_flight=1) as client:
        holding = asyncio.create_task(client.post("/compat/slime", json=slime(OPEN)))
        await held.is_asked.wait()
        refused = await client.post("/compat/slime", json=slime(OPEN))
        holding.cancel()
        await asyncio.gather(holding, return_exceptions=True)
        late = await client.post("/compat/slime?deadline_ms=200", json=slime(OPEN))

    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert (late.status_code, late.json()["error"]["kind"]) == (503, "deadline")
