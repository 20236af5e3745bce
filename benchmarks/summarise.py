"""The README's figures of a folder of results, from the files that hold them.

python benchmarks/summarise.py benchmarks/results/2026-11-22-cpu-2-cores
"""

import json
import pathlib
import sys
from typing import Any

import pandas as pd

UNPUBLISHED = ("OPENML-WEKA-2017", "CSP-Minizinc-Obj-2016", "MIP-2016", "GRAPHS-2015")
"""ASlib scenarios without published numbers to stand beside."""


BARS: dict[str, tuple[Any, ...]] = {
    "autosklearn-bac": (0.085, 0.041, 0.030),
    "autosklearn-acc": ("single best",),
    "autosklearn2-policies": (0.297,),
    "xgboost-auc": (0.035, 0.014, 0.010),
    "pmlb-svm": (0.086,),
    "pmlb-logreg": (0.303,),
    "pmlb-algorithms": ("single best",),
    "pmlb-boosting": ("single best",),
}
"""Regret at 1, 5 and 10 that jmeta should be below; a forest's, where it is a number."""


def seconds(folder: pathlib.Path) -> None:
    """Of jmeta-0 and RandomForest on every table, both warm."""
    rows = pd.read_csv(folder / "seconds.csv")
    by = rows.pivot_table(index="table", columns="method", values="seconds")
    by = by[["jmeta-0", "RandomForest"]]
    print(
        f"{len(by)} tables; mean\n{by.mean().round(2)}\nmedian\n{by.median().round(2)}"
    )
    faster = (by["jmeta-0"] < by["RandomForest"]).mean()
    print(f"jmeta-0 is faster on {faster:.0%}\n")


def regrets(folder: pathlib.Path) -> None:
    """A row a meta-dataset, regret at 1 / 5 / 10."""
    made = json.loads((folder / "evaluate-tables.json").read_text())
    names = list(made[0]["methods"])
    print(f"| meta-dataset | {' | '.join(names)} |")
    print("|---" * (len(names) + 1) + "|")
    for one in made:
        cells = []
        for name in names:
            found = one["methods"][name]
            values = [found[metric] for metric in found["intervals"]]
            cells.append(" / ".join(f"{value:.3f}"[1:] for value in values))
        print(f"| {one['name']} | {' | '.join(cells)} |")
    print()


def par10(folder: pathlib.Path) -> None:
    """nPAR10 of every scenario, and the mean over those with published numbers."""
    made: list[dict[str, Any]] = json.loads(
        (folder / "evaluate-aslib.json").read_text()
    )
    forests = json.loads((folder / "evaluate-aslib-forest.json").read_text())
    names = list(dict.fromkeys(n for one in made for n in one["methods"]))
    values = {
        one["name"]: {name: m["npar10"] for name, m in one["methods"].items()}
        for one in made
    }
    rows = pd.DataFrame(values).T[names]
    for one in forests:
        for name, found in one["methods"].items():
            rows.loc[one["name"], name] = found["npar10"]
    published = rows.drop(index=[name for name in UNPUBLISHED if name in rows.index])
    rows.loc[f"mean of the {len(published)} with published numbers"] = published.mean()
    print(f"| scenario | {' | '.join(rows)} |")
    print("|---" * (len(rows.columns) + 1) + "|")
    for name, row in rows.iterrows():
        cells = ["" if pd.isna(value) else f"{value:.3f}" for value in row]
        print(f"| {name} | {' | '.join(cells)} |")
    print()


def times(folder: pathlib.Path) -> None:
    """What all folders took together, all seeds."""
    for name in ("evaluate-aslib.json", "evaluate-tables.json"):
        made = json.loads((folder / name).read_text())
        took = [one["methods"]["jmeta"]["seconds"] * one["seeds"] for one in made]
        print(f"{name}: jmeta on {len(made)} folders, {sum(took):.0f} s in all")
    print()


def bars(folder: pathlib.Path) -> None:
    """First choices, fives and tens beside what they were meant to beat."""
    made = json.loads((folder / "evaluate-tables.json").read_text())
    print("| meta-dataset | @ | jmeta | bar | better of portfolio and forest |")
    print("|---" * 5 + "|")
    for one in made:
        ours, floors = one["methods"]["jmeta"], one["methods"]
        wanted = BARS.get(one["name"], ())
        for place, metric in enumerate(ours["intervals"]):
            bar = wanted[place] if place < len(wanted) else None
            if bar == "single best":
                bar = floors["single_best"][metric]
            best = min(floors[name][metric] for name in ("portfolio", "forest"))
            fits = bar is None or round(ours[metric], 3) <= round(bar, 3)
            if place:
                fits = fits and ours[metric] <= best + 0.001
            told = f"{ours[metric]:.3f}" + ("" if fits else " (missed)")
            shown = "" if bar is None else f"{bar:.3f}"
            size = metric.split("@")[1]
            print(f"| {one['name']} | {size} | {told} | {shown} | {best:.3f} |")
    print()


if __name__ == "__main__":
    results = pathlib.Path(sys.argv[1])
    seconds(results)
    regrets(results)
    par10(results)
    times(results)
    bars(results)
