"""The command `jmeta build`: a meta-dataset of a folder of tables."""

import os
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from jmeta import runs, screen
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
from jmeta.errors import InputError
from jmeta.signals import stopping

__all__ = ["build"]


def build(
    tables: Annotated[tyro.conf.Positional[Path], Help(metavar="TABLES_DIR")],
    /,
    out: Annotated[Path, Help(metavar="META")],
    target: Annotated[
        str | None,
        Help(metavar="COLUMN", help_behavior_hint=hint("class, target, or the last")),
    ] = None,
    metric: Annotated[
        str | None,
        Help(metavar="METRIC", help_behavior_hint=hint("log_loss, or rmse")),
    ] = None,
    kind: Kind = None,
    folds: Count = 5,
    seed: Seed = 0,
    resume: Flag = False,
    json: Flag = False,
) -> None:
    """Measure every candidate on every table of a folder: a meta-dataset.

    Ctrl-C keeps what is done in META.parts; the same command with --resume goes on, to
    the same files as a build that was never stopped.

    Example: jmeta build tables/ --out meta/

    Args:
        tables: A folder of CSV, TSV, Parquet, ARFF or NumPy files, a table each. With
            a file families.csv (task,family) in it, tables of one family are never
            split between training and test.
        out: The new folder: scores, descriptions, tasks and candidates as .csv.gz.
        target: The column to predict, in every table.
        metric: What the scores are. For classes: log_loss, brier, auc,
            balanced_accuracy or calibration_error; for a number: rmse, mae (both in
            units of the target's deviation) or r2.
        kind: Of the targets. Without it the kind that most tables have; the others
            are left out.
        folds: Of the cross-validation.
        seed: Decides folds and draws.
        resume: Go on with a build that was stopped.
        json: Print one JSON object on stdout.
    """
    at_least(2, folds=folds)
    check_seed(seed)
    out = Path(os.path.abspath(out))
    runs.check_new_folder(out)
    parts = out.with_name(f"{out.name}.parts")
    config = {"command": "build", "target": target, "kind": kind}
    config |= {"folds": folds, "seed": seed}
    _check_parts(parts, config, resume)
    prepare()
    from jmeta import build as building
    from jmeta.data.metadataset import write_folder
    from jmeta.survey import read_families, survey

    building.check_metric(metric, kind)
    with screen.Bars() as bars:
        sources, skipped = survey(
            tables,
            target=target,
            kind=kind,
            folds=folds,
            seed=seed,
            # Where there is no terminal, a refusal prints its one sentence alone.
            report=bars if sys.stderr.isatty() else None,
        )
    found = sources[0].kind
    building.check_metric(metric, found)
    names = [source.name for source in sources]
    families = read_families(tables, names)
    _tell(sources, skipped, target, families, tables)
    if not resume:
        runs.start(parts, config, False)
    kept = (
        f"what is measured is kept in {parts}; the same command with --resume goes on."
    )
    with stopping(kept):
        with screen.Bars() as bars:
            measured, candidates = building.measure_folder(
                sources, parts, folds=folds, seed=seed, report=bars
            )
        data = building.record(
            measured.descriptions,
            measured.scores,
            name=tables.absolute().name,
            kind=found,
            metric=metric,
            tasks=names,
            families=families,
            candidates=building.candidate_settings(candidates),
        )
        write_folder(out, data)
    shutil.rmtree(parts, ignore_errors=True)
    for source in sources:
        if source.name not in data.tasks:
            skipped[source.path.name] = "no candidate has a score that is finite."
            say(f"Left out {source.path.name}: {skipped[source.path.name]}")
    if json:
        content = {
            "out": str(out),
            "name": data.name,
            "kind": found,
            "metric": data.metric.name,
            "tasks": len(data.tasks),
            "families": len(set(data.families.tolist())),
            "candidates": len(data.candidates),
            "skipped": skipped,
        }
        print(runs.to_json(content))
    say(
        f"Meta-dataset of {len(data.tasks)} tables and {len(data.candidates)} "
        f"candidates written to {out}."
    )


def _check_parts(parts: Path, config: dict[str, Any], resume: bool) -> None:
    """See that there is something to go on with, or nothing in the way."""
    if resume:
        runs.start(parts, config, True)
    elif os.path.lexists(parts):
        raise InputError(
            f"{parts}: is what a build that was stopped has measured; go on with "
            "--resume, or remove it."
        )


def _tell(
    sources: Sequence[Any],
    skipped: dict[str, str],
    target: str | None,
    families: dict[str, str] | None,
    folder: Path,
) -> None:
    """Say what was left out, and what was taken for granted."""
    from jmeta.survey import TARGETS

    for name, why in skipped.items():
        say(f"Left out {name}: {why}")
    if target is None:
        found = Counter(s.target for s in sources if s.target in TARGETS)
        told = [f"{name!r} in {count}" for name, count in found.items()]
        last = [s for s in sources if s.target not in TARGETS]
        if last:
            shown = ", ".join(f"{s.path.name}: {s.target!r}" for s in last[:5])
            more = ", ..." if len(last) > 5 else ""
            told.append(f"the last column in {len(last)} ({shown}{more})")
        say(f"Target column, as no --target names it: {'; '.join(told)}.")
    if families is None:
        say(
            f"{folder} has no families.csv (task,family): every table counts as a "
            "family of its own."
        )
    elif missing := [s.name for s in sources if s.name not in families]:
        shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        say(f"families.csv lacks {shown}: each counts as a family of its own.")
