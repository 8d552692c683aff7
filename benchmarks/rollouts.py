"""Synthetic rollouts: groups that answer alike, in MediX-R1's shape, with the signs medicine writes.

Answers and references hold a nonce, so that the same rollouts can be new to every cache again.
"""

import json
import random
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

NONCE = "@nonce@"
GROUP_SIZE = 8
ANSWERS_OF_A_GROUP = 3

TAGS = ("X_RAY", "CT_SCAN", "MRI_SCAN", "ULTRASOUND", "MICROSCOPY", "FUNDUS_PHOTOGRAPHY")
SIDES = ("left", "right", "bilateral", "anterior", "posterior")
SITES = ("lower lobe", "costophrenic angle", "basal ganglia", "renal pelvis", "temporal lobe")
FINDINGS = ("consolidation", "effusion", "infarct", "calculus", "haemorrhage", "glioma")
SENTENCES = (
    "The opacity measures ≥ 3 cm and lies left of the midline.",
    "Blood pressure was 120/80 mmHg, temperature 37.8 °C, and lactate 2.1 mmol/l.",
    "A dose of 40 µg/kg was given; the difference is small (p < 0.05).",
    "No pneumothorax is seen – the costophrenic angles are blunted on both sides.",
    "Sjögren's and Ménière's disease are unlikely here, given the time course.",
    "The signal is high on T2, low on T1, and does not enhance after contrast.",
    "Compared with the earlier study, the lesion has grown by about ½ cm.",
    "α-fetoprotein is normal, β-HCG is negative, and the ESR is raised.",
)


@dataclass(frozen=True, slots=True)
class Rollout:
    """One response of the policy, with what it is compared to."""

    id: str
    group: str
    question: str
    response: str
    answer: str
    """What stands inside the response's answer tags."""
    tag: str
    truth: str
    """The reference without its tag."""

    @property
    def reference(self) -> str:
        """The data set's solution: tag and reference in one string."""
        return f"<{self.tag}>{self.truth}"

    def sample(self) -> dict[str, Any]:
        """The rollout as `/reward` takes it."""
        names = ("id", "group", "question", "response", "reference")
        return {name: getattr(self, name) for name in names}

    def renewed(self, nonce: str) -> "Rollout":
        """The same rollout, new to every cache."""
        names = ("response", "answer", "truth")
        return replace(self, **{name: getattr(self, name).replace(NONCE, nonce) for name in names})


def make_rollouts(number: int, *, characters: int = 2048, seed: int = 10) -> list[Rollout]:
    """Make rollouts in groups of eight, each group with answers drawn from a pool of three."""
    chance = random.Random(seed)  # noqa: S311 - the same rollouts every time
    groups = range(-(-number // GROUP_SIZE))
    made = [rollout for group in groups for rollout in _group(group, characters, chance)]
    return made[:number]


def nonces() -> Iterator[str]:
    """Nonces that no other run has given, all of one length."""
    first = secrets.randbelow(10**11)
    return (f"{first + n:012d}" for n in count())


def pairs_of(rollouts: Iterable[Rollout]) -> set[tuple[str, str]]:
    """The distinct pairs of answer and reference: the questions that a judge has to be asked."""
    return {(rollout.answer, rollout.truth) for rollout in rollouts}


class Burst:
    """Rollouts as the body of one request, new to every cache whenever that is wanted."""

    def __init__(self, rollouts: Sequence[Rollout], *, recipe: str | None = None) -> None:
        self.rollouts = rollouts
        asked = {"samples": [r.sample() for r in rollouts], "deadline_ms": 600_000}
        body = asked | ({"recipe": recipe} if recipe else {})
        self._body = json.dumps(body, ensure_ascii=False).encode()

    def body(self, nonce: str) -> bytes:
        """The body with this nonce."""
        return self._body.replace(NONCE.encode(), nonce.encode())

    def renewed(self, nonce: str) -> list[Rollout]:
        """The rollouts with this nonce."""
        return [rollout.renewed(nonce) for rollout in self.rollouts]


def _group(number: int, characters: int, chance: random.Random) -> list[Rollout]:
    tag, finding = chance.choice(TAGS), chance.choice(FINDINGS)
    site = f"{chance.choice(SITES)} in case {number} of {NONCE}"
    truth = f"{chance.choice(SIDES)} {finding}, {site}"
    pool = [
        f"{side}-sided {finding} of the {site}" for side in chance.sample(SIDES, ANSWERS_OF_A_GROUP)
    ]
    return [
        Rollout(
            id=f"p{number}-r{n}",
            group=f"p{number}",
            question="Which structure is abnormal, and how?",
            response=_response(answer, tag, characters, chance),
            answer=answer,
            tag=tag,
            truth=truth,
        )
        for n, answer in enumerate(chance.choices(pool, k=GROUP_SIZE))
    ]


def _response(answer: str, tag: str, characters: int, chance: random.Random) -> str:
    # One in sixteen names another modality, one in sixteen writes on after its answer.
    heading = chance.choice(TAGS) if chance.random() < 1 / 16 else tag
    tail = " I am sure." if chance.random() < 1 / 16 else ""
    before, after = f"<{heading}>\n<thinking>", f"</thinking>\n<answer>{answer}.</answer>{tail}"
    return before + _prose(characters - len(before) - len(after), chance) + after


def _prose(characters: int, chance: random.Random) -> str:
    sentences = (chance.choice(SENTENCES) for _ in range(characters // 40 + 1))
    return " ".join(sentences)[: max(0, characters)]
