"""The prompts and labels of judges that read next-token probabilities with their own tokenizer."""

from collections.abc import Sequence
from typing import Any

from medreward.engines.judge import Inquiry, Judgement
from medreward.engines.prompts.fence import Fence
from medreward.engines.prompts.labels import judgement_from_masses
from medreward.engines.prompts.tokenization import (
    can_read,
    chat_frame,
    known_characters,
    label_ids,
    special_tokens,
)
from medreward.engines.templates import Template
from medreward.errors import Problem, ProblemKind, SetupError


class NextTokenJudge:
    """Tokenises prompts, and turns the probabilities of label tokens into judgements.

    *name* identifies engine, weights and precision; the prompt's parts complete the identity.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        name: str,
        secret: str,
        coverage_floor: float,
        max_prompt_tokens: int,
    ) -> None:
        self._tokenizer = tokenizer
        self.characters = known_characters(tokenizer)
        self._fence = Fence(secret=secret, special_tokens=special_tokens(tokenizer))
        # Rendered once: a template with today's date would change verdicts and prefixes at midnight.
        self._frame = chat_frame(tokenizer)
        self._coverage_floor = coverage_floor
        self._max_prompt_tokens = max_prompt_tokens
        self._label_ids: dict[Template, list[list[int]]] = {}
        self.identity = f"{name}:{self._fence.identity}:{coverage_floor}:{self._frame.sha}"

    def can_answer(self, template: Template) -> bool:
        """Return True if the tokenizer distinguishes the labels of *template* by their first token."""
        try:
            return bool(self.ids_of(template))
        except SetupError:
            return False

    def can_read(self, text: str) -> bool:
        """Return False if the tokenizer would make unknown tokens of most of a text."""
        return can_read(text, self.characters)

    def prompt_ids(self, inquiry: Inquiry) -> list[int]:
        """Tokenise the prompt up to the verdict position."""
        user_turn = self._fence.render(inquiry)
        text = f"{self._frame.before}{user_turn}{self._frame.after}{inquiry.template.opening}"
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids

    def ids_of(self, template: Template) -> list[list[int]]:
        """Return the token ids that begin each label."""
        if template not in self._label_ids:
            self._label_ids[template] = label_ids(self._tokenizer, template)
        return self._label_ids[template]

    def _judgement(self, masses: Sequence[float], template: Template) -> Judgement | Problem:
        by_label = dict(zip(template.labels, masses, strict=True))
        return judgement_from_masses(by_label, template, self._coverage_floor)

    def _too_long(self, prompt: Sequence[int]) -> Problem:
        return Problem(
            ProblemKind.TOO_LONG,
            f"the judge's prompt has {len(prompt)} tokens; it reads at most "
            f"{self._max_prompt_tokens}",
        )
