"""Settings learnt through training, beside a grid search, on real tables.

    python benchmarks/through_training.py --data ../shared/data/tabular/pmlb --out OUT

For each learner and table, on the folds of `tables.py`: log loss with the default
settings; with the best of a grid of 64 by inner 5-fold cross-validation
(`grid_search.py`); with the settings that the meta-optimizer gives from the description
alone; and with the best of 8 candidates around those, by the same inner folds. The
network (`learn_settings.py`) never saw a table of the same family.
Settings aside, all four are the same learner, run by the same compiled program.

What is measured is appended to OUT after every table, and a stopped run goes on.
"""

import dataclasses
import functools
import itertools
import json
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import tables as outer
import tyro
from cut_tasks import measure_cuttings
from grid_search import (
    FOLDS,
    GRIDS,
    SLOTS,
    Real,
    Store,
    family,
    forget_programs,
    key_of,
    measure_grids,
    on_queries,
    read,
    searched,
    table_of,
)
from learn_settings import learn

from jmeta import learners
from jmeta.describe.probes import MOST_ROWS, probe_names, probes
from jmeta.tasks import Table

Path = pathlib.Path
RUN = Path("runs/through-training")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """What to run.

    Attributes:
      data: the folder of tables.
      out: where everything is kept, and resumed from.
      learners: which; all if nothing is said.
      grid_folds: outer folds on which the grid is searched, of 5.
      cuttings: small tasks that are cut from each table, to learn from.
      surface_steps: steps that learn from measured losses.
      through_steps: meta-steps through the learners' training, after those.
      seed: of the folds and of everything drawn.
      min_rows, max_rows, max_columns, limit: which tables, as in `tables.py`.
      json: print one JSON object and nothing else on stdout.
    """

    data: Path
    out: Path = RUN
    learners: tuple[str, ...] = tuple(GRIDS)
    grid_folds: int = 1
    cuttings: int = 8
    surface_steps: int = 1000
    through_steps: int = 200
    seed: int = 0
    min_rows: int = 50
    max_rows: int = 2000
    max_columns: int = 100
    limit: int = 0
    json: bool = False


@functools.partial(jax.jit, static_argnames=("num_classes", "learner"))
def described(
    table: Table, num_rows: jax.Array, num_classes: int, learner: str
) -> jax.Array:
    """What a learner's settings depend on, of a table with at most `MOST_ROWS` rows."""
    return probes(table, num_classes=num_classes, num_rows=num_rows, of=(learner,))


def few_rows(real: Real, fold: int, seed: int) -> tuple[Table, jax.Array]:
    """At most `MOST_ROWS` rows of a fold's support, and how many there are.

    Drawn here, so that tables of all lengths are described by one program.
    """
    rows = np.flatnonzero(real.support[fold])
    rng = np.random.default_rng([seed, fold])
    kept = np.sort(rng.permutation(rows)[:MOST_ROWS])
    kept = np.pad(kept, (0, MOST_ROWS - len(kept)), constant_values=-1)
    one = jax.tree.map(lambda leaf: np.asarray(leaf[fold]), real.tables)
    few = Table(*(leaf[kept] for leaf in one[:3]), one.columns)
    return few._replace(mask=few.mask & (kept >= 0)), jnp.asarray(len(rows))


def measure_descriptions(
    arguments: Arguments, paths: Sequence[Path], store: Store
) -> None:
    """Describe every outer fold of every table for every learner, and time it."""
    for path, fold in itertools.product(paths, range(arguments.grid_folds)):
        table = table_of(path)
        if store.has(table=table, fold=fold):
            continue
        real = read(path, arguments.seed)
        few = few_rows(real, fold, arguments.seed)
        seconds, whole = {}, np.full(len(probe_names()), np.nan)
        for name in arguments.learners:
            found = np.asarray(described(*few, real.num_classes, name))
            begin = time.perf_counter()
            jax.block_until_ready(described(*few, real.num_classes, name))
            seconds[name] = time.perf_counter() - begin
            whole = np.where(np.isnan(whole), found, whole)
        store.add(
            {
                "table": table,
                "fold": fold,
                "seconds": seconds,
                "description": whole.tolist(),
            }
        )
        forget_programs()
        print(f"described {table}, fold {fold}: {seconds}", file=sys.stderr)


def around(unit: np.ndarray, seed: int) -> np.ndarray:
    """Eight candidates: the settings given, and a Latin square of seven around them."""
    rng = np.random.default_rng(seed)
    levels = np.linspace(-0.3, 0.3, 7)
    moves = np.stack([rng.permutation(levels) for _ in unit], axis=1)
    return np.clip(np.concatenate([unit[None], unit + moves]), 0.0, 1.0)


