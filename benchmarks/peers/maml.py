"""Second-order MAML in tasks a second, beside three forms of it in PyTorch.

    python benchmarks/peers/maml.py --json > maml.json

B1 is the example that higher, functorch and TorchOpt share: three unpadded
convolutions of 64 channels with batch normalisation and pooling, 5-way 5-shot with 15
queries, five inner steps. B2 is the Omniglot network of Finn et al., 2017: four strided
convolutions, 5-way 1-shot, one step. All forms get the same weights and data, with as
many threads. Before any is timed, its gradient must be that of jmeta to 1e-8 in
float64; in float32, a value that rounding moves over the kink of a ReLU or to another
place of a pool gives a task another gradient, so that the difference is only told.

`matmul_share` is the share of jmeta's time that its matrix products would take at the
rate that this machine reaches on a large one.
"""

import dataclasses
import functools
import importlib.util
import itertools
import json
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from rich.console import Console
from rich.table import Table

from jmeta.adjoints import unrolled
from jmeta.algorithms import maml
from jmeta.learners.inner import classifier
from jmeta.networks import ConvNet, finn_omniglot, from_linen, pooled_omniglot
from jmeta.tasks import Examples, Task
from jmeta.types import Array

PEERS = ("torch_loop", "torch_func", "higher")
WAYS, TASKS, CHECKED = 5, 32, 2


class Setup(NamedTuple):
    """A benchmark.

    Attributes:
      network: as a module.
      features: that its head sees.
      shots, queries: rows of each class.
      inner_lr, inner_steps: of the training inside a task.
      micro_batch: how many tasks jmeta takes at once.
    """

    network: ConvNet
    features: int
    shots: int
    queries: int
    inner_lr: float
    inner_steps: int
    micro_batch: int


SETUPS = {
    "B1": Setup(pooled_omniglot(WAYS), 64, 5, 15, 0.1, 5, 1),
    "B2": Setup(finn_omniglot(WAYS), 64, 1, 1, 0.4, 1, 8),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """What to run.

    Attributes:
      only: names of benchmarks; all if none is given.
      threads: of PyTorch; jmeta takes those that the process may use.
      rounds: how often every form is timed.
      micro_batch: how many tasks jmeta takes at once; 0 for what measured best.
      json: print one JSON object and nothing else on stdout.
    """

    only: tuple[str, ...] = ()
    threads: int = 2
    rounds: int = 5
    micro_batch: int = 0
    json: bool = False


def tasks_of(setup: Setup, num_tasks: int) -> Task:
    """Images whose classes differ in their pattern, as those of Omniglot do."""
    rng = np.random.default_rng(0)
    patterns = rng.normal(size=(num_tasks, WAYS, 1, 28, 28, 1))

    def examples(count: int) -> Examples:
        noise = rng.normal(size=(num_tasks, WAYS, count, 28, 28, 1))
        x = (patterns + noise).reshape(num_tasks, -1, 28, 28, 1)
        y = np.broadcast_to(np.repeat(np.arange(WAYS), count), x.shape[:2])
        return Examples(
            x=jnp.asarray(x, float),
            y=jnp.asarray(y, jnp.int32),
            mask=jnp.ones(x.shape[:2], bool),
        )

    return Task(
        support=examples(setup.shots),
        query=examples(setup.queries),
        description=jnp.zeros((num_tasks, 0)),
    )


def median_seconds(call: Callable[[], Any], rounds: int) -> float:
    """Of one call, the first left out."""
    call()
    seconds = []
    for _ in range(rounds):
        begin = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begin)
    return float(np.median(seconds))


def matmul_rate() -> float:
    """Floating-point operations a second of a large matrix product."""
    one = jnp.ones((1024, 1024))

    def call() -> Array:
        return jnp.matmul(one, one).block_until_ready()

    return 2 * 1024**3 / median_seconds(call, 20)


