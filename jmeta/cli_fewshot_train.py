"""The command `jmeta train fewshot`: learning across tasks to predict from few rows."""

from pathlib import Path
from typing import Annotated, Any, Literal

from jmeta import runs, screen
from jmeta.cli_options import (
    Count,
    Flag,
    Help,
    Names,
    Seed,
    Split,
    at_least,
    check_seed,
    counts,
    hint,
    prepare,
    say,
)
from jmeta.errors import InputError
from jmeta.signals import stopping

__all__ = ["train_fewshot"]

RUN = Path("runs/fewshot")

Kind = Annotated[
    Literal["classes", "number"] | None, Help(help_behavior_hint=hint("classes"))
]


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
