"""Settings learnt by the gradient through a surrogate, beside the same network without.

    python benchmarks/surrogate.py --data ../shared/data --json

Of a table whose scores were computed from a YAHPO Gym surrogate, a network learns
settings from descriptions: in `through` it lowers the surrogate's own answer by its
gradient, in `mse` the squared distance to each task's best candidates. `shared` are
settings for all tasks alike, learnt by the same gradient. Starts, batches and numbers
of steps are the same; after how many of these to stop is decided on families of the
training tasks that were not learnt from. The surrogate says what the settings are
worth, whole numbers being whole.

Regret is in units of the task's best to worst of the table's candidates, from which
`forest` and `single_best` choose; it is negative for settings that beat all of them.
"""

import dataclasses
import json
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from surrogates import SOURCES, regrets, surrogate_costs

from jmeta.algorithms.bilevel import bilevel
from jmeta.algorithms.meta_optimizer import meta_optimizer
from jmeta.algorithms.meta_regression import MetaSettings, meta_regression
from jmeta.base import Learner, MetaAlgorithm, Network
from jmeta.data.metadataset import read_meta_dataset
from jmeta.data.records import MetaDataset
from jmeta.data.surrogates import Surrogate, read_surrogate
from jmeta.evaluation import summary, task_values
from jmeta.floors import recommend_by
from jmeta.learners.surrogate import (
    relative_regret,
    surrogate_learner,
    surrogate_tasks,
)
from jmeta.networks import MetaOptimizer, from_linen
from jmeta.selection.study import fits_of, folds_of
from jmeta.tasks import Task
from jmeta.types import Array

Path = pathlib.Path

PARTS, GOOD = 5, 32
STEPS, CHECKS, BATCH, WIDTH = 400, 20, 64, 64
LEARNING_RATE, WEIGHT_DECAY, FEATURE_DROPOUT = 3e-3, 1e-2, 0.15
"""All as in `jmeta.selection.proposer`, but for more checks."""

SHARED_RATE = 0.05
"""Of the settings that all tasks share, before a sigmoid."""

FLOORS = ("forest", "single_best")
COLORS = {"through": "C0", "mse": "C3", "shared": "C2"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """What to run.

    Attributes:
      data: the folder that holds meta and surrogates.
      tables: names of folders in meta; the first one's results come on top.
      seeds: of the grouped folds.
      json: print one JSON object and nothing else on stdout.
      out: where the same JSON is written.
      plot: where the regret over steps of the first table is drawn.
    """

    data: Path
    tables: tuple[str, ...] = ("xgboost-auc", "rpart-bac")
    seeds: int = 3
    json: bool = False
    out: Path | None = None
    plot: Path | None = None


class Study(NamedTuple):
    """A table and the surrogate that it is of.

    Attributes:
      data: the table.
      surrogate: that it is of.
      fixed: settings that all candidates share.
      learner: of the other settings.
      places: of the table's tasks among the surrogate's.
      tasks: the same, with descriptions.
      units: of the candidates, in the learner's space.
      regret: of the candidates `(tasks, candidates)`.
    """

    data: MetaDataset
    surrogate: Surrogate
    fixed: dict[str, Any]
    learner: Learner
    places: np.ndarray
    tasks: Task
    units: Array
    regret: Array


def read_study(folder: Path, name: str) -> Study:
    """Read a table and its surrogate."""
    source, data = SOURCES[name], read_meta_dataset(folder / "meta" / name)
    surrogate = read_surrogate(folder / "surrogates" / source.surrogate)
    assert data.settings is not None
    columns = {column: data.settings[column] for column in data.settings}
    same = {str(c): one.iloc[0] for c, one in columns.items() if one.nunique() == 1}
    fixed = same | dict(source.words)
    learner = surrogate_learner(surrogate, source.output, fixed=fixed)
    free = {
        column: jnp.asarray(columns[column].to_numpy(float))
        for column in learner.space.names
    }
    places = np.array([surrogate.tasks.index(task) for task in data.tasks])
    regret = regrets(data, data.costs)
    differ = (regret > 0).any(axis=1)
    best = -data.costs.min(axis=1)
    limit = float(np.finfo(np.float32).max)
    return Study(
        data=data,
        surrogate=surrogate,
        fixed=fixed,
        learner=learner,
        places=places,
        tasks=surrogate_tasks(
            places,
            best,
            np.where(differ, -data.costs.max(axis=1), best),
            np.clip(data.descriptions, -limit, limit),
        ),
        units=learner.space.encode(free),
        regret=jnp.asarray(regret, jnp.float32),
    )


def best_candidate(study: Study, mine: Array) -> Array:
    """Where all start: the candidate that is best on the tasks that are learnt from."""
    mean = jnp.mean(jnp.where(mine[:, None], study.regret, 0.0), axis=0)
    return study.units[jnp.argmin(mean)]


def network(study: Study, mine: Array) -> Network:
    """From descriptions to settings."""
    start = {study.learner.name: best_candidate(study, mine)}
    return from_linen(MetaOptimizer(defaults=start, width=WIDTH, num_blocks=1))


def optimizer() -> optax.GradientTransformation:
    """Of the networks."""
    schedule = optax.cosine_decay_schedule(LEARNING_RATE, STEPS)
    return optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(schedule, weight_decay=WEIGHT_DECAY),
    )


