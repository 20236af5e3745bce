"""The commands `jmeta train fewshot`, `jmeta evaluate fewshot` and `jmeta adapt`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from jmeta import runs, screen
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

__all__ = ["FEWSHOT", "train_fewshot"]

RUN = Path("runs/fewshot")

Shots = Annotated[tuple[str, ...], Help(metavar="COUNT[,COUNT...]")]
Split = Annotated[
    str | None, Help(metavar="NAME", help_behavior_hint=hint("as the files say"))
]
Kind = Annotated[
    Literal["classes", "number"] | None, Help(help_behavior_hint=hint("classes"))
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
    shots: Shots = ("16,32,64",),
    query: Count = 64,
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

    Args:
        algorithm: prototypical, ridge_head (R2D2), deep_ridge (molecules), maml,
            fomaml (first order), anil, meta_sgd, imaml or reptile.
        data: Tasks to learn from: a folder or file of FS-Mol, or a file of MoleculeNet.
        out: The run's new folder: config.json, metrics.jsonl, checkpoints,
            model.safetensors, learning_curve.png.
        valid: Tasks that choose the best checkpoint. Families of tasks (such as assays
            of one protein) that are among them are not trained on.
        split: Which tasks of --data, where there are several: train, valid, test, all.
        kind: Of the targets, where tasks have both.
        shots: Sizes of the supports to train with: labelled rows of a task.
        query: Rows that a prediction is judged on while training.
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
    at_least(
        1, query=query, steps=steps, batch=batch, checkpoint_every=checkpoint_every
    )
    check_seed(seed)
    sizes = counts("shots", shots)
    at_least(2, shots=min(sizes))
    _check_rates(lr, inner_lr, inner_steps, dropout, holdout)
    config = {
        "command": "train fewshot",
        "algorithm": algorithm,
        "data": str(data),
        "valid": None if valid is None else str(valid),
        "split": split,
        "kind": kind,
        "shots": list(sizes),
        "query": query,
        "steps": steps,
        "batch": batch,
        "holdout": holdout,
        "lr": lr,
        "inner_lr": inner_lr,
        "inner_steps": inner_steps,
        "dropout": dropout,
        "checkpoint_every": checkpoint_every,
        "seed": seed,
    }
    from jmeta.fewshot import recipes, sources
    from jmeta.fewshot.drawing import Plan

    recipes.named(algorithm)
    found = sources.read_tasks(data, "train", split=split, kind=kind)
    choosing = None
    training = found.data
    if valid is not None:
        choosing = sources.read_tasks(valid, "valid", kind=kind).data
        training = sources.apart(training, choosing)
    left_out = len(found.data.tasks) - len(training.tasks)
    training, held = sources.held_out(training, holdout, seed=seed)
    recipe = recipes.Recipe(
        algorithm=algorithm,
        form=found.data.form,
        kind=found.kind,
        dropout=dropout,
        steps=steps,
        lr=lr,
        inner_lr=inner_lr,
        inner_steps=inner_steps,
    )
    recipes.check_recipe(recipe)
    runs.start(out, config, resume)
    say(
        f"{found.told}; training on {len(training.tasks)}, {len(held.tasks)} held out"
        + (f", {left_out} left out for their family." if left_out else ".")
    )
    prepare()
    from jmeta.fewshot.curve import fewshot_curve
    from jmeta.fewshot.training import train_fewshot
    from jmeta.jobs import versions

    kept = f"what is done is kept in {out}; the same command with --resume goes on."
    with stopping(kept), screen.Bars() as bars:
        model = train_fewshot(
            out,
            recipe,
            Plan(kind=found.kind, ways=None, shots=sizes, query=query, batch=batch),
            training,
            held,
            choosing,
            reader=found.reader,
            seed=seed,
            checkpoint_every=checkpoint_every,
            header={"name": "jmeta train fewshot", "config": config, **versions()},
            report=bars,
        )
    fewshot_curve(out / "metrics.jsonl", out / "learning_curve.png")
    step = model.header["step"]
    say(f"Model of step {step} written to {out / 'model.safetensors'}.")
    say(f"Use it: jmeta adapt {out} --support FILE --query FILE --out FILE.csv")


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


FEWSHOT: dict[tuple[str, str], Any] = {
    ("train", "fewshot"): train_fewshot,
}
"""Commands of two words, which the others' parser does not know."""
