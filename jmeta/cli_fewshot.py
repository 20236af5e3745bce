"""The commands `jmeta evaluate fewshot` and `jmeta adapt`; and how all are found."""

import sys
from pathlib import Path
from typing import Annotated, Any

import tyro

from jmeta import __version__, runs, screen
from jmeta.cli_fewshot_train import train_fewshot
from jmeta.cli_options import (
    Count,
    Flag,
    Help,
    Names,
    Seed,
    Split,
    at_least,
    cache_folder,
    check_seed,
    counts,
    hint,
    prepare,
    say,
)
from jmeta.errors import InputError

__all__ = ["FEWSHOT", "adapt", "evaluate_fewshot"]


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
    options = sources.Options(
        split=split,
        kind=model.recipe.kind,
        classes=classes,
        descriptors="descriptors" in model.reader,
    )
    found = sources.read_tasks(data, "test", options, model.reader)
    prepare()
    from jmeta.fewshot.judging import judge

    with screen.Bars() as bars:
        cache = cache_folder("descriptors")
        found = sources.with_levels(found, model.reader, cache, bars)
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


FEWSHOT: dict[str, Any] = {
    "train fewshot": train_fewshot,
    "evaluate fewshot": evaluate_fewshot,
}
"""Commands of two words, which the others' parser does not know."""
