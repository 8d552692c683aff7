"""Bindings of engines to the resolver: keys, batches, validation and encoding of their answers."""

import math
import struct
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Sequence
from typing import ClassVar, Generic, TypeVar

from medreward.cache.entries import Role
from medreward.engines import embedder as embeddings
from medreward.engines import judge as judgements
from medreward.engines.capacity import CHARACTERS_PER_TOKEN, Capacity
from medreward.engines.embedder import Embedder, Vector
from medreward.engines.judge import Inquiry, Judge, Judgement
from medreward.engines.keys import inquiry_key, text_key
from medreward.errors import EMBEDDER_FAILURES, JUDGE_FAILURES, Failures, NonsenseReply, Problem
from medreward.samples import AnsweredBy

Q = TypeVar("Q", bound=Hashable)
A = TypeVar("A")

FLOAT32_BYTES = 4
ANSWERED_BY: tuple[AnsweredBy | None, ...] = (None, "first", "second")
"""In the order of their numbers in the cache."""
FRAME_TOKENS = 32
"""Tokens of a prompt beside its texts: chat template, fence and field names."""


class Binding(ABC, Generic[Q, A]):
    """One engine, with questions of type `Q` and answers of type `A`.

    Identity and capacity are read once: they are fixed when the engine has started.
    """

    role: ClassVar[Role]
    failures: ClassVar[Failures]
    """The problems that the engine's errors become."""

    def __init__(self, identity: str, capacity: Capacity, timeout_s: float) -> None:
        self.identity = identity
        self.capacity = capacity
        self.timeout_s = timeout_s
        """Seconds that one batch may take."""

    @abstractmethod
    async def ask(self, questions: Sequence[Q]) -> Sequence[A | Problem]:
        """Send one batch to the engine; the answers are in order."""

    @abstractmethod
    def keys(self, questions: Iterable[Q], namespace: str) -> dict[Q, bytes]:
        """Digest everything that can change each answer, for callers who share *namespace*."""

    @abstractmethod
    def check(self, answer: A, question: Q) -> bool:
        """Return whether an answer is valid; a value of the wrong type may raise anything."""

    @abstractmethod
    def pack(self, answer: A) -> bytes:
        """Encode an answer for the cache."""

    @abstractmethod
    def unpack(self, packed: bytes, question: Q) -> A | None:
        """Decode the bytes that `pack` wrote for *question*; None if they do not fit it."""

    def group(self, question: Q) -> Hashable:  # noqa: ARG002 - for those that have groups
        """Return the group of a question; a batch places questions of one group side by side."""
        return None

    @abstractmethod
    def tokens(self, question: Q) -> int:
        """Estimate the tokens of a question's prompt."""

    def rounded(self, answer: A, question: Q) -> A | None:
        """Return an answer as the cache will return it later; None if it is invalid."""
        return self.unpack(self.pack(answer), question) if self.check(answer, question) else None

    def validate_all(
        self, questions: Sequence[Q], answers: Sequence[A | Problem]
    ) -> list[A | Problem]:
        """Validate the answers of one batch, in order; problems stay as they are."""
        return [
            answer if isinstance(answer, Problem) else self.validate(answer, question)
            for question, answer in zip(questions, answers, strict=True)
        ]

    def validate(self, answer: A, question: Q) -> A | Problem:
        """Return an answer as the cache will return it later, or a problem if it is invalid.

        The round trip through `pack` rounds it, so the asker and later cache hits get equal rewards.
        """
        try:
            valid = self.rounded(answer, question)
        except Exception:  # noqa: BLE001 - an answer of the wrong type may raise anything
            valid = None
        if valid is None:
            return self.failures.problem(NonsenseReply("what it said is no answer"))
        return valid


