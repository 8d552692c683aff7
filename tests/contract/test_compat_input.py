"""What trainers send amiss, or somebody in their name: errors name the field, and nothing is a 5xx."""

import json
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import Serve
from tests.contract.test_bad_input import JSON_VALUES, check_refusal
from tests.contract.test_compat import LABEL, RIGHT, openrlhf, row, slime

pytestmark = pytest.mark.anyio

KEY = "k/e y?%2F&é\N{SNOWMAN}=#"
"""Whatever a key may hold."""
OPENRLHF, SLIME = "/compat/openrlhf", "/compat/slime"


def quoted(key: str) -> str:
    """A key as it stands in a URL."""
    return "".join(f"%{byte:02X}" for byte in key.encode())


@pytest.mark.parametrize(
    ("path", "body", "status", "told"),
    [
        (OPENRLHF, b"{", 400, "line 1 column 2"),
        (OPENRLHF, [], 422, "the body: "),
        (OPENRLHF, {"query": [], "prompts": []}, 422, "labels: required"),
        (OPENRLHF, openrlhf(RIGHT) | {"labels": None}, 422, "labels[0]: the ground truth has"),
        (OPENRLHF, openrlhf(RIGHT, RIGHT) | {"labels": ["a", 7]}, 422, "labels[1]: the ground"),
        (OPENRLHF, openrlhf(RIGHT) | {"labels": [["a", 3]]}, 422, "labels[0].reference[1]"),
        (OPENRLHF, openrlhf(RIGHT) | {"labels": [{"modality": "X_RAY"}]}, 422, "reference: requ"),
        (OPENRLHF, openrlhf(RIGHT) | {"labels": [LABEL | {"modal": "X"}]}, 422, "modal: unknown"),
        (OPENRLHF, openrlhf(RIGHT, label=LABEL | {"modality": "Y"}), 422, "labels[0].modality: no"),
        (OPENRLHF, openrlhf(RIGHT) | {"labels": ["a", "b"]}, 422, "labels: 2 of them for 1 in"),
        (OPENRLHF, openrlhf(RIGHT) | {"query": [3]}, 422, "query[0]: "),
        (OPENRLHF, openrlhf(RIGHT) | {"query": ["other"]}, 422, "query[0]: it does not begin"),
        (SLIME, {"response": RIGHT}, 422, "label: required, but missing"),
        (SLIME, slime(label=LABEL | {"modality": "XRAY"}), 422, "label.modality: not a modality"),
        ("/verify", row() | {"reference": None}, 422, "reference: "),
        ("/verify", {"response": {"output": []}}, 422, "reference: required, but missing"),
        ("/verify", row(response={"output": None}), 422, "response.output: "),
        ("/verify", row(modality="XRAY"), 422, "modality: not a modality"),
        ("/verify", row(criteria="names the side"), 422, "criteria: "),
        ("/verify", row(criteria=[{"text": "a", "points": "1e9"}]), 422, "criteria[0].points: "),
        ("/verify", row(extra=["yo"]), 422, "extra: "),
        ("/aggregate_metrics", {"verify_responses": [1]}, 422, "verify_responses[0]: "),
        (f"{OPENRLHF}?on_unscored=none", openrlhf(), 422, "on_unscored: "),
        (f"{OPENRLHF}?recipes=x", openrlhf(), 422, "recipes: unknown field"),
        (f"{OPENRLHF}?recipe=medix", openrlhf(), 422, "choose from medix-r1"),
        (f"{SLIME}?deadline_ms=soon", slime(), 422, "deadline_ms: "),
        (f"{SLIME}?key=", slime(), 422, "key: "),
        ("/verify?on_unscored=zero", row(), 422, "on_unscored: unknown field"),
    ],
)
async def test_a_wrong_request_is_told_what_is_wrong_and_where(
    serve: Serve, path: str, body: object, status: int, told: str
) -> None:
    """Status and field, in the trainer's own names; what was said is not repeated."""
    await check_refusal(serve, path, body, status, told, untold="lower lobe")


