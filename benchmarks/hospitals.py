"""A new hospital: adapt with 16, 32 or 64 of its patients, beside what needs no jmeta.

    python benchmarks/hospitals.py --json --plot hospitals.png > hospitals.json

Each of the four hospitals of the UCI heart disease data is left out once. What learns
across hospitals learns from the other three; supports of the one left out keep its
share of sick patients, and its other patients judge. Nothing is chosen on the hospital
left out. Columns are encoded on the three; a cholesterol or a blood pressure of 0 is
taken as missing.

Intervals are those of the mean over draws (95 %). The draws of one hospital judge by
almost the same patients, so that they say nothing about other patients or hospitals.
Slopes of draws whose query the log odds separate have no limit; those beyond 10 are
left out of the means and counted. Draws keep a patient of either class on both sides.

`correction` learns how far a hospital's own patients may move the pooled model: the
prior precision of its intercept, of the slope of its log odds, and of every weight.
`correction with trust` learns the mean of the slope too, which three hospitals do not
determine; it was run first, and is told for that. `correction by feature` has one
precision for each weight.

Source: https://archive.ics.uci.edu/dataset/45/heart+disease, Janosi, Steinbrunn,
Pfisterer and Detrano, 1988.
"""

import dataclasses
import json
import pathlib
import sys
import time
from typing import Any

import hospitals_methods as methods
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import tyro
from rich.console import Console
from rich.table import Table

from jmeta.data.task_tables import encode_tasks, fit_tasks
from jmeta.metrics import auc, brier, calibration_line, log_loss, observed_expected
from jmeta.types import Array

COLUMNS = (
    *("age", "sex", "cp", "trestbps", "chol", "fbs", "restecg", "thalach", "exang"),
    *("oldpeak", "slope", "ca", "thal", "num"),
)
"""Names as on UCI's page; `num` is the diagnosis, from 0, healthy, to 4."""

TYPES = dict.fromkeys(("cp", "restecg", "slope", "thal"), "category")
NAMES = ("cleveland", "hungarian", "switzerland", "va")
SCORES = ("auc", "log_loss", "brier", "slope", "intercept", "observed_expected")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """What to run.

    Attributes:
      data: the folder of UCI's processed files.
      draws: of supports, for each size.
      methods: floors, and what learns across hospitals; `gains` need `correction`.
      steps: of meta-training.
      seeds: of meta-training; the draws that judge are the same for all.
      plot: where a figure is written.
      json: print one JSON object and nothing else on stdout.
    """

    data: pathlib.Path = pathlib.Path("../shared/data/tabular/heart")
    methods: tuple[str, ...] = (*methods.FLOORS, *methods.LEARNED)
    draws: int = 50
    steps: int = 100
    seeds: int = 3
    plot: pathlib.Path | None = None
    json: bool = False


def read(folder: pathlib.Path) -> dict[str, pd.DataFrame]:
    """The four hospitals, from files without a header."""
    tables = {}
    for name in NAMES:
        path = folder / f"processed.{name}.data"
        frame = pd.read_csv(path, header=None, names=list(COLUMNS), na_values="?")
        frame["sick"] = (frame.pop("num") > 0).map({True: "yes", False: "no"})
        for column in ("chol", "trestbps"):
            frame[column] = frame[column].where(frame[column] > 0)
        tables[name] = frame
    return tables


@jax.jit
@jax.vmap
def judged(probs: Array, y: Array, mask: Array) -> Array:
    """The scores of one episode, in the order of `SCORES`."""
    line = calibration_line(probs, y, mask)
    rest = line.slope, line.in_the_large, observed_expected(probs, y, mask)
    return jnp.stack([f(probs, y, mask) for f in (auc, log_loss, brier)] + [*rest])


def summary(scores: np.ndarray) -> dict[str, Any]:
    """Means over draws and seeds.

    Args:
      scores: `(seeds, draws, scores)`.
    """
    out: dict[str, Any] = {}
    for place, name in enumerate(SCORES):
        each = np.ma.array(scores[..., place])
        if name == "slope":
            each = np.ma.masked_where(np.abs(each) > 10.0, each)
            out["slopes_left_out"] = int(np.ma.count_masked(each))
        draws = each.mean(axis=0)
        half = 1.96 * draws.std(ddof=1) / draws.count() ** 0.5
        out[name] = {"mean": float(draws.mean()), "interval": float(half)}
        if len(each) > 1:
            out[name]["seed_deviation"] = float(each.mean(axis=1).std(ddof=1))
    return out


def run(left: str, tables: dict[str, Any], arguments: Arguments) -> dict[str, Any]:
    """Leave one hospital out; scores `(seeds, shots, draws, scores)` by method."""
    train, encoding = fit_tasks(
        {name: table for name, table in tables.items() if name != left},
        "sick",
        types=TYPES,
    )
    judge = encode_tasks(encoding, {left: tables[left]})
    hospitals = methods.prepared(train, judge)
    key = jax.random.fold_in(jax.random.key(0), NAMES.index(left))
    tasks = methods.judging(key, hospitals.judge, arguments.draws)
    control = methods.shuffled(key, tasks)

    def scored(probs: Array) -> np.ndarray:
        found = np.asarray(judged(probs, tasks.query.y, tasks.query.mask))
        return found.reshape(len(methods.SHOTS), arguments.draws, len(SCORES))

    scores: dict[str, list[np.ndarray]] = {}
    learnt: dict[str, Any] = {}
    seconds: dict[str, float] = {}
    for name in [n for n in arguments.methods if n in methods.FLOORS]:
        begin = time.process_time()
        scores[name] = [scored(methods.floor(name, hospitals, tasks))]
        seconds[name] = round(time.process_time() - begin, 2)
    for name in [n for n in arguments.methods if n in methods.LEARNED]:
        begin = time.process_time()
        for seed in range(arguments.seeds):
            predict, params = methods.learned(
                name, hospitals, jax.random.key(seed), arguments.steps
            )
            scores.setdefault(name, []).append(scored(predict(tasks)))
            shuffled = scores.setdefault(f"{name}, shuffled", [])
            shuffled.append(scored(predict(control)))
            if name in ("correction", "correction with trust"):
                logs = params["network"]["correction"]
                found = {k: round(float(np.exp(v)), 3) for k, v in logs.items()}
                learnt.setdefault(name, []).append(found)
        seconds[name] = round(time.process_time() - begin, 2)
        print(f"{left}: {name}, {seconds[name]} s", file=sys.stderr, flush=True)
    return {
        "scores": {name: np.stack(found) for name, found in scores.items()},
        "patients": len(judge.rows),
        "sick": int(judge.label.sum()),
        "inverse_penalty": hospitals.inverse_penalty,
        "learnt": learnt,
        "seconds": seconds,
    }


