"""Steps on one device and on all, in a process of its own that has four.

Prints, for each algorithm, what both came to and which collectives were compiled.
"""

import collections
import functools
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
from helpers import KEY, noisy_lines, two_clouds
from jax.tree_util import Partial

from jmeta.algorithms import maml, meta_optimizer, prototypical
from jmeta.learners.inner import classifier
from jmeta.learners.ridge import ridge
from jmeta.networks import MLP, ConvNet, MetaOptimizer, default_units, from_linen
from jmeta.parallel import replicated, task_mesh
from jmeta.tasks import Examples, Task
from jmeta.train import _program, train

COLLECTIVE = (
    r"= \S+ (all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter|"
    r"collective-broadcast)(?:-start)?\("
)
TASKS = 8


def images(key, num_tasks: int) -> Task:
    """Two classes of images of noise, one row each."""

    def examples(key) -> Examples:
        x = jax.random.normal(key, (num_tasks, 2, 6, 6, 1))
        y = jnp.broadcast_to(jnp.arange(2), (num_tasks, 2))
        return Examples(x=x, y=y, mask=y >= 0)

    support, query = map(examples, jax.random.split(key))
    nothing = jnp.zeros((num_tasks, 0))
    return Task(support=support, query=query, description=nothing)


def algorithms():
    """By name: an algorithm of every file that adds up over tasks, and its tasks."""
    conv = from_linen(ConvNet(out=2, num_blocks=1, channels=4))
    settings = from_linen(MetaOptimizer(defaults=default_units([ridge()]), width=8))
    embed = from_linen(MLP(hidden=(8,), out=4))
    slow = optax.sgd(0.01)
    return {
        "maml": (maml(classifier(conv, 2), slow, inner_steps=2), images),
        "prototypical": (prototypical(embed, slow, micro_batch=1), two_clouds),
        "meta_optimizer": (
            meta_optimizer(settings, [ridge()], slow, micro_batch=2),
            noisy_lines,
        ),
    }


def collectives(compiled) -> dict[str, int]:
    """How many of each kind there are in a program."""
    return dict(collections.Counter(re.findall(COLLECTIVE, compiled.as_text())))


def numbers(tree) -> list[list[float]]:
    """All arrays of a pytree."""
    return [np.ravel(leaf).tolist() for leaf in jax.tree.leaves(tree)]


def stepped(algorithm, tasks) -> tuple[list, dict[str, int]]:
    """One step from the beginning, and its collectives."""
    state, tasks, key = replicated((jax.jit(algorithm.init)(KEY, tasks), tasks, KEY))
    step = jax.jit(algorithm.step).lower(key, state, tasks).compile()
    return numbers(step(key, state, tasks)), collectives(step)


def trained() -> tuple[list, dict[str, int]]:
    """The loop with lines that are drawn on the devices, and its collectives."""
    algorithm, sample = algorithms()["prototypical"]
    draw = Partial(lambda key: sample(key, TASKS))
    state = train(algorithm, draw, KEY, num_steps=3, steps_per_call=2)
    arguments = replicated((state, KEY, draw))
    program = _program(algorithm, 2).lower(*arguments, 0, 2).compile()
    return numbers(state), collectives(program)


def main() -> None:
    """Print everything as one JSON object."""
    told = {"devices": jax.device_count()}
    calls = {
        name: functools.partial(stepped, algorithm, sample(KEY, TASKS))
        for name, (algorithm, sample) in algorithms().items()
    }
    for name, call in {**calls, "train": trained}.items():
        alone, none = call()
        with jax.set_mesh(task_mesh()):
            split, found = call()
        told[name] = {"alone": alone, "split": split, "none": none, "found": found}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