def judge(
    arguments: Arguments,
    paths: Sequence[Path],
    grids: Store,
    units: dict[str, dict[str, np.ndarray]],
    seconds: dict[tuple[str, int], dict[str, float]],
) -> list[dict[str, Any]]:
    """What was learnt, on the outer queries, beside the grid and the defaults."""
    out = []
    searches = {(row["learner"], row["table"], row["fold"]): row for row in grids.rows}
    folds = range(arguments.grid_folds)
    for name, (place, path) in itertools.product(arguments.learners, enumerate(paths)):
        table = table_of(path)
        key = key_of(arguments.seed, table)
        real = read(path, arguments.seed)
        learner = learners.get(name, real.num_classes)
        for fold in folds:
            row = searches[name, table, fold]
            eight = around(units["through"][name][place, fold], arguments.seed)
            cv, warm_seconds = searched(learner, key, eight, real, fold)
            best = eight[np.argmin(cv)]
            given = np.stack([best, units["surfaces"][name][place, fold], eight[0]])
            given = np.repeat(given[:, None], FOLDS, axis=1)
            told, fit_seconds = on_queries(learner, key, given, real)
            # The grid's own seconds, unless the machine had more to do at that time.
            as_many = SLOTS / len(eight)
            description_seconds = seconds[table, fold][name]
            out.append(
                {
                    "learner": name,
                    "table": table,
                    "fold": fold,
                    "family": family(table),
                    "default": row["default"],
                    "grid": row["grid"],
                    "zero_shot": float(told[2, fold]),
                    "surfaces_alone": float(told[1, fold]),
                    "warm_8": float(told[0, fold]),
                    "grid_seconds": min(row["grid_seconds"], as_many * warm_seconds),
                    "zero_seconds": description_seconds + fit_seconds / FOLDS,
                    "warm_seconds": description_seconds + warm_seconds,
                }
            )
        forget_programs()
        print(f"judged {name} on {table}", file=sys.stderr)
    return out


def recovered(rows: pd.DataFrame, column: str) -> float:
    """The share of the grid's gain over the defaults."""
    mean = rows[["default", "grid", column]].mean()
    return float((mean["default"] - mean[column]) / (mean["default"] - mean["grid"]))


def summarise(rows: pd.DataFrame) -> dict[str, Any]:
    """Means over tables, with intervals over families drawn with replacement."""
    scores = ["default", "grid", "zero_shot", "surfaces_alone", "warm_8"]
    out = {name: float(rows[name].mean()) for name in scores}
    out["recovered"] = recovered(rows, "zero_shot")
    groups = [group for _, group in rows.groupby("family")]
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(1000):
        picked = pd.concat(
            [groups[i] for i in rng.integers(0, len(groups), len(groups))]
        )
        draws.append(
            (
                recovered(picked, "zero_shot"),
                picked["grid"].mean() - picked["warm_8"].mean(),
            )
        )
    for name, values in zip(("recovered", "warm_ahead"), zip(*draws)):
        out[f"{name}_interval"] = np.quantile(values, [0.025, 0.975]).tolist()
    total = rows[["grid_seconds", "zero_seconds", "warm_seconds"]].sum()
    out["time_ratio"] = float(total["zero_seconds"] / total["grid_seconds"])
    out["warm_time_ratio"] = float(total["warm_seconds"] / total["grid_seconds"])
    out["tables"] = int(rows["table"].nunique())
    return out


def main(arguments: Arguments) -> None:
    """Measure, learn, judge, write and print."""
    sized = {f.name: getattr(arguments, f.name) for f in dataclasses.fields(arguments)}
    sized = {
        k: v for k, v in sized.items() if k in ("min_rows", "max_rows", "max_columns")
    }
    paths = outer.chosen(
        outer.Arguments(data=arguments.data, limit=arguments.limit, **sized)
    )
    if not paths:
        sys.exit(f"through_training.py: no table of that size in {arguments.data}")
    grids, descriptions, cuttings = (
        Store(arguments.out / f"{name}.jsonl")
        for name in ("grids", "descriptions", "cuttings")
    )
    names, seed, num_folds = arguments.learners, arguments.seed, arguments.grid_folds
    measure_descriptions(arguments, paths, descriptions)
    measure_cuttings(paths, names, arguments.cuttings, seed, cuttings)
    measure_grids(paths, names, grids, num_folds=num_folds, seed=seed)
    told = {(row["table"], row["fold"]): row for row in descriptions.rows}
    about = [
        [told[table_of(path), fold]["description"] for fold in range(num_folds)]
        for path in paths
    ]
    units = learn(
        names,
        paths,
        np.array(about, np.float32),
        grids,
        cuttings,
        num_steps=(arguments.surface_steps, arguments.through_steps),
        seed=seed,
    )
    seconds = {key: row["seconds"] for key, row in told.items()}
    judged = pd.DataFrame(judge(arguments, paths, grids, units, seconds))
    judged.to_csv(arguments.out / "judged.csv", index=False)
    results = {name: summarise(group) for name, group in judged.groupby("learner")}
    (arguments.out / "through-training.json").write_text(json.dumps(results, indent=1))
    if arguments.json:
        print(json.dumps(results))
    else:
        print(pd.DataFrame(results).T.to_string())


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
