"""Memory of a step of second-order MAML, by how its gradient crosses the inner steps.

    python benchmarks/memory.py --json > memory.json

Four 3 by 3 convolutions of 64 channels, padded, with batch normalisation, ReLU and
pooling; 28 by 28 pixels; 32 tasks, 5-way 1-shot with 1 query of each class, 5 inner
steps, float32. Memory is what the compiler sets aside beside arguments and results, so
that it is the same on every run. Beside it stands the design's figure for the same
plan, measured with patches and products alone: more than a tenth above it is named,
and the exit code is 1.
"""

import dataclasses
import json
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
import tyro
from rich.console import Console
from rich.table import Table

from jmeta.adjoints import Adjoint, checkpointed, forward_over_reverse, unrolled
from jmeta.algorithms import maml
from jmeta.learners.inner import classifier
from jmeta.networks import ConvNet, from_linen
from jmeta.tasks import Examples, Task

WAYS, TASKS, STEPS = 5, 32, 5


class Plan(NamedTuple):
    """How memory is saved.

    Attributes:
      adjoint: that crosses the inner steps.
      micro_batch: how many tasks are taken at once.
      designed: MiB, of the design.
    """

    adjoint: Adjoint
    micro_batch: int
    designed: int


PLANS = [
    Plan(unrolled(), TASKS, 2764),
    Plan(checkpointed(), TASKS, 774),
    Plan(forward_over_reverse(), TASKS, 774),
    Plan(unrolled(), 8, 692),
    Plan(forward_over_reverse(), 8, 195),
    Plan(unrolled(), 1, 87),
    Plan(forward_over_reverse(), 1, 25),
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """What to print.

    Attributes:
      json: one JSON object and nothing else on stdout.
    """

    json: bool = False


def temp_mib(plan: Plan) -> float:
    """Of one step over all tasks."""

    def examples() -> Examples:
        rows = jax.ShapeDtypeStruct((TASKS, WAYS, 28, 28, 1), jnp.float32)
        y = jax.ShapeDtypeStruct((TASKS, WAYS), jnp.int32)
        return Examples(x=rows, y=y, mask=jax.ShapeDtypeStruct(y.shape, bool))  # pyright: ignore

    tasks = Task(
        support=examples(),
        query=examples(),
        description=jax.ShapeDtypeStruct((TASKS, 0), jnp.float32),  # pyright: ignore
    )
    algorithm = maml(
        classifier(from_linen(ConvNet(out=WAYS)), WAYS),
        optax.sgd(1.0),
        inner_steps=STEPS,
        adjoint=plan.adjoint,
        transductive=True,
        micro_batch=plan.micro_batch,
    )
    key = jax.random.key(0)
    state = jax.eval_shape(algorithm.init, key, tasks)
    # Buffers are assigned before machine code is made, which need not be fast.
    fast = {"xla_backend_optimization_level": 0}
    step = jax.jit(algorithm.step).lower(key, state, tasks).compile(fast)
    return step.memory_analysis().temp_size_in_bytes / 2**20


def main(arguments: Arguments) -> None:
    """Compile, show, and say what is above the design."""
    rows = [
        {
            "adjoint": plan.adjoint.name,
            "micro_batch": plan.micro_batch,
            "temp_mib": temp_mib(plan),
            "designed_mib": plan.designed,
        }
        for plan in PLANS
    ]
    if arguments.json:
        print(json.dumps(rows, indent=2))
    else:
        table = Table("adjoint", "tasks at once", "MiB", "design", title="memory")
        for row in rows:
            table.add_row(
                row["adjoint"],
                str(row["micro_batch"]),
                f"{row['temp_mib']:.0f}",
                str(row["designed_mib"]),
            )
        Console().print(table)
    above = [row for row in rows if row["temp_mib"] > 1.1 * row["designed_mib"]]
    if above:
        sys.exit(f"memory.py: more than a tenth above the design: {above}")


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
