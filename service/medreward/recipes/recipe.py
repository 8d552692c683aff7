"""Recipes: signals with their weights and thresholds, a name and a fingerprint.

A recipe is a TOML file: a built-in one in `recipes/`, or one of the user's own.
"""

import difflib
import hashlib
import json
import math
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Final, Literal, NamedTuple, Self, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    create_model,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from medreward.errors import SetupError
from medreward.guards.chain import (
    WITHOUT_REFERENCE,
    GuardChain,
    GuardName,
    guards_identity,
    identity_without_reference,
)
from medreward.signals.registry import NEEDS, SHIPPED, Kinds, KnownKind, range_of

SignalName = str
SIGNALS: tuple[SignalName, ...] = ("accuracy_llm", "accuracy_embed", "modality", "format")
"""The signals of MediX-R1; a recipe may have others beside them, or in their place."""

TagName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")]
Finite = Annotated[float, Field(allow_inf_nan=False, ge=-1e6, le=1e6)]
Range = tuple[float, float]
UNIT: Final[Range] = (0.0, 1.0)
RUBRIC: Final = "rubric"
"""The signal of a sample's criteria, and the judge's template about one of them."""
GROUP_RANK: Final = "group_rank"
PREFERENCE: Final = "preference"
"""The judge's template about two answers."""
TEMPLATES: Final[Mapping[SignalName, str]] = MappingProxyType(
    {RUBRIC: RUBRIC, GROUP_RANK: PREFERENCE}
)
"""The templates of signals that have one of their own; the others' is the recipe's `template`."""


class _Table(BaseModel):
    """A table of a recipe file; an unknown key is refused, since it may be a misspelt one."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _none(value: object) -> object:
    """Convert "none" to None, since TOML has no null."""
    return None if value == "none" else value


class Tags(_Table):
    """Tags with which the policy was told to mark up its response; all may be unset."""

    thinking: Annotated[TagName | None, BeforeValidator(_none)] = "thinking"
    answer: Annotated[TagName | Literal["\\boxed"] | None, BeforeValidator(_none)] = "answer"
    modalities: tuple[TagName, ...] = ()
    """Modality tags that may precede the response, without their angle brackets."""
    tighten: bool = False
    """Remove white space around `<`, `>` and `/` in the response before parsing it."""

    @cached_property
    def modality_names(self) -> frozenset[str]:
        """Modality tags in capitals."""
        return frozenset(tag.upper() for tag in self.modalities)


def _is_unset(value: object) -> bool:
    """Return whether a key is unset; unset newer keys are left out, so old fingerprints stay valid."""
    return not value


class Rules(_Table):
    """Rules that decide an answer without a model."""

    min_answer_characters: Annotated[int, Field(ge=1, le=64)] = 1
    """Shorter answers are wrong; the minimum is 1, since an empty answer is always wrong."""
    rejected_substrings: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """An answer that contains one of these is wrong, without a model call."""
    needs_answer_tag: Annotated[bool, Field(exclude_if=_is_unset)] = False
    """A response without exactly one answer between its tags is wrong."""


class Guards(_Table):
    """Conditions of a YES in addition to the judge's verdict."""

    checks: tuple[GuardName, ...] = ()
    """Names of the guards that may veto an answer, in the order in which they run."""
    settles: bool = False
    """Decide plain cases without a model: yes and no, option letters, equal quantities."""
    both_views: bool = False
    """A YES has to hold with the question shown and without it."""
    witness_cosine: Annotated[float | None, Field(ge=-1, le=1)] = None
    """A YES needs a witness besides the judge: a word in common, a cosine of at least this, or the YES
    of another engine. If None, it needs none."""

    needs_readable: Annotated[bool, Field(exclude_if=_is_unset)] = False
    """Do not judge what the judge's tokenizer cannot read: such an answer is wrong, and a sample with
    such a reference or question is unscored."""

    @property
    def identity(self) -> str:
        """Digest of the guards' version and lexicons, for fingerprints."""
        return guards_identity()


class Weighted(_Table):
    """A signal that is 0 or 1."""

    weight: Finite
    """Between 0 and 1, unless the recipe declares its range."""


class Judged(Weighted):
    """The judge's signal."""

    soft: Annotated[bool, Field(exclude_if=_is_unset)] = False
    """Take the probability of YES in place of 0 or 1."""


class Thresholded(Weighted):
    """A signal that is 1 if a cosine reaches the threshold."""

    threshold: Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)]
    gated: Annotated[bool, Field(exclude_if=_is_unset)] = False
    """Multiply it by the judge's signal: a similarity alone earns nothing."""


