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
import os
import sys
import time
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from jax.sharding import NamedSharding, PartitionSpec
from rich.console import Console
from rich.table import Table

from jmeta.adjoints import Adjoint, checkpointed, forward_over_reverse, unrolled
from jmeta.algorithms import maml
from jmeta.learners.inner import classifier, query_loss
from jmeta.networks import ConvNet, finn_omniglot, from_linen, pooled_omniglot
from jmeta.networks.winograd import winograd_pays
from jmeta.parallel import TASKS as AXIS
from jmeta.parallel import num_devices, replicated, task_mesh, use_cpu_cores
from jmeta.tasks import Examples, Task
from jmeta.types import Array

PEERS = ("torch_loop", "torch_func", "higher")
WAYS, TASKS, CHECKED = 5, 32, 2
ADJOINTS = {
    adjoint.name: adjoint
    for adjoint in (unrolled(), checkpointed(), forward_over_reverse())
}


class Setup(NamedTuple):
    """A benchmark.

    Attributes:
      network: as a module.
      features: that its head sees.
      shots, queries: rows of each class.
      inner_lr, inner_steps: of the training inside a task.
      micro_batch: how many tasks a device takes at once in jmeta, as measured best by
        `--micro-batch`.
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
      threads: of PyTorch, and devices of jmeta; 0 for the cores of the process.
      peers: forms to stand beside jmeta.
      rounds: how often every form is timed.
      micro_batch: how many tasks a device takes at once in jmeta; with several, the
        best is told, and each under `micro_batches`. None for what measured best.
      adjoint: how jmeta's gradient crosses the inner steps.
      json: print one JSON object and nothing else on stdout.
    """

    only: tuple[str, ...] = ()
    threads: int = 0
    peers: tuple[str, ...] = PEERS
    rounds: int = 9
    micro_batch: tuple[int, ...] = ()
    adjoint: Literal["unrolled", "checkpointed", "forward_over_reverse"] = "unrolled"
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


class Seconds(NamedTuple):
    """Of one call, round by round.

    Attributes:
      wall: of a clock.
      cpu: of all threads of the process, which other programs disturb less.
    """

    wall: np.ndarray
    cpu: np.ndarray


def seconds_of(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, Seconds]:
    """Of each call, in rounds in which each has its turn; the first is left out."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            begin = time.perf_counter(), time.process_time()
            call()
            end = time.perf_counter(), time.process_time()
            if number:
                found[name].append((end[0] - begin[0], end[1] - begin[1]))
    return {name: Seconds(*np.array(pairs).T) for name, pairs in found.items()}


class Rates(NamedTuple):
    """What all devices reach together.

    Attributes:
      flops: floating-point operations a second of large matrix products.
      bytes: read and written a second, where arrays of 1 MiB are copied.
    """

    flops: float
    bytes: float


def machine_rates(rounds: int = 20) -> Rates:
    """Measured now, each device with arrays of its own; the best of all rounds, since
    other programs only take away."""
    spec, side, repeats = PartitionSpec(AXIS), 1024, 100
    square = jnp.ones((num_devices(), side, side))
    row = jnp.ones((num_devices(), 2**18))

    def products(x: Array) -> Array:
        return jnp.matmul(x[0], x[0])[None]

    def copies(x: Array) -> Array:
        return jax.lax.fori_loop(0, repeats, lambda _, y: y + 1.0, x)

    calls = {}
    for name, function, x in (("flops", products, square), ("bytes", copies, row)):
        split = jax.shard_map(function, in_specs=spec, out_specs=spec, check_vma=False)
        placed = jax.device_put(x, NamedSharding(jax.sharding.get_mesh(), spec))
        compiled = jax.jit(split).lower(placed).compile()
        calls[name] = functools.partial(
            lambda compiled, x: jax.block_until_ready(compiled(x)), compiled, placed
        )
    found = {
        name: float(np.min(t.wall)) for name, t in seconds_of(calls, rounds).items()
    }
    return Rates(
        flops=num_devices() * 2 * side**3 / found["flops"],
        bytes=2 * repeats * row.nbytes / found["bytes"],
    )


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
        if module.strides == 1 and winograd_pays(size, size, inside):
            work = 2 * (-(-size // 2)) ** 2 * 16 * inside * module.channels
        once, first = once + work, work if number == 0 else first
        size, inside = size // 2 if module.pool else size, module.channels
    support, query = WAYS * setup.shots, WAYS * setup.queries
    step = 9 * once - 4 * first
    return setup.inner_steps * support * step + query * (3 * once - first)


def bytes_moved(setup: Setup, adjoint: Adjoint, micro_batch: int) -> float:
    """What the operations of one task read and write, as the compiler counts it.

    It counts the body of a loop once, so that programs without loops are counted: one
    inner step with what follows, of which the query's part is taken off and all inner
    steps are put back.
    """
    one = setup._replace(inner_steps=1)
    tasks = tasks_of(setup, micro_batch)
    learner = classifier(from_linen(setup.network), WAYS)

    def last(weights: Any) -> Any:
        return jax.vmap(
            lambda task: jax.value_and_grad(
                lambda w: query_loss(learner, w, task, transductive=True)
            )(weights)
        )(tasks)

    def counted(compiled: Any) -> float:
        return compiled.cost_analysis()["bytes accessed"] / micro_batch

    step = jmeta_form(one, tasks, adjoint, micro_batch)
    query = counted(jax.jit(last).lower(step.params).compile())
    return query + setup.inner_steps * (counted(step.compiled) - query)


class Jmeta(NamedTuple):
    """One step of jmeta's MAML, compiled, and what it starts from."""

    step: Callable[[], Any]
    compiled: Any
    params: Any
    gradient: Any