def gains(scores: dict[str, np.ndarray], shot: int) -> dict[str, Any]:
    """What `correction` is better by, draw by draw, than what needs no jmeta.

    Args:
      scores: `(seeds, shots, draws, scores)` by method.
      shot: place of the size of support.
    """
    out: dict[str, Any] = {}
    if "correction" not in scores:
        return out
    for name in [name for name in methods.FLOORS if name in scores]:
        gained = scores["correction"].mean(0)[shot] - scores[name].mean(0)[shot]
        gained = gained[:, :3] * np.array([1.0, -1.0, -1.0])
        half = 1.96 * gained.std(axis=0, ddof=1) / len(gained) ** 0.5
        out[name] = {
            score: {"mean": float(mean), "interval": float(error)}
            for score, mean, error in zip(SCORES, gained.mean(0), half)
        }
    return out


def main(arguments: Arguments) -> None:
    """Leave each hospital out, and show."""
    unknown = set(arguments.methods) - {*methods.FLOORS, *methods.LEARNED}
    if unknown:
        known = [*methods.FLOORS, *methods.LEARNED]
        sys.exit(f"hospitals: methods must be of {known}, not {sorted(unknown)}.")
    begin = time.process_time()
    tables = read(arguments.data)
    asked = dataclasses.asdict(arguments)
    out: dict[str, Any] = {
        "arguments": {name: asked[name] for name in ("draws", "steps", "seeds")},
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "hospitals": {},
    }
    for left in NAMES:
        found = run(left, tables, arguments)
        scores = found.pop("scores")
        found["shots"] = {
            str(shot): {
                "methods": {n: summary(each[:, place]) for n, each in scores.items()},
                "gains": gains(scores, place),
            }
            for place, shot in enumerate(methods.SHOTS)
        }
        out["hospitals"][left] = found
    out["process_seconds"] = round(time.process_time() - begin, 1)
    if arguments.plot:
        draw(out, arguments.plot)
    if arguments.json:
        print(json.dumps(out, indent=1))
    else:
        show(out)


def score_of(
    out: dict[str, Any], left: str, shot: int, name: str, score: str
) -> dict[str, float]:
    """A score's mean and interval."""
    return out["hospitals"][left]["shots"][str(shot)]["methods"][name][score]


def show(out: dict[str, Any]) -> None:
    """A table for people, of each size of support: means over the four hospitals."""
    for shot in methods.SHOTS:
        table = Table("", *SCORES, *NAMES, title=f"{shot} patients; AUC by hospital")
        names = out["hospitals"][NAMES[0]]["shots"][str(shot)]["methods"]
        for name in names:
            found = np.array(
                [
                    [score_of(out, left, shot, name, score)["mean"] for score in SCORES]
                    for left in NAMES
                ]
            )
            cells = [*found.mean(axis=0), *found[:, 0]]
            table.add_row(name, *[f"{number:.3f}" for number in cells])
        Console(width=140).print(table)


def draw(out: dict[str, Any], path: pathlib.Path) -> None:
    """AUC, log loss and calibration slope over patients, a column a hospital."""
    from matplotlib.figure import Figure

    shown = (
        *("pooled", "local", "recalibrated intercept", "recalibrated"),
        *("maml", "ridge", "correction"),
    )
    there = out["hospitals"][NAMES[0]]["shots"][str(methods.SHOTS[0])]["methods"]
    names = [name for name in shown if name in there]
    figure = Figure(figsize=(12, 7.5), layout="constrained")
    grid = figure.subplots(3, len(NAMES), sharex=True, sharey="row")
    for column, left in zip(grid.T, NAMES):
        for axes, score in zip(column, ("auc", "log_loss", "slope")):
            for name in names:
                found = [
                    score_of(out, left, shot, name, score) for shot in methods.SHOTS
                ]
                means = [one["mean"] for one in found]
                halves = [one["interval"] for one in found]
                axes.errorbar(
                    methods.SHOTS,
                    means,
                    halves,
                    marker="o",
                    label=name,
                    linewidth=2.5 if name == "correction" else 1.0,
                )
            axes.set_xscale("log", base=2)
            axes.set_xticks(methods.SHOTS, [str(shot) for shot in methods.SHOTS])
        found = out["hospitals"][left]
        column[0].set_title(f"{left}: {found['sick']} of {found['patients']} sick")
        column[2].axhline(1.0, color="black", linewidth=0.8, linestyle=":")
        column[2].set_xlabel("patients of the new hospital")
    grid[0, 0].set_ylabel("AUC")
    grid[1, 0].set_ylabel("log loss, nats")
    grid[2, 0].set_ylabel("calibration slope")
    grid[2, 0].set_ylim(0.0, 2.0)
    figure.legend(
        *grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=8
    )
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
