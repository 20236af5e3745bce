"""The command line: parse, call, print. Only this module reads arguments."""

import functools
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import tyro

from jmeta import __version__, runs, screen
from jmeta.cli_build import build
from jmeta.cli_evaluate import evaluate
from jmeta.cli_fewshot import FEWSHOT, adapt
from jmeta.cli_options import (
    Count,
    Flag,
    Help,
    Kind,
    Seed,
    at_least,
    check_seed,
    hint,
    prepare,
    say,
)
from jmeta.cli_select import importance, select
from jmeta.errors import InputError
from jmeta.signals import heeding_sigterm, stopping

__all__ = ["main"]

EXIT_INPUT = 2
EXIT_SIGNAL = 128  # Plus the signal's number, as shells count.
RUN, DEMO = Path("runs/meta"), Path("jmeta-quickstart")


Columns = Annotated[
    tuple[str, ...],
    tyro.conf.UseAppendAction,
    Help(metavar="COLUMN", help_behavior_hint="(may be given many times)"),
]
TableFile = Annotated[tyro.conf.Positional[Path], Help(metavar="TABLE")]
Target = Annotated[str, Help(metavar="COLUMN")]

app = tyro.extras.SubcommandApp()


def _types(
    number: Sequence[str], category: Sequence[str], ignore: Sequence[str]
) -> dict[str, str]:
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
    table: TableFile,
    /,
    target: Target,
    budget: Count = 0,
    metric: Annotated[
        str | None,
        Help(metavar="METRIC", help_behavior_hint=hint("log_loss, or rmse")),
    ] = None,
    fit: Annotated[
        Path | None, Help(metavar="DIR", help_behavior_hint=hint("do not fit"))
    ] = None,
    report: Annotated[
        Path | None,
        Help(
            metavar="FILE.html", help_behavior_hint=hint("with --fit, DIR/report.html")
        ),
    ] = None,
    model: Annotated[
        Path | None,
        Help(metavar="RUN_OR_FILE", help_behavior_hint=hint("the one that ships")),
    ] = None,
    kind: Kind = None,
    number: Columns = (),
    category: Columns = (),
    ignore: Columns = (),
    ensemble: bool = True,
    seed: Seed = 0,
    json: Flag = False,
) -> None:
    """Say which model with which settings to use on a table, and why.

    Example: jmeta recommend patients.csv --target died --budget 8 --fit model/

    Args:
        table: CSV, TSV, Parquet, ARFF or NumPy; text may be gzipped. Its first line
            names the columns.
        target: The column to predict; rows where it is missing are left out.
        budget: How many candidates to cross-validate. 0 decides from the table's
            description alone, in about a second; 8 or 32 take longer and do better.
        metric: What to choose by. For classes: log_loss, brier, auc,
            balanced_accuracy or calibration_error; for a number: rmse, mae or r2.
        fit: Also fit what is recommended on all rows, calibrate it, and write it
            into this new folder, for `jmeta predict`.
        report: Also write a page that explains the recommendation.
        model: The meta-model that decides: a run folder of `jmeta train`, or a
            model file.
        kind: Of the target.
        number: Read this column as numbers.
        category: Read this column as a category.
        ignore: Leave this column out.
        ensemble: With a budget, average the candidates that were tried instead of
            taking the best.
        seed: Decides folds and draws.
        json: Print one JSON object and nothing else.
    """
    at_least(0, budget=budget)
    check_seed(seed)
    types = _types(number, category, ignore)
    if fit is not None:
        runs.check_new_folder(fit)
    if report is not None:
        runs.check_output_file(report)
    encoded = _read(table, target, kind, types, seed)
    prepare()
    from jmeta import pipeline
    from jmeta.report import recommendation_report

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

    def write_report(path: Path) -> None:
        recommendation_report(path, plain, notes, __version__, name=table.name)

    if fit is not None:
        fitted = pipeline.fit_table(encoded, made, seed=seed)
        with runs.whole_folder(fit) as folder:
            fitted.save(folder)
            runs.write_text(folder / "recommendation.json", runs.to_json(plain) + "\n")
            write_report(folder / "report.html")
    if report is not None:
        with runs.writing(report):
            report.parent.mkdir(parents=True, exist_ok=True)
            write_report(report)
    if json:
        print(runs.to_json(plain))
        return
    screen.show_recommendation(plain, notes)
    if fit is not None:
        say(f"Fitted and saved in {fit}; predict with: jmeta predict {fit} TABLE")


