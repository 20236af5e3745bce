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
    values = {
        one["name"]: {name: m["npar10"] for name, m in one["methods"].items()}
        for one in made
    }
    rows = pd.DataFrame(values).T
    rows["seconds"] = [one["methods"]["jmeta"]["seconds"] for one in made]
    print(rows.round(3).to_string())
    published = rows.drop(index=[name for name in UNPUBLISHED if name in rows.index])
    print(f"mean over {len(published)}\n{published.mean().round(3)}")
    print(f"seconds a scenario {rows['seconds'].mean():.1f}")


if __name__ == "__main__":
    results = pathlib.Path(sys.argv[1])
    seconds(results)
    regrets(results)
    par10(results)
