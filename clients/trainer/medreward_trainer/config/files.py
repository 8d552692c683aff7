"""Read a Config from a YAML file and overrides; errors name the key that was probably meant."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from importlib import resources
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from medreward_trainer.config.config import Config
from medreward_trainer.config.key_aliases import flat, key_aliases
from medreward_trainer.errors import BadConfig

RECIPES = resources.files("medreward_trainer") / "recipes"
WORDS = {
    "missing": "has too few values",
    "model_type": "must hold keys and values",
    "string_type": """must be a text; where a shell is at work, quote it twice: a.b='"7"'""",
    "too_long": "has too many values",
    "tuple_type": "must be a list",
}
"""Replacements for messages of pydantic that speak of Python types, by error type."""
LIKELY = 0.6
"""Similarity, from 0 to 1, above which an unknown key counts as a misspelt one."""


def load_config(source: str, overrides: Sequence[str] = ()) -> Config:
    """Read a recipe by its name, or a YAML file, and apply overrides of the form `a.b=c`.

    An override's value is YAML: `1e-6`, `[a.jsonl, b.jsonl]`, `null`, `{enable: true}`. A mapping
    changes the keys that it contains and no others. A plus before a key, which hydra requires for
    new keys, is ignored.

    Raises:
        BadConfig: the file does not exist, or keys or values are invalid; the message lists all of
            them, each with its file or override.
    """
    tree = _tree(source)
    places: dict[str, str] = {}
    for override in overrides:
        key, value = _read_override(override)
        places[key] = override
        for name in reversed(key.split(".")):
            value = {name: value}
        _merge(tree, value, key)
    fields = key_fields()
    # YAML reads `no` as a boolean, which pydantic would convert to 0.
    lines = [
        f"{_place(key, source, places)}: {key} must be a number or a text, not {value!r}"
        for key, value in flat(tree).items()
        if isinstance(value, bool) and key in fields and fields[key].annotation is not bool
    ]
    try:
        config = Config.model_validate(tree)
    except ValidationError as exc:
        lines += [line for error in exc.errors() for line in _messages(error, source, places)]
    if lines:
        raise BadConfig("\n".join(dict.fromkeys(lines)))
    return config


def recipe_names() -> list[str]:
    """Return the names of the packaged recipes."""
    return sorted(
        one.name.removesuffix(".yaml") for one in RECIPES.iterdir() if one.name.endswith(".yaml")
    )


def dump_config(config: Config) -> str:
    """Write a whole configuration as YAML that reads back equal."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def changed_values(before: Config, after: Config) -> dict[str, Any]:
    """Return the keys whose values differ, with their values in *after*, in its order."""
    was, now = flat(before.model_dump(mode="json")), flat(after.model_dump(mode="json"))
    return {key: value for key, value in now.items() if was.get(key) != value}


def recipe_purpose(name: str) -> str:
    """Return a recipe's purpose: the first sentence of its first comment."""
    text = (RECIPES / f"{name}.yaml").read_text(encoding="utf-8")
    comment = takewhile(lambda line: line.startswith("# "), text.splitlines())
    words = " ".join(line.removeprefix("# ") for line in comment)
    return words.partition(". ")[0].partition(":")[0]


def key_fields(section: type[BaseModel] = Config, prefix: str = "") -> dict[str, FieldInfo]:
    """Return pydantic's field of every key below a section, by the key with dots."""
    fields: dict[str, FieldInfo] = {}
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            fields |= key_fields(kind, f"{prefix}{name}.")
        else:
            fields[f"{prefix}{name}"] = field
    return fields


def check_runnable(config: Config) -> None:
    """Refuse a configuration that is valid but cannot be run.

    Raises:
        BadConfig: it names no training data.
    """
    if not config.data.train_files:
        raise BadConfig("data.train_files: none; give JSONL or Parquet files, or name@split")


class _Loader(yaml.SafeLoader):
    """A loader that refuses duplicate keys; YAML itself would silently keep the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Read a mapping.

        Raises:
            ConstructorError: a key occurs twice.
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
        names = recipe_names()
        close = get_close_matches(source, names, n=1)
        hint = f"; did you mean {close[0]}?" if close else f": {', '.join(names)}"
        raise BadConfig(f"{source} is no file, and no recipe{hint}") from None
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


def _merge(tree: dict[str, Any], changes: Mapping[str, Any], key: str) -> None:
    for name, value in changes.items():
        if not isinstance(value, Mapping):
            tree[name] = value
            continue
        inner = tree[name] = {} if tree.get(name) is None else tree[name]
        if not isinstance(inner, dict):
            raise BadConfig(f"{key}: {name} holds a value, and no further keys")
        _merge(inner, value, key)


def _messages(error: ErrorDetails, source: str, places: Mapping[str, str]) -> Iterator[str]:
    """Yield the messages for one error of pydantic, each with its key and the way out."""
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        for unknown in _leaves(key, error["input"]):
            yield f"{_place(unknown, source, places)}: {unknown} is no key; {_suggestion(unknown)}"
    elif error["type"] == "value_error":
        # From `Section._contradictions`: the text names several keys, and no single one is wrong.
        yield str(error["ctx"]["error"])
    else:
        key = next((name for name in key_fields() if f"{key}.".startswith(f"{name}.")), key)
        message = WORDS.get(error["type"]) or error["msg"].replace("Input should be", "must be")
        given = "" if isinstance(error["input"], dict | BaseModel) else f", not {error['input']!r}"
        yield f"{_place(key, source, places)}: {key} {message}{given}{_nearest_choice(key, error)}"


def _place(key: str, source: str, places: Mapping[str, str]) -> str:
    """Return the last override that sets a key or a part of it, or the file if there is none."""
    for overridden, override in reversed(list(places.items())):
        if f"{key}.".startswith(f"{overridden}.") or f"{overridden}.".startswith(f"{key}."):
            return override
    return source


def _leaves(key: str, value: Any) -> list[str]:
    """Return the keys below an unknown section; only EasyR1's whole keys have aliases."""
    if key_aliases().advice(key) or not (isinstance(value, Mapping) and value):
        return [key]
    return [leaf for name, inner in value.items() for leaf in _leaves(f"{key}.{name}", inner)]


def _suggestion(key: str) -> str:
    """Return what to write in place of an unknown key."""
    if ours := key_aliases().ours(key):
        return f"it is called {' or '.join(ours)} here"
    if advice := key_aliases().advice(key):
        return advice
    by_end: dict[str, list[str]] = {}
    for name in key_fields():
        by_end.setdefault(name.rpartition(".")[2], []).append(name)
    end = key.rpartition(".")[2]
    # A known end under a wrong section first, then a similar key, then a similar end.
    close = (
        get_close_matches(key, by_end.get(end, []), n=2, cutoff=0)
        or get_close_matches(key, key_fields(), n=1, cutoff=LIKELY)
        or [name for one in get_close_matches(end, by_end, n=1) for name in by_end[one]]
    )
    return f"did you mean {' or '.join(close)}?" if close else "see docs/trainer/config.md"


def _nearest_choice(key: str, error: ErrorDetails) -> str:
    """Return a hint at the valid choice most similar to the value, or an empty text."""
    given, elsewhere = str(error["input"]), key_aliases().values.get(key, {})
    choices = str(error.get("ctx", {}).get("expected", "")).replace(" or ", ", ").split(", ")
    close = [elsewhere[given]] if given in elsewhere else []
    close = close or get_close_matches(given, [choice.strip("'") for choice in choices], n=1)
    return f"; did you mean {close[0]}?" if close else ""
