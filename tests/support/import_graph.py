"""The import graph of a package: modules, imports between its rooms, floors, upward imports, cycles.

A room is a folder or a module directly inside the package. A floor is the length of the longest
chain of imports below a room. Imports are read from the source; nothing is imported. Usage:

    python -m tests.support.import_graph [FOLDER]
"""

import argparse
import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

SERVICE = Path(__file__).parents[2] / "service" / "medreward"

Graph = Mapping[str, frozenset[str]]
"""The rooms that each room imports."""


@dataclass(frozen=True, slots=True)
class Import:
    """One import of one module by another; both are dotted names."""

    module: str
    imported: str


def modules_of(folder: Path) -> dict[str, Path]:
    """List the modules below *folder* by dotted name, beginning with the folder's own."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported_names(path: Path) -> Iterator[str]:
    """Yield each dotted name that a source file imports, wherever in the file it does so."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=str(module), names=names, level=0):
                yield from (f"{module}.{alias.name}" for alias in names)


def imports_of(folder: Path) -> list[Import]:
    """List the imports between the modules below *folder*, each once."""
    modules = modules_of(folder)
    found = {
        Import(module, imported)
        for module, path in modules.items()
        for name in imported_names(path)
        if (imported := _module_of(name, modules)) not in {None, module, folder.name}
    }
    return sorted(found, key=lambda one: (one.module, one.imported))


def _module_of(name: str, modules: Mapping[str, Path]) -> str | None:
    """Find the module that an imported name is, or is in; None if it is not below the folder."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name or None


def room_of(module: str) -> str:
    """Name the room of a module: `medreward.http.routes.probes` is in `http`."""
    return module.split(".")[1] if "." in module else module


def rooms_of(imports: Iterable[Import]) -> Graph:
    """Gather the imports between modules into imports between rooms."""
    graph: dict[str, set[str]] = {}
    for one in imports:
        room, below = room_of(one.module), room_of(one.imported)
        graph.setdefault(room, set())
        graph.setdefault(below, set())
        if room != below:
            graph[room].add(below)
    return {room: frozenset(below) for room, below in sorted(graph.items())}


def floors_of(graph: Graph) -> list[list[str]]:
    """List the rooms floor by floor, from the ground.

    Raises:
        CycleError: rooms import each other in a circle; its second argument lists them.
    """
    sorter = TopologicalSorter(graph)
    sorter.prepare()
    floors = []
    while sorter.is_active():
        floors.append(sorted(sorter.get_ready()))
        sorter.done(*floors[-1])
    return floors


def upward(imports: Iterable[Import], layers: Sequence[Sequence[str]]) -> list[Import]:
    """List the imports of a room that is not in a lower layer than the importing one."""
    layer_of = {room: number for number, layer in enumerate(layers) for room in layer}
    return [
        one
        for one in imports
        if room_of(one.module) != room_of(one.imported)
        and layer_of[room_of(one.imported)] >= layer_of[room_of(one.module)]
    ]


def main() -> None:
    """Print the graph of a package."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("folder", nargs="?", type=Path, default=SERVICE)
    folder = parser.parse_args().folder.resolve()
    imports, modules = imports_of(folder), modules_of(folder)
    graph = rooms_of(imports)
    at_root = [module for module, path in modules.items() if path.parent == folder]
    print(f"modules        {len(modules)}, {len(at_root) - 1} of them at the root")  # noqa: T201 - a script
    print(f"imports        {len(imports)} between modules")  # noqa: T201
    print(f"rooms          {len(graph)}, {sum(map(len, graph.values()))} imports between them")  # noqa: T201
    try:
        floors = floors_of(graph)
    except CycleError as exc:
        print(f"cycle          {' '.join(exc.args[1])}")  # noqa: T201
        return
    print(f"floors         {len(floors)}, and no cycle")  # noqa: T201
    for number, floor in reversed(list(enumerate(floors))):
        print(f"{number:>6}         {' '.join(floor)}")  # noqa: T201


if __name__ == "__main__":
    main()
