"""What each loss is worth: the meta-classifier alone, on the same folds and draws.

python benchmarks/losses.py META/pmlb-svm ASLIB/SAT11-HAND --seeds 3 --out losses.json

Every loss trains the same networks from the same weights on the same batches; the
candidate with the lowest prediction is chosen, with nothing beside or after it. All
descriptions are used, and charged where they cost time. Prints the table of
docs/losses.md; `--table losses.json` prints it from results.
"""

import argparse
import json
import pathlib
from typing import Any

import jax
import numpy as np

from jmeta.algorithms.losses import LOSSES
from jmeta.data.metadataset import read_meta_dataset
from jmeta.evaluation import Recommended, by_regret, scores, summary
from jmeta.floors import recommend_by
from jmeta.selection import experts, study
from jmeta.selection.inputs import make_inputs

NAMES = ("mixture", *LOSSES)


def measure(path: pathlib.Path, num_seeds: int) -> dict[str, Any]:
    """Scores of the single best and of every loss on one meta-dataset, by seed."""
    data = read_meta_dataset(path)
    folds = study.folds_of(data, None, num_seeds)
    train, keys, asked = study.fits_of(folds)
    inputs = make_inputs(data, train, keys)
    size = min(10, len(data.candidates))
    base = np.asarray(inputs.base / inputs.spread[:, None])[:, None, :, 0]
    rows, charge = np.arange(len(data.tasks)), data.group_costs.sum(axis=1)
    metric = "regret@1" if by_regret(data) else "npar10"

    def judged(fold: np.ndarray, order: np.ndarray) -> float:
        return scores(data, fold, Recommended(order[:, :size], charge))[metric]

    found = {
        "single_best": [
            scores(data, fold, recommend_by("single_best", data, fold, seed))[metric]
            for seed, fold in enumerate(folds)
        ]
    }
    for name in NAMES:
        made = experts.network(inputs, name).reshape(len(train), *inputs.costs.shape)
        order = np.argsort(base + made[..., 0], axis=2, kind="stable")
        found[name] = [
            judged(fold, order[fits, rows]) for fold, fits in zip(folds, asked)
        ]
    return {"name": data.name, "metric": metric, "by_seed": found}


def table(made: list[dict[str, Any]]) -> str:
    """Means over seeds, with half the width of their 95 % intervals."""
    names = list(made[0]["by_seed"])
    lines = [f"| meta-dataset | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for one in made:
        found = {name: summary(values) for name, values in one["by_seed"].items()}
        lowest = min(f"{value.mean:.3f}" for value in found.values())
        cells = []
        for value in found.values():
            text = f"{value.mean:.3f}"
            shown = f"**{text}**" if text == lowest else text
            half = value.mean - value.low
            cells.append(f"{shown} ± {half:.3f}" if np.isfinite(half) else shown)
        lines.append(f"| {one['name']} ({one['metric']}) | {' | '.join(cells)} |")
    means = [np.mean([np.mean(one["by_seed"][name]) for one in made]) for name in names]
    lines.append(f"| mean | {' | '.join(f'{value:.3f}' for value in means)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("paths", nargs="*", type=pathlib.Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--table", type=pathlib.Path, help="results to print")
    options = parser.parse_args()
    made = json.loads(options.table.read_text()) if options.table else []
    for path in options.paths:
        made.append(measure(path, options.seeds))
        print(table(made[-1:]), flush=True)
        jax.clear_caches()  # The next folder has other shapes.
        if options.out:
            options.out.write_text(json.dumps(made, indent=1) + "\n")
    print(table(made))


if __name__ == "__main__":
    main()
