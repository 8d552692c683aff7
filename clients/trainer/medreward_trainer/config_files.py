"""From a file and overrides to a Config, with errors that name the key that was meant."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from medreward_trainer.config import Config
from medreward_trainer.errors import BadConfig
from medreward_trainer.other_keys import EASYR1

RECIPES = resources.files("medreward_trainer") / "recipes"
LIKELY = 0.6
"""How like a key another must be, to be taken for what was meant."""


def load_config(source: str, overrides: Sequence[str] = ()) -> Config:
    """Read a recipe by its name, or a YAML file, and change what `a.b=c` says.

    Raises:
        BadConfig: there is no such file, or a key or a value cannot be.
    """
    tree = _tree(source)
    for override in overrides:
        _put(tree, override)
    try:
        return Config.model_validate(tree)
    except ValidationError as exc:
        raise BadConfig("\n".join(_say(error) for error in exc.errors())) from None


def recipe_names() -> list[str]:
    """The recipes that come along."""
    return sorted(
        one.name.removesuffix(".yaml") for one in RECIPES.iterdir() if one.name.endswith(".yaml")
    )


def dump_config(config: Config) -> str:
    """Write a whole configuration as YAML that reads back equal."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def changed_keys(before: Config, after: Config) -> list[str]:
    """The keys whose values differ, in the order of the configuration."""
    was, now = _flat(before.model_dump(mode="json")), _flat(after.model_dump(mode="json"))
    return [key for key in now if was.get(key) != now[key]]


def key_names(section: type[BaseModel] = Config, prefix: str = "") -> list[str]:
    """Every key there is, with dots."""
    names = []
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            names += key_names(kind, f"{prefix}{name}.")
        else:
            names.append(f"{prefix}{name}")
    return names


def check_runnable(config: Config) -> None:
    """Refuse what can be written down and cannot be run.

    Raises:
        BadConfig: there is no data.
    """
    if not config.data.train_files:
        raise BadConfig("data.train_files: none; give JSONL or Parquet files, or name@split")


def _tree(source: str) -> dict[str, Any]:
    ours = RECIPES / f"{source}.yaml"
    try:
        text = (ours if ours.is_file() else Path(source)).read_text(encoding="utf-8")
    except OSError:
        close = get_close_matches(source, recipe_names(), n=1)
        meant = f"; did you mean {close[0]}?" if close else f": {', '.join(recipe_names())}"
        raise BadConfig(f"{source} is no file, and no recipe{meant}") from None
    try:
        tree = yaml.safe_load(text) or {}
    except yaml.YAMLError as exc:
        raise BadConfig(f"{source} is not YAML: {exc}") from None
    if not isinstance(tree, dict):
        raise BadConfig(f"{source} must hold keys and values")
    return tree


def _put(tree: dict[str, Any], override: str) -> None:
    key, given, text = override.partition("=")
    key = key.lstrip("+")
    if not given or not key:
        raise BadConfig(f"{override} is no override; write it as trainer.total_epochs=2")
    *sections, last = key.split(".")
    for section in sections:
        inner = tree.setdefault(section, {})
        if not isinstance(inner, dict):
            raise BadConfig(f"{key}: {section} holds a value, and no further keys")
        tree = inner
    try:
        tree[last] = yaml.safe_load(text)
    except yaml.YAMLError as exc:
        raise BadConfig(f"{key}: {text!r} cannot be read: {exc}") from None


def _say(error: Mapping[str, Any]) -> str:
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"{key} is no key; {_meant(key)}"
    message = error["msg"].removeprefix("Value error, ")
    given = "" if isinstance(error["input"], dict | BaseModel) else f" (given: {error['input']!r})"
    choices = error.get("ctx", {}).get("expected")
    close = get_close_matches(str(error["input"]), str(choices or "").replace("'", "").split(), n=1)
    return f"{key}: {message}{given}" + (f"; did you mean {close[0]}?" if close else "")


def _meant(key: str) -> str:
    if key in EASYR1:
        return f"EasyR1's {key} is {EASYR1[key]} here"
    names = key_names()
    last = key.rpartition(".")[2]
    same_end = [name for name in names if name.rpartition(".")[2] == last]
    close = same_end or get_close_matches(key, names, n=1, cutoff=LIKELY)
    return f"did you mean {close[0]}?" if close else "see docs/trainer/config.md"


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
