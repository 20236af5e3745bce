"""Sinusoid regression: errors after 1, 5 and 10 steps of training on K points.

    python benchmarks/sinusoid.py --json > sinusoid.json

The task family of Finn et al., 2017: amplitudes from 0.1 to 5, phases from 0 to pi, x
from -5 to 5, a perceptron of two layers of 40, batches of 25 tasks and one inner step
of 0.01. Published for K = 5: 0.67, 0.38 and 0.35. `--inner-steps` trains through more
steps than one, which is another setting than the published one.

Source: https://arxiv.org/abs/1703.03400, section 5.1.
"""

import dataclasses
import functools
import json
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from rich.console import Console
from rich.table import Table

from jmeta.adjoints import unrolled
from jmeta.algorithms import maml
from jmeta.base import MetaAlgorithm
from jmeta.learners.inner import regressor
from jmeta.networks import from_linen, sinusoid_mlp
from jmeta.tasks import Examples, Task
from jmeta.types import Array, Key

BATCH, TESTED, QUERIES, AT_ONCE = 25, 600, 100, 1000
TOLD = (1, 5, 10)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """What to run.

    Attributes:
      points: K, one run each.
      num_steps: meta-steps; 70,000 are published.
      inner_lr: of training inside a task.
      inner_steps: that the meta-gradient crosses.
      seed: of weights and tasks.
      json: print one JSON object and nothing else on stdout.
    """

    points: tuple[int, ...] = (5, 10)
    num_steps: int = 70_000
    inner_lr: float = 0.01
    inner_steps: int = 1
    seed: int = 0
    json: bool = False


def sample(key: Key, num_tasks: int, points: int, queries: int) -> Task:
    """Draw sinusoids, and x for each."""
    keys = jax.random.split(key, 3)
    amplitude = jax.random.uniform(keys[0], (num_tasks, 1), minval=0.1, maxval=5.0)
    phase = jax.random.uniform(keys[1], (num_tasks, 1), maxval=jnp.pi)
    shape = (num_tasks, points + queries)
    x = jax.random.uniform(keys[2], shape, minval=-5.0, maxval=5.0)
    y = amplitude * jnp.sin(x - phase)

    def examples(part: slice) -> Examples:
        seen = y[:, part]
        return Examples(x=x[:, part, None], y=seen, mask=jnp.ones(seen.shape, bool))

    return Task(
        support=examples(slice(points)),
        query=examples(slice(points, None)),
        description=jnp.zeros((num_tasks, 0)),
    )


def made(arguments: Arguments, inner_steps: int) -> MetaAlgorithm:
    """MAML with so many inner steps."""
    return maml(
        regressor(from_linen(sinusoid_mlp())),
        optax.adam(1e-3),
        inner_lr=arguments.inner_lr,
        inner_steps=inner_steps,
        adjoint=unrolled(),
    )


def run(arguments: Arguments, points: int) -> dict[str, Any]:
    """Train, and tell mean squared errors with half their 95 % intervals."""
    algorithm = made(arguments, arguments.inner_steps)
    key = jax.random.key(arguments.seed)

    def body(state: Any, number: Array) -> tuple[Any, Array]:
        tasks_key, step_key = jax.random.split(jax.random.fold_in(key, number))
        tasks = sample(tasks_key, BATCH, points, points)
        state, info = algorithm.step(step_key, state, tasks)
        return state, info.loss

    @functools.partial(jax.jit, donate_argnums=0)
    def some(state: Any, first: Array) -> tuple[Any, Array]:
        return jax.lax.scan(body, state, first + jnp.arange(AT_ONCE))

    state = algorithm.init(key, sample(key, 1, points, points))
    begin = time.perf_counter()
    for first in range(0, arguments.num_steps, AT_ONCE):
        state, _ = some(state, jnp.asarray(first))
    jax.block_until_ready(state)
    seconds = time.perf_counter() - begin
    tasks = sample(jax.random.fold_in(key, 2**32 - 1), TESTED, points, QUERIES)
    errors = {}
    for steps in TOLD:
        predict = jax.vmap(made(arguments, steps).predict, in_axes=(None, 0))
        away = jax.jit(predict)(state.params, tasks)[..., 0] - tasks.query.y
        found = np.mean(np.square(away), axis=1)
        half = 1.96 * np.std(found) / np.sqrt(TESTED)
        errors[str(steps)] = {"mean": float(np.mean(found)), "interval": float(half)}
    return {"errors": errors, "seconds": seconds}


def main(arguments: Arguments) -> None:
    """Train for every K and show."""
    results: dict[str, Any] = {"arguments": dataclasses.asdict(arguments)}
    results |= {f"K={points}": run(arguments, points) for points in arguments.points}
    if arguments.json:
        print(json.dumps(results, indent=2))
        return
    table = Table("", *[f"{n} steps" for n in TOLD], "seconds", title="squared error")
    for points in arguments.points:
        found = results[f"K={points}"]
        cells = [
            f"{one['mean']:.3f} ± {one['interval']:.3f}"
            for one in found["errors"].values()
        ]
        table.add_row(f"K={points}", *cells, f"{found['seconds']:.0f}")
    Console().print(table)


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
