"""From a file and overrides to a Config, with errors that name the key that was meant."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from medreward_trainer.config.config import Config
from medreward_trainer.config.key_aliases import VALUES, instead_of, ours_of
from medreward_trainer.errors import BadConfig

RECIPES = resources.files("medreward_trainer") / "recipes"
WORDS = {
    "missing": "has too few values",
    "model_type": "must hold keys and values",
    "string_type": """must be a text; where a shell is at work, quote it twice: a.b='"7"'""",
    "too_long": "has too many values",
    "tuple_type": "must be a list",
}
"""For those of pydantic's errors that speak of Python."""
LIKELY = 0.6
"""How like a key another must be, to be taken for what was meant."""


def load_config(source: str, overrides: Sequence[str] = ()) -> Config:
    """Read a recipe by its name, or a YAML file, and change what `a.b=c` says.

    An override's value is YAML: `1e-6`, `[a.jsonl, b.jsonl]`, `null`, `{enable: true}`, which
    changes the keys it names and leaves their neighbours. A plus before a key, as hydra wants it
    for new ones, changes nothing.

    Raises:
        BadConfig: there is no such file, or a key or a value cannot be; each of them is named, with
            the file or the override it stands in.
    """
    tree = _tree(source)
    places: dict[str, str] = {}
    for override in overrides:
        key, value = _read_override(override)
        _merge(tree, _nested(key.split("."), value), key)
        places[key] = override
    lines = [
        f"{_place(key, source, places)}: {key} must be a number or a text, not {value!r}"
        for key, value in _truths_for_numbers(tree)
    ]
    try:
        config = Config.model_validate(tree)
    except ValidationError as exc:
        lines += [line for error in exc.errors() for line in _say(error, source, places)]
    if lines:
        raise BadConfig("\n".join(dict.fromkeys(lines)))
    return config


def recipe_names() -> list[str]:
    """The recipes that come along."""
    return sorted(
        one.name.removesuffix(".yaml") for one in RECIPES.iterdir() if one.name.endswith(".yaml")
    )


def recipe_path(name: str) -> Path:
    """Where a recipe's file lies; `verl/medix_8b_grpo` and `easyr1/…` are those of the two.

    Raises:
        BadConfig: there is no such recipe.
    """
    with resources.as_file(RECIPES / f"{name}.yaml") as path:
        if not path.is_file():
            raise BadConfig(f"{name} is no recipe{_choice(name, recipe_names())}")
        return path


def dump_config(config: Config) -> str:
    """Write a whole configuration as YAML that reads back equal."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def changed_values(before: Config, after: Config) -> dict[str, Any]:
    """The keys whose values differ, in the order of the configuration, with the later values."""
    was, now = flat(before.model_dump(mode="json")), flat(after.model_dump(mode="json"))
    return {key: value for key, value in now.items() if was.get(key) != value}


def recipe_purpose(name: str) -> str:
    """What a recipe is for: its first comment's first sentence."""
    text = (RECIPES / f"{name}.yaml").read_text(encoding="utf-8")
    comment = []
    for line in text.splitlines():
        if not line.startswith("# "):
            break
        comment.append(line.removeprefix("# "))
    return " ".join(comment).partition(". ")[0].partition(":")[0]


def key_names() -> list[str]:
    """Every key there is, with dots."""
    return list(key_fields())


def key_fields(section: type[BaseModel] = Config, prefix: str = "") -> dict[str, FieldInfo]:
    """Every key there is, with what is known of it."""
    fields: dict[str, FieldInfo] = {}
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            fields |= key_fields(kind, f"{prefix}{name}.")
        else:
            fields[f"{prefix}{name}"] = field
    return fields


def check_runnable(config: Config) -> None:
    """Refuse what can be written down and cannot be run.

    Raises:
        BadConfig: there is no data.
    """
    if not config.data.train_files:
        raise BadConfig("data.train_files: none; give JSONL or Parquet files, or name@split")


class _Loader(yaml.SafeLoader):
    """YAML in which a key may stand once; YAML itself would let the last one win in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Refuse what names a key twice.

        Raises:
            ConstructorError: it does.
        """
        seen: list[Any] = []
        for key, _ in node.value:
            name = self.construct_object(key)
            if name in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {name} stands twice", key.start_mark
                )
            seen.append(name)
        return super().construct_mapping(node, deep)


