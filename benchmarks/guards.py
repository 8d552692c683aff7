"""The guarded recipe beside the published one: what hardening costs a sample beyond the models.

usage: python benchmarks/guards.py [--rounds 9]

Both score the same samples through the whole pipeline of one process, interleaved, with a judge that
answers at once; no answer was seen in an earlier round. Groups have eight samples, once with three
answers among them, as rollouts of a prompt have, and once with eight. Needs `medreward[audit]`.
Prints CPU microseconds a sample (median of the rounds), the difference, and what each guard takes.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table

from medreward.admission import Caller, Deadline
from medreward.audit.vocabulary import read_hpo
from medreward.engines.embedders.hashed import HashedEmbedder
from medreward.engines.judges.scripted import ScriptedJudge
from medreward.guards.chain import GUARDS
from medreward.guards.normal import clear_cache, normal
from medreward.guards.pair import Pair
from medreward.guards.settling import settle
from medreward.guards.witness import has_witness
from medreward.pipeline import Trace, score
from medreward.samples import Sample
from medreward.service import Service
from medreward.settings import Settings

GROUP = 8
SAMPLES = 1024
AIM_US = 60


def rounds_of(rounds: int, answers: int = GROUP) -> list[list[tuple[str, str, str]]]:
    """Give questions, references and answers for each round; a group has so many *answers*."""
    terms = list(read_hpo().values())
    names = [name for term in terms for name in term.names]
    made = []
    for number in range(rounds):
        rows = []
        for at in range(SAMPLES):
            group = number * SAMPLES // GROUP + at // GROUP
            term = terms[group % len(terms)]
            wrong = names[(group * GROUP + at % answers) % len(names)]
            answer = f"{term.names[-1]}, as it seems" if at % answers == 0 else wrong
            rows.append(("What is the finding?", term.name, answer))
        made.append(rows)
    return made


def samples(rows: Sequence[tuple[str, str, str]]) -> list[Sample]:
    """Write them as a policy would."""
    return [
        Sample(
            question=question,
            response=f"<X_RAY><thinking>Dense.</thinking><answer>{answer}</answer>",
            reference=reference,
            modality="X_RAY",
        )
        for question, reference, answer in rows
    ]


async def compare(rounds: int, answers: int) -> dict[str, list[float]]:
    """CPU microseconds a sample, by recipe and round."""
    settings = Settings(judge="scripted", embedder="hashed")
    service = Service(settings, judge=ScriptedJudge(default="YES"), embedder=HashedEmbedder())
    await service.load()
    caller = Caller(deadline=Deadline.after(60), namespace="")
    spent: dict[str, list[float]] = {"medix-r1": [], "medix-r1-guarded": []}
    for number, rows in enumerate(rounds_of(rounds + 1, answers)):
        for name in sorted(spent, reverse=bool(number % 2)):
            batch = samples(rows)
            # Once to fill the caches of judge and embedder, which are not what is measured.
            await score(batch, service.recipe(name), service.context, caller=caller, trace=Trace())
            clear_cache()
            started = time.process_time()
            await score(batch, service.recipe(name), service.context, caller=caller, trace=Trace())
            spent[name].append(1e6 * (time.process_time() - started) / len(batch))
    await service.aclose()
    # The first round fills what is filled once for a process.
    return {name: values[1:] for name, values in spent.items()}


def by_guard(rows: Sequence[tuple[str, str, str]]) -> dict[str, float]:
    """CPU microseconds a sample of each guard alone."""
    steps: dict[str, Callable[[Pair], object]] = {"settle": settle, "witness": has_witness}
    steps |= dict[str, Callable[[Pair], object]](GUARDS.items())
    spent = {}
    for name, step in steps.items():
        clear_cache()
        pairs = [Pair(normal(a), normal(r), normal(q)) for q, r, a in rows]
        for pair in pairs:
            _ = pair.answer.words, pair.reference.words
        started = time.process_time()
        for pair in pairs:
            step(pair)
        spent[name] = 1e6 * (time.process_time() - started) / len(pairs)
    return spent


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    console = Console()
    table = Table("answers in a group of 8", "medix-r1", "medix-r1-guarded", "hardening", "aim")
    for answers in (3, GROUP):
        spent = asyncio.run(compare(rounds, answers))
        plain, guarded = spent["medix-r1"], spent["medix-r1-guarded"]
        extra = [after - before for before, after in zip(plain, guarded, strict=True)]
        cells = [f"{statistics.median(values):.1f}" for values in (plain, guarded, extra)]
        table.add_row(str(answers), *cells, f"{AIM_US}")
    console.print("CPU µs a sample, remembered, whole pipeline")
    console.print(table)
    guards = Table("guard", "µs a sample")
    for name, value in by_guard(rounds_of(1)[0]).items():
        guards.add_row(name, f"{value:.1f}")
    console.print(guards)


if __name__ == "__main__":
    main()
