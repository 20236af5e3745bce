"""The command line: parse, call, print. Only this module prints or reads arguments."""

import json
import os
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, NoReturn

import tyro

from jmeta.errors import InputError

__all__ = ["main"]

Positional = tyro.conf.Positional
Path = pathlib.Path
EXIT_INPUT, EXIT_INTERRUPTED = 2, 130

Metric = Literal[
    "log_loss",
    "brier",
    "auc",
    "balanced_accuracy",
    "calibration_error",
    "rmse",
    "mae",
    "r2",
]
Help = tyro.conf.arg

app = tyro.extras.SubcommandApp()


def _prepare() -> None:
    """Keep compiled programs in the user's cache folder, readable by the user alone."""
    import jax

    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "jmeta" / "programs"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError:
        return  # A home that cannot be written to costs time, nothing else.
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _types(
    number: Sequence[str], category: Sequence[str], ignore: Sequence[str]
) -> Any:
    types: dict[str, str] = {}
    for word, names in (("number", number), ("category", category), ("ignore", ignore)):
        for name in names:
            if types.setdefault(name, word) != word:
                raise InputError(
                    f"column {name!r} is given as {types[name]} and as {word}; "
                    "choose one."
                )
    return types


def _read(
    table: Path, target: str, kind: str | None, types: dict[str, str], seed: int = 0
) -> Any:
    from jmeta import pipeline
    from jmeta.data import tables

    frame = tables.read_table(table)
    features, series = tables.split_target(frame, target)
    return pipeline.encode_table(features, series, kind=kind, types=types, seed=seed)


@app.command
def recommend(
    table: Annotated[Positional[Path], Help(metavar="TABLE")],
    /,
    target: str,
    budget: int = 0,
    metric: Metric | None = None,
    fit: Annotated[Path | None, Help(metavar="DIR")] = None,
    report: Annotated[Path | None, Help(metavar="FILE.html")] = None,
    model: Annotated[Path | None, Help(metavar="RUN_OR_FILE")] = None,
    kind: Literal["classes", "number"] | None = None,
    number: tuple[str, ...] = (),
    category: tuple[str, ...] = (),
    ignore: tuple[str, ...] = (),
    ensemble: bool = True,
    seed: int = 0,
    json: bool = False,
) -> None:
    """Say which model with which settings to use on a table, and why.

    Example: jmeta recommend patients.csv --target died --budget 8 --fit model/

    Args:
        table: CSV, TSV, Parquet or ARFF; text files may be gzipped.
        target: the column to predict.
        budget: how many candidates to cross-validate; 0 decides by the table's
            description alone.
        metric: what to choose by; log_loss for classes and rmse for a number if
            nothing is said.
        fit: also fit what is recommended on all rows, calibrate it, and write it
            into this folder, for `jmeta predict`.
        report: also write a page that explains the recommendation.
        model: a run folder of `jmeta train`, or a model file; the shipped one if
            nothing is said.
        kind: of the target; inferred if nothing is said.
        number: columns to read as numbers.
        category: columns to read as categories.
        ignore: columns to leave out.
        ensemble: with a budget, average the candidates that were tried.
        seed: decides folds and draws.
        json: print one JSON object and nothing else.
    """
    types = _types(number, category, ignore)
    if fit is not None:
        _refuse_full(fit)
    encoded = _read(table, target, kind, types, seed)
    _prepare()
    from jmeta import pipeline

    made = pipeline.recommend_table(
        encoded,
        model=None if model is None else str(model),
        budget=budget,
        metric=metric,
        ensemble=ensemble,
        seed=seed,
    )
    plain = made.to_json()
    notes = [*encoded.encoder.notes, *encoded.target.notes]
    if fit is not None:
        pipeline.fit_table(encoded, made, seed=seed).save(fit)
        _write(fit / "recommendation.json", _dumps(plain) + "\n")
        report = report or fit / "report.html"
    if report is not None:
        from jmeta import __version__
        from jmeta.report import recommendation_report

        recommendation_report(report, plain, notes, __version__)
    if json:
        print(_dumps(plain))
        return
    _show_recommendation(plain, notes)
    if fit is not None:
        _say(f"Fitted and saved in {fit}; predict with: jmeta predict {fit} TABLE")


