"""What each adjoint costs: memory over inner steps and over tasks, and time.

    python benchmarks/adjoints.py --json --plot adjoints.png > adjoints.json

Memory is what the compiler sets aside beside arguments and results, so that it is the
same on every run. It is its growth that is checked: with the exponent of the number of
inner steps that the docstrings of `jmeta.adjoints` promise, and not at all with the
number of tasks if they are taken in micro-batches. A promise that does not hold is
named, and the exit code is 1. Times are the process's own, on one core those of a clock
that other programs do not disturb.
"""

import dataclasses
import functools
import itertools
import json
import math
import pathlib
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from rich.console import Console
from rich.table import Table

from jmeta.adjoints import (
    Adjoint,
    Inner,
    cg,
    checkpointed,
    evolution,
    first_order,
    forward_over_reverse,
    implicit,
    neumann,
    truncated,
    unrolled,
)
from jmeta.algorithms import meta_optimizer
from jmeta.learners.perceptron import init_weights
from jmeta.learners.trained import trained
from jmeta.networks import MetaOptimizer, default_units, from_linen
from jmeta.spaces import Space, real
from jmeta.tasks import Examples, Task
from jmeta.types import Array

KEY = jax.random.key(0)
FEATURES, HIDDEN = 16, 32


class Promise(NamedTuple):
    """An adjoint, and between which exponents of the inner steps its memory grows."""

    adjoint: Adjoint
    low: float
    high: float


ADJOINTS = {
    "unrolled": Promise(unrolled(), 0.9, 1.1),
    "checkpointed": Promise(checkpointed(), 0.4, 0.6),
    "forward_over_reverse": Promise(forward_over_reverse(), 0.9, 1.1),
    "first_order": Promise(first_order(), 0.9, 1.1),
    "truncated(8)": Promise(truncated(8), 0.0, 0.0),
    "implicit(cg)": Promise(implicit(cg(max_steps=20)), 0.0, 0.0),
    "implicit(neumann)": Promise(implicit(neumann(20, 0.1)), 0.0, 0.0),
    "evolution": Promise(evolution(num_pairs=2), 0.0, 0.0),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """What to run.

    Attributes:
      steps: numbers of inner steps, each the same multiple of the one before.
      tasks: numbers of tasks, likewise, and multiples of `micro_batch`.
      micro_batch: how many tasks are taken at once.
      rows: of a task's support and query.
      rounds: how often every program is timed.
      json: print one JSON object and nothing else on stdout.
      plot: where memory over inner steps is drawn.
    """

    steps: tuple[int, ...] = (16, 64, 256, 1024)
    tasks: tuple[int, ...] = (8, 32, 128)
    micro_batch: int = 8
    rows: int = 128
    rounds: int = 11
    json: bool = False
    plot: pathlib.Path | None = None


def growth(counts: Sequence[int], sizes: Sequence[int]) -> float:
    """The exponent p of `sizes = a + b counts^p`, counts being a geometric sequence.

    The constant drops out of differences. Sizes within a hundredth of each other do
    not grow: 0.
    """
    if max(sizes) - min(sizes) < 0.01 * min(sizes):
        return 0.0
    first, last = sizes[1] - sizes[0], sizes[-1] - sizes[-2]
    return math.log(max(last, 1) / max(first, 1)) / math.log(counts[-1] / counts[1])


def outputs(weights: Any, x: Array) -> Array:
    """Of a perceptron with two hidden layers."""
    hidden = jnp.tanh(jnp.tanh(x @ weights["w1"]) @ weights["w2"])
    return hidden @ weights["w3"]


def squared_error(weights: Any, data: Any) -> Array:
    """Mean over the rows."""
    x, y = data
    return jnp.mean(jnp.square(outputs(weights, x)[:, 0] - y))


def penalised(settings: Any, weights: Any, data: Any, key: Array) -> Array:
    """Squared error with a penalty that is learnt."""
    del key  # All rows at every step.
    square = sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(weights))
    return squared_error(weights, data) + jnp.exp(settings["penalty"]) * square


def adam(settings: Any) -> optax.GradientTransformation:
    """With a rate that is learnt."""
    return optax.adam(jnp.exp(settings["rate"]), eps_root=1e-16)