def through(study: Study, mine: Array) -> tuple[MetaAlgorithm, Task]:
    """A network, by the gradient through the surrogate."""
    algorithm = meta_optimizer(
        network(study, mine),
        [study.learner],
        optimizer(),
        loss=relative_regret,
        feature_dropout=FEATURE_DROPOUT,
    )
    return algorithm, study.tasks


def shared(study: Study, mine: Array) -> tuple[MetaAlgorithm, Task]:
    """One setting for all tasks, by the same gradient."""
    inside = jnp.clip(best_candidate(study, mine), 0.02, 0.98)
    learner = study.learner
    algorithm = bilevel(
        learner,
        optax.adam(optax.cosine_decay_schedule(SHARED_RATE, STEPS)),
        start=jnp.log(inside) - jnp.log1p(-inside),
        decode=lambda made: learner.space.decode(jax.nn.sigmoid(made)),
        loss=relative_regret,
    )

    def predict(params: Any, description: Array) -> dict[str, Array]:
        del description  # The same for all.
        return {learner.name: jax.nn.sigmoid(params["network"][learner.name])}

    return algorithm._replace(predict=predict), study.tasks


def mse(study: Study, mine: Array) -> tuple[MetaAlgorithm, MetaSettings]:
    """The same network, by squared distance to good candidates."""
    algorithm = meta_regression(
        network(study, mine), optimizer(), feature_dropout=FEATURE_DROPOUT
    )
    name, count = study.learner.name, min(GOOD, len(study.units))
    good = np.argsort(np.asarray(study.regret), axis=1)[:, :count]
    costs = jnp.take_along_axis(study.regret, jnp.asarray(good), axis=1)
    tasks = MetaSettings(
        description=study.tasks.description,
        settings={name: study.units[good]},
        costs={name: costs},
        mask={name: jnp.ones(good.shape, bool)},
    )
    return algorithm, tasks


Make = Callable[[Study, Array], tuple[MetaAlgorithm, Any]]


def trained(study: Study, make: Make, mine: Array, key: Array) -> Array:
    """Settings of all tasks `(checks, tasks, size)` as the network learns."""
    algorithm, tasks = make(study, mine)
    count = jnp.maximum(jnp.sum(mine), 1)
    # Training tasks alone, some of them twice: the scaler must see no others.
    rows = jnp.argsort(~mine)[jnp.arange(len(mine)) % count]
    tasks = jax.tree.map(lambda leaf: leaf[rows], tasks)

    def step(state: Any, number: Array) -> tuple[Any, None]:
        draw_key, step_key = jax.random.split(jax.random.fold_in(key, number))
        drawn = jax.random.randint(draw_key, (BATCH,), 0, count)
        batch = jax.tree.map(lambda leaf: leaf[drawn], tasks)
        return algorithm.step(step_key, state, batch)[0], None

    def told(state: Any) -> Array:
        say = jax.vmap(algorithm.predict, in_axes=(None, 0))
        return say(state.params, study.tasks.description)[study.learner.name]

    def check(state: Any, numbers: Array) -> tuple[Any, Array]:
        state, _ = jax.lax.scan(step, state, numbers)
        return state, told(state)

    state = algorithm.init(key, tasks)
    _, later = jax.lax.scan(check, state, jnp.arange(STEPS).reshape(CHECKS, -1))
    return jnp.concatenate([told(state)[None], later])


