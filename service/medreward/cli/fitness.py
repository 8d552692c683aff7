"""What numbers are not for: said wherever numbers are shown."""

from collections.abc import Mapping

from rich.console import Console

from medreward.cli.terminal import shown
from medreward.engines.models import CATALOGUE
from medreward.engines.status import EngineState
from medreward.http.routes.scoring import NOTICE


def print_fitness(console: Console, engines: Mapping[str, EngineState]) -> None:
    """Say what the models are worth where they are the small ones, and what no model is for."""
    console.print()
    for role, state in engines.items():
        # A judge and the language model beside it are one state.
        for model in (CATALOGUE[name] for name in state.model.split(", ") if name in CATALOGUE):
            console.print(shown(f"The {role} {model.name} {model.fitness}.", "yellow"))
    console.print(shown(NOTICE, "dim"))
