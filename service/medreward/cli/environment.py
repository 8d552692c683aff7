"""Settings and keys from environment variables, with readable errors."""

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
"""Variables that only clients read; a service ignores them without an error."""


def read_settings(**options: Any) -> Settings:
    """Read the settings; options that are not None override the environment.

    Raises:
        Misuse: a setting is wrong; names the variable, never its value, which may be a secret.
    """
    given = {name: value for name, value in options.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as exc:
        found = [_explain(e) for e in exc.errors(include_url=False, include_input=False)]
        raise Misuse("; ".join(found)) from None
    except SettingsError as exc:
        raise Misuse(str(exc)) from None
    except RuntimeError:
        # The default of MEDREWARD_MODELS_DIR lies in the home folder.
        raise Misuse("no home folder is known: set HOME, or MEDREWARD_MODELS_DIR") from None


def misspelt_variables() -> dict[str, str]:
    """Return the variables that look like settings but are not, each with its remedy.

    A misspelt variable would leave the default in force: with `MEDREWARD_API_KEY`, for instance, a
    service would run without keys. Files of `MEDREWARD_SECRETS_DIR` are checked too; their names
    are those of the variables, in lower case.
    """
    known = {f"MEDREWARD_{name.upper()}" for name in Settings.model_fields}
    misspelt = {}
    for name in sorted({*os.environ, *_names_of_secrets()}):
        # Kubernetes sets variables with these prefixes in the pods of a namespace that has a
        # service named medreward; they are not misspelt settings.
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
    """Read the key of a service from the given variable; None if there is none.

    Raises:
        Misuse: a variable other than the default is not set, or the key is no valid header value.
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
    """Return a URL without its user name and password, so that it may be shown."""
    scheme, sign, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{sign}{host.rpartition('@')[2]}{slash}{path}" if sign else url