def judged(study: Study, units: Array) -> Array:
    """Regret of each task's own settings, whole numbers being whole."""

    def one(unit: Array, task: Task) -> Array:
        settings = study.learner.space.decode(unit)
        weights = study.learner.fit(jax.random.key(0), settings, task.support)
        return relative_regret(study.learner, weights, task)

    return jax.vmap(one)(units, study.tasks)


class Fitted(NamedTuple):
    """What one training set, or many, made of all tasks.

    Attributes:
      regret: after each number of steps `(checks, tasks)`.
      check: the number of steps that was best on families left out.
      units: after so many steps `(tasks, size)`.
    """

    regret: Array
    check: Array
    units: Array


def fit(study: Study, make: Make, train: Array, number: Array) -> Fitted:
    """Train on all training tasks, and without each part of their families."""
    parts = jnp.arange(PARTS + 1)[:, None]
    # The last part leaves out none.
    families = jnp.asarray(study.data.families, jnp.int32)
    held = (families % PARTS == parts) & (parts < PARTS) & train
    keys = jax.random.split(jax.random.key(number), PARTS + 1)
    units = jax.vmap(lambda held, key: trained(study, make, train & ~held, key))(
        held, keys
    )
    regret = jax.lax.map(jax.vmap(lambda unit: judged(study, unit)), units)
    left_out = jnp.sum(jnp.where(held[:, None], regret, 0.0), axis=(0, 2))
    check = jnp.argmin(left_out)
    return Fitted(regret=regret[-1], check=check, units=units[-1, check])


def exact(study: Study, units: np.ndarray) -> np.ndarray:
    """Regrets of settings as people read them and as the surrogate's reader checks."""
    settings = [study.learner.space.readable(unit) | study.fixed for unit in units]
    source = SOURCES[study.data.name]
    costs = surrogate_costs(study.surrogate, source, settings, study.places)
    return regrets(study.data, costs[:, None])[:, 0]


class Learnt(NamedTuple):
    """What was learnt on the training folds of all seeds.

    Attributes:
      regrets: `(seeds, tasks)`, each by the fit that did not learn from the task.
      curves: the same after each number of steps `(seeds, checks)`, as means.
      steps: after how many each fit stopped.
      gap: the largest between regrets as they were told in training and at last.
      seconds: of all.
    """

    regrets: np.ndarray
    curves: np.ndarray
    steps: np.ndarray
    gap: float
    seconds: float


