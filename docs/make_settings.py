"""Write docs/settings.md from the settings themselves: `python docs/make_settings.py > docs/settings.md`."""

import sys

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from medreward.settings import PROFILES, Choice, Settings


def page() -> str:
    """The whole page."""
    rows = [_row(name, field) for name, field in Settings.model_fields.items()]
    profiles = [
        f"| `{name}` | {_choice(p.judge)} | {_choice(p.llm)} | {'yes' if p.cascade else 'no'} "
        f"| {_choice(p.embedder)} | {p.device} |"
        for name, p in PROFILES.items()
    ]
    return "\n".join(
        [
            "# Settings",
            "",
            "Read from the environment when the service starts; lists are separated by commas.",
            "This page is written by `make docs`.",
            "",
            "| variable | default | meaning |",
            "|---|---|---|",
            *rows,
            "",
            "## Profiles",
            "",
            "A profile gives the defaults of engines, models and device.",
            "It is chosen by name, never by free memory, or by whether a network or a GPU answers.",
            "In a cascade, the language model is also asked if the judge is not sure.",
            "",
            "| profile | judge | second language model | in a cascade | embedder | device |",
            "|---|---|---|---|---|---|",
            *profiles,
            "",
        ]
    )


def _choice(choice: Choice | None) -> str:
    return "none" if choice is None else f"{choice.engine}: `{choice.model}`"


def _row(name: str, field: FieldInfo) -> str:
    meaning = " ".join((field.description or "").split())
    return f"| `MEDREWARD_{name.upper()}` | {_default(name, field)} | {meaning} |"


def _default(name: str, field: FieldInfo) -> str:
    if name == "models_dir":
        return "`~/.cache/medreward/models`"
    value = field.default
    if value is PydanticUndefined or value is None or value == () or isinstance(value, SecretStr):
        return "none"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


if __name__ == "__main__":
    sys.stdout.write(page())