@app.command
def predict(
    model: Annotated[tyro.conf.Positional[Path], Help(metavar="DIR")],
    table: TableFile,
    /,
    out: Annotated[Path, Help(metavar="FILE.csv")],
) -> None:
    """Predict the rows of a table with a model that `recommend --fit` wrote.

    Example: jmeta predict model/ new_patients.csv --out predicted.csv

    Args:
        model: The folder that `jmeta recommend --fit` wrote.
        table: Its columns are matched by name, in any order; the target may be absent.
        out: Where to write, one line a row in the table's order: the prediction with
            the probability of every class, or with the ends of a 90 % interval.
    """
    if out.suffix.lower() != ".csv":
        raise InputError(f"{out}: must end in .csv, which is what is written.")
    runs.check_output_file(out)
    if out.exists() and table.exists() and out.samefile(table):
        raise InputError(f"{out}: is the table itself; name another file.")
    from jmeta import pipeline
    from jmeta.data import tables

    fitted = pipeline.FittedModel.load(model)
    frame = tables.read_table(table)
    prepare()
    predicted = fitted.predict(frame)
    runs.write_text(out, predicted.to_csv(index=False))
    say(f"{len(predicted)} predictions written to {out}.")
    if unused := fitted.encoder.extra(frame):
        say(f"Columns that the model does not use: {', '.join(unused)}.")


@app.command
def describe(
    table: TableFile,
    /,
    target: Target,
    kind: Kind = None,
    number: Columns = (),
    category: Columns = (),
    ignore: Columns = (),
    json: Flag = False,
) -> None:
    """Print what the meta-model sees of a table: its description, number by number.

    Example: jmeta describe patients.csv --target died

    Args:
        table: CSV, TSV, Parquet, ARFF or NumPy; text may be gzipped. Its first line
            names the columns.
        target: The column to predict; rows where it is missing are left out.
        kind: Of the target.
        number: Read this column as numbers.
        category: Read this column as a category.
        ignore: Leave this column out.
        json: Print one JSON object and nothing else.
    """
    encoded = _read(table, target, kind, _types(number, category, ignore))
    prepare()
    from jmeta.describe import SCHEMA_VERSION, groups, names
    from jmeta.recommend import describe_table

    found: str = encoded.target.kind
    values = describe_table(encoded.table, found, encoded.num_classes)
    every = names(found)
    named = dict(zip(every, map(float, values)))
    if json:
        content = {
            "schema": SCHEMA_VERSION,
            "kind": found,
            "rows": int(encoded.full.mask.sum()),
            "description": named,
        }
        print(runs.to_json(content))
        return
    parts = {group: every[places] for group, places in groups(found).items()}
    screen.show_description(parts, named)


@app.command
def train(
    out: Annotated[Path, Help(metavar="RUN")] = RUN,
    steps: Count = 3000,
    batch: Count = 64,
    tasks: Count = 2000,
    seed: Seed = 0,
    kinds: Annotated[
        tuple[Literal["classes", "number"], ...],
        Help(help_behavior_hint=hint("classes number")),
    ] = ("classes", "number"),
    resume: Flag = False,
) -> None:
    """Meta-train on the task prior: a meta-model for `recommend --model RUN`.

    Ctrl-C keeps what is done; the same command with --resume goes on, to the same
    result as a run that was never stopped.

    Example: jmeta train --out runs/small --tasks 200 --steps 500

    Networks that adapt to a new task from a few labelled rows (molecules, images,
    tables) are another command: jmeta train fewshot --help

    Args:
        out: The run's new folder: config.json, metrics.jsonl, checkpoints, the
            measured tasks, model.safetensors, learning_curve.png.
        steps: Gradient steps of the meta-classifiers.
        batch: Tasks a step.
        tasks: How many tasks to draw from the prior and measure every candidate on,
            for each kind of target; nearly all of the time goes here.
        seed: Decides everything.
        kinds: The kinds of target to learn for.
        resume: Go on with a run that was stopped.
    """
    at_least(1, steps=steps, batch=batch, tasks=tasks, kinds=len(kinds))
    check_seed(seed)
    config = {
        "command": "train",
        "steps": steps,
        "batch": batch,
        "tasks": tasks,
        "seed": seed,
        "kinds": sorted(set(kinds)),
    }
    runs.start(out, config, resume)
    prepare()
    from jmeta import jobs, plans

    chosen = {
        kind: plans.default_plan(kind, tasks, num_steps=steps, batch=batch)
        for kind in config["kinds"]
    }
    kept = f"what is done is kept in {out}; the same command with --resume goes on."
    with stopping(kept):
        jobs.meta_train_run(out, chosen, None, seed, config)
    say(f"Meta-model written to {out / 'model.safetensors'}.")
    say(f"Use it: jmeta recommend TABLE --target COLUMN --model {out}")