def meta_gradient(
    adjoint: Adjoint, num_steps: int, rows: int
) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """One task's query loss and its gradient, as a function, and its arguments."""
    inner = Inner(penalised, adam, num_steps)

    def value_and_grad(settings: Any, weights: Any, support: Any, query: Any) -> Any:
        return adjoint.value_and_grad(
            lambda s: squared_error(
                adjoint.train(inner, s, weights, support, KEY), query
            ),
            settings,
            KEY,
        )

    x, other = jax.random.normal(KEY, (2, rows, FEATURES))
    weights = init_weights(KEY, x, 1, HIDDEN)
    weights = {name: weights[name] for name in ("w1", "w2", "w3")}
    settings = {"penalty": jnp.array(-6.0), "rate": jnp.array(-4.0)}
    support, query = (x, jnp.sin(2.0 * x[:, 0])), (other, jnp.sin(2.0 * other[:, 0]))
    return value_and_grad, (settings, weights, support, query)


def meta_step(
    adjoint: Adjoint, micro_batch: int | None, num_tasks: int, rows: int
) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """A step of `meta_optimizer` through 16 inner steps, and its arguments."""
    learner = trained(
        "perceptron",
        lambda weights, x: outputs(weights, x),
        lambda key, settings, x: init_weights(key, x, 1, HIDDEN),
        lambda settings: optax.adam(settings["rate"], eps_root=1e-16),
        kind="number",
        space=Space(rate=real(1e-3, 0.1, default=0.01, log=True)),
        num_steps=16,
    )
    x = jax.random.normal(KEY, (num_tasks, rows, FEATURES))
    half = jnp.arange(rows) % 2 == 0
    examples = Examples(
        x, jnp.sin(2.0 * x[..., 0]), jnp.broadcast_to(half, x.shape[:2])
    )
    tasks = Task(
        support=examples,
        query=examples._replace(mask=~examples.mask),
        description=jax.random.normal(KEY, (num_tasks, 8)),
    )
    algorithm = meta_optimizer(
        from_linen(MetaOptimizer(defaults=default_units([learner]), width=8)),
        [learner],
        optax.adam(1e-3),
        adjoint=adjoint,
        micro_batch=micro_batch,
    )
    return algorithm.step, (KEY, jax.jit(algorithm.init)(KEY, tasks), tasks)


class Program(NamedTuple):
    """A compiled program that can be called again and again."""

    call: Callable[[], Any]
    temp_bytes: int
    compile_s: float