def _tree(source: str) -> dict[str, Any]:
    ours = RECIPES / f"{source}.yaml"
    try:
        text = (ours if ours.is_file() else Path(source)).read_text(encoding="utf-8")
    except OSError:
        raise BadConfig(
            f"{source} is no file, and no recipe{_choice(source, recipe_names())}"
        ) from None
    tree = _read_yaml(text, source)
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise BadConfig(f"{source} must hold keys and values")
    return tree


def _read_yaml(text: str, where: str) -> Any:
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, ValueError) as exc:
        raise BadConfig(f"{where} is not YAML: {exc}") from None


def _read_override(override: str) -> tuple[str, Any]:
    key, given, text = override.partition("=")
    key = key.strip().lstrip("+")
    if not given or not all(key.split(".")):
        raise BadConfig(f"{override} is no override; write it as trainer.total_epochs=2")
    return key, _read_yaml(text, override)


def _nested(path: Sequence[str], value: Any) -> dict[str, Any]:
    for name in reversed(path):
        value = {name: value}
    return dict(value)


def _merge(tree: dict[str, Any], changes: Mapping[str, Any], key: str) -> None:
    for name, value in changes.items():
        if not isinstance(value, Mapping):
            tree[name] = value
            continue
        inner = tree[name] = {} if tree.get(name) is None else tree[name]
        if not isinstance(inner, dict):
            raise BadConfig(f"{key}: {name} holds a value, and no further keys")
        _merge(inner, value, key)


def _truths_for_numbers(tree: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """Keys that are given true or false, or what YAML takes for that, as `no`, and are no switches.

    Pydantic would make 1 and 0 of them.
    """
    fields = key_fields()
    for key, value in flat(tree).items():
        if isinstance(value, bool) and key in fields and fields[key].annotation is not bool:
            yield key, value


def _say(error: ErrorDetails, source: str, places: Mapping[str, str]) -> Iterator[str]:
    """Put one of pydantic's errors into words that name the key and the way out."""
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        for unknown in _leaves(key, error["input"]):
            yield f"{_place(unknown, source, places)}: {unknown} is no key; {_meant(unknown)}"
    elif error["type"] == "value_error":
        # Our own: it names its keys, of which no one is to blame.
        yield str(error["ctx"]["error"])
    else:
        key = next((name for name in key_names() if f"{key}.".startswith(f"{name}.")), key)
        message = WORDS.get(error["type"]) or error["msg"].replace("Input should be", "must be")
        given = "" if isinstance(error["input"], dict | BaseModel) else f", not {error['input']!r}"
        yield f"{_place(key, source, places)}: {key} {message}{given}{_nearest(key, error)}"


def _place(key: str, source: str, places: Mapping[str, str]) -> str:
    """The override that a key is of, the last one if there are several; or the file."""
    for overridden, override in reversed(list(places.items())):
        if f"{key}.".startswith(f"{overridden}.") or f"{overridden}.".startswith(f"{key}."):
            return override
    return source


def _leaves(key: str, value: Any) -> list[str]:
    """The keys below one that there is not: EasyR1's worker.… is known by its ends alone."""
    if instead_of(key) or not (isinstance(value, Mapping) and value):
        return [key]
    return [leaf for name, inner in value.items() for leaf in _leaves(f"{key}.{name}", inner)]


def _meant(key: str) -> str:
    """What to write for a key that there is not."""
    if ours := ours_of(key):
        return f"it is called {' or '.join(ours)} here"
    if advice := instead_of(key):
        return advice
    names = key_names()
    last = key.rpartition(".")[2]
    ends = [name for name in names if name.rpartition(".")[2] == last]
    close = get_close_matches(key, ends, n=2, cutoff=0) or get_close_matches(
        key, names, n=1, cutoff=LIKELY
    )
    if not close:
        alike = get_close_matches(last, {name.rpartition(".")[2] for name in names}, n=1)
        close = [name for name in names if name.rpartition(".")[2] in alike]
    return f"did you mean {' or '.join(close)}?" if close else "see docs/trainer/config.md"


def _nearest(key: str, error: ErrorDetails) -> str:
    """The choice that comes nearest to what was given, if there are choices."""
    given, elsewhere = str(error["input"]), VALUES.get(key, {})
    choices = str(error.get("ctx", {}).get("expected", "")).replace(" or ", ", ").split(", ")
    close = [elsewhere[given]] if given in elsewhere else []
    close = close or get_close_matches(given, [choice.strip("'") for choice in choices], n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _choice(name: str, names: Sequence[str]) -> str:
    close = get_close_matches(name, names, n=1)
    return f"; did you mean {close[0]}?" if close else f": {', '.join(names)}"


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Give every value by its key with dots."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found
