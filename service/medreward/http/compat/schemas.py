"""Schemas of trainers' requests and replies; unknown fields are ignored, since trainers add some."""

import ast
import re
from typing import Annotated, Any, Literal

import orjson
from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from medreward.http.schemas import DeadlineMs
from medreward.samples import Identifier, References, SampleCriterion

LONGEST_BY_PYTHON = 65_536
"""Characters of a label that is parsed as Python."""
ESCAPED_BY_PYTHON = re.compile(
    r"""(?:[^\\]|\\(?:[\\'"ntr]|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8}))*""", re.DOTALL
)

OnUnscored = Literal["raise", "impute", "zero"]


class _Given(BaseModel):
    """Base class of the bodies that trainers send."""

    model_config = ConfigDict(frozen=True)


class Label(BaseModel):
    """The ground truth of one sample: an object, or only its reference as a text or a list."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reference: str | References
    question: str | None = None
    modality: str | None = None
    criteria: tuple[SampleCriterion, ...] | None = None
    extra: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _of_any_kind(cls, label: object) -> object:
        if isinstance(label, str):
            found = _written_in(label)
            is_label = isinstance(found, dict) and "reference" in found
            label = found if is_label else {"reference": label}
        elif isinstance(label, list | tuple):
            label = {"reference": label}
        if not isinstance(label, dict):
            raise PydanticCustomError(
                "label",
                "the ground truth has to be a text, a list of accepted texts, or an object with "
                "`reference` and, if you like, `question`, `modality`, `criteria` and `extra`",
            )
        reference = label.get("reference")
        several = _written_in(reference) if isinstance(reference, str) else None
        return {**label, "reference": several} if isinstance(several, list) else label


def _written_in(text: str) -> object:
    """Return the object or the list that JSON or Python wrote into a text; None without one.

    Many data sets can hold only texts. Numbers in brackets may be an interval, so a list of numbers
    alone is none.
    """
    written = text.strip()
    if written[:1] + written[-1:] not in {"{}", "[]"}:
        return None
    try:
        found = orjson.loads(written)
    except orjson.JSONDecodeError:
        found = _written_by_python(written)
    is_interval = isinstance(found, list) and found and all(map(_is_number, found))
    return None if is_interval else found


def _written_by_python(text: str) -> object:
    """Return the list or dict whose `repr` a text is; None for any other text."""
    # Parsing takes a thousand times the text's memory, and warns of a backslash not of Python's.
    if len(text) > LONGEST_BY_PYTHON or not ESCAPED_BY_PYTHON.fullmatch(text):
        return None
    try:
        found = ast.literal_eval(text)
        # Python would join texts without a comma between them, as numpy writes a list.
        return found if repr(found) == text else None
    except (TypeError, ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def _several(value: object) -> object:
    """Turn a single value into a list of one; OpenRLHF sends either."""
    return value if isinstance(value, list) else [value]


class OpenRlhfRequest(_Given):
    """Body of `POST /compat/openrlhf`: lists of equal length, or a single value of each."""

    query: str | tuple[str, ...]
    """Prompt and response in one text, decoded with special tokens."""
    prompts: Annotated[tuple[str, ...], BeforeValidator(_several)]
    labels: Annotated[tuple[Label, ...], BeforeValidator(_several)]

    @property
    def queries(self) -> tuple[str, ...]:
        """The queries, as a tuple of one if a single text was sent."""
        return (self.query,) if isinstance(self.query, str) else self.query

    @model_validator(mode="after")
    def _one_of_each(self) -> "OpenRlhfRequest":
        for name, given in (("prompts", self.prompts), ("labels", self.labels)):
            if len(given) != len(self.queries):
                raise ValueError(
                    f"{name}: {len(given)} of them for {len(self.queries)} in query; send one each"
                )
        return self


class OpenRlhfReply(BaseModel):
    """Reply of `POST /compat/openrlhf`: lists if `query` was a list."""

    rewards: float | list[float]
    scores: float | list[float]
    extra_logs: dict[str, float] | dict[str, list[float]]


class SlimeRequest(_Given):
    """Body of `POST /compat/slime`; its prompt is not read."""

    response: str
    label: Label


class Said(_Given):
    """A part of a message."""

    type: str = "output_text"
    text: str = ""


class Output(_Given):
    """An item of a response: a message, a tool call or another step of the policy."""

    type: str = "message"
    role: str = "assistant"
    content: str | tuple[Said, ...] | None = None


class Responded(_Given):
    """The fields of an OpenAI Responses object that are read."""

    output: tuple[Output, ...]

    @property
    def text(self) -> str:
        """The text of the policy's last message; empty if it sent none."""
        said = [o for o in self.output if o.type == "message" and o.role == "assistant"]
        content = said[-1].content if said else None
        if content is None or isinstance(content, str):
            return content or ""
        return "".join(part.text for part in content if part.type == "output_text")


class VerifyRequest(_Given):
    """Body of NeMo Gym's `POST /verify`: the row of the data set, and the policy's response."""

    response: Responded
    reference: Annotated[
        str | References, Field(validation_alias=AliasChoices("reference", "expected_answer"))
    ]
    question: str | None = None
    modality: str | None = None
    criteria: tuple[SampleCriterion, ...] | None = None
    extra: dict[str, Any] = Field(default_factory=dict)

    @property
    def label(self) -> dict[str, Any]:
        """The fields of the sample that the row has."""
        return {name: value for name, value in self if name != "response"}


class VerifyReply(BaseModel):
    """Reply of NeMo Gym's `POST /verify`, in addition to all fields of the request."""

    model_config = ConfigDict(extra="allow")

    reward: float
    reward_components: dict[str, float]
    """Weighted values of the signals, which add up to the reward."""
    mask_sample: bool


class AggregateRequest(_Given):
    """Body of NeMo Gym's `POST /aggregate_metrics`: shortened replies of `/verify`."""

    verify_responses: tuple[dict[str, Any], ...]


class AggregateReply(BaseModel):
    """Reply of NeMo Gym's `POST /aggregate_metrics`."""

    group_level_metrics: list[dict[str, Any]]
    agent_metrics: dict[str, float]
    key_metrics: dict[str, float]


class UrlOptions(BaseModel):
    """Parameters of a trainer's URL, for trainers whose body cannot hold them."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    recipe: str | None = None
    """Recipe; by default the deployment's."""
    run: Identifier | None = None
    """Name of the training job."""
    deadline_ms: DeadlineMs | None = None
    """Milliseconds until the reply; by default the deployment's, for slime at most 110 s."""


class RewardUrlOptions(UrlOptions):
    """Parameters of the URL for trainers whose format has only numbers."""

    on_unscored: OnUnscored = "raise"
    """Reply for an unscored sample: `raise` is an HTTP error; `impute` is the weighted mean of its
    known components, if a model gave one of them, else an error; `zero` is 0, and refused if the
    recipe's least reward is another number."""


class SlimeUrlOptions(RewardUrlOptions):
    """Parameters of slime's URL."""

    key: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """Reply with an object that has the reward under this name, for slime's `--reward-key`."""