def program(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Program:
    """Compile, and run once."""
    begin = time.process_time()
    compiled = jax.jit(function).lower(*arguments).compile()
    seconds = time.process_time() - begin
    size = compiled.memory_analysis().temp_size_in_bytes
    call = functools.partial(compiled, *arguments)
    jax.block_until_ready(call())
    return Program(call, size, seconds)


def medians(programs: dict[str, Program], rounds: int) -> dict[str, float]:
    """Milliseconds by name; all take their turn in each round, so that what else the
    machine does meets all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(rounds):
        for name, one in programs.items():
            begin = time.process_time()
            jax.block_until_ready(one.call())
            seconds[name].append(time.process_time() - begin)
    return {name: 1e3 * float(np.median(found)) for name, found in seconds.items()}


def sweep(
    makers: dict[str, Callable[[int], Program]], counts: Sequence[int], rounds: int
) -> dict[str, Any]:
    """Memory, time and growth of every kind of program at every count."""
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in makers}
    for count in counts:
        programs = {name: make(count) for name, make in makers.items()}
        found = medians(programs, rounds)
        for name, one in programs.items():
            rows[name].append(
                {
                    "count": count,
                    "temp_bytes": one.temp_bytes,
                    "milliseconds": found[name],
                    "compile_s": one.compile_s,
                }
            )
        jax.clear_caches()
    return {
        name: {
            "exponent": growth(counts, [int(row["temp_bytes"]) for row in found]),
            "by_count": found,
        }
        for name, found in rows.items()
    }


def over_steps(arguments: Arguments) -> dict[str, Any]:
    """Every adjoint over the number of inner steps."""
    makers = {
        name: lambda count, promise=promise: program(
            *meta_gradient(promise.adjoint, count, arguments.rows)
        )
        for name, promise in ADJOINTS.items()
    }
    return sweep(makers, arguments.steps, arguments.rounds)


def over_tasks(arguments: Arguments) -> dict[str, Any]:
    """Whole batches and micro-batches over the number of tasks."""
    makers = {}
    for name, adjoint in (("unrolled", unrolled()), ("checkpointed", checkpointed())):
        for size in (None, arguments.micro_batch):
            label = f"{name}, {'whole' if size is None else f'{size} at once'}"
            makers[label] = lambda count, adjoint=adjoint, size=size: program(
                *meta_step(adjoint, size, count, arguments.rows)
            )
    return sweep(makers, arguments.tasks, arguments.rounds)


def broken(results: dict[str, Any]) -> list[str]:
    """Sentences on what grew otherwise than promised."""
    said = []
    for name, found in results["steps"].items():
        promise = ADJOINTS[name]
        if not promise.low <= found["exponent"] <= promise.high:
            said.append(
                f"{name}: memory grows as inner steps ^ {found['exponent']:.2f}, "
                f"promised is {promise.low} to {promise.high}."
            )
    for name, found in results["tasks"].items():
        whole, exponent = name.endswith("whole"), found["exponent"]
        if whole and not 0.9 <= exponent <= 1.1:
            said.append(
                f"{name}: memory grows as tasks ^ {exponent:.2f}, not as tasks."
            )
        if not whole and exponent:
            said.append(f"{name}: memory grows with the number of tasks.")
    return said


def show(console: Console, title: str, results: dict[str, Any]) -> None:
    """Memory at every count; time at the largest, and against the first row's."""
    counts = [row["count"] for row in next(iter(results.values()))["by_count"]]
    table = Table("", title=title)
    for heading in (*[f"{n}: MiB" for n in counts], "growth", "ms", "time", "compile"):
        table.add_column(heading, justify="right", no_wrap=True)
    first = next(iter(results.values()))["by_count"][-1]["milliseconds"]
    for name, found in results.items():
        rows, exponent = found["by_count"], found["exponent"]
        table.add_row(
            name,
            *[f"{row['temp_bytes'] / 2**20:.2f}" for row in rows],
            f"n^{exponent:.2f}" if exponent else "none",
            f"{rows[-1]['milliseconds']:.2f}",
            f"{rows[-1]['milliseconds'] / first:.2f}",
            f"{np.median([row['compile_s'] for row in rows]):.1f} s",
        )
    console.print(table)


def draw(results: dict[str, Any], path: pathlib.Path) -> None:
    """Memory over inner steps, both logarithmic, a line an adjoint."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, found in results["steps"].items():
        counts = [row["count"] for row in found["by_count"]]
        sizes = [row["temp_bytes"] / 2**20 for row in found["by_count"]]
        axes.loglog(counts, sizes, "o-", label=name)
    axes.set_xlabel("inner steps")
    axes.set_ylabel("compiled buffers, MiB")
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.minorticks_off()
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)


def main(arguments: Arguments) -> None:
    """Measure, show, and check the growth."""
    jax.config.update("jax_enable_compilation_cache", False)  # Its time is told.
    for counts in (arguments.steps, arguments.tasks):
        ratios = {b / a for a, b in itertools.pairwise(counts)}
        if len(counts) < 3 or len(ratios) != 1:
            sys.exit(
                f"adjoints.py: needs three counts or more in a geometric sequence, "
                f"got {counts}."
            )
    results: dict[str, Any] = {
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        **{name: getattr(arguments, name) for name in ("rows", "micro_batch")},
        "steps": over_steps(arguments),
        "tasks": over_tasks(arguments),
    }
    results["broken"] = broken(results)
    if arguments.json:
        print(json.dumps(results, indent=2))
    else:
        console = Console()
        show(console, "one meta-gradient, by inner steps", results["steps"])
        show(console, "one step of meta_optimizer, by tasks", results["tasks"])
    if arguments.plot is not None:
        draw(results, arguments.plot)
    if results["broken"]:
        sys.exit("\n".join(results["broken"]))


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