class Formatted(Weighted):
    """The signal of the response's form."""

    single: Annotated[bool, Field(exclude_if=_is_unset)] = False
    """There has to be one block of each kind, and something in the answer."""


class Rubric(Weighted):
    """The points that the answer earns by the sample's criteria, over the positive points."""

    lowest: Annotated[float, Field(ge=-100, le=0, allow_inf_nan=False)] = -2.0
    """A rubric under which an answer could earn less is refused, whatever the answer."""
    least_answered: Annotated[float, Field(ge=0, le=1)] = 0.8
    """Share of the points that have to be answered, in absolute numbers; with less, the sample is
    unscored."""


class GroupRank(Weighted):
    """The share of the other answers of its group that an answer is better than."""

    most_pairs: Annotated[int, Field(ge=1, le=8192)] = 256
    """Pairs of a group's answers that are compared, at most; the judge is asked twice about each. 256
    are all pairs of 23 answers, and still one pair for each of 512."""


class Signals(_Table):
    """Signals that a recipe adds up; an absent one is neither computed nor reported.

    `signals_with` adds a field for each known kind.
    """

    accuracy_llm: Judged | None = None
    accuracy_embed: Thresholded | None = None
    modality: Weighted | None = None
    format: Formatted | None = None
    rubric: Annotated[Rubric | None, Field(exclude_if=_is_unset)] = None
    group_rank: Annotated[GroupRank | None, Field(exclude_if=_is_unset)] = None

    def __iter__(self) -> Iterator[tuple[SignalName, Weighted]]:  # type: ignore[override]
        """Yield name and signal of those that are present, in the order of the fields."""
        for name in type(self).model_fields:
            signal = getattr(self, name)
            if signal is not None:
                yield name, signal


def to_unit(value: float, bounds: Range) -> float:
    """Map a value from its range to 0..1; the only value of a range without width is 0."""
    if bounds == UNIT:
        return value
    low, high = bounds
    return (value - low) / (high - low) if high > low else 0.0


class KindSignal(NamedTuple):
    """A signal of one of the kinds, as a recipe has it."""

    known: KnownKind
    options: BaseModel
    """Its table in the recipe, which has the kind's options."""


