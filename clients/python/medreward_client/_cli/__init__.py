"""The command `medreward-client`; it needs typer and rich, which the extra `cli` brings."""

import sys
from io import TextIOWrapper

CLI_PACKAGES = {"typer", "rich", "click"}


def main() -> None:
    """Run the command that the command line names."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A character that the terminal cannot show becomes a question mark, not a traceback.
            stream.reconfigure(errors="replace")
    try:
        from medreward_client._cli.commands import app  # noqa: PLC0415 - not installed without the extra
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] not in CLI_PACKAGES:
            raise
        sys.exit(
            f"medreward-client: {exc.name} is not installed; "
            "pip install 'medreward-client[cli]' brings it"
        )
    app(prog_name="medreward-client")
