"""Write docs/trainer/config.md from the configuration itself.

`python docs/make_trainer_config.py > docs/trainer/config.md`.
"""

import sys
from collections.abc import Iterator
from typing import Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from medreward_trainer.config.config import Config
from medreward_trainer.config.files import key_fields
from medreward_trainer.config.key_aliases import key_aliases


def page() -> str:
    """The whole page."""
    return "\n".join(
        [
            "# The trainer's configuration",
            "",
            "A run is configured by a YAML file, one of the recipes or your own, and by overrides",
            "after it: `medreward-train run medix_2b_dapo trainer.total_epochs=1`.",
            "A file holds only the differences from the defaults below; `medreward-train show FILE`",
            "prints the complete configuration. An unknown key or an invalid value stops a run before",
            "it begins. This page is written by `make docs`.",
            "",
            "The keys are verl's (0.9.1) if verl has one, *same* below; a plus before verl's means",
            "that its own configuration lacks the key, but reads it.",
            "EasyR1's are those of 0.3.3.dev0; MediX-R1's copy has them too, except for `lora`.",
            "",
            *(line for name, section in _sections() for line in _table(name, section)),
            "## Values with another name",
            "",
            "| key | verl's or EasyR1's | here |",
            "|---|---|---|",
            *(
                f"| `{key}` | `{theirs}` | `{ours}` |"
                for key, values in key_aliases().values.items()
                for theirs, ours in values.items()
            ),
            "| `algorithm.adv_estimator` | `grpo` and `algorithm.norm_adv_by_std_in_grpo=False` | `dr_grpo` |",
            "",
            "## Keys that are missing here",
            "",
            "| key, or its beginning | instead |",
            "|---|---|",
            *(f"| `{key}` | {advice} |" for key, advice in key_aliases().instead.items()),
            "",
        ]
    )


def _sections() -> Iterator[tuple[str, type[BaseModel]]]:
    return (
        (name, field.annotation)
        for name, field in Config.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    )


def _table(name: str, section: type[BaseModel]) -> Iterator[str]:
    yield f"## {name}"
    yield ""
    yield " ".join((section.__doc__ or "").split())
    yield ""
    yield "| key | default | meaning | verl | EasyR1 |"
    yield "|---|---|---|---|---|"
    yield from _rows(name, section)
    yield ""


def _rows(prefix: str, section: type[BaseModel]) -> Iterator[str]:
    for key, field in key_fields(section, f"{prefix}.").items():
        names = key_aliases().names[key]
        meaning = " ".join([*(field.description or "").split(), *_choices(field)])
        yield (
            f"| `{key}` | {_default(field)} | {meaning} | {_name(names.verl, key)} "
            f"| {_name(names.easyr1, key)} |"
        )


def _choices(field: FieldInfo) -> list[str]:
    """What may be chosen, if that is a list of names."""
    kinds = [field.annotation, *get_args(field.annotation)]
    names = [one for kind in kinds if get_origin(kind) is Literal for one in get_args(kind)]
    return [f"Of: {', '.join(f'`{one}`' for one in names)}."] if names else []


def _default(field: FieldInfo) -> str:
    value = field.default
    if value is None or value == ():
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`[{', '.join(str(one) for one in value)}]`"
    return f"`{value}`"


def _name(theirs: str | None, ours: str) -> str:
    if theirs is None:
        return "–"  # noqa: RUF001 - a dash, in a table for people
    return "same" if theirs == ours else f"`{theirs}`"


if __name__ == "__main__":
    sys.stdout.write(page())
