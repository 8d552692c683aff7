"""What trainers send and read. Their own fields may grow, so what is not known here is left alone."""

from typing import Annotated, Any, Literal

import orjson
from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from medreward.http.schemas import DeadlineMs
from medreward.samples import Identifier, References

OnUnscored = Literal["raise", "impute", "zero"]


class _Given(BaseModel):
    """What a trainer sends."""

    model_config = ConfigDict(frozen=True)


class Label(BaseModel):
    """The ground truth of one sample; as a text, or several accepted ones, it is the reference."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reference: str | References
    question: str | None = None
    modality: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_any_kind(cls, label: object) -> object:
        if isinstance(label, str):
            return _object_in(label) or {"reference": label}
        if isinstance(label, list | tuple):
            return {"reference": label}
        if not isinstance(label, dict):
            raise PydanticCustomError(
                "label",
                "the ground truth has to be a text, a list of accepted texts, or an object with "
                "`reference` and, if you like, `question` and `modality`",
            )
        return label


def _object_in(text: str) -> dict[str, Any] | None:
    """Read a label that was written as JSON, since a data set's column often holds only texts."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) and "reference" in found else None


def _several(value: object) -> object:
    """One thing is a list of one; OpenRLHF sends either."""
    return value if isinstance(value, list) else [value]


class OpenRlhfRequest(_Given):
    """Body of `POST /compat/openrlhf`: lists of one length, or one of each."""

    query: str | tuple[str, ...]
    """Prompt and response, as decoded with special tokens."""
    prompts: Annotated[tuple[str, ...], BeforeValidator(_several)]
    labels: Annotated[tuple[Label, ...], BeforeValidator(_several)]

    @property
    def queries(self) -> tuple[str, ...]:
        """The queries, also where it is one."""
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
    """Reply of `POST /compat/openrlhf`: lists where lists were sent."""

    rewards: float | list[float]
    scores: float | list[float]
    extra_logs: dict[str, float] | dict[str, list[float]]


class SlimeRequest(_Given):
    """Body of `POST /compat/slime`; the prompt, in whatever form, is not read."""

    response: str
    label: Label


class Said(_Given):
    """A part of a message."""

    type: str = "output_text"
    text: str = ""


class Output(_Given):
    """An item of a response: a message, or what else the policy did."""

    type: str = "message"
    role: str = "assistant"
    content: str | tuple[Said, ...] | None = None


class Responded(_Given):
    """An OpenAI Responses object, as far as it is read."""

    output: tuple[Output, ...]

    @property
    def text(self) -> str:
        """What the policy said last; nothing where it only called tools or thought."""
        said = [o for o in self.output if o.type == "message" and o.role == "assistant"]
        content = said[-1].content if said else None
        if content is None or isinstance(content, str):
            return content or ""
        return "".join(part.text for part in content if part.type == "output_text")


class VerifyRequest(_Given):
    """Body of NeMo Gym's `POST /verify`: the row of the data set, and what the policy made of it."""

    response: Responded
    reference: Annotated[
        str | References, Field(validation_alias=AliasChoices("reference", "expected_answer"))
    ]
    question: str | None = None
    modality: str | None = None


class VerifyReply(BaseModel):
    """Reply of NeMo Gym's `POST /verify`, beside all that was sent."""

    model_config = ConfigDict(extra="allow")

    reward: float
    reward_components: dict[str, float]
    """Weighted, so that they add up to the reward."""
    mask_sample: bool


class AggregateRequest(_Given):
    """Body of NeMo Gym's `POST /aggregate_metrics`: replies of `/verify`, shortened."""

    verify_responses: tuple[dict[str, Any], ...]


class AggregateReply(BaseModel):
    """Reply of NeMo Gym's `POST /aggregate_metrics`."""

    group_level_metrics: list[dict[str, Any]]
    agent_metrics: dict[str, float]
    key_metrics: dict[str, float]


class Query(BaseModel):
    """What the URL of a trainer that sends nothing else of ours can say."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    recipe: str | None = None
    """Recipe; by default the deployment's."""
    run: Identifier | None = None
    """Name of the training job."""
    deadline_ms: DeadlineMs | None = None
    """Milliseconds until the reply; by default the deployment's, or less than the trainer waits."""


class RewardQuery(Query):
    """What the URL says where the trainer knows rewards alone."""

    on_unscored: OnUnscored = "raise"
    """What a sample without a reward gets: an HTTP error; the mean of the components that were
    had, if a model's say is among them; or 0."""


class SlimeQuery(RewardQuery):
    """What slime's URL can say."""

    key: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """Reply with an object that holds the reward under this name, for slime's `--reward-key`."""