def matmul_work(setup: Setup) -> float:
    """Floating-point operations of one task's products.

    A training step crosses each product forwards and twice backwards, and its own
    derivative doubles all three; the first layer's images take no gradient.
    """
    module, size, inside = setup.network, 28, 1
    once, first = 0, 0
    for number in range(module.num_blocks):
        if module.padding == "VALID":
            size = (size - 3) // module.strides + 1
        else:
            size = -(-size // module.strides)
        work = 2 * size**2 * 9 * inside * module.channels
        once, first = once + work, work if number == 0 else first
        size, inside = size // 2 if module.pool else size, module.channels
    support, query = WAYS * setup.shots, WAYS * setup.queries
    step = 9 * once - 4 * first
    return setup.inner_steps * support * step + query * (3 * once - first)


class Jmeta(NamedTuple):
    """One step of jmeta's MAML, compiled, and what it starts from."""

    step: Callable[[], Any]
    params: Any
    gradient: Any


def jmeta_form(setup: Setup, tasks: Task, micro_batch: int) -> Jmeta:
    """Plain descent with rate 1 across tasks, so that a step tells the gradient."""
    algorithm = maml(
        classifier(from_linen(setup.network), WAYS),
        optax.sgd(1.0),
        inner_lr=setup.inner_lr,
        inner_steps=setup.inner_steps,
        adjoint=unrolled(),
        transductive=True,
        micro_batch=micro_batch,
    )
    key = jax.random.key(0)
    state = jax.jit(algorithm.init)(key, tasks)
    state = jax.tree.map(lambda leaf: leaf.astype(tasks.support.x.dtype), state)
    step = jax.jit(algorithm.step).lower(key, state, tasks).compile()
    after, _ = step(key, state, tasks)
    gradient = jax.tree.map(jnp.subtract, state.params, after.params)

    def call() -> Any:
        return jax.block_until_ready(step(key, state, tasks))

    return Jmeta(call, state.params, gradient)


def torch_order(setup: Setup, params: Any) -> list[np.ndarray]:
    """Weights in the order and layout of the PyTorch module's parameters."""
    found = []
    for number in range(setup.network.num_blocks):
        block = params[f"block{number}"]
        found.append(np.asarray(block["kernel"]).transpose(3, 2, 0, 1))
        found += [np.asarray(block[name]) for name in ("scale", "bias")]
    head = params["head"]
    return [*found, np.asarray(head["kernel"]).T, np.asarray(head["bias"])]


def torch_calls(
    setup: Setup, tasks: Task, params: Any, threads: int, *, exact: bool
) -> dict[str, Any]:
    """Calls that give the meta-gradient, by the form's name; see `torch_maml.network`
    for `exact`."""
    import torch
    import torch_maml

    torch.set_num_threads(threads)
    module = setup.network
    widths = [1, *[module.channels] * module.num_blocks]
    made = torch_maml.network(
        torch_maml.Network(
            blocks=list(itertools.pairwise(widths)),
            stride=module.strides,
            same=module.padding == "SAME",
            pool=module.pool,
            average=module.average,
            epsilon=module.epsilon,
            features=setup.features,
            num_classes=WAYS,
        ),
        exact=exact,
    )
    made.to(torch.float64 if jax.config.read("jax_enable_x64") else torch.float32)
    names = [name for name, _ in made.named_parameters()]
    leaves = [torch.tensor(leaf.copy()) for leaf in torch_order(setup, params)]
    weights = dict(zip(names, leaves))

    def tensors(examples: Examples) -> tuple[Any, Any]:
        x = np.asarray(examples.x).transpose(0, 1, 4, 2, 3)
        return torch.tensor(x.copy()), torch.tensor(np.array(examples.y)).long()

    batch = (*tensors(tasks.support), *tensors(tasks.query))

    def call(form: Callable[..., Any]) -> list[np.ndarray]:
        found = form(made, weights, batch, setup.inner_lr, setup.inner_steps)
        return [found[name].detach().numpy() for name in names]

    return {
        name: functools.partial(call, form)
        for name, form in torch_maml.FORMS.items()
        if name != "higher" or importlib.util.find_spec("higher")
    }


def difference(told: list[np.ndarray], wanted: list[np.ndarray]) -> float:
    """Relative, of all numbers together."""
    one, other = (np.concatenate([leaf.ravel() for leaf in x]) for x in (told, wanted))
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))


def check(setup: Setup) -> None:
    """See that all forms find the same gradient, or leave."""
    with jax.enable_x64(True):
        tasks = tasks_of(setup, CHECKED)
        ours = jmeta_form(setup, tasks, CHECKED)
        wanted = torch_order(setup, ours.gradient)
        calls = torch_calls(setup, tasks, ours.params, 1, exact=True)
        for name, call in calls.items():
            error = difference(call(), wanted)
            if not error < 1e-8:
                sys.exit(f"maml.py: {name} gives another gradient, by {error:.1e}.")


def compare(setup: Setup, arguments: Arguments) -> dict[str, Any]:
    """Tasks a second of every form."""
    results: dict[str, Any] = dict.fromkeys(("jmeta", *PEERS, "matmul_share"))
    results["notes"] = notes = {}
    tasks = tasks_of(setup, TASKS)
    ours = jmeta_form(setup, tasks, arguments.micro_batch or setup.micro_batch)
    seconds = median_seconds(ours.step, arguments.rounds)
    results["jmeta"] = TASKS / seconds
    results["matmul_share"] = TASKS * matmul_work(setup) / matmul_rate() / seconds
    try:
        check(setup)
        calls = torch_calls(setup, tasks, ours.params, arguments.threads, exact=False)
    except ImportError as missing:
        notes["torch"] = str(missing)
        return results
    wanted = torch_order(setup, ours.gradient)
    for name in PEERS:
        if name not in calls:
            notes[name] = "not installed"
            continue
        error = difference(calls[name](), wanted)
        notes[name] = f"in float32 the gradient differs by {error:.1e}"
        results[name] = TASKS / median_seconds(calls[name], arguments.rounds)
    results["ratio"] = results["jmeta"] / max(results[name] or 0.0 for name in PEERS)
    return results


def main(arguments: Arguments) -> None:
    """Measure and show."""
    names = arguments.only or tuple(SETUPS)
    results = {name: compare(SETUPS[name], arguments) for name in names}
    if arguments.json:
        print(json.dumps(results, indent=2))
        return
    table = Table("", *PEERS, "jmeta", "ratio", "matmul share", title="tasks a second")
    for name, found in results.items():
        columns = (*PEERS, "jmeta", "ratio", "matmul_share")
        cells = ["" if found.get(c) is None else f"{found[c]:.2f}" for c in columns]
        table.add_row(name, *cells)
    Console().print(table)


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
