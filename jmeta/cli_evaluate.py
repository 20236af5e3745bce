"""The command `jmeta evaluate`: choosing from meta-datasets, beside what others do."""

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from jmeta import __version__, runs, screen
from jmeta.cli_options import Count, Flag, Help, at_least, hint, prepare
from jmeta.errors import InputError
from jmeta.signals import stopping

__all__ = ["evaluate"]

Loss = Literal["mixture", "cost", "expected", "soft", "pairwise", "best", "bce"]


def evaluate(
    paths: Annotated[tyro.conf.Positional[tuple[Path, ...]], Help(metavar="PATH")],
    /,
    folds: Annotated[
        Literal["official", "grouped"] | None,
        Help(help_behavior_hint=hint("official where there are any")),
    ] = None,
    seeds: Count = 3,
    methods: Annotated[
        tuple[str, ...],
        Help(
            metavar="NAME [NAME ...]",
            help_behavior_hint=hint("all but forest_pairs"),
        ),
    ] = (),
    presolve: Flag = False,
    loss: Loss = "mixture",
    report: Annotated[
        Path | None, Help(metavar="FILE.html", help_behavior_hint=hint("none"))
    ] = None,
    json: Flag = False,
) -> None:
    """Learn to choose from somebody's meta-dataset, and see what that is worth.

    A meta-dataset says how candidates (algorithms, pipelines, settings) did on many
    tasks: a folder of tables (scores.csv, descriptions.csv, tasks.csv,
    candidates.csv) or an ASlib scenario. Everything is judged on tasks whose family
    was never learnt from.

    Example: jmeta evaluate meta/autosklearn-bac aslib/SAT11-HAND --report page.html

    Networks that adapt to a new task from a few labelled rows are judged by another
    command: jmeta evaluate fewshot --help

    Args:
        paths: Folders of meta-datasets.
        folds: official: those that come with the scenario. grouped: ten, drawn anew
            by each seed, that keep families of tasks together.
        seeds: How many; intervals are over them.
        methods: jmeta, meta_optimizer (candidates with settings, judged by regret),
            single_best, portfolio, knn, forest, forest_log (runtimes), forest_pairs
            (slow: a forest for each pair of candidates).
        presolve: Of runtimes, also tell jmeta_presolved: the same jmeta, with up to
            three short runs before any description is computed.
        loss: Of jmeta's meta-classifier: mixture is cost and expected together;
            best (cross-entropy of the best candidate) and bce (binary cross-entropy)
            are the original ones, which do not know what a wrong choice costs.
        report: Also write a page with tables and a plot.
        json: Print one JSON object, or a list of them if there are several paths.
    """
    at_least(1, seeds=seeds)
    if not paths:
        raise InputError("name at least one folder: jmeta evaluate PATH [PATH ...].")
    if presolve and methods and "jmeta" not in methods:
        raise InputError("--presolve needs jmeta among the --methods.")
    if report is not None:
        runs.check_output_file(report)
    from jmeta.data.metadataset import read_meta_dataset

    # Every folder is read before anything is learnt: a typing error shows at once.
    found = [read_meta_dataset(path) for path in paths]
    prepare()
    import jax

    from jmeta.selection import study

    plans = [
        (data, study.folds_of(data, folds, seeds), study.methods_for(data, methods))
        for data in found
    ]
    made: list[dict[str, Any]] = []
    # Where there is no terminal, only the results are printed.
    with stopping("the folders that were done are told."), screen.Bars() as bars:
        listener = bars if sys.stderr.isatty() else None
        try:
            for data, rows, chosen in plans:
                told = study.evaluate(
                    data, rows, chosen, listener, presolve=presolve, loss=loss
                )
                made.append(told)
                if not json:
                    screen.show_evaluation(told)
                elif len(plans) > 1:
                    print(f"{len(made)}/{len(plans)} {data.name}", file=sys.stderr)
                # The next folder has other shapes; a process can hold so many.
                jax.clear_caches()
        finally:
            _tell(made, report, json, whole=len(plans))


def _tell(
    made: list[dict[str, Any]], report: Path | None, json: bool, *, whole: int
) -> None:
    """The page and the JSON of what is done, of `whole` folders."""
    if not made:
        return
    if report is not None:
        from jmeta.evaluation_report import evaluation_report

        with runs.writing(report):
            report.parent.mkdir(parents=True, exist_ok=True)
            evaluation_report(report, made, __version__)
    if json:
        print(runs.to_json(made[0] if whole == 1 else made))
