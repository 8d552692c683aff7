"""The settings that the environment gives, and what is wrong with them in words."""

import difflib
import os
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import SettingsError

from medreward.cli.options import KEY_VARIABLE
from medreward.cli.terminal import Misuse
from medreward.settings import Settings

NO_SETTINGS = frozenset({KEY_VARIABLE, "MEDREWARD_URL"})
"""Variables of clients of a service, which may be set where one is started."""


def read_settings(**options: Any) -> Settings:
    """Read the settings; options that are given win over the environment.

    Raises:
        Misuse: naming the variable; never what it holds, which may be a secret.
    """
    given = {name: value for name, value in options.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as exc:
        found = [_explain(e) for e in exc.errors(include_url=False, include_input=False)]
        raise Misuse("; ".join(found)) from None
    except SettingsError as exc:
        raise Misuse(str(exc)) from None


def misspelt_variables() -> dict[str, str]:
    """Name the variables that look like settings but are none, and what mends each.

    They would be silent defaults: a service whose `MEDREWARD_API_KEY` is set asks for no key. Files
    of `MEDREWARD_SECRETS_DIR` are named like them, in lower case.
    """
    known = {f"MEDREWARD_{name.upper()}" for name in Settings.model_fields}
    misspelt = {}
    for name in sorted({*os.environ, *_names_of_secrets()}):
        # Kubernetes describes a service named medreward to its pods in variables of these names.
        is_link = name.startswith(("MEDREWARD_PORT_", "MEDREWARD_SERVICE_"))
        is_ours = name.startswith("MEDREWARD_") and name not in NO_SETTINGS
        if is_ours and not is_link and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            mend = f"did you mean {near[0]}?" if near else "unset it; docs/settings.md lists all"
            misspelt[name] = mend
    return misspelt


def _names_of_secrets() -> set[str]:
    folder = os.environ.get("MEDREWARD_SECRETS_DIR", "")
    if not folder or not Path(folder).is_dir():
        return set()
    return {file.name.upper() for file in Path(folder).iterdir() if file.is_file()}


def service_key(variable: str) -> str | None:
    """Read the key to a service from the variable that the user names.

    Raises:
        Misuse: the variable was named, but holds no key that HTTP could carry.
    """
    key = os.environ.get(variable, "").strip()
    if not key and variable != KEY_VARIABLE:
        raise Misuse(f"--api-key-env: the variable {variable} is not set; export the key in it")
    if not (key.isascii() and key.isprintable()):
        raise Misuse(f"{variable} holds signs that no key has; export it anew")
    return key or None


def _explain(error: ErrorDetails) -> str:
    message = error["msg"].removeprefix("Value error, ")
    return f"MEDREWARD_{str(error['loc'][0]).upper()}: {message}" if error["loc"] else message


def without_password(url: str) -> str:
    """A URL as it may be shown: who logs in there, and with what, is left out."""
    scheme, sign, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{sign}{host.rpartition('@')[2]}{slash}{path}" if sign else url
