"""The command `jmeta train fewshot`: learning across tasks to predict from few rows."""

from pathlib import Path
from typing import Annotated, Literal

from jmeta import runs, screen
from jmeta.cli_options import (
    Coordinator,
    Count,
    Devices,
    Flag,
    Help,
    Names,
    Processes,
    ProcessId,
    Seed,
    Split,
    at_least,
    cache_folder,
    check_seed,
    counts,
    hint,
    prepare,
    say,
    spread,
)
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
    descriptors: Flag = False,
    dropout: float = 0.0,
    checkpoint_every: Count = 200,
    devices: Devices = None,
    coordinator: Coordinator = None,
    processes: Processes = None,
    process_id: ProcessId = None,
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
        algorithm: prototypical, ridge_head (R2D2), deep_ridge (molecules), convex_head
            (MetaOptNet), deep_kernel, adkf, neural_process, maml, fomaml (first order),
            anil, meta_sgd, imaml or reptile.
        data: Tasks to learn from. Molecules: a folder or file of FS-Mol or MoleculeNet,
            or tables with a column smiles (columns beside it are targets). Images: a
            folder or zip of CLASS/picture or GROUP/CLASS/picture, or an archive of
            MedMNIST. Tables: a file or a folder of them, with --target.
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
        descriptors: Describe molecules also by some 170 numbers such as their weight,
            from the SMILES beside the files; slow at first (minutes for 100,000
            molecules), then kept in the user's cache folder. Needs rdkit.
        dropout: Share of hidden units left out while training, where rows are
            molecules and the algorithm embeds them.
        checkpoint_every: Steps between checkpoints.
        devices: Over how many at most the tasks of a step are split: accelerators, or
            cores of the CPU; they divide --batch. The result is the same but for the
            order of sums.
        coordinator: Of a run of several processes, each started with the same command
            and its own --process-id: where process 0 listens. Slurm, Open MPI
            and TPU pods tell all three by themselves.
        processes: How many there are.
        process_id: Which of them this is, from 0.
        seed: Decides everything.
        resume: Go on with a run that was stopped.
    """
    check_seed(seed)
    if devices is not None:
        at_least(1, devices=devices)
    from jmeta.fewshot.starting import Settings, start

    settings = Settings(
        algorithm=algorithm,
        data=data,
        valid=valid,
        split=split,
        kind=kind,
        target=target,
        task=task,
        classes=classes,
        size=size,
        ways=ways,
        turn=turn,
        shots=counts("shots", shots) if shots else None,
        query=query,
        steps=steps,
        batch=batch,
        holdout=holdout,
        lr=lr,
        inner_lr=inner_lr,
        inner_steps=inner_steps,
        descriptors=descriptors,
        dropout=dropout,
        checkpoint_every=checkpoint_every,
        seed=seed,
    )
    mesh = spread(batch, devices, coordinator, processes, process_id)
    with screen.Bars() as bars:
        begun = start(settings, cache=cache_folder("descriptors"), report=bars)
    prepare()
    from jmeta.fewshot import training
    from jmeta.fewshot.curve import fewshot_curve
    from jmeta.jobs import versions
    from jmeta.parallel import first, together

    # Before the folder is made, since tasks may be too small.
    banks = training.bring(begun.plan, begun.training, begun.held, begun.choosing)
    config = {"command": "train fewshot", **settings.to_json()}
    if first():
        runs.start(out, config, resume)
        for told in begun.told:
            say(told)
    together("the run was begun")
    kept = f"what is done is kept in {out}; the same command with --resume goes on."
    with stopping(kept), mesh(), screen.Bars() as bars:
        model = training.train_fewshot(
            out,
            begun.recipe,
            begun.plan,
            banks,
            reader=begun.reader,
            seed=seed,
            checkpoint_every=checkpoint_every,
            header={"name": "jmeta train fewshot", "config": config, **versions()},
            report=bars,
        )
    if not first():
        return
    fewshot_curve(out / "metrics.jsonl", out / "learning_curve.png")
    say(f"Model of step {model.header['step']} written to {out / 'model.safetensors'}.")
    say(f"Use it: jmeta adapt {out} --support FILE --query FILE --out FILE.csv")
