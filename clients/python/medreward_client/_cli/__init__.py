"""The command `medreward-client`; it needs typer and rich, which the extra `cli` brings."""

import sys

CLI_PACKAGES = {"typer", "rich", "click"}


def main() -> None:
    """Run the command that the command line names."""
    try:
        # What they need is not installed without the extra.
        from medreward_client._cli.commands import app  # noqa: PLC0415
        from medreward_client.terminal import run_app  # noqa: PLC0415
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] not in CLI_PACKAGES:
            raise
        sys.exit(
            f"medreward-client: {exc.name} is not installed; "
            "pip install 'medreward-client[cli]' brings it"
        )
    run_app(app, "medreward-client")