@app.command
def predict(
    model: Annotated[Positional[Path], Help(metavar="DIR")],
    table: Annotated[Positional[Path], Help(metavar="TABLE")],
    /,
    out: Annotated[Path, Help(metavar="FILE.csv")],
) -> None:
    """Predict the rows of a table with a model that `recommend --fit` wrote.

    Example: jmeta predict model/ new_patients.csv --out predicted.csv

    Args:
        model: the folder that `jmeta recommend --fit` wrote.
        table: its columns are matched by name; the target may be absent.
        out: where to write: one row a row, with probabilities or an interval.
    """
    from jmeta import pipeline
    from jmeta.data import tables

    fitted = pipeline.FittedModel.load(model)
    frame = tables.read_table(table)
    _prepare()
    predicted = fitted.predict(frame)
    _write(out, predicted.to_csv(index=False))
    _say(f"{len(predicted)} predictions written to {out}.")


@app.command
def describe(
    table: Annotated[Positional[Path], Help(metavar="TABLE")],
    /,
    target: str,
    kind: Literal["classes", "number"] | None = None,
    number: tuple[str, ...] = (),
    category: tuple[str, ...] = (),
    ignore: tuple[str, ...] = (),
    json: bool = False,
) -> None:
    """Print what the meta-model sees of a table: its description, number by number.

    Args:
        table: CSV, TSV, Parquet or ARFF; text files may be gzipped.
        target: the column to predict.
        kind: of the target; inferred if nothing is said.
        number: columns to read as numbers.
        category: columns to read as categories.
        ignore: columns to leave out.
        json: print one JSON object and nothing else.
    """
    encoded = _read(table, target, kind, _types(number, category, ignore))
    _prepare()
    from jmeta.describe import SCHEMA_VERSION, groups, names
    from jmeta.recommend import describe_table

    kind = encoded.target.kind
    values = describe_table(encoded.table, kind, encoded.num_classes)
    named = dict(zip(names(kind), map(float, values)))
    if json:
        print(
            _dumps(
                {
                    "schema": SCHEMA_VERSION,
                    "kind": kind,
                    "rows": int(encoded.full.mask.sum()),
                    "description": named,
                }
            )
        )
        return
    from rich.table import Table

    shown = Table("group", "feature", "value")
    for group, members in groups(kind).items():
        for place, name in enumerate(members):
            shown.add_row("" if place else group, name, f"{named[name]:.4g}")
    _console().print(shown)


@app.command
def train(
    out: Annotated[Path, Help(metavar="RUN")] = Path("runs/meta"),
    steps: int = 3000,
    batch: int = 64,
    tasks: int = 2000,
    seed: int = 0,
    kinds: tuple[Literal["classes", "number"], ...] = ("classes", "number"),
    resume: bool = False,
) -> None:
    """Meta-train on the task prior: a meta-model for `recommend --model RUN`.

    Ctrl-C keeps what is done; the same command with --resume goes on, to the same
    result as a run that was never stopped.

    Args:
        out: the run's folder: config.json, metrics.jsonl, checkpoints, the measured
            tasks, model.safetensors, learning_curve.png.
        steps: of the meta-classifiers.
        batch: tasks a step.
        tasks: how many tasks to draw from the prior, for each kind of target.
        seed: decides everything.
        kinds: of targets to learn for.
        resume: go on with a run that was stopped.
    """
    from jmeta.metatrain import default_plan

    plans = {
        kind: default_plan(kind, tasks, num_steps=steps, batch=batch) for kind in kinds
    }
    config = {
        "command": "train",
        "steps": steps,
        "batch": batch,
        "tasks": tasks,
        "seed": seed,
        "kinds": list(kinds),
    }
    _start_run(out, config, resume)
    _prepare()
    _meta_train(out, plans, None, seed, config)
    _say(f"Meta-model written to {out / 'model.safetensors'}.")
    _say(f"Use it: jmeta recommend TABLE --target COLUMN --model {out}")