def learn(study: Study, make: Make, folds: np.ndarray) -> Learnt:
    """Learn on the training folds of all seeds in one program, and judge."""
    begin = time.perf_counter()
    train, numbers, asked = fits_of(folds)

    @jax.jit
    def fit_all(train: Array, numbers: Array) -> Fitted:
        return jax.lax.map(lambda one: fit(study, make, *one), (train, numbers))

    made = jax.device_get(fit_all(jnp.asarray(train), jnp.asarray(numbers)))
    rows = np.arange(len(study.data.tasks))
    found = np.stack([exact(study, made.units[fits, rows]) for fits in asked])
    in_training = np.stack(
        [made.regret[fits, made.check[fits], rows] for fits in asked]
    )
    curves = np.stack([made.regret[fits, :, rows].mean(axis=0) for fits in asked])
    return Learnt(
        regrets=found,
        curves=curves,
        steps=made.check * (STEPS // CHECKS),
        gap=float(np.abs(found - in_training).max()),
        seconds=time.perf_counter() - begin,
    )


def told(learnt: Learnt) -> dict[str, Any]:
    """Regret with its 95 % interval over seeds, and how it was reached."""
    by_seed = learnt.regrets.mean(axis=1)
    low, high = summary(by_seed)[1:]
    interval = [low, high] if len(by_seed) > 1 else None
    return {
        "regret@1": float(by_seed.mean()),
        "interval": interval,
        "by_seed": by_seed.tolist(),
        "below_all_candidates": float(np.mean(learnt.regrets < 0)),
        "median_steps": float(np.median(learnt.steps)),
        "curve": learnt.curves.mean(axis=0).tolist(),
        "seconds": learnt.seconds,
        "largest_gap": learnt.gap,
    }


def floor(study: Study, name: str, folds: np.ndarray) -> np.ndarray:
    """Regrets of a floor `(seeds, tasks)`."""
    return np.stack(
        [
            task_values(study.data, row, recommend_by(name, study.data, row, seed))[
                "regret@1"
            ]
            for seed, row in enumerate(folds)
        ]
    )


def run_table(folder: Path, name: str, num_seeds: int) -> dict[str, Any]:
    """All methods on one table."""
    study = read_study(folder, name)
    folds = folds_of(study.data, "grouped", num_seeds)
    learnt = {
        "through": learn(study, through, folds),
        "mse": learn(study, mse, folds),
        "shared": learn(study, shared, folds),
    }
    floors = {name: floor(study, name, folds) for name in FLOORS}
    paid = {name: one.regrets for name, one in learnt.items()} | floors
    means = {name: float(regret.mean()) for name, regret in paid.items()}
    # Of the mean over tasks, as these are drawn; not over seeds.
    ahead = {
        name: list(summary((regret - paid["through"]).mean(axis=0)))
        for name, regret in paid.items()
        if name != "through"
    }
    return means | {
        "table": name,
        "tasks": len(study.data.tasks),
        "candidates": len(study.data.candidates),
        "settings": list(study.learner.space.names),
        "seeds": num_seeds,
        "folds": "10, grouped by family",
        "through_is_ahead_of": ahead,
        "steps": np.arange(0, STEPS + 1, STEPS // CHECKS).tolist(),
        "methods": {name: told(one) for name, one in learnt.items()},
        "floors_by_seed": {
            name: regret.mean(axis=1).tolist() for name, regret in floors.items()
        },
    }


def plot(made: dict[str, Any], path: Path) -> None:
    """Regret on tasks not learnt from, over steps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    labels = {
        "through": "network, through the surrogate",
        "mse": "the same network, by squared error",
        "shared": "one setting for all, through the surrogate",
    }
    for name, label in labels.items():
        curve = made["methods"][name]["curve"]
        axes.plot(made["steps"], curve, color=COLORS[name], label=label)
    for name, style in zip(FLOORS, ("--", ":")):
        label = name.replace("_", " ") + " of the candidates"
        axes.axhline(made[name], color="0.3", linestyle=style, label=label)
    axes.axhline(0.0, color="0.8", linewidth=0.8, zorder=0)
    axes.set_xlabel("meta-steps")
    axes.set_ylabel("regret@1 on families left out")
    seeds, count = made["seeds"], made["candidates"]
    axes.set_title(
        f"{made['table']}: {made['tasks']} tasks, 10 grouped folds, {seeds} seeds; "
        f"0 is the best of {count}",
        fontsize=10,
    )
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, fontsize=8, ncols=2, loc="outside lower center")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def results(made: list[dict[str, Any]]) -> dict[str, Any]:
    """The first table's, with the others beside."""
    return made[0] | {
        "others": {one["table"]: one for one in made[1:]},
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
    }


def main(arguments: Arguments) -> None:
    """Run every table, and tell what came out."""
    if unknown := set(arguments.tables) - set(SOURCES):
        sys.exit(
            f"surrogate.py: no table {sorted(unknown)}; there are {list(SOURCES)}."
        )
    made: list[dict[str, Any]] = []
    for name in arguments.tables:
        made.append(run_table(arguments.data, name, arguments.seeds))
        shown = {
            n: round(made[-1][n], 4) for n in ("through", "mse", "shared", *FLOORS)
        }
        print(name, shown, file=sys.stderr, flush=True)
        # After every table, as each takes minutes.
        if arguments.out is not None:
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            arguments.out.write_text(json.dumps(results(made), indent=2) + "\n")
        if arguments.plot is not None:
            plot(made[0], arguments.plot)
        jax.clear_caches()
    if arguments.json:
        print(json.dumps(results(made), indent=2))


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