class JudgeBinding(Binding[Inquiry, Judgement]):
    """The binding of a judge: inquiries in, judgements out."""

    role = "judge"
    failures = JUDGE_FAILURES

    def __init__(self, judge: Judge, timeout_s: float) -> None:
        super().__init__(judge.identity, judge.capacity, timeout_s)
        self._judge = judge

    async def ask(self, questions: Sequence[Inquiry]) -> Sequence[Judgement | Problem]:
        """Judge each inquiry."""
        return await self._judge.decide(questions)

    def keys(self, questions: Iterable[Inquiry], namespace: str) -> dict[Inquiry, bytes]:
        """Digest engine, template, view and texts."""
        return {question: inquiry_key(self.identity, question, namespace) for question in questions}

    def check(self, answer: Judgement, question: Inquiry) -> bool:
        """Return whether the numbers are probabilities of the template's labels."""
        return judgements.is_sound(answer, question)

    def pack(self, answer: Judgement) -> bytes:
        """Encode as float32: the probabilities, the coverage, NaN if there is none, the threshold, the engine."""
        coverage = math.nan if answer.coverage is None else answer.coverage
        engine = ANSWERED_BY.index(answer.answered_by)
        numbers = (*answer.probabilities, coverage, answer.threshold, engine)
        return struct.pack(f"<{len(numbers)}f", *numbers)

    def unpack(self, packed: bytes, question: Inquiry) -> Judgement | None:
        """Decode a judgement on the template's labels."""
        labels = question.template.labels
        numbers = len(labels) + 3
        if len(packed) != FLOAT32_BYTES * numbers:
            return None
        *probabilities, coverage, threshold, engine = struct.unpack(f"<{numbers}f", packed)
        if math.isnan(threshold) or engine not in range(len(ANSWERED_BY)):
            return None
        known = None if math.isnan(coverage) else coverage
        answered_by = ANSWERED_BY[int(engine)]
        return Judgement(labels, tuple(probabilities), known, threshold, answered_by)

    def group(self, question: Inquiry) -> Hashable:
        """Return the parts of the prompt before the answer, which a prefix cache can share."""
        return (
            *(question.template, question.view),
            *(question.question, question.criterion, question.reference),
        )

    def tokens(self, question: Inquiry) -> int:
        """Estimate the prompt's tokens from its characters."""
        template, answer, reference, asked, criterion, _, second = question
        texts = (template.instruction, asked, criterion, reference, answer, second)
        return FRAME_TOKENS + sum(len(text) for text in texts if text) // CHARACTERS_PER_TOKEN


class EmbedderBinding(Binding[str, Vector]):
    """The binding of an embedder: texts in, vectors out."""

    role = "embedder"
    failures = EMBEDDER_FAILURES

    def __init__(self, embedder: Embedder, timeout_s: float) -> None:
        super().__init__(embedder.identity, embedder.capacity, timeout_s)
        self._embedder = embedder

    async def ask(self, questions: Sequence[str]) -> Sequence[Vector | Problem]:
        """Embed each text."""
        return await self._embedder.embed(questions)

    def keys(self, questions: Iterable[str], namespace: str) -> dict[str, bytes]:
        """Digest engine and text."""
        return {question: text_key(self.identity, question, namespace) for question in questions}

    def check(self, answer: Vector, question: str) -> bool:
        """Return whether the vector is one row of finite numbers, of length 1."""
        return embeddings.is_sound(answer, question)

    def rounded(self, answer: Vector, question: str) -> Vector | None:
        """Return a vector of float16 numbers."""
        return embeddings.rounded(answer, question)

    def pack(self, answer: Vector) -> bytes:
        """Encode as float16."""
        return embeddings.pack_vector(answer)

    def unpack(self, packed: bytes, question: str) -> Vector | None:
        """Decode float16 numbers."""
        return embeddings.unpack_vector(packed, question)

    def tokens(self, question: str) -> int:
        """Estimate the tokens of a text, with one each for its start and its end."""
        return 2 + len(question) // CHARACTERS_PER_TOKEN