@app.command
def quickstart(
    out: Annotated[Path, Help(metavar="DIR")] = Path("jmeta-quickstart"), seed: int = 0
) -> None:
    """The whole way on two real clinical tables, in a few minutes.

    Meta-trains a small meta-classifier and meta-optimizer on the built-in task
    prior; then recommends, fits and scores models for breast cancer (classes) and
    diabetes (a number) on held-out rows, beside scikit-learn's defaults.

    Args:
        out: the run's folder; if it exists, a new one beside it.
        seed: decides tasks, splits and draws.
    """
    from jmeta import quickstart as demo

    out = _fresh(out)
    config = {"command": "quickstart", "seed": seed}
    _start_run(out, config, False)
    _prepare()
    plans, candidates = demo.plans(), demo.candidates()
    models = _meta_train(out, plans, candidates, seed, config)
    with _status("comparing on real tables"):
        rows, recommendations = demo.compare(models, out / "model.safetensors", seed)
    _show_comparison(rows)
    from jmeta.report import quickstart_report

    versions = _versions()
    quickstart_report(
        out / "report.html",
        config | versions,
        rows,
        out / "learning_curve.png",
        recommendations,
    )
    _say(f"Run folder: {out} (open {out / 'report.html'})")


def _meta_train(
    out: Path,
    plans: dict[str, Any],
    candidates: dict[str, Any] | None,
    seed: int,
    config: dict[str, Any],
) -> dict[str, Any]:
    """Train a meta-model for each kind with progress bars, and write them."""
    import time

    from jmeta import __version__, metamodel
    from jmeta.metatrain import meta_train
    from jmeta.report import learning_curve

    begin = time.perf_counter()
    models = {}
    with _Bars() as bars:
        for kind, plan in plans.items():
            models[kind] = meta_train(
                out,
                kind,
                plan,
                seed=seed,
                candidates=None if candidates is None else candidates[kind],
                report=bars,
                header={
                    "name": f"jmeta {config['command']}",
                    "version": __version__,
                    "trained_on": (
                        f"{sum(s.num_tasks for s in plan.shares)} tasks of the "
                        f"built-in prior, seed {seed}"
                    ),
                    "config": config,
                    **_versions(),
                },
            )
    for model in models.values():
        model.header["seconds"] = round(time.perf_counter() - begin, 1)
    metamodel.save(out / "model.safetensors", models)
    learning_curve(out / "metrics.jsonl", out / "learning_curve.png")
    return models


class _Bars:
    """One progress bar a stage, on stderr; plain lines where there is no terminal."""

    def __init__(self) -> None:
        from rich import progress

        self._console = _console(stderr=True)
        self._bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
            progress.TextColumn("{task.fields[told]}"),
            console=self._console,
        )
        self._stages: dict[str, Any] = {}

    def __enter__(self) -> "_Bars":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(
        self, stage: str, done: int, total: int, numbers: dict[str, float]
    ) -> None:
        told = f"{numbers['tasks_per_s']:.3g} tasks/s" if numbers else ""
        if "loss" in numbers:
            told += f"  loss {numbers['loss']:.3g}"
        if stage not in self._stages:
            self._stages[stage] = self._bar.add_task(stage, total=total, told=told)
        self._bar.update(self._stages[stage], completed=done, total=total, told=told)
        if not self._console.is_terminal and done >= total:
            self._console.print(f"{stage}: {done} done, {told}")


def _console(stderr: bool = False) -> Any:
    from rich.console import Console

    return Console(stderr=stderr, soft_wrap=False)


def _status(text: str) -> Any:
    return _console(stderr=True).status(text)


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _dumps(content: Any) -> str:
    return json.dumps(content, indent=2, allow_nan=False)


def _write(path: Path, text: str) -> None:
    """Write a whole text file or nothing."""
    from jmeta.publish import write_whole

    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text.encode())