async def test_fields_that_a_trainer_may_add_are_left_alone(serve: Serve) -> None:
    """A newer version of it works as before."""
    async with serve() as client:
        many = await client.post(OPENRLHF, json=openrlhf(RIGHT) | {"images": [None]})
        one = await client.post(SLIME, json=slime() | {"metadata": {"rm_type": "remote_rm"}})

    assert (many.json()["rewards"], one.json()) == ([1.0], 1.0)


async def test_ten_thousand_at_once_are_scored(serve: Serve) -> None:
    """As many as /reward takes, each its own."""
    async with serve() as client:
        wrong = [f"<answer>lobe {number}</answer>" for number in range(9_999)]
        reply = (await client.post(OPENRLHF, json=openrlhf(RIGHT, *wrong))).json()

    assert len(reply["rewards"]) == len(reply["extra_logs"]["scored"]) == 10_000
    assert (reply["rewards"][0], max(reply["rewards"][1:])) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("limits", "path", "body", "told"),
    [
        ({"max_samples": 2}, OPENRLHF, openrlhf(RIGHT, RIGHT, RIGHT), "query: 3 of them; send"),
        ({"max_body_bytes": 1024}, SLIME, slime("x" * 2000), "over 1024 bytes"),
        ({"max_questions_in_flight": 1}, SLIME, slime(label=["a", "b"]), "response: 1 of them ask"),
    ],
)
async def test_more_than_fits_is_413(
    serve: Serve, limits: dict[str, int], path: str, body: Any, told: str
) -> None:
    """The limits are those of /reward."""
    async with serve(**limits) as client:
        reply = await client.post(path, json=body)

    assert reply.status_code == 413
    assert told in reply.json()["error"]["message"]


async def test_a_response_over_its_limit_has_no_reward(serve: Serve) -> None:
    """It was not read, so nothing can be imputed either."""
    async with serve(max_response_bytes=100) as client:
        reply = await client.post(f"{SLIME}?on_unscored=impute", json=slime("x" * 101))

    assert (reply.status_code, reply.json()["error"]["kind"]) == (422, "too_long")


@pytest.mark.parametrize("odd", [b"[" * 300 + b"]" * 300, b"[NaN, " + b"9" * 40 + b"]"])
async def test_a_row_that_cannot_go_back_is_refused(serve: Serve, odd: bytes) -> None:
    """It could be read, but is nothing that this service can write."""
    body = json.dumps(row(odd=0)).encode().replace(b'"odd": 0', b'"odd": ' + odd)
    async with serve() as client:
        reply = await client.post("/verify", content=body)

    assert reply.status_code == 422
    assert "the row cannot go back" in reply.json()["error"]["message"]


async def test_odd_numbers_are_left_out_of_an_evaluation(serve: Serve) -> None:
    """Infinities, none at all, and integers of many digits."""
    rewards = b"1.0, NaN, Infinity, 1e400, " + b"9" * 400 + b', "1", null, [1]'
    rows = b", ".join(b'{"reward": %b}' % one for one in rewards.split(b", "))
    async with serve() as client:
        url = "/aggregate_metrics"
        reply = await client.post(url, content=b'{"verify_responses": [' + rows + b"]}")

    assert reply.json()["key_metrics"] == {"mean/reward": 1.0}


fields = st.sampled_from(
    ["query", "prompts", "labels", "response", "label", "reference", "verify_responses", "x"]
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from([OPENRLHF, SLIME, "/verify", "/aggregate_metrics"]),
    st.dictionaries(fields, JSON_VALUES),
)
async def test_no_body_is_an_error_of_ours(serve: Serve, path: str, body: dict[str, Any]) -> None:
    """Whatever is sent is scored or refused by name."""
    async with serve() as client:
        reply = await client.post(path, content=json.dumps(body).encode())

    assert reply.status_code in {200, 422}


