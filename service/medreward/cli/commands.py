"""The commands with their options; what they do is in the modules that they name.

Each imports that module when it runs: an app and its kin take a second, and --help should not.
"""
# ruff: noqa: PLC0415 - see above

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

import medreward
from medreward.cli import options
from medreward.cli.options import examples
from medreward.cli.terminal import failing_in_words
from medreward.errors import SetupError

app = typer.Typer(
    name="medreward",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    # Its tracebacks would show what a sample says.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
models_app = typer.Typer(
    name="models",
    no_args_is_help=True,
    help="See and fetch the models that run in this process.",
)
app.add_typer(models_app)
cache_app = typer.Typer(
    name="cache",
    no_args_is_help=True,
    help="See and clear what the replicas of a service remember in Redis.",
)
app.add_typer(cache_app)
verifier_app = typer.Typer(
    name="verifier",
    no_args_is_help=True,
    help="Train and measure the small judge that comes with this package.",
)
app.add_typer(verifier_app)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"medreward {medreward.__version__}")
        raise typer.Exit


@app.callback()
def medreward_(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Turn free-form medical answers into training rewards and grades.

    Rewards and grades are for research and training, not for clinical use.
    """


@app.command(
    epilog=examples(
        "medreward serve",
        "MEDREWARD_API_KEYS=... medreward serve --host 0.0.0.0 --profile gpu",
    )
)
@failing_in_words()
def serve(
    *,
    host: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Address to listen on.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, metavar="PORT", help="Port to listen on; 0 takes any free."),
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(metavar="NAME", help="Recipe of requests that name none.")
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(metavar="embedded|gpu|remote", help="Which engines and models to run."),
    ] = None,
    role: Annotated[
        str | None,
        typer.Option(
            metavar="all|api|judge|embed", help="Its part, where several processes share the work."
        ),
    ] = None,
    admin_port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, metavar="PORT", help="Port for probes, metrics and drain alone."
        ),
    ] = None,
) -> None:
    """Run the service until it is stopped.

    Everything else is set by MEDREWARD_* variables in the environment; see docs/settings.md.
    """
    from medreward.cli.serve import serve as run

    run(host=host, port=port, recipe=recipe, profile=profile, role=role, admin_port=admin_port)


@app.command(
    epilog=examples(
        "medreward score examples/rollouts.jsonl",
        "medreward score - --url http://gpu-box:8080 < rollouts.jsonl",
    )
)
@failing_in_words()
def score(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE.jsonl", help="One /reward sample a line; - is standard input."
        ),
    ],
    *,
    url: options.Url = None,
    api_key_env: options.ApiKeyEnv = options.KEY_VARIABLE,
    recipe: options.RecipeName = None,
    compare: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Score under this recipe too, and show what changes."),
    ] = None,
    out: options.Out = None,
    batch: options.Batch = None,
    limit: options.Limit = None,
    max_unscored: Annotated[
        float,
        typer.Option(min=0, max=1, metavar="SHARE", help="Share of unscored samples that is fine."),
    ] = 0.0,
    deadline_s: options.DeadlineS = options.DEADLINE_S,
    shows_all: options.ShowsAll = False,
) -> None:
    """Score a file of samples and show what the rewards are like.

    Nothing is sent unless every line is a sample. A sample without a reward is never counted as 0.
    """
    from medreward.cli.client import Target
    from medreward.cli.score import Plan, score_file

    target = Target(url, api_key_env, deadline_s)
    score_file(Plan(file, target, recipe, compare, out, batch, limit, max_unscored, shows_all))


@app.command(
    epilog=examples(
        "medreward judge examples/answers.jsonl",
        "medreward judge answers.jsonl --votes 3 --out grades.jsonl",
    )
)
@failing_in_words()
def judge(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE.jsonl",
            help="One /judge item a line, with an optional key `template`; - is standard input.",
        ),
    ],
    *,
    template: Annotated[
        str,
        typer.Option(
            metavar="equivalence|report|rubric", help="Template of the lines that name none."
        ),
    ] = "equivalence",
    votes: Annotated[
        int, typer.Option(min=1, metavar="N", help="How many views of each item are asked about.")
    ] = 1,
    url: options.Url = None,
    api_key_env: options.ApiKeyEnv = options.KEY_VARIABLE,
    out: options.Out = None,
    batch: options.Batch = None,
    limit: options.Limit = None,
    max_unjudged: Annotated[
        float,
        typer.Option(min=0, max=1, metavar="SHARE", help="Share of unjudged items that is fine."),
    ] = 0.0,
    deadline_s: options.DeadlineS = options.DEADLINE_S,
    shows_all: options.ShowsAll = False,
) -> None:
    """Grade a file of answers against references or rubrics.

    Nothing is sent unless every line is an item. An item without a grade is never counted as 0.
    """
    from medreward.cli.client import Target
    from medreward.cli.judge import Plan, judge_file

    target = Target(url, api_key_env, deadline_s)
    judge_file(Plan(file, target, template, votes, out, batch, limit, max_unjudged, shows_all))


@app.command(
    epilog=examples(
        "medreward calibrate labels.jsonl",
        "medreward calibrate labels.jsonl --url http://gpu-box:8080 --alpha 0.01",
    )
)
@failing_in_words()
def calibrate(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE.jsonl",
            help="One labelled answer a line, with a key `equivalent`; - is standard input.",
        ),
    ],
    *,
    template: Annotated[
        str, typer.Option(metavar="equivalence", help="Template to calibrate the judge for.")
    ] = "equivalence",
    alpha: Annotated[
        float,
        typer.Option(
            min=0.0001, max=0.5, metavar="SHARE", help="Of the wrong answers, may get a YES."
        ),
    ] = 0.02,
    alpha_fnr: Annotated[
        float,
        typer.Option(
            min=0.0001, max=0.5, metavar="SHARE", help="Of the right answers, may get a NO."
        ),
    ] = 0.10,
    url: options.Url = None,
    api_key_env: options.ApiKeyEnv = options.KEY_VARIABLE,
    out: Annotated[
        Path,
        typer.Option(
            metavar="OUT.json",
            help="File to write; what it holds of other judges and templates stays.",
        ),
    ] = Path("calibration.json"),
    batch: options.Batch = None,
    limit: options.Limit = None,
    deadline_s: options.DeadlineS = options.DEADLINE_S,
) -> None:
    """Learn from labelled answers what the judge's P(YES) is worth, and where YES and NO begin.

    Nothing is written unless the labels certify both error rates. docs/calibration.md tells more.
    """
    from medreward.cli.calibrate import Plan, calibrate_judge
    from medreward.cli.client import Target
    from medreward.fitting import ErrorRates

    target = Target(url, api_key_env, deadline_s)
    rates = ErrorRates(alpha, alpha_fnr)
    calibrate_judge(Plan(file, target, template, out, rates, batch, limit))


@app.command(
    epilog=examples(
        "medreward explain examples/rollouts.jsonl --id q01-wrong_side",
        'medreward explain --response "Left lower lobe" --reference "left lower lobe"',
    )
)
@failing_in_words()
def explain(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE.jsonl]", help="Samples to choose from, with --id or --line."),
    ] = None,
    *,
    sample_id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="Which sample of the file.")
    ] = None,
    line: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Which line of the file.")
    ] = None,
    response: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What the policy wrote, whole.")
    ] = None,
    reference: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT", help="The ground truth; repeat it where several are accepted."
        ),
    ] = None,
    question: Annotated[str | None, typer.Option(metavar="TEXT", help="What was asked.")] = None,
    modality: Annotated[
        str | None, typer.Option(metavar="TAG", help="The modality, such as X_RAY.")
    ] = None,
    recipe: options.RecipeName = None,
    url: options.Url = None,
    api_key_env: options.ApiKeyEnv = options.KEY_VARIABLE,
    deadline_s: options.DeadlineS = options.DEADLINE_S,
) -> None:
    """Tell why one sample gets the reward it gets: each rule, each signal, and the sum.

    The sample is one of a file, or is given by --response and --reference.
    """
    from medreward.cli.client import Target
    from medreward.cli.explain import Choice, explain_sample

    choice = Choice(file, sample_id, line, response, reference, question, modality)
    explain_sample(choice, recipe, Target(url, api_key_env, deadline_s))


@app.command(
    epilog=examples(
        "medreward audit --out audit.html --json audit.json",
        "medreward audit --url http://gpu-box:8080 --suite attack --suite benign --strict",
    )
)
@failing_in_words()
def audit(
    *,
    url: options.Url = None,
    api_key_env: options.ApiKeyEnv = options.KEY_VARIABLE,
    recipe: options.RecipeName = None,
    suite: Annotated[
        list[str] | None,
        typer.Option(
            metavar="attack|benign|pair", help="Which suite; repeat it for several. Else all."
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="At most N cases of each kind, chosen by the seed."),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="What random choices begin with.")] = 0,
    out: Annotated[
        Path, typer.Option(metavar="OUT.html", help="Write the report card there.")
    ] = Path("audit.html"),
    json: Annotated[
        Path | None, typer.Option(metavar="OUT.json", help="Write its numbers there, too.")
    ] = None,
    date: Annotated[
        str | None, typer.Option(metavar="DATE", help="The date that the card bears; else today.")
    ] = None,
    examples: Annotated[
        int, typer.Option(min=0, metavar="N", help="How many failures of each kind to show.")
    ] = 5,
    batch: options.Batch = None,
    deadline_s: options.DeadlineS = options.DEADLINE_S,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail unless every bar of the suites is met.")
    ] = False,
) -> None:
    """Measure a judge and a recipe by attacks, benign twins and pairs, and write a report card.

    The card is one HTML page that needs nothing else. docs/audit.md tells how to read it.
    """
    from medreward.cli.audit import Plan, audit_service
    from medreward.cli.client import Target

    audit_service(
        Plan(
            target=Target(url, api_key_env, deadline_s),
            recipe=recipe,
            suites=suite or [],
            limit=limit,
            seed=seed,
            date=date or datetime.now(UTC).date().isoformat(),
            examples=examples,
            batch=batch,
            out=out,
            json=json,
            is_strict=strict,
        )
    )


@app.command(epilog=examples("medreward recipes", "medreward recipes medix-r1"))
@failing_in_words()
def recipes(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Show this one, whole.")
    ] = None,
) -> None:
    """List the recipes: those that come along, and those of MEDREWARD_RECIPES."""
    from medreward.cli.recipes import print_recipe, print_recipes

    print_recipes() if name is None else print_recipe(name)


@models_app.command(
    "list", epilog=examples("medreward models list", "medreward models list --verify")
)
@failing_in_words()
def list_models(
    *,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare every fetched file with its SHA-256.")
    ] = False,
) -> None:
    """List the small models: whether they are fetched, where, and what they are worth."""
    from medreward.cli.models import print_models

    print_models(verifies=verify)


@models_app.command(
    epilog=examples(
        "medreward models fetch",
        "medreward models fetch Qwen/Qwen3-4B-Instruct-2507 --revision main",
    )
)
@failing_in_words()
def fetch(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME_OR_HF_ID]...",
            help="Names of `medreward models list`, or Hugging Face ids.",
        ),
    ] = None,
    *,
    revision: Annotated[
        str | None, typer.Option(metavar="REV", help="Revision of the Hugging Face models.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Fetch also what is there.")] = False,
) -> None:
    """Fetch models; without a name, the two small ones of the profile `embedded`."""
    from medreward.cli.models import fetch_models

    fetch_models(names or [], revision=revision, again=again)


@app.command(epilog=examples("medreward check", "medreward check rollouts.jsonl --no-load"))
@failing_in_words()
def check(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE.jsonl]", help="Samples to look at without asking a model."),
    ] = None,
    *,
    load: Annotated[
        bool, typer.Option("--load/--no-load", help="Load the models and ask each once.")
    ] = True,
    recipe: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Recipe that the file is read with; else the default."),
    ] = None,
) -> None:
    """Check what this deployment would load and whether it can, without listening."""
    from medreward.cli.check import run_checks

    run_checks(file, recipe=recipe, loads=load)


@app.command(
    epilog=examples(
        "medreward size --samples 4096 --seconds 20 --judge-rate 400 --embed-rate 2000",
        "medreward size --samples 4096 --seconds 10 --spread-s 60 --judge-rate 400 "
        "--embed-rate 2000 --json",
    )
)
@failing_in_words()
def size(
    *,
    samples: Annotated[
        int, typer.Option(min=1, metavar="N", help="Samples of a step: prompts times group size.")
    ],
    seconds: Annotated[
        float,
        typer.Option(
            min=0.1, metavar="S", help="Seconds from the last rollout to the last reward."
        ),
    ],
    judge_rate: Annotated[
        float,
        typer.Option(min=0.001, metavar="RATE", help="Questions a second of one judge replica."),
    ],
    embed_rate: Annotated[
        float, typer.Option(min=0.001, metavar="RATE", help="Texts a second of one embed replica.")
    ],
    api_rate: Annotated[
        float, typer.Option(min=0.001, metavar="RATE", help="Samples a second of one api.")
    ] = 2000.0,
    spread_s: Annotated[
        float,
        typer.Option(
            min=0, metavar="S", help="Seconds over which rollouts arrive; 0: all at once."
        ),
    ] = 0.0,
    questions_per_sample: Annotated[
        float, typer.Option(min=0, metavar="N", help="Questions to the judge for a sample.")
    ] = 1.0,
    texts_per_sample: Annotated[
        float, typer.Option(min=0, metavar="N", help="Texts to embed for a sample.")
    ] = 1.0,
    utilisation: Annotated[
        float,
        typer.Option(min=0.05, max=1, metavar="SHARE", help="Share of its rate to count on."),
    ] = 0.8,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Print how many replicas of judge, embedder and api a training run needs.

    The formula, and the metrics that its rates are divided from: docs/scaling.md.
    """
    from medreward.cli.size import Step, print_size

    step = Step(samples, questions_per_sample, texts_per_sample, seconds, spread_s)
    rates = {"judge": judge_rate, "embed": embed_rate, "api": api_rate}
    print_size(step, rates, utilisation=utilisation, as_json=as_json)


@cache_app.command(
    epilog=examples(
        "medreward cache stats",
        "MEDREWARD_REDIS_URL=redis://cache:6379/0 medreward cache stats",
    )
)
@failing_in_words()
def stats() -> None:
    """Show how Redis is and what it remembers: entries by kind and namespace, memory, hit rate.

    Which Redis is told by MEDREWARD_REDIS_URL and its kin; see docs/settings.md.
    """
    from medreward.cli.cache import print_stats

    print_stats()


@cache_app.command(
    epilog=examples("medreward cache clear", "medreward cache clear --namespace 3fa9c1 --yes")
)
@failing_in_words()
def clear(
    *,
    namespace: Annotated[
        str | None,
        typer.Option(metavar="HEX", help="Only the entries of this namespace; else all of ours."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before.")] = False,
) -> None:
    """Remove what Redis remembers, and the leases; what is not medreward's stays.

    Services that run keep what they have in memory, and write anew what they learn.
    """
    from medreward.cli.cache import clear_entries

    clear_entries(namespace, is_sure=yes)


@contextmanager
def _needing_extras() -> Iterator[None]:
    """Say what brings a module that is missing."""
    try:
        yield
    except ModuleNotFoundError as exc:
        raise SetupError(
            f"this needs {exc.name}: `pip install ./service/verifier '.[embedded,audit]'` in a "
            "checkout of medreward"
        ) from exc


@verifier_app.command(
    "train",
    epilog=examples(
        "medreward verifier train --out my-verifier",
        "medreward verifier train --out try --epochs 1 --limit 2000",
    ),
)
@failing_in_words()
def verifier_train(
    *,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the model is written.")],
    seed: Annotated[int, typer.Option(metavar="N", help="What random choices begin with.")] = 0,
    epochs: Annotated[int, typer.Option(min=1, metavar="N", help="Passes over the terms.")] = 4,
    limit: Annotated[
        int | None, typer.Option(min=64, metavar="N", help="Pairs of an epoch, to try it out.")
    ] = None,
    version: Annotated[str, typer.Option(metavar="VERSION", help="What to call it.")] = "0.1.0",
    threads: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Threads of torch; else every core.")
    ] = None,
) -> None:
    """Train the verifier from a sentence encoder, on pairs out of HPO, ICD-10-CM and abbreviations.

    It takes about an hour of two cores, and needs `pip install 'medreward[embedded,audit]'`.
    """
    with _needing_extras():
        from medreward.cli.verifier import train_verifier
        from medreward.verifier.training import Plan

    plan = Plan(seed=seed, epochs=epochs, limit=limit)
    train_verifier(out, plan, version=version, threads=threads)


@verifier_app.command(
    "measure",
    epilog=examples("medreward verifier measure", "medreward verifier measure my-verifier"),
)
@failing_in_words()
def verifier_measure(
    folder: Annotated[
        Path | None, typer.Argument(metavar="FOLDER", help="A model; else the installed one.")
    ] = None,
) -> None:
    """Measure a verifier on pairs of terms that it was not trained on."""
    with _needing_extras():
        from medreward.cli.verifier import measure_verifier

    measure_verifier(folder)