class Recipe(_Table):
    """A named way to turn signals into one reward."""

    kinds: ClassVar[Kinds] = MappingProxyType({})
    """The kinds that `signals` may name beside its own fields."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
    version: Annotated[int, Field(ge=1)]
    description: str
    template: str
    """Name of the judge's template."""
    tags: Tags
    """A table, or "none" if the policy uses no tags."""
    rules: Rules = Rules()
    guards: Annotated[Guards | None, Field(exclude_if=_is_unset)] = None
    range: Annotated[tuple[Finite, Finite] | None, Field(exclude_if=_is_unset)] = None
    """The least and the greatest reward; None for one between 0 and 1, whose weights add up to 1."""
    signals: Signals

    @field_validator("tags", mode="before")
    @classmethod
    def _no_tags(cls, tags: object) -> object:
        return Tags(thinking=None, answer=None) if tags == "none" else tags

    @field_validator("signals")
    @classmethod
    def _weights_add_up(cls, signals: Signals, info: ValidationInfo) -> Signals:
        weights = {name: signal.weight for name, signal in signals}
        if info.data.get("range") is not None:
            return signals
        for name, weight in weights.items():
            if not 0 <= weight <= 1:
                raise ValueError(
                    f"the weight of {name} is not between 0 and 1; other weights need `range`, the "
                    "least and the greatest reward"
                )
        total = math.fsum(weights.values())
        if not math.isclose(total, 1.0, abs_tol=1e-9):
            raise ValueError(f"the weights must add up to 1; these add up to {total:.12g}")
        return signals

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        for contradiction in self._contradictions():
            raise ValueError(contradiction)
        return self

    def _contradictions(self) -> Iterator[str]:
        """Yield what is wrong with several parts together."""
        yield from self._contradictions_of_weights()
        has_tags = self.tags.thinking or self.tags.answer
        if self.signals.modality and not self.tags.modalities:
            yield "the modality signal needs `tags.modalities`"
        if self.signals.modality and not has_tags:
            yield "the modality signal needs a thinking or answer tag to stand before"
        if self.signals.modality and not any(self.weights_without_modality.values()):
            yield "modality cannot be the only weight: it is dropped where unknown"
        if self.signals.format and not has_tags:
            yield "the format signal needs a thinking or answer tag to look for"
        embed = self.signals.accuracy_embed
        if self.signals.accuracy_llm is None and embed is not None and embed.gated:
            yield "a gated embedding needs the signal accuracy_llm as its gate"
        if self.rules.needs_answer_tag and self.tags.answer is None:
            yield "`rules.needs_answer_tag` needs `tags.answer`"
        if self.wants_witness and (embed is None or self.signals.accuracy_llm is None):
            yield "`guards.witness_cosine` needs accuracy_llm and accuracy_embed"

    def _contradictions_of_weights(self) -> Iterator[str]:
        if not self.weights:
            yield "`signals`: empty; a recipe needs at least one"
        low, high = self.computed_range
        least, most = self.bounds
        if not least < most:
            yield "`range`: the least reward has to be below the greatest"
        if low < least - 1e-9 or high > most + 1e-9:
            yield (
                f"the signals give rewards from {low:.12g} to {high:.12g}, which is not within "
                f"{least:g} to {most:g}; write `range = [{low:.12g}, {high:.12g}]`"
            )

    @property
    def bounds(self) -> Range:
        """The least and the greatest reward."""
        return self.range or UNIT

    @cached_property
    def signal_ranges(self) -> Mapping[SignalName, Range]:
        """The least and the greatest value of each signal."""
        ranges = dict.fromkeys(self.weights, UNIT)
        if self.signals.rubric is not None:
            ranges[RUBRIC] = (self.signals.rubric.lowest, 1.0)
        for name, (known, options) in self.kind_signals.items():
            ranges[name] = range_of(name, known.kind, options)
        return MappingProxyType(ranges)

    @cached_property
    def computed_range(self) -> Range:
        """The least and the greatest reward that weights and ranges of the signals allow."""
        ranges = self.signal_ranges
        lows, highs = [], []
        for weights in (self.weights, self.weights_without_modality):
            ends = [sorted(w * end for end in ranges[name]) for name, w in weights.items()]
            lows.append(math.fsum(low for low, _ in ends))
            highs.append(math.fsum(high for _, high in ends))
        return min(lows), max(highs)

    def to_unit(self, reward: float) -> float:
        """Map a reward from the recipe's range to 0..1, as alerts and trainers' scores want it."""
        return to_unit(reward, self.bounds)

    @cached_property
    def kind_signals(self) -> Mapping[SignalName, KindSignal]:
        """The signals that are of one of the kinds."""
        return MappingProxyType(
            {
                name: KindSignal(self.kinds[name], signal)
                for name, signal in self.signals
                if name in self.kinds
            }
        )

    @cached_property
    def needs(self) -> Mapping[SignalName, tuple[str, ...]]:
        """What each signal needs of the engines, the recipe and the samples."""
        kinds = self.kind_signals
        return MappingProxyType(
            {
                name: kinds[name].known.needs if name in kinds else NEEDS[name]
                for name in self.weights
            }
        )

    @cached_property
    def judged(self) -> Mapping[SignalName, str]:
        """The signals that need the judge, each with the template that the judge has to answer."""
        return MappingProxyType(
            {
                name: TEMPLATES.get(name, self.template)
                for name, needs in self.needs.items()
                if "judge" in needs
            }
        )

    @property
    def templates(self) -> tuple[str, ...]:
        """Names of the templates that are part of the fingerprint, each once."""
        return tuple(dict.fromkeys((self.template, *self.judged.values())))

    @cached_property
    def judge_guards(self) -> GuardChain:
        """Guards against text meant for the judge, which stand in front of criteria and pairs, too."""
        checks = self.guards.checks if self.guards else ()
        named = [name for name in checks if name in WITHOUT_REFERENCE]
        return GuardChain(named, settles=False, guards=WITHOUT_REFERENCE)

    @cached_property
    def guard_chain(self) -> GuardChain:
        """Guards that check an answer before any model call."""
        guards = self.guards or Guards()
        return GuardChain(guards.checks, settles=guards.settles)

    @cached_property
    def wants_witness(self) -> bool:
        """True if a YES needs a witness besides the judge."""
        return self.guards is not None and self.guards.witness_cosine is not None

    @cached_property
    def weights(self) -> Mapping[SignalName, float]:
        """Weight of each signal that the recipe adds up."""
        return MappingProxyType({name: signal.weight for name, signal in self.signals})

    @cached_property
    def weights_without_modality(self) -> Mapping[SignalName, float]:
        """Weights of samples without a known modality: the others, scaled up to the same sum.

        If a weight is negative, the others stay what they are: their sum may be nothing.
        """
        if "modality" not in self.weights:
            return self.weights
        total = math.fsum(self.weights.values())
        left = total - self.weights["modality"]
        scale = total / left if left > 0 and min(self.weights.values()) >= 0 else 1.0
        others: dict[SignalName, float] = {
            name: weight * scale for name, weight in self.weights.items() if name != "modality"
        }
        return MappingProxyType(others)

    def fingerprint(self, template_sha: str, *others: str) -> str:
        """Return a digest of everything in the recipe and its templates that can change a reward.

        *others* are the hashes of its templates but the first.
        """
        content = self.model_dump(mode="json", exclude={"description"})
        parts: list[Any] = [content, template_sha]
        if self.guards is not None:
            parts.append(self.guards.identity)
            if not TEMPLATES.keys().isdisjoint(self.judged):
                parts.append(identity_without_reference())
        parts += others
        parts += [[name, *known.identity] for name, (known, _) in self.kind_signals.items()]
        canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"))
        return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()


