"""The commands `jmeta train fewshot`, `jmeta evaluate fewshot` and `jmeta adapt`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from jmeta import __version__, runs, screen
from jmeta.cli_options import (
    Count,
    Flag,
    Help,
    Seed,
    at_least,
    check_seed,
    hint,
    prepare,
    say,
)
from jmeta.errors import InputError
from jmeta.signals import stopping

__all__ = ["FEWSHOT", "adapt", "evaluate_fewshot", "train_fewshot"]

RUN = Path("runs/fewshot")

Split = Annotated[
    str | None, Help(metavar="NAME", help_behavior_hint=hint("as the files say"))
]
Kind = Annotated[
    Literal["classes", "number"] | None, Help(help_behavior_hint=hint("classes"))
]


Names = Annotated[
    tuple[str, ...],
    tyro.conf.UseAppendAction,
    Help(metavar="NAME", help_behavior_hint="(may be given many times)"),
]


def counts(option: str, given: Sequence[str]) -> tuple[int, ...]:
    """Numbers apart by commas, blanks or both, each once, rising.

    Raises:
      InputError: if one is no whole number above 0, or there is none.
    """
    parts = [part for text in given for part in text.replace(",", " ").split()]
    if not parts or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise InputError(
            f"--{option} must be whole numbers above 0, such as 16,64; got "
            f"{' '.join(given) or 'nothing'}."
        )
    return tuple(sorted({int(part) for part in parts}))


def train_fewshot(
    algorithm: Annotated[str, Help(metavar="NAME")],
    data: Annotated[Path, Help(metavar="PATH")],
    out: Annotated[Path, Help(metavar="RUN")] = RUN,
    valid: Annotated[
        Path | None, Help(metavar="PATH", help_behavior_hint=hint("those held out"))
    ] = None,
    split: Split = None,
    kind: Kind = None,
    target: Names = (),
    task: Annotated[
        str | None,
        Help(metavar="COLUMN", help_behavior_hint=hint("each table is a task")),
    ] = None,
    classes: Names = (),
    size: Annotated[
        int | None, Help(metavar="PIXELS", help_behavior_hint=hint("as they are"))
    ] = None,
    ways: Annotated[
        int | None,
        Help(metavar="COUNT", help_behavior_hint=hint("5 where classes are many")),
    ] = None,
    turn: Flag = False,
    shots: Annotated[
        tuple[str, ...],
        Help(
            metavar="COUNT[,COUNT...]",
            help_behavior_hint=hint("16,32,64, or with ways 1,5"),
        ),
    ] = (),
    query: Annotated[
        int | None,
        Help(metavar="COUNT", help_behavior_hint=hint("64, or with ways 15")),
    ] = None,
    steps: Count = 2000,
    batch: Count = 16,
    holdout: float = 0.1,
    lr: float = 1e-3,
    inner_lr: Annotated[
        float | None, Help(help_behavior_hint=hint("the algorithm's own"))
    ] = None,
    inner_steps: Annotated[
        int | None,
        Help(metavar="COUNT", help_behavior_hint=hint("the algorithm's own")),
    ] = None,
    dropout: float = 0.0,
    checkpoint_every: Count = 200,
    seed: Seed = 0,
    resume: Flag = False,
) -> None:
    """Learn across tasks how to predict on a new one from a few labelled rows.

    Then: jmeta adapt RUN --support FILE --query FILE --out FILE.csv

    Ctrl-C keeps what is done; the same command with --resume goes on, to the same
    result as a run that was never stopped.

    Example: jmeta train fewshot --algorithm deep_ridge --data fsmol --out runs/mol

    Example: jmeta train fewshot --algorithm prototypical --data hospitals/
    --target died --shots 16,32 --out runs/hospitals

    Args:
        algorithm: prototypical, ridge_head (R2D2), deep_ridge (molecules),
            deep_kernel, adkf, maml, fomaml (first order), anil, meta_sgd, imaml or
            reptile.
        data: Tasks to learn from. Molecules: a folder or file of FS-Mol or MoleculeNet.
            Images: a folder or zip of CLASS/picture or GROUP/CLASS/picture, or an
            archive of MedMNIST. Tables: a file or a folder of them, with --target.
        out: The run's new folder: config.json, metrics.jsonl, checkpoints,
            model.safetensors, learning_curve.png.
        valid: Tasks that choose the best checkpoint. Families of tasks (such as assays
            of one protein) that are among them are not trained on.
        split: Which tasks of --data, where there are several: train, valid, test, all.
        kind: Of the targets, where tasks have both.
        target: Of tables: columns to predict, each of which is a task.
        task: Of tables: the column that names the task of each row, such as a hospital.
        classes: Draw from these classes alone, so that others are left to test on.
        size: Bring images to so many pixels a side.
        ways: Classes of an episode, where they are drawn from many.
        turn: Take images turned by quarters as classes of their own, as for characters.
        shots: Sizes of the supports to train with: labelled rows of a task, or with
            ways of each class.
        query: Rows that a prediction is judged on while training; with ways of each
            class.
        steps: Of meta-training.
        batch: Tasks a step.
        holdout: Share of the tasks, at most 200, that is not trained on. It teaches how
            sure predictions are, and without --valid chooses the checkpoint.
        lr: Learning rate across tasks; it falls to 0.
        inner_lr: Learning rate inside a task, of algorithms that train there.
        inner_steps: How many steps they train.
        dropout: Share of hidden units left out while training, where rows are
            molecules and the algorithm embeds them.
        checkpoint_every: Steps between checkpoints.
        seed: Decides everything.
        resume: Go on with a run that was stopped.
    """
    config = {"command": "train fewshot"} | {
        name: value for name, value in locals().items() if name not in ("out", "resume")
    }
    config = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in config.items()
    }
    config |= {name: list(config[name]) for name in ("target", "classes", "shots")}
    at_least(1, steps=steps, batch=batch, checkpoint_every=checkpoint_every)
    for name, count in (("query", query), ("size", size)):
        if count is not None:
            at_least(1, **{name: count})
    check_seed(seed)
    _check_rates(lr, inner_lr, inner_steps, dropout, holdout)
    given = counts("shots", shots) if shots else None
    from jmeta.fewshot import recipes, sources

    recipes.named(algorithm)
    options = sources.Options(
        split=split, kind=kind, targets=target, task=task, size=size, classes=classes
    )
    found = sources.read_tasks(data, "train", options)
    choosing, training = None, found.data
    if valid is not None:
        options = sources.Options(kind=kind)
        chosen = sources.read_tasks(valid, "valid", options, found.reader)
        choosing = chosen.data
        training = sources.apart(training, choosing)
    left_out = len(found.data.tasks) - len(training.tasks)
    ways = _ways_of(found, ways)
    training, held = sources.held_out(training, holdout, ways=ways, seed=seed)
    images = found.data.form == "image"
    numbers = found.data.form == "numbers"
    recipe = recipes.Recipe(
        algorithm=algorithm,
        form=found.data.form,
        kind=found.kind,
        num_classes=2 if ways is None else ways,
        pixels=min(found.data.x.shape[1:3]) if images else 0,
        hidden=(128, 128) if numbers else (512, 512),
        size=64 if numbers else 256,
        dropout=dropout,
        steps=steps,
        lr=lr,
        inner_lr=inner_lr,
        inner_steps=inner_steps,
    )
    recipes.check_recipe(recipe)
    from jmeta.fewshot.drawing import Plan

    usual = ((16, 32, 64), 64) if ways is None else ((1, 5), 15)
    plan = Plan(
        kind=found.kind,
        ways=ways,
        shots=usual[0] if given is None else given,
        query=usual[1] if query is None else query,
        batch=batch,
        turn=turn and images,
    )
    at_least(2 if ways is None else 1, shots=min(plan.shots))
    prepare()
    from jmeta.fewshot import training as trainer
    from jmeta.fewshot.curve import fewshot_curve
    from jmeta.jobs import versions

    banks = trainer.bring(plan, training, held, choosing)
    runs.start(out, config, resume)
    for told in found.told:
        say(told)
    say(
        f"Training on {len(training.tasks)} tasks, with {len(held.tasks)} held out"
        + (f" and {left_out} left out for their family." if left_out else ".")
    )
    kept = f"what is done is kept in {out}; the same command with --resume goes on."
    with stopping(kept), screen.Bars() as bars:
        model = trainer.train_fewshot(
            out,
            recipe,
            plan,
            banks,
            reader=found.reader,
            seed=seed,
            checkpoint_every=checkpoint_every,
            header={"name": "jmeta train fewshot", "config": config, **versions()},
            report=bars,
        )
    fewshot_curve(out / "metrics.jsonl", out / "learning_curve.png")
    say(f"Model of step {model.header['step']} written to {out / 'model.safetensors'}.")
    say(f"Use it: jmeta adapt {out} --support FILE --query FILE --out FILE.csv")


def _ways_of(found: Any, ways: int | None) -> int | None:
    """Classes of an episode; None where every task has the same two, or numbers."""
    if not found.pools:
        if ways is not None:
            raise InputError(
                "--ways is for tasks of many classes; these have two, or numbers."
            )
        return None
    most = max(map(len, found.data.classes))
    if ways is None:
        return min(5, most)
    at_least(2, ways=ways)
    if ways > most:
        raise InputError(f"--ways {ways}: no task has more than {most} classes.")
    return ways


def _check_rates(
    lr: float,
    inner_lr: float | None,
    inner_steps: int | None,
    dropout: float,
    holdout: float,
) -> None:
    for name, rate in (("lr", lr), ("inner-lr", inner_lr)):
        if rate is not None and not 0 < rate < float("inf"):
            raise InputError(f"--{name} must be above 0, got {rate}.")
    if inner_steps is not None:
        at_least(1, **{"inner-steps": inner_steps})
    if not 0 <= dropout < 1:
        raise InputError(f"--dropout must be at least 0 and below 1, got {dropout}.")
    if not 0 < holdout < 1:
        raise InputError(f"--holdout must be above 0 and below 1, got {holdout}.")


def evaluate_fewshot(
    run: Annotated[tyro.conf.Positional[Path], Help(metavar="RUN")],
    /,
    data: Annotated[Path, Help(metavar="PATH")],
    shots: Annotated[
        tuple[str, ...],
        Help(
            metavar="COUNT[,COUNT...]",
            help_behavior_hint=hint("as in training, and 128 where tasks have two"),
        ),
    ] = (),
    draws: Count = 10,
    episodes: Count = 600,
    split: Split = None,
    classes: Names = (),
    floors: bool = True,
    report: Annotated[
        Path | None, Help(metavar="FILE.html", help_behavior_hint=hint("none"))
    ] = None,
    seed: Seed = 0,
    json: Flag = False,
) -> None:
    """Judge a few-shot model on tasks that it was not trained on.

    Of every task that is large enough, supports are drawn at random and all other rows
    are predicted: the protocol of FS-Mol. Where episodes draw some of many classes,
    means are over episodes. Beside the model stand its predictions before calibration,
    a control whose supports have their labels shuffled, and what is done without
    learning across tasks.

    Example: jmeta evaluate fewshot runs/mol --data fsmol --split valid --shots 16,64

    Args:
        run: The folder that `jmeta train fewshot` wrote, or its model.safetensors.
        data: Tasks, of a kind that `jmeta train fewshot --data` reads.
        shots: Sizes of the supports: labelled rows of a task, or of each class where
            classes are drawn.
        draws: Supports of each task and size.
        episodes: Where classes are drawn from many: episodes of each size.
        split: Which tasks of --data, where there are several: train, valid, test, all.
        classes: Draw from these classes alone, such as those not trained on.
        floors: Judge also what others do (nearest neighbours, logistic regression,
            random forest), which takes most of the time.
        report: Also write a page with the tables.
        seed: Decides the draws.
        json: Print one JSON object and nothing else.
    """
    at_least(1, draws=draws, episodes=episodes)
    check_seed(seed)
    given = counts("shots", shots) if shots else None
    if report is not None:
        runs.check_output_file(report)
    from jmeta.fewshot import model as models
    from jmeta.fewshot import sources, words

    model = models.load(run)
    ways = model.plan.ways
    usual = model.plan.shots if ways else tuple(sorted({*model.plan.shots, 128}))
    sizes = usual if given is None else given
    at_least(1 if ways else 2, shots=min(sizes))
    options = sources.Options(split=split, kind=model.recipe.kind, classes=classes)
    found = sources.read_tasks(data, "test", options, model.reader)
    prepare()
    from jmeta.fewshot.judging import judge

    with screen.Bars() as bars:
        made = judge(
            model,
            found.data,
            sizes,
            draws=episodes if ways else draws,
            floors=floors,
            seed=seed,
            report=bars if sys.stderr.isatty() else None,
        )
    if report is not None:
        from jmeta.fewshot.report import fewshot_report

        with runs.writing(report):
            report.parent.mkdir(parents=True, exist_ok=True)
            fewshot_report(report, made, __version__)
    if json:
        print(runs.to_json(made))
        return
    out = screen.console()
    out.print(words.about(made), markup=False)
    for table in words.tables_of(made):
        out.print(table.caption, markup=False)
        screen.show_table(table)
    for note in words.notes_of(made):
        out.print(note, markup=False)


def adapt(
    run: Annotated[tyro.conf.Positional[Path], Help(metavar="RUN")],
    /,
    support: Annotated[Path, Help(metavar="FILE")],
    query: Annotated[Path, Help(metavar="FILE")],
    out: Annotated[Path, Help(metavar="FILE.csv")],
    target: Annotated[
        str | None, Help(metavar="COLUMN", help_behavior_hint=hint("the only one"))
    ] = None,
    positive: Annotated[
        str | None, Help(metavar="LABEL", help_behavior_hint=hint("the last one"))
    ] = None,
    coverage: Annotated[
        float | None, Help(metavar="SHARE", help_behavior_hint=hint("answer all"))
    ] = None,
) -> None:
    """Predict your own samples from a few that are labelled.

    Example: jmeta adapt runs/mol --support measured.csv --query new.csv --out said.csv

    Args:
        run: The folder that `jmeta train fewshot` wrote, or its model.safetensors.
        support: Labelled samples of the new task. Molecules: a table with a column
            smiles and one of labels.
        query: Samples to predict, in a file of the same kind; labels may be absent.
        out: Where to write, one line a sample in the query's order: the prediction,
            the probability of every class and the chance that the prediction is wrong;
            or a number with its 90 % interval and standard deviation.
        target: The column of the labels.
        positive: Which of two classes is the positive one, such as active.
        coverage: Answer this share of the samples and leave the others empty, as far as
            the new task is like those of training; 0.8 leaves out the least sure fifth.
    """
    if out.suffix.lower() != ".csv":
        raise InputError(f"{out}: must end in .csv, which is what is written.")
    runs.check_output_file(out)
    for name, file in (("support", support), ("query", query)):
        if not file.exists():
            raise InputError(f"--{name} {file}: there is no such file.")
        if out.exists() and out.samefile(file):
            raise InputError(f"{out}: is the {name} itself; name another file.")
    from jmeta.fewshot import model as models
    from jmeta.fewshot.samples import READERS

    model = models.load(run)
    read = READERS[model.reader["name"]]
    given = read(model.reader, support, target, True)
    asked = read(model.reader, query, target, False)
    prepare()
    from jmeta.fewshot import adapting

    made = adapting.adapt(model, given, asked, coverage=coverage, positive=positive)
    runs.write_text(out, made.table.to_csv(index=False))
    say(f"{len(made.table)} predictions written to {out}.")
    for note in made.notes:
        say(note)


FEWSHOT: dict[tuple[str, str], Any] = {
    ("train", "fewshot"): train_fewshot,
    ("evaluate", "fewshot"): evaluate_fewshot,
}
"""Commands of two words, which the others' parser does not know."""