# Keys.


@pytest.mark.parametrize(("path", "body"), [(OPENRLHF, openrlhf(RIGHT)), (SLIME, slime())])
async def test_a_key_may_stand_at_the_end_of_the_path(serve: Serve, path: str, body: Any) -> None:
    """For trainers that send no header; it may hold what a URL has to quote, and opens nothing else."""
    async with serve(api_keys=KEY) as client:
        by_header = {"json": body, "headers": [(b"Authorization", b"Bearer " + KEY.encode())]}
        right = {
            "in the path": await client.post(f"{path}/{quoted(KEY)}", json=body),
            "with a query": await client.post(f"{path}/{quoted(KEY)}?recipe=medix-r1", json=body),
            "in a header": await client.post(path, **by_header),
        }
        wrong = {
            "wrong": await client.post(f"{path}/{quoted(KEY)}x", json=body),
            "wrong beside a right header": await client.post(f"{path}/x", **by_header),
            "empty": await client.post(f"{path}/", json=body),
            "none": await client.post(path, json=body),
            "elsewhere": await client.post(f"/reward/{quoted(KEY)}", json=body),
        }

    assert {name: r.status_code for name, r in right.items()} == dict.fromkeys(right, 200)
    assert {name: r.status_code for name, r in wrong.items()} == dict.fromkeys(wrong, 401)


@pytest.mark.parametrize(
    "sent", ["%FF%FE", "%00", "..%2F..%2Flivez", "//", "%ED%A0%80", "k" * 60_000]
)
async def test_an_odd_key_is_a_wrong_key(serve: Serve, sent: str) -> None:
    """Bytes that are no text, another path, or no end: all refused alike."""
    async with serve(api_keys=KEY) as client:
        url = httpx.URL(f"http://service{SLIME}/", raw_path=f"{SLIME}/{sent}".encode())
        reply = await client.post(url, json=slime())

    assert reply.status_code == 401


async def test_without_keys_one_in_the_path_is_not_looked_at(serve: Serve) -> None:
    """As with a header: the same URL works with and without auth."""
    async with serve() as client:
        reply = await client.post(f"{SLIME}/anything", json=slime())

    assert reply.json() == 1.0


async def test_a_key_in_the_path_remembers_with_the_same_key_in_a_header(serve: Serve) -> None:
    """And shares nothing with another key."""
    body = slime("<answer>basal left</answer>")
    sample = {"response": "<answer>basal left</answer>", **LABEL}
    counts = []
    async with serve(api_keys="first,second") as client:
        await client.post(f"{SLIME}/first", json=body)
        for key in ("first", "second"):
            headers = {"Authorization": f"Bearer {key}"}
            reply = await client.post("/reward", json={"samples": [sample]}, headers=headers)
            counts.append(reply.json()["counts"]["judge_calls"])

    assert counts == [0, 1]


@pytest.mark.parametrize("path", [OPENRLHF, SLIME])
async def test_a_key_in_the_path_shows_nowhere(
    serve: Serve, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not in a log line, a metric or a reply, right or wrong, however it ends."""
    async with serve(api_keys="sk-right") as client:
        replies = [
            await client.post(f"{path}/sk-right", content=b"{"),
            await client.post(f"{path}/sk-right?recipe=none", json=openrlhf(RIGHT)),
            await client.post(f"{path}/sk-right-wrong", json=openrlhf(RIGHT)),
            await client.get(f"{path}/sk-right"),
            await client.get("/metrics", headers={"Authorization": "Bearer sk-right"}),
        ]

    *refused, metrics = replies
    assert [reply.status_code for reply in refused] == [400, 422, 401, 405]
    assert f'route="{path}"' in metrics.text
    logged = "".join(capsys.readouterr())
    assert logged.count(f"route={path}") == len(refused)
    assert "sk-right" not in logged
    assert not [reply.text for reply in replies if "sk-right" in reply.text]