def recipe_with(kinds: Kinds) -> type[Recipe]:
    """Make the class of recipes that may name *kinds*: a table in `signals` for each."""
    tables: dict[str, Any] = {
        name: (
            create_model(f"Signal_{name}", __base__=(known.kind.options, Weighted)) | None,
            Field(default=None, exclude_if=_is_unset),
        )
        for name, known in kinds.items()
    }
    signals = create_model("Signals", __base__=Signals, **tables)
    made: type[Recipe] = create_model("Recipe", __base__=Recipe, signals=(signals, ...))
    made.kinds = MappingProxyType(dict(kinds))
    return made


def read_recipe(text: str, *, source: str, model: type[Recipe] = Recipe) -> Recipe:
    """Parse one recipe file; error messages name it by *source*, and *model* says what it may hold."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise SetupError(f"recipe {source}: not TOML: {exc}") from exc
    try:
        return model.model_validate(table)
    except ValidationError as exc:
        details = "; ".join(_explain(error, model) for error in exc.errors())
        raise SetupError(f"recipe {source}: {details}") from exc


def _explain(error: ErrorDetails, model: type[Recipe]) -> str:
    """Describe an error with its key; for an unknown key, suggest the nearest known one."""
    where = ".".join(str(part) for part in error["loc"]) or "the file"
    if error["type"] != "extra_forbidden":
        return f"`{where}`: {error['msg']}"
    *parents, unknown = (str(part) for part in error["loc"])
    known = _keys_of(parents, model)
    meant = difflib.get_close_matches(unknown, known, n=1)
    choices = f"choose from {', '.join(known)}" if known else "leave it out"
    hint = f"did you mean `{meant[0]}`?" if meant else choices
    return f"`{where}`: unknown key; {hint}"


def _keys_of(parents: Sequence[str], table: type[BaseModel]) -> list[str]:
    """Return the keys of the table at a path of keys; none inside of a list."""
    for parent in parents:
        field = table.model_fields.get(parent)
        choices = () if field is None else (field.annotation, *get_args(field.annotation))
        tables = [c for c in choices if isinstance(c, type) and issubclass(c, BaseModel)]
        if not tables:
            return []
        table = tables[0]
    return list(table.model_fields)


def load_recipes(paths: Iterable[Path] = (), kinds: Kinds = SHIPPED) -> dict[str, Recipe]:
    """Load the built-in recipes and those in the user's files and folders, by name.

    They may name *kinds* of signals.

    Raises:
        SetupError: a file cannot be read, is not a valid recipe, or repeats a name.
    """
    recipes: dict[str, Recipe] = {}
    model = recipe_with(kinds)
    for source, text in (*_built_in(), *_from_paths(paths)):
        recipe = read_recipe(text, source=source, model=model)
        if recipe.name in recipes:
            raise SetupError(f"recipe {source}: the name {recipe.name!r} is taken; choose another")
        recipes[recipe.name] = recipe
    return recipes


def _built_in() -> Iterator[tuple[str, str]]:
    folder = resources.files("medreward") / "recipes"
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".toml"):
            yield entry.name, entry.read_text("utf-8")


def _from_paths(paths: Iterable[Path]) -> Iterator[tuple[str, str]]:
    for path in paths:
        files = sorted(path.glob("*.toml")) if path.is_dir() else [path]
        if not files:
            raise SetupError(f"no recipe (*.toml) in {path}; mend MEDREWARD_RECIPES")
        for file in files:
            try:
                yield str(file), file.read_text("utf-8")
            except (OSError, UnicodeDecodeError) as exc:
                raise SetupError(f"recipe {file}: {exc}; mend MEDREWARD_RECIPES") from exc
