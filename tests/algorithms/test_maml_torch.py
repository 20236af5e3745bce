"""Second-order meta-gradients are those of torch.func, on the same weights."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from jmeta.adjoints import unrolled
from jmeta.algorithms import maml
from jmeta.learners.inner import classifier, regressor
from jmeta.networks import MLP, ConvNet, from_linen
from jmeta.tasks import Examples, Task

torch = pytest.importorskip("torch", reason="torch is not installed; pip install torch")
KEY = jax.random.key(0)
STEPS, RATE, TASKS = 3, 0.1, 2


def batch(shape, classes):
    rng = np.random.default_rng(3)

    def examples(count):
        x = rng.normal(size=(TASKS, count, *shape))
        if classes:
            y = np.broadcast_to(np.arange(count) % classes, x.shape[:2])
            y = jnp.asarray(y, jnp.int32)
        else:
            y = jnp.asarray(rng.normal(size=x.shape[:2]), float)
        mask = jnp.ones(x.shape[:2], bool)
        return Examples(x=jnp.asarray(x, float), y=y, mask=mask)

    return Task(
        support=examples(6),
        query=examples(9),
        description=jnp.zeros((TASKS, 0)),
    )


def ours(learner, tasks):
    """The weights and the meta-gradient at them."""
    algorithm = maml(
        learner,
        optax.sgd(1.0),
        inner_lr=RATE,
        inner_steps=STEPS,
        adjoint=unrolled(),
        transductive=True,
    )
    state = jax.tree.map(
        lambda leaf: leaf.astype(float), jax.jit(algorithm.init)(KEY, tasks)
    )
    after, _ = jax.jit(algorithm.step)(KEY, state, tasks)
    return state.params, jax.tree.map(jnp.subtract, state.params, after.params)


def theirs(outputs, loss, params, tasks):
    """The same gradient, of a network that is written with torch."""
    leaves, structure = jax.tree.flatten(params)
    start = tuple(torch.tensor(np.array(leaf)) for leaf in leaves)

    def judged(weights, x, y):
        return loss(outputs(jax.tree.unflatten(structure, weights), x), y)

    def mean(start):
        total = torch.zeros(())
        for place in range(TASKS):
            (xs, ys), (xq, yq) = (
                (torch.tensor(np.array(part.x[place])), np.array(part.y[place]))
                for part in (tasks.support, tasks.query)
            )
            weights = start
            for _ in range(STEPS):
                slope = torch.func.grad(judged)(weights, xs, torch.tensor(ys))
                weights = tuple(w - RATE * g for w, g in zip(weights, slope))
            total = total + judged(weights, xq, torch.tensor(yq)) / TASKS
        return total

    found = torch.func.grad(mean)(start)
    return jax.tree.unflatten(structure, [leaf.numpy() for leaf in found])


def agree(told, wanted):
    one, other = ravel_pytree(told)[0], ravel_pytree(wanted)[0]
    assert np.linalg.norm(one - other) < 1e-8 * np.linalg.norm(other)


def test_the_meta_gradient_of_a_perceptron_is_that_of_torch():
    def outputs(weights, x):
        for name in ("Dense_0", "Dense_1"):
            x = torch.relu(x @ weights[name]["kernel"] + weights[name]["bias"])
        return x @ weights["Dense_2"]["kernel"] + weights["Dense_2"]["bias"]

    def loss(outputs, y):
        return torch.mean((outputs[:, 0] - y) ** 2)

    with jax.enable_x64(True):
        tasks = batch((2,), 0)
        params, told = ours(regressor(from_linen(MLP((8, 8), 1))), tasks)
        agree(told, theirs(outputs, loss, params, tasks))


def test_the_meta_gradient_of_a_conv_net_is_that_of_torch():
    def outputs(weights, x):
        x = x.permute(0, 3, 1, 2)
        for name in ("block0", "block1"):
            block = weights[name]
            z = torch.nn.functional.conv2d(x, block["kernel"].permute(3, 2, 0, 1))
            away = z - z.mean((0, 2, 3), keepdim=True)
            variance = away.square().mean((0, 2, 3), keepdim=True)
            y = away / torch.sqrt(variance + 1e-5) * block["scale"][:, None, None]
            y = torch.relu(y + block["bias"][:, None, None])
            x = torch.nn.functional.max_pool2d(y, 2)
        x = x.permute(0, 2, 3, 1).flatten(1)
        return x @ weights["head"]["kernel"] + weights["head"]["bias"]

    def loss(outputs, y):
        return torch.nn.functional.cross_entropy(outputs, y.long())

    with jax.enable_x64(True):
        tasks = batch((13, 13, 1), 3)
        network = ConvNet(out=3, num_blocks=2, channels=12, padding="VALID")
        params, told = ours(classifier(from_linen(network), 3), tasks)
        agree(told, theirs(outputs, loss, params, tasks))