@app.command
def quickstart(
    out: Annotated[Path, Help(metavar="DIR")] = DEMO, seed: Seed = 0
) -> None:
    """The whole way on two real clinical tables, in a few minutes.

    Meta-trains a small meta-classifier and meta-optimizer on the built-in task
    prior; then recommends, fits and scores models for breast cancer (classes) and
    diabetes (a number) on held-out rows, beside scikit-learn's defaults.

    Args:
        out: The run's folder; if it exists, a new one beside it.
        seed: Decides tasks, splits and draws.
    """
    check_seed(seed)
    out = runs.fresh(out)
    config = {"command": "quickstart", "seed": seed}
    runs.start(out, config, False)
    prepare()
    from jmeta import jobs
    from jmeta import quickstart as demo

    with stopping(f"{out} holds an unfinished run; start again, or remove it."):
        models = jobs.meta_train_run(out, demo.plans(), demo.candidates(), seed, config)
        with screen.console(stderr=True).status("comparing on real tables"):
            rows, recommendations = demo.compare(
                models, out / "model.safetensors", seed
            )
        from jmeta.report import quickstart_report

        quickstart_report(
            out / "report.html",
            config | jobs.versions(),
            rows,
            out / "learning_curve.png",
            recommendations,
        )
    screen.show_comparison(rows)
    say(f"Run folder: {out} (open {out / 'report.html'})")


def _fail(message: str, code: int) -> NoReturn:
    say(f"jmeta: {' '.join(message.split())}")
    raise SystemExit(code)


app.command(adapt)
app.command(build)
app.command(evaluate)
app.command(select)
app.command(importance)


def main(args: Sequence[str] | None = None) -> None:
    """The `jmeta` command."""
    args = sys.argv[1:] if args is None else args
    if list(args) == ["--version"]:
        print(f"jmeta {__version__}")
        return
    parse: Callable[..., Any] = app.cli
    if (two := tuple(args[:2])) in FEWSHOT:
        prog = " ".join(("jmeta", *two))
        parse = functools.partial(tyro.cli, FEWSHOT[two], prog=prog)
        args = args[2:]
    else:
        told = "Learning across tasks: which model, which settings, and why. "
        told += f"This is version {__version__} (jmeta --version)."
        parse = functools.partial(parse, prog="jmeta", description=told)
    try:
        with heeding_sigterm():
            parse(args=args, config=(tyro.conf.DisallowNone,))
            sys.stdout.flush()
    except InputError as error:
        _fail(str(error), EXIT_INPUT)
    except FloatingPointError as error:
        _fail(str(error), 1)
    except KeyboardInterrupt as stopped:
        told = str(stopped) or "stopped; nothing half-written is left."
        _fail(told, EXIT_SIGNAL + getattr(stopped, "signal", signal.SIGINT))
    except BrokenPipeError:
        # Nobody reads on, as with `| head`; Python would complain at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    except OSError as error:  # Such as a full disk in the middle of a training.
        _fail(f"{error.filename or 'a file'}: {error.strerror or error}.", EXIT_INPUT)


if __name__ == "__main__":
    main()
