"""What is trained on and what judges: letters, scans and blood cells."""

import functools
import itertools
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import image_methods as methods
import jax
import jax.numpy as jnp
import numpy as np

from jmeta.data.collection import Collection, subset
from jmeta.data.images import collection_of, joined, read_images
from jmeta.data.omniglot import OneShotRuns, read_omniglot_runs
from jmeta.episodes import Bank, make_bank
from jmeta.tasks import Examples, Task
from jmeta.ways import draw_way_batch

__all__ = [
    "LETTERS",
    "SCANS",
    "Experiment",
    "cells",
    "letters",
    "scans",
    "tasks_of_runs",
]

QUERIES = 10
LETTERS = methods.Plan(
    channels=64,
    ways=20,
    shots=(1,),
    queries=2,
    num_tasks=2,
    num_steps={"prototypical": 600, "ridge": 600, "maml": 200, "pretrained": 1000},
    lr=2e-3,
    inner_lr=0.1,
    inner_steps=5,
    jitter={"degrees": 8.0, "scale": 0.1, "shear": 0.1, "shift": 1.0},
)
SCANS = methods.Plan(
    channels=32,
    ways=3,
    shots=(1, 5),
    queries=5,
    num_tasks=4,
    num_steps={"prototypical": 200, "ridge": 200, "maml": 100, "pretrained": 200},
    lr=1e-3,
    inner_lr=0.1,
    inner_steps=5,
    jitter={
        "degrees": 8.0,
        "scale": 0.1,
        "shear": 0.1,
        "shift": 1.0,
        "edge": "nearest",
    },
)


class Experiment(NamedTuple):
    """One set to train on, and the episodes that judge, by their name."""

    name: str
    plan: methods.Plan
    bank: Bank
    judged: dict[str, Task]
    seed: int


def episodes_of(data: Collection, ways: int, shots: int, number: int) -> Task:
    """The episodes that judge, the same whenever they are asked for."""
    draw = functools.partial(
        draw_way_batch,
        num_tasks=number,
        most_ways=ways,
        most_shots=shots,
        queries=1 if ways == 20 else QUERIES,
    )
    key = jax.random.key(2026)
    return jax.jit(draw)(
        key, make_bank(data), ways=jnp.array([ways]), shots=jnp.array([shots])
    )


def tasks_of_runs(runs: OneShotRuns) -> Task:
    """The official runs as episodes."""

    def examples(x: np.ndarray, y: np.ndarray) -> Examples:
        x = jnp.asarray(x, jnp.float32) / 255.0
        return Examples(x=x, y=jnp.asarray(y), mask=jnp.ones(y.shape, bool))

    places = np.broadcast_to(np.arange(runs.support.shape[1]), runs.support.shape[:2])
    return Task(
        support=examples(runs.support, places),
        query=examples(runs.query, runs.answer),
        description=jnp.zeros((len(runs.names), 0)),
    )


def letters(
    folder: pathlib.Path, seeds: Sequence[int], *, valid: bool
) -> list[Experiment]:
    """Omniglot: one experiment for each background set and seed.

    Args:
      folder: of the data.
      seeds: of training.
      valid: whether episodes of the alphabets of the other set judge, not the runs.
    """
    folder = folder / "omniglot"
    small = [
        read_images(folder / f"images_background_small{number}.zip")
        for number in (1, 2)
    ]

    def others(data: Collection, known: Collection) -> Collection:
        new = np.flatnonzero(~np.isin(data.tasks, known.tasks))
        return subset(data, new)

    both = joined([small[0], others(small[1], small[0])])
    runs = tasks_of_runs(read_omniglot_runs(folder / "all_runs.zip"))
    sets = {"small1": small[0], "small2": small[1], "both": both}
    judged = dict.fromkeys(sets, runs)
    if valid:
        judged = {
            "small1": episodes_of(others(small[1], small[0]), 20, 1, 200),
            "small2": episodes_of(others(small[0], small[1]), 20, 1, 200),
        }
    return [
        Experiment(
            name=f"omniglot-{name}-{seed}",
            plan=LETTERS,
            bank=make_bank(sets[name]),
            judged={"1": tasks},
            seed=seed,
        )
        for seed in seeds
        for name, tasks in judged.items()
    ]


def of_classes(data: Collection, classes: tuple[int, ...]) -> Collection:
    """Some of the classes of one task."""
    kept = np.isin(data.label, classes)
    names = np.array(data.classes[0])[data.label[kept]]
    return collection_of(data.x[data.rows[kept]], names)


def scans(folder: pathlib.Path, num_episodes: int) -> list[Experiment]:
    """MedNIST: half of the classes to train on, the others to judge."""
    data = read_images(folder / "mednist" / "mednist_500_per_class.npz", size=32)
    splits = list(itertools.combinations(range(6), 3))
    # Of each pair of opposite splits, both or none: each class is judged five times.
    chosen = [*splits[:5], *splits[-5:]]
    share = num_episodes // len(chosen)
    experiments = []
    for split in chosen:
        held = of_classes(data, tuple(set(range(6)) - set(split)))
        judged = {str(shots): episodes_of(held, 3, shots, share) for shots in (1, 5)}
        experiments.append(
            Experiment(
                name="mednist-" + "".join(map(str, split)),
                plan=SCANS,
                bank=make_bank(of_classes(data, split)),
                judged=judged,
                seed=0,
            )
        )
    return experiments


def cells(folder: pathlib.Path, num_episodes: int) -> list[Experiment]:
    """Blood cells, by what was learnt from scans."""
    path = folder / "mednist" / "mednist_500_per_class.npz"
    data = read_images(path, size=32, channels=3)
    blood = read_images(folder / "bccd" / "bccd_crops_32.npz")
    judged = {
        str(shots): episodes_of(blood, 3, shots, num_episodes) for shots in (1, 5)
    }
    steps = {name: 3 * number for name, number in SCANS.num_steps.items()}
    plan = SCANS._replace(num_steps=steps)
    bank = make_bank(data)
    return [Experiment(name="bccd", plan=plan, bank=bank, judged=judged, seed=0)]
