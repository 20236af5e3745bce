"""Memory that compiled meta-gradients set aside, by how it grows and not by bytes."""

import functools
import math

import jax
import jax.numpy as jnp
import optax
import pytest
from helpers import KEY

from jmeta.adjoints import (
    Inner,
    checkpointed,
    evolution,
    first_order,
    forward_over_reverse,
    implicit,
    neumann,
    truncated,
    unrolled,
)
from jmeta.algorithms import maml, meta_optimizer
from jmeta.base import Network
from jmeta.learners.inner import classifier
from jmeta.learners.trained import trained
from jmeta.networks import ConvNet, from_linen
from jmeta.spaces import Space, real
from jmeta.tasks import Examples, Task

STEPS = (16, 64, 256)
FEATURES, HIDDEN = 8, 16


def outputs(weights, x):
    return jnp.tanh(x @ weights["first"]) @ weights["last"]


def start(x):
    return {
        "first": jnp.eye(x.shape[1], HIDDEN, dtype=x.dtype),
        "last": jnp.ones((HIDDEN, 1), x.dtype),
    }


def momentum(settings):
    return optax.sgd(settings["rate"], momentum=0.9)


def penalised(settings, weights, data, key):
    x, y = data
    square = sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(weights))
    error = jnp.mean(jnp.square(outputs(weights, x)[:, 0] - y))
    return error + settings["penalty"] * square


@functools.cache
def gradient_bytes(adjoint, num_steps, rows=32):
    """Of the gradient of one task's loss with respect to a rate and a penalty."""
    inner = Inner(penalised, momentum, num_steps)
    settings = {"rate": jnp.array(0.01), "penalty": jnp.array(0.01)}

    def meta_gradient(settings, weights, data):
        def loss(settings):
            found = adjoint.train(inner, settings, weights, data, KEY)
            return jnp.mean(jnp.square(outputs(found, data[0])))

        return adjoint.value_and_grad(loss, settings, KEY)

    x = jnp.ones((rows, FEATURES))
    return temp_bytes(meta_gradient, settings, start(x), (x, x[:, 0]))


def temp_bytes(function, *arguments):
    # Buffers are assigned before machine code is made, which need not be fast.
    fast = {"xla_backend_optimization_level": 0}
    compiled = jax.jit(function).lower(*arguments).compile(fast)
    return compiled.memory_analysis().temp_size_in_bytes


def exponent(counts, sizes):
    """p of `sizes = a + b counts^p`; counts grow fourfold."""
    first, last = sizes[1] - sizes[0], sizes[-1] - sizes[-2]
    return math.log(last / first) / math.log(counts[-1] / counts[1])


def test_unrolled_memory_grows_with_the_steps():
    """The control: what is measured does see what is kept."""
    plain = unrolled()
    sizes = [gradient_bytes(plain, steps) for steps in STEPS]
    assert 0.95 < exponent(STEPS, sizes) < 1.05
    assert sizes[-1] > 10 * sizes[0]


def test_checkpointed_memory_grows_with_the_root_of_the_steps():
    again = checkpointed()
    sizes = [gradient_bytes(again, steps) for steps in STEPS]
    assert 0.4 < exponent(STEPS, sizes) < 0.6
    assert sizes[-1] < 4 * sizes[0]  # 16 times the steps.
    # 250 is no square: 16 stretches of 15 steps and one of 10.
    assert gradient_bytes(again, 250) < 1.6 * sizes[-1]


@pytest.mark.parametrize(
    "adjoint",
    [
        implicit(neumann(10, 0.1)),
        truncated(4),
        evolution(num_pairs=1),
    ],
    ids=["implicit", "truncated", "evolution"],
)
def test_memory_does_not_grow_with_the_steps(adjoint):
    short, long = (gradient_bytes(adjoint, steps) for steps in (STEPS[0], STEPS[-1]))
    assert long <= 1.01 * short


@pytest.mark.parametrize(
    "adjoint", [forward_over_reverse(), first_order()], ids=lambda one: one.name
)
def test_a_step_keeps_weights_and_no_rows(adjoint):
    x = jnp.ones((512, FEATURES))
    sizes = [gradient_bytes(adjoint, steps, len(x)) for steps in STEPS[:2]]
    per_step = (sizes[1] - sizes[0]) / (STEPS[1] - STEPS[0])
    # Weights and momentum, the gradient, and what the update's derivative needs.
    weights = sum(leaf.nbytes for leaf in jax.tree.leaves(start(x)))
    assert weights < per_step < 8 * weights < x.nbytes


def step_bytes(num_tasks, micro_batch, rows=32):
    """Of a step of `meta_optimizer`."""
    learner = trained(
        "perceptron",
        outputs,
        lambda key, settings, x: start(x),
        momentum,
        kind="number",
        space=Space(rate=real(1e-3, 0.1, default=0.01, log=True)),
        num_steps=9,
    )
    network = Network(
        init=lambda key, x: jnp.zeros(1),
        apply=lambda params, x: {"perceptron": jax.nn.sigmoid(params)},
    )
    algorithm = meta_optimizer(
        network, [learner], optax.sgd(1.0), micro_batch=micro_batch
    )
    x = jnp.ones((num_tasks, rows, FEATURES))
    examples = Examples(x=x, y=x[..., 0], mask=jnp.ones((num_tasks, rows), bool))
    tasks = Task(
        support=examples, query=examples, description=jnp.zeros((num_tasks, 1))
    )
    state = jax.eval_shape(algorithm.init, KEY, tasks)
    return temp_bytes(algorithm.step, KEY, state, tasks)


def test_memory_of_micro_batches_does_not_grow_with_the_tasks():
    few, many = step_bytes(4, 4), step_bytes(64, 4)
    # A key, an input and a mask of each task: no fit, and no row.
    assert many - few <= 64 * 128
    assert step_bytes(64, None) > 8 * many


def conv_bytes(adjoint, micro_batch, num_tasks=8):
    """Of a step of MAML through five inner steps of a small convolutional network."""
    algorithm = maml(
        classifier(from_linen(ConvNet(out=2, num_blocks=1, channels=8)), 2),
        optax.sgd(1.0),
        inner_steps=5,
        adjoint=adjoint,
        micro_batch=micro_batch,
    )
    x = jnp.ones((num_tasks, 2, 8, 8, 1))
    y = jnp.broadcast_to(jnp.arange(2), x.shape[:2])
    examples = Examples(x=x, y=y, mask=y >= 0)
    tasks = Task(
        support=examples, query=examples, description=jnp.zeros((num_tasks, 0))
    )
    state = jax.eval_shape(algorithm.init, KEY, tasks)
    return temp_bytes(algorithm.step, KEY, state, tasks)


def test_second_order_maml_pays_for_one_inner_step_and_one_task():
    # benchmarks/memory.py prints the published sizes. What is left of 8 tasks and 5
    # inner steps is one of each, and numbers that do not depend on either.
    whole = conv_bytes(unrolled(), None)
    assert conv_bytes(forward_over_reverse(), 1) < whole / 8
