"""The commands with their options.

Each command imports its module only when it runs: the service and its libraries take seconds to
import, and --help must not wait for them.
"""
# ruff: noqa: PLC0415 - see above

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

import medreward
from medreward.cli import options
from medreward.cli.options import argument, option
from medreward.cli.terminal import exiting_on_failure
from medreward.errors import SetupError

F = TypeVar("F", bound=Callable[..., Any])

app = typer.Typer(
    name="medreward",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    # Typer's tracebacks print local variables, which may hold the text of a sample.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _group(name: str, text: str) -> typer.Typer:
    group = typer.Typer(name=name, no_args_is_help=True, help=text)
    app.add_typer(group)
    return group


models_app = _group("models", "See and fetch the models that run in this process.")
cache_app = _group("cache", "See and clear what the replicas of a service remember in Redis.")
verifier_app = _group("verifier", "Train and measure the small judge that comes with this package.")


def _command(group: typer.Typer, *lines: str, name: str | None = None) -> Callable[[F], F]:
    """Register a command with examples in its help; it reports a failure by a line and an exit code."""

    def register(run: F) -> F:
        epilog = "\n\n".join(["Examples:", *(f"  {line}" for line in lines)])
        return group.command(name, epilog=epilog)(exiting_on_failure()(run))

    return register


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


@_command(
    app, "medreward serve", "MEDREWARD_API_KEYS=... medreward serve --host 0.0.0.0 --profile gpu"
)
def serve(
    *,
    host: Annotated[str | None, option("ADDRESS", "Address to listen on.")] = None,
    port: Annotated[
        int | None, option("PORT", "Port to listen on; 0 takes any free.", least=0, most=65535)
    ] = None,
    recipe: Annotated[str | None, option("NAME", "Recipe of requests that name none.")] = None,
    profile: Annotated[
        str | None,
        option("embedded|embedded-small|gpu|remote", "Which engines and models to run."),
    ] = None,
    role: Annotated[
        str | None,
        option("all|api|judge|embed", "Its part, where several processes share the work."),
    ] = None,
    admin_port: Annotated[
        int | None, option("PORT", "Port for probes, metrics and drain alone.", least=0, most=65535)
    ] = None,
) -> None:
    """Run the service until it is stopped.

    Everything else is set by MEDREWARD_* variables in the environment; see docs/settings.md.
    """
    from medreward.cli.serve import serve as run

    run(host=host, port=port, recipe=recipe, profile=profile, role=role, admin_port=admin_port)


@_command(
    app,
    "medreward score examples/rollouts.jsonl",
    "medreward score - --url http://gpu-box:8080 < rollouts.jsonl",
)
def score(
    file: Annotated[
        Path, argument("FILE.jsonl", "One /reward sample a line; - is standard input.")
    ],
    *,
    url: options.Url = None,
    api_key_env: options.ApiKeyEnv = options.KEY_VARIABLE,
    recipe: options.RecipeName = None,
    compare: Annotated[
        str | None, option("NAME", "Score under this recipe too, and show what changes.")
    ] = None,
    out: options.Out = None,
    batch: options.Batch = None,
    limit: options.Limit = None,
    max_unscored: Annotated[
        float, option("SHARE", "Share of unscored samples that is fine.", least=0, most=1)
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


@_command(
    app,
    "medreward judge examples/answers.jsonl",
    "medreward judge answers.jsonl --votes 3 --out grades.jsonl",
)
def judge(
    file: Annotated[
        Path,
        argument(
            "FILE.jsonl",
            "One /judge item a line, with an optional key `template`; - is standard input.",
        ),
    ],
    *,
    template: Annotated[
        str, option("equivalence|report|rubric", "Template of the lines that name none.")
    ] = "equivalence",
    votes: Annotated[int, option("N", "How many views of each item are asked about.", least=1)] = 1,
    no_rules: Annotated[
        bool,
        typer.Option(
            "--no-rules",
            help="Ask the judge about plain cases, too: no rule settles, no guard vetoes.",
        ),
    ] = False,
    url: options.Url = None,
    api_key_env: options.ApiKeyEnv = options.KEY_VARIABLE,
    out: options.Out = None,
    batch: options.Batch = None,
    limit: options.Limit = None,
    max_unjudged: Annotated[
        float, option("SHARE", "Share of unjudged items that is fine.", least=0, most=1)
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
    judge_file(
        Plan(
            file=file,
            target=target,
            template=template,
            votes=votes,
            rules=not no_rules,
            out=out,
            batch=batch,
            limit=limit,
            max_unjudged=max_unjudged,
            shows_all=shows_all,
        )
    )


@_command(
    app,
    "medreward calibrate labels.jsonl",
    "medreward calibrate labels.jsonl --url http://gpu-box:8080 --alpha 0.01",
)
def calibrate(
    file: Annotated[
        Path,
        argument(
            "FILE.jsonl",
            "One labelled answer a line, with a key `equivalent`; - is standard input.",
        ),
    ],
    *,
    template: Annotated[
        str, option("equivalence", "Template to calibrate the judge for.")
    ] = "equivalence",
    alpha: Annotated[
        float, option("SHARE", "Of the wrong answers, may get a YES.", least=0.0001, most=0.5)
    ] = 0.02,
    alpha_fnr: Annotated[
        float, option("SHARE", "Of the right answers, may get a NO.", least=0.0001, most=0.5)
    ] = 0.10,
    url: options.Url = None,
    api_key_env: options.ApiKeyEnv = options.KEY_VARIABLE,
    out: Annotated[
        Path,
        option("OUT.json", "File to write; what it holds of other judges and templates stays."),
    ] = Path("calibration.json"),
    batch: options.Batch = None,
    limit: options.Limit = None,
    deadline_s: options.DeadlineS = options.DEADLINE_S,
) -> None:
    """Learn from labelled answers what the judge's P(YES) is worth, and where YES and NO begin.

    Nothing is written unless the labels certify both error rates. docs/calibration.md tells more.
    """
    from medreward.audit.fit import ErrorRates
    from medreward.cli.calibrate import Plan, calibrate_judge
    from medreward.cli.client import Target

    target = Target(url, api_key_env, deadline_s)
    rates = ErrorRates(alpha, alpha_fnr)
    calibrate_judge(Plan(file, target, template, out, rates, batch, limit))


@_command(
    app,
    "medreward explain examples/rollouts.jsonl --id q01-wrong_side",
    'medreward explain --response "Left lower lobe" --reference "left lower lobe"',
)
def explain(
    file: Annotated[
        Path | None, argument("[FILE.jsonl]", "Samples to choose from, with --id or --line.")
    ] = None,
    *,
    sample_id: Annotated[str | None, option("ID", "Which sample of the file.", "--id")] = None,
    line: Annotated[int | None, option("N", "Which line of the file.", least=1)] = None,
    response: Annotated[str | None, option("TEXT", "What the policy wrote, whole.")] = None,
    reference: Annotated[
        list[str] | None, option("TEXT", "The ground truth; repeat it where several are accepted.")
    ] = None,
    question: Annotated[str | None, option("TEXT", "What was asked.")] = None,
    modality: Annotated[str | None, option("TAG", "The modality, such as X_RAY.")] = None,
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


@_command(
    app,
    "medreward audit --out audit.html --json audit.json",
    "medreward audit --url http://gpu-box:8080 --suite attack --suite benign --strict",
)
def audit(
    *,
    url: options.Url = None,
    api_key_env: options.ApiKeyEnv = options.KEY_VARIABLE,
    recipe: options.RecipeName = None,
    suite: Annotated[
        list[str] | None,
        option("attack|benign|pair|answer", "Which suite; repeat it for several. Else all."),
    ] = None,
    limit: Annotated[
        int | None, option("N", "At most N cases of each kind, chosen by the seed.", least=1)
    ] = None,
    seed: Annotated[int, option("N", "What random choices begin with.")] = 0,
    out: Annotated[Path, option("OUT.html", "Write the report card there.")] = Path("audit.html"),
    json: Annotated[Path | None, option("OUT.json", "Write its numbers there, too.")] = None,
    date: Annotated[str | None, option("DATE", "The date that the card bears; else today.")] = None,
    examples: Annotated[int, option("N", "How many failures of each kind to show.", least=0)] = 5,
    batch: options.Batch = None,
    deadline_s: options.DeadlineS = options.DEADLINE_S,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail unless every bar of the suites is met.")
    ] = False,
) -> None:
    """Measure a judge and a recipe by cases with known verdicts, and write a report card.

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


@_command(app, "medreward recipes", "medreward recipes medix-r1")
def recipes(
    name: Annotated[str | None, argument("[NAME]", "Show this one, whole.")] = None,
) -> None:
    """List the recipes: those that come along, and those of MEDREWARD_RECIPES."""
    from medreward.cli.recipes import print_recipe, print_recipes

    print_recipes() if name is None else print_recipe(name)


@_command(models_app, "medreward models list", "medreward models list --verify", name="list")
def list_models(
    *,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare every fetched file with its SHA-256.")
    ] = False,
) -> None:
    """List the models that need no hub: whether they are fetched, where, and what they are worth."""
    from medreward.cli.models import print_models

    print_models(verifies=verify)


@_command(
    models_app,
    "medreward models fetch",
    "medreward models fetch Qwen/Qwen3-4B-Instruct-2507 --revision main",
)
def fetch(
    names: Annotated[
        list[str] | None,
        argument("[NAME_OR_HF_ID]...", "Names of `medreward models list`, or Hugging Face ids."),
    ] = None,
    *,
    revision: Annotated[str | None, option("REV", "Revision of the Hugging Face models.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Fetch also what is there.")] = False,
) -> None:
    """Fetch models; without a name, those of the configured profile (MEDREWARD_PROFILE)."""
    from medreward.cli.models import fetch_models

    fetch_models(names or [], revision=revision, again=again)


@_command(
    app,
    "medreward check",
    "medreward check --profile gpu",
    "medreward check --exam",
    "medreward check rollouts.jsonl --no-load",
)
def check(
    file: Annotated[
        Path | None, argument("[FILE.jsonl]", "Samples to look at without asking a model.")
    ] = None,
    *,
    load: Annotated[
        bool, typer.Option("--load/--no-load", help="Load the models and ask each once.")
    ] = True,
    exam: Annotated[
        bool,
        typer.Option(
            "--exam",
            help="Put 60 plain pairs to the judge, and fail if it is not fit to train on. "
            "It costs 60 judgements, of a judge behind a server too.",
        ),
    ] = False,
    profile: Annotated[
        str | None,
        option("embedded|embedded-small|gpu|remote", "Which engines and models to check."),
    ] = None,
    recipe: Annotated[
        str | None, option("NAME", "Recipe that the file is read with; else the default.")
    ] = None,
) -> None:
    """Check what this deployment would load and whether it can, without listening."""
    from medreward.cli.check import run_checks

    run_checks(file, recipe=recipe, profile=profile, loads=load, is_exam=exam)


@_command(
    app,
    "medreward size --samples 4096 --seconds 20 --judge-rate 400 --embed-rate 2000",
    "medreward size --samples 4096 --seconds 10 --spread-s 60 --judge-rate 400 "
    "--embed-rate 2000 --json",
)
def size(
    *,
    samples: Annotated[int, option("N", "Samples of a step: prompts times group size.", least=1)],
    seconds: Annotated[
        float, option("S", "Seconds from the last rollout to the last reward.", least=0.1)
    ],
    judge_rate: Annotated[
        float, option("RATE", "Questions a second of one judge replica.", least=0.001)
    ],
    embed_rate: Annotated[
        float, option("RATE", "Texts a second of one embed replica.", least=0.001)
    ],
    api_rate: Annotated[
        float, option("RATE", "Samples a second of one api.", least=0.001)
    ] = 2000.0,
    spread_s: Annotated[
        float, option("S", "Seconds over which rollouts arrive; 0: all at once.", least=0)
    ] = 0.0,
    questions_per_sample: Annotated[
        float, option("N", "Questions to the judge for a sample.", least=0)
    ] = 1.0,
    texts_per_sample: Annotated[float, option("N", "Texts to embed for a sample.", least=0)] = 1.0,
    utilisation: Annotated[
        float, option("SHARE", "Share of its rate to count on.", least=0.05, most=1)
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


@_command(
    cache_app,
    "medreward cache stats",
    "MEDREWARD_REDIS_URL=redis://cache:6379/0 medreward cache stats",
)
def stats() -> None:
    """Show how Redis is and what it remembers: entries by kind and namespace, memory, hit rate.

    Which Redis is told by MEDREWARD_REDIS_URL and its kin; see docs/settings.md.
    """
    from medreward.cli.cache import print_stats

    print_stats()


@_command(cache_app, "medreward cache clear", "medreward cache clear --namespace 3fa9c1 --yes")
def clear(
    *,
    namespace: Annotated[
        str | None, option("HEX", "Only the entries of this namespace; else all of ours.")
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
    """Name the extras to install if a module is missing."""
    try:
        yield
    except ModuleNotFoundError as exc:
        raise SetupError(
            f"this needs {exc.name}: `pip install ./service/verifier '.[embedded,training]'` in a "
            "checkout of medreward"
        ) from exc


@_command(
    verifier_app,
    "medreward verifier train --out my-verifier",
    "medreward verifier train --out try --epochs 1 --limit 2000",
    name="train",
)
def verifier_train(
    *,
    out: Annotated[Path, option("FOLDER", "Where the model is written.")],
    base: Annotated[
        Path | None, option("FOLDER", "Classifier to train on; else the installed verifier.")
    ] = None,
    seed: Annotated[int, option("N", "What random choices begin with.")] = 0,
    epochs: Annotated[int, option("N", "Passes over the terms.", least=1)] = 2,
    limit: Annotated[int | None, option("N", "Pairs of an epoch, to try it out.", least=64)] = None,
    version: Annotated[str, option("VERSION", "What to call it.")] = "0.2.0",
    threads: Annotated[
        int | None, option("N", "Threads of torch; else every core.", least=1)
    ] = None,
) -> None:
    """Train the verifier further, on pairs out of HPO, ICD-10-CM, abbreviations and drug names.

    It takes about an hour of two cores, and needs `pip install 'medreward[embedded,training]'`. A
    run that was interrupted continues from its last checkpoint if it is started again.
    """
    # Threads of OpenMP that spin while they wait take a core from whatever else runs; with two
    # threads on two busy cores a step takes four times as long. It is read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with _needing_extras():
        from medreward.cli.verifier import train_verifier
        from medreward.verifier.train import Plan

    plan = Plan(seed=seed, epochs=epochs, limit=limit)
    train_verifier(out, plan, base=base, version=version, threads=threads)


@_command(verifier_app, "medreward verifier pack my-verifier --version 0.2.1", name="pack")
def verifier_pack(
    folder: Annotated[Path, argument("FOLDER", "Trained weights.")],
    *,
    version: Annotated[str, option("VERSION", "What to call it.")] = "0.2.0",
) -> None:
    """Choose thresholds for trained weights anew, for instance after a change of a template."""
    with _needing_extras():
        from medreward.cli.verifier import pack_verifier

    pack_verifier(folder, version=version)


@_command(
    verifier_app,
    "medreward verifier measure",
    "medreward verifier measure my-verifier",
    name="measure",
)
def verifier_measure(
    folder: Annotated[Path | None, argument("FOLDER", "A model; else the installed one.")] = None,
) -> None:
    """Measure a verifier on pairs of terms that it was not trained on."""
    with _needing_extras():
        from medreward.cli.verifier import measure_verifier

    measure_verifier(folder)


@_command(
    verifier_app,
    "medreward verifier readout labels.jsonl --model ./my-model --out ./my-model/readouts.safetensors",
    name="readout",
)
def verifier_readout(
    labels: Annotated[
        list[Path],
        argument(
            "LABELS",
            "JSONL: `question`, `reference`, `answer`, `label` (right or wrong); `grade` for report; "
            "for rubric `criterion` and `label` (YES, NO or CANNOT_ASSESS).",
        ),
    ],
    *,
    model: Annotated[str, option("MODEL", "A language model.")] = "qwen2.5-coder-1.5b-instruct",
    out: Annotated[
        Path, option("FILE", "Where the readout is written; those of other templates stay.")
    ],
    template: Annotated[
        str, option("NAME", "What it answers: equivalence, match, report or rubric.")
    ] = "equivalence",
    layers: Annotated[int, option("N", "Layers of the model that are run.", least=1)] = 18,
    terms: Annotated[
        int,
        option(
            "N", "Pairs of medical terms to draw in addition, for equivalence or match.", least=0
        ),
    ] = 600,
    seed: Annotated[int, option("N", "What random choices begin with.")] = 0,
) -> None:
    """Fit a readout: verdicts of a language model from the state of a layer, learnt from labels.

    Lines with the `split` testing are for measuring alone.
    A service finds the file `readouts.safetensors` in the folder of a model. With
    qwen2.5-coder-1.5b-instruct two cores take a second for each pair, or somewhat longer.
    """
    with _needing_extras():
        from medreward.cli.readout import fit_readout

    fit_readout(labels, model, out, template=template, layers=layers, terms=terms, seed=seed)
