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
"""Regret at 1, 5 and 10 that jmeta should be below."""


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


def load(folder: pathlib.Path, kind: str) -> list[dict[str, Any]]:
    """Evaluations with the methods of both files: jmeta's, and the floors' beside."""
    made = json.loads((folder / f"evaluate-{kind}.json").read_text())
    beside = json.loads((folder / f"evaluate-{kind}-floors.json").read_text())
    more = {one["name"]: one["methods"] for one in beside}
    return [one | {"methods": one["methods"] | more[one["name"]]} for one in made]


def table(head: list[str], rows: list[list[str]]) -> None:
    """As Markdown."""
    for row in (head, ["---"] * len(head), *rows):
        print(f"| {' | '.join(row)} |")
    print()


def regrets(folder: pathlib.Path) -> None:
    """A row a meta-dataset, regret at 1 / 5 / 10."""
    made = load(folder, "tables")
    rows = []
    for one in made:
        cells = [one["name"]]
        for found in one["methods"].values():
            values = [found[metric] for metric in found["intervals"]]
            cells.append(" / ".join(f"{value:.3f}"[1:] for value in values))
        rows.append(cells)
    table(["meta-dataset", *made[0]["methods"]], rows)


def bars(folder: pathlib.Path) -> None:
    """What was to be reached on the tables, and what was."""
    rows = []
    for one in load(folder, "tables"):
        found, wanted = one["methods"], BARS.get(one["name"], ())
        for place, metric in enumerate(found["jmeta"]["intervals"]):
            bar = wanted[place] if place < len(wanted) else None
            bar = found["single_best"][metric] if bar == "single best" else bar
            ours = found["jmeta"][metric]
            best = min(found[name][metric] for name in ("portfolio", "forest"))
            limits = [bar] if bar is not None else []
            limits += [best + 0.001] if place else []
            met = all(ours <= limit for limit in limits)
            shown = ["" if bar is None else f"{bar:.3f}", f"{best:.3f}"]
            told = "" if not limits else "met" if met else "missed"
            size = metric.split("@")[1]
            rows.append([one["name"], size, f"{ours:.3f}", *shown, told])
    head = ["meta-dataset", "@", "jmeta", "bar", "better of portfolio and forest", ""]
    table(head, rows)


def par10(folder: pathlib.Path) -> None:
    """nPAR10 of every scenario, and the mean over those with published numbers."""
    made = load(folder, "aslib")
    found = {
        one["name"]: {name: m["npar10"] for name, m in one["methods"].items()}
        for one in made
    }
    values = pd.DataFrame(found).T.drop(columns="single_best")
    published = values.drop(index=[n for n in UNPUBLISHED if n in values.index])
    values.loc[f"mean of {len(published)}"] = published.mean()
    rows = [
        [str(name), *("" if pd.isna(v) else f"{v:.3f}" for v in row)]
        for name, row in zip(values.index, values.to_numpy())
    ]
    table(["scenario", *values.columns], rows)


def optimizer(folder: pathlib.Path) -> None:
    """Of the meta-optimizer and what stands beside it, first choice and five."""
    made = json.loads((folder / "evaluate-optimizer.json").read_text())
    head = ["meta-dataset", *made[0]["methods"]]
    rows = [
        [
            one["name"],
            *(
                f"{found['regret@1']:.3f} / {found['regret@5']:.3f}"
                for found in one["methods"].values()
            ),
        ]
        for one in made
    ]
    table(head, rows)


def times(folder: pathlib.Path) -> None:
    """What training and judging jmeta took in all, and what a forest took."""
    for kind in ("aslib", "tables"):
        made = load(folder, kind)
        for name in ("jmeta", "forest"):
            took = [one["methods"][name]["seconds"] for one in made]
            print(f"{kind}, {name}: {sum(took):.0f} s a seed, {len(took)} folders")
    print()


if __name__ == "__main__":
    results = pathlib.Path(sys.argv[1])
    seconds(results)
    for told in (regrets, bars, par10, optimizer, times):
        told(results)
