"""The commands `jmeta select` and `jmeta importance`: a meta-dataset put to use."""

import sys
from pathlib import Path
from typing import Annotated, Literal

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
)
from jmeta.errors import InputError
from jmeta.signals import stopping

__all__ = ["importance", "select"]

Meta = Annotated[tyro.conf.Positional[Path], Help(metavar="META")]
Page = Annotated[
    Path | None, Help(metavar="FILE.html", help_behavior_hint=hint("none"))
]


def select(
    meta: Meta,
    tasks: Annotated[tyro.conf.Positional[Path], Help(metavar="NEW.csv")],
    /,
    size: Count = 5,
    seed: Seed = 0,
    report: Page = None,
    json: Flag = False,
) -> None:
    """Choose for new tasks from somebody's meta-dataset, and say why and how surely.

    Learns from all tasks of the meta-dataset, then says for each new one which
    candidate to use and which set to try, what they are expected to cost, what in the
    task's description speaks for the choice, and what worked on the nearest known
    tasks.

    Example: jmeta select meta/autosklearn-bac new.csv --report page.html

    Args:
        meta: The folder of a meta-dataset: tables, or an ASlib scenario.
        tasks: A table of new tasks, comma-separated, plain or gzip. Its first column
            names them; the others are the meta-dataset's descriptions by name, as in
            its descriptions.csv. What is blank or not there is missing.
        size: Of the set to try, the choice included.
        seed: Decides the draws.
        report: Also write a page with all reasons and neighbours.
        json: Print one JSON object and nothing else.
    """
    at_least(1, size=size)
    check_seed(seed)
    if report is not None:
        runs.check_output_file(report)
    from jmeta.data.metadataset import read_meta_dataset
    from jmeta.data.new_tasks import read_new_tasks

    data = read_meta_dataset(meta)
    names, descriptions = read_new_tasks(tasks, data)
    prepare()
    from jmeta.selection.explain import advise

    with stopping("nothing was written."), screen.Bars() as bars:
        made = advise(
            data,
            names,
            descriptions,
            size=size,
            seed=seed,
            report=bars if sys.stderr.isatty() else None,
        )
    if report is not None:
        from jmeta.advice_report import advice_report

        with runs.writing(report):
            advice_report(report, made, __version__)
    if json:
        print(runs.to_json(made))
    else:
        screen.show_advice(made)


def importance(
    meta: Meta,
    /,
    by: Literal["alike", "description", "step"] = "alike",
    folds: Annotated[
        Literal["official", "grouped"] | None,
        Help(help_behavior_hint=hint("official where there are any")),
    ] = None,
    seeds: Count = 1,
    repeats: Count = 5,
    report: Page = None,
    plot: Annotated[
        Path | None, Help(metavar="FILE.png", help_behavior_hint=hint("none"))
    ] = None,
    json: Flag = False,
) -> None:
    """Say which descriptions a meta-model chooses by, with intervals.

    On tasks whose family was not learnt from, descriptions are exchanged for those of
    other tasks, some at a time; how much worse the choices get is their importance.
    Intervals are over families of tasks.

    Example: jmeta importance meta/pmlb-svm --plot importance.png

    Args:
        meta: The folder of a meta-dataset: tables, or an ASlib scenario.
        by: What is exchanged together. alike: descriptions that tell nearly the same
            (rank correlation above 0.7), of which one stands in for another.
            description: each alone. step: what one step computes.
        folds: official: those that come with the scenario. grouped: ten, drawn anew
            by each seed, that keep families of tasks together.
        seeds: How many, of folds and fits.
        repeats: Exchanges of each description, for every seed.
        report: Also write a page with the plot and the table.
        plot: Also write the plot.
        json: Print one JSON object and nothing else.
    """
    at_least(1, seeds=seeds, repeats=repeats)
    for path in (report, plot):
        if path is not None:
            runs.check_output_file(path)
    if plot is not None and plot.suffix.lower() != ".png":
        raise InputError(f"{plot}: must end in .png, which is what is written.")
    from jmeta.data.metadataset import read_meta_dataset

    data = read_meta_dataset(meta)
    prepare()
    from jmeta.selection import study
    from jmeta.selection.importance import importance as measure

    rows = study.folds_of(data, folds, seeds)
    with stopping("nothing was written."), screen.Bars() as bars:
        made = measure(
            data,
            rows,
            repeats=repeats,
            by=by,
            report=bars if sys.stderr.isatty() else None,
        )
    if report is not None or plot is not None:
        from jmeta.importance_report import importance_plot, importance_report
        from jmeta.publish import write_whole

        if plot is not None:
            with runs.writing(plot):
                plot.parent.mkdir(parents=True, exist_ok=True)
                write_whole(plot, importance_plot(made))
        if report is not None:
            with runs.writing(report):
                importance_report(report, made, __version__)
    if json:
        print(runs.to_json(made))
    else:
        screen.show_importance(made)
