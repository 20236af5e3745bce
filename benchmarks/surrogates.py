"""The meta-optimizer's proposals, scored by the surrogates that the tables are of.

    python benchmarks/surrogates.py ../shared/data rpart-bac xgboost-auc --out FILE.json

A table's scores were computed from a YAHPO Gym surrogate at its candidates' settings.
So a proposal that lies between candidates can be scored itself, beside the run
candidate that is nearest to it. Regret is in units of the task's best to worst run
candidate and is negative where a proposal beats all of them.
"""

import dataclasses
import json
import pathlib
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import jax
import numpy as np
import tyro

from jmeta.data.metadataset import read_meta_dataset
from jmeta.data.records import MetaDataset
from jmeta.data.surrogates import Surrogate, encode, read_surrogate
from jmeta.evaluation import normalised_regret, scores
from jmeta.floors import recommend_by
from jmeta.selection import study
from jmeta.selection.optimizer import WAYS, chosen_ways, learn, propose
from jmeta.selection.settings import SettingsSpace

Path = pathlib.Path
SIZES = (1, 5, 10)


class Source(NamedTuple):
    """What a table's scores were computed from.

    Attributes:
      surrogate: the folder's name.
      output: the surrogate's output that the scores are.
      words: settings that all candidates share and that the table does not tell.
    """

    surrogate: str
    output: str
    words: Mapping[str, str]


_MEAN = {"num.impute.selected.cpo": "impute.mean"}
_TREES = _MEAN | {"booster": "gbtree"}
SOURCES = {
    "rpart-bac": Source("rbv2_rpart", "bac", _MEAN),
    "xgboost-auc": Source("rbv2_xgboost", "auc", _TREES),
    "xgboost-bac": Source("rbv2_xgboost", "bac", _TREES),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """What to run.

    Attributes:
      data: the folder that holds meta and surrogates.
      tables: names of folders in meta.
      seeds: of the grouped folds.
      out: where the JSON is written after every table; stdout if nothing is said.
    """

    data: Annotated[Path, tyro.conf.Positional]
    tables: Annotated[tuple[str, ...], tyro.conf.Positional] = (
        "rpart-bac",
        "xgboost-auc",
    )
    seeds: int = 1
    out: Path | None = None


def surrogate_costs(
    surrogate: Surrogate,
    source: Source,
    settings: Sequence[Mapping[str, Any]],
    tasks: np.ndarray,
) -> np.ndarray:
    """What each of the settings costs on its task, given as the surrogate's place."""
    encoded = encode(surrogate, [{**given, **source.words} for given in settings])
    ask = jax.jit(jax.vmap(surrogate.predict, in_axes=(None, 0, 0)))
    place = surrogate.outputs.index(source.output)
    return -np.asarray(ask(surrogate.params, encoded, tasks), float)[:, place]


def proposed_costs(
    surrogate: Surrogate,
    source: Source,
    space: SettingsSpace,
    tasks: np.ndarray,
    units: np.ndarray,
) -> np.ndarray:
    """Costs `(tasks, proposals)` of proposals `(tasks, proposals, columns)`."""
    settings = [space.decode(unit) for unit in units.reshape(-1, units.shape[-1])]
    places = np.repeat(tasks, units.shape[1])
    return surrogate_costs(surrogate, source, settings, places).reshape(units.shape[:2])


def regrets(data: MetaDataset, costs: np.ndarray) -> np.ndarray:
    """Regrets of `(tasks, k)` costs, where the table's candidates make best and worst.

    On tasks whose candidates are equal 0, as in `jmeta.evaluation`.
    """
    best, worst = data.costs.min(axis=1)[:, None], data.costs.max(axis=1)[:, None]
    differ = np.any(normalised_regret(data.costs) > 0, axis=1, keepdims=True)
    return np.where(differ, (costs - best) / np.where(differ, worst - best, 1.0), 0.0)


def told(regret: np.ndarray) -> dict[str, float]:
    """Means over tasks of the best of the first few."""
    best = np.minimum.accumulate(regret, axis=1)
    sizes = [size for size in SIZES if size <= best.shape[1]]
    return {f"regret@{size}": float(best[:, size - 1].mean()) for size in sizes}


def mean_of(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means over seeds."""
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def run_table(arguments: Arguments, name: str) -> dict[str, Any]:
    """Learn on each training fold, propose on its test tasks, score both ways."""
    begin, source = time.perf_counter(), SOURCES[name]
    data = read_meta_dataset(arguments.data / "meta" / name)
    surrogate = read_surrogate(arguments.data / "surrogates" / source.surrogate)
    assert data.settings is not None
    tasks = np.array([surrogate.tasks.index(task) for task in data.tasks])
    rows = data.settings.to_dict("records")
    size = len(rows)
    again = surrogate_costs(
        surrogate, source, rows * len(tasks), np.repeat(tasks, size)
    )
    gaps = np.abs(again.reshape(-1, size) - data.costs)

    folds = study.folds_of(data, "grouped", arguments.seeds)
    train, keys, asked = study.fits_of(folds)
    learnt = learn(data, train, keys)
    made = [propose(learnt, fits) for fits in asked]
    found = [
        regrets(data, proposed_costs(surrogate, source, learnt.space, tasks, one.units))
        for one in made
    ]
    single = [recommend_by("single_best", data, row, s) for s, row in enumerate(folds)]
    ways = np.bincount(chosen_ways(learnt.regrets, learnt.train), minlength=len(WAYS))
    return {
        "tasks": len(tasks),
        "candidates": size,
        "largest_gap_to_table": float(gaps.max()),
        "surrogate": mean_of([told(one) for one in found]),
        "nearest": mean_of(
            [scores(data, row, one.recommended) for row, one in zip(folds, made)]
        ),
        "single_best": mean_of([scores(data, row, s) for row, s in zip(folds, single)]),
        "share_below_all_candidates": float(np.mean([r[:, 0] < 0 for r in found])),
        "ways": dict(zip(WAYS, ways.tolist())),
        "seconds": time.perf_counter() - begin,
    }


def main(arguments: Arguments) -> None:
    """Run every table, and write or print what came out."""
    if unknown := set(arguments.tables) - set(SOURCES):
        sys.exit(
            f"surrogates.py: no table {sorted(unknown)}; there are {list(SOURCES)}."
        )
    results: dict[str, Any] = {
        "seeds": arguments.seeds,
        "folds": "grouped",
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "tables": {},
    }
    for name in arguments.tables:
        results["tables"][name] = run_table(arguments, name)
        print(name, results["tables"][name], file=sys.stderr, flush=True)
        if arguments.out is not None:
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            arguments.out.write_text(json.dumps(results, indent=2) + "\n")
        jax.clear_caches()
    if arguments.out is None:
        print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