def _versions() -> dict[str, str]:
    import datetime
    import platform

    import flax
    import jax

    from jmeta import __version__

    return {
        "jmeta": __version__,
        "jax": jax.__version__,
        "flax": flax.__version__,
        "python": platform.python_version(),
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "cores": str(os.cpu_count()),
        "date": datetime.date.today().isoformat(),
    }


def _refuse_full(folder: Path) -> None:
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise InputError(f"{folder}: is there already; name a new folder.")


def _fresh(folder: Path) -> Path:
    number, chosen = 2, folder
    while chosen.exists():
        chosen, number = folder.with_name(f"{folder.name}-{number}"), number + 1
    return chosen


def _start_run(out: Path, config: dict[str, Any], resume: bool) -> None:
    """Write a run's config, or check that it is the one that is resumed."""
    path = out / "config.json"
    if not resume:
        _refuse_full(out)
        _write(path, _dumps(config) + "\n")
        return
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read; nothing to resume.") from error
    if found != config:
        changed = sorted(k for k in config if found.get(k) != config[k])
        raise InputError(
            f"{out}: was started with other arguments: {', '.join(changed)} differ; "
            "use the same ones, or another --out."
        )


def _show_recommendation(plain: dict[str, Any], notes: list[str]) -> None:
    from rich.table import Table

    console = _console()
    task, chosen = plain["task"], plain["recommendation"]
    expected = chosen["expected"]
    classes = f", {task['classes']} classes" if task["classes"] else ""
    console.print(f"{task['rows']} rows, {task['features']} encoded features{classes}")
    console.print(f"[bold]Use {chosen['model']}[/bold]", _plainly(chosen["settings"]))
    console.print(
        f"Expected {expected['metric']} {expected['value']:.4g} "
        f"(90 % interval {expected['low']:.4g} to {expected['high']:.4g})"
    )
    if plain["abstained"]:
        console.print(
            "No candidate is surely better than the single best, so it is the choice."
        )
    shown = Table("rank", "model", "settings", f"expected {expected['metric']}", "std")
    for place, row in enumerate(plain["ranking"][:8]):
        shown.add_row(
            str(place + 1),
            row["model"],
            _plainly(row["settings"]),
            f"{row['expected']:.4g}",
            f"{row['std']:.2g}",
        )
    console.print(shown)
    reasons = ", ".join(
        f"{row['feature']} ({row['effect']:+.3g})" for row in plain["explanation"][:5]
    )
    console.print(f"What moved the choice: {reasons}")
    for note in notes:
        console.print(f"Note: {note}", markup=False)


def _plainly(settings: dict[str, Any]) -> str:
    if "members" in settings:
        return ", ".join(f"{m['weight']:.2f} {m['model']}" for m in settings["members"])
    return ", ".join(f"{name}={value}" for name, value in settings.items())


def _show_comparison(rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    shown = Table(title="Held-out rows of two real clinical tables")
    columns = list(dict.fromkeys(name for row in rows for name in row))
    for name in columns:
        shown.add_column(name, justify="left" if name in columns[:2] else "right")
    for row in rows:
        values = (row.get(name, "") for name in columns)
        shown.add_row(*(v if isinstance(v, str) else f"{v:.3f}" for v in values))
    _console().print(shown)


def _fail(message: str, code: int) -> NoReturn:
    print(f"jmeta: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(code)


def main(args: Sequence[str] | None = None) -> None:
    """The `jmeta` command."""
    run: Callable[..., Any] = app.cli
    try:
        run(
            prog="jmeta",
            description="Learning across tasks: which model, which settings, and why.",
            args=args,
        )
    except InputError as error:
        _fail(str(error), EXIT_INPUT)
    except FloatingPointError as error:
        _fail(str(error), 1)
    except KeyboardInterrupt as stopped:
        _fail(
            str(stopped) or "stopped; nothing half-written is left.", EXIT_INTERRUPTED
        )
    except BrokenPipeError:
        raise SystemExit(0) from None