def jmeta_form(setup: Setup, tasks: Task, adjoint: Adjoint, micro_batch: int) -> Jmeta:
    """Plain descent with rate 1 across tasks, so that a step tells the gradient."""
    algorithm = maml(
        classifier(from_linen(setup.network), WAYS),
        optax.sgd(1.0),
        inner_lr=setup.inner_lr,
        inner_steps=setup.inner_steps,
        adjoint=adjoint,
        transductive=True,
        micro_batch=micro_batch,
    )
    key = jax.random.key(0)
    state = jax.jit(algorithm.init)(key, tasks)
    state = jax.tree.map(lambda leaf: leaf.astype(tasks.support.x.dtype), state)
    key, state, tasks = replicated((key, state, tasks))
    step = jax.jit(algorithm.step).lower(key, state, tasks).compile()
    after, _ = step(key, state, tasks)
    gradient = jax.tree.map(jnp.subtract, state.params, after.params)

    def call() -> Any:
        return jax.block_until_ready(step(key, state, tasks))

    return Jmeta(call, step, state.params, gradient)


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
        ours = jmeta_form(setup, tasks, unrolled(), CHECKED)
        wanted = torch_order(setup, ours.gradient)
        calls = torch_calls(setup, tasks, ours.params, 1, exact=True)
        for name, call in calls.items():
            error = difference(call(), wanted)
            if not error < 1e-8:
                sys.exit(f"maml.py: {name} gives another gradient, by {error:.1e}.")


def quartiles(seconds: np.ndarray) -> list[float]:
    """Of tasks a second: first, second, third."""
    return [float(rate) for rate in np.percentile(TASKS / seconds, [25, 50, 75])]


def compare(setup: Setup, arguments: Arguments, cores: int) -> dict[str, Any]:
    """Tasks a second of every form."""
    results: dict[str, Any] = dict.fromkeys(("jmeta", *PEERS, "matmul_share"))
    notes: dict[str, Any] = {"before": os.getloadavg()[0]}
    tasks, adjoint = tasks_of(setup, TASKS), ADJOINTS[arguments.adjoint]
    with jax.set_mesh(task_mesh()):
        sizes = arguments.micro_batch or (setup.micro_batch,)
        ours = {size: jmeta_form(setup, tasks, adjoint, size) for size in sizes}
        rates = machine_rates()
    one = ours[sizes[0]]
    calls = {f"jmeta {size}": form.step for size, form in ours.items()}
    try:
        check(setup)
        made = torch_calls(setup, tasks, one.params, cores, exact=False)
        torch = {name: call for name, call in made.items() if name in arguments.peers}
    except ImportError as missing:
        notes["torch"], torch = str(missing), {}
    wanted = torch_order(setup, one.gradient)
    for name, call in torch.items():
        told = difference(call(), wanted)
        notes[name] = f"in float32 the gradient differs by {told:.1e}"
    seconds = seconds_of(calls | torch, arguments.rounds)

    medians = {name: TASKS / float(np.median(t.wall)) for name, t in seconds.items()}
    best = max(sizes, key=lambda size: medians[f"jmeta {size}"])
    mine = f"jmeta {best}"
    results["jmeta"] = medians[mine]
    results |= {name: medians[name] for name in torch}
    moved = bytes_moved(setup, adjoint, best)
    each = medians[mine]  # Tasks a second, so that a share is a rate over a rate.
    results["matmul_share"] = each * matmul_work(setup) / rates.flops
    results["bytes_share"] = each * moved / rates.bytes
    if torch:
        results["ratio"] = each / max(medians[name] for name in torch)
    results["quartiles"] = {
        name: quartiles(seconds[mine if name == "jmeta" else name].wall)
        for name in ("jmeta", *torch)
    }
    results["tasks_per_cpu_second"] = {
        name: quartiles(seconds[mine if name == "jmeta" else name].cpu)
        for name in ("jmeta", *torch)
    }
    results["micro_batches"] = {size: medians[f"jmeta {size}"] for size in sizes}
    results["notes"] = notes | {
        "micro_batch": best,
        "adjoint": adjoint.name,
        "cores": cores,
        "rounds": arguments.rounds,
        "matmul_gflops": rates.flops / 1e9,
        "copy_gbytes": rates.bytes / 1e9,
        "task_gflop": matmul_work(setup) / 1e9,
        "task_gbytes": moved / 1e9,
        "after": os.getloadavg()[0],
    }
    return results


def main(arguments: Arguments) -> None:
    """Measure and show."""
    use_cpu_cores(arguments.threads or None)
    cores = jax.device_count()
    names = arguments.only or tuple(SETUPS)
    results = {name: compare(SETUPS[name], arguments, cores) for name in names}
    if arguments.json:
        print(json.dumps(results, indent=2))
        return
    columns = (*PEERS, "jmeta", "ratio", "matmul_share", "bytes_share")
    heads = [name.replace("_", " ") for name in columns]
    table = Table("", *heads, title="tasks a second")
    for name, found in results.items():
        cells = ["" if found.get(c) is None else f"{found[c]:.2f}" for c in columns]
        table.add_row(name, *cells)
    Console().print(table)


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
