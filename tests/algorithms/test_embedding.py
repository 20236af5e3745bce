import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import KEY, two_clouds

from jmeta.algorithms import prototypical, ridge_head
from jmeta.networks import MLP, from_linen
from jmeta.networks.mlp import Trunk

NETWORK = from_linen(MLP(hidden=(8,), out=4))
tasks_of = functools.partial(two_clouds, KEY, 4)


@pytest.mark.parametrize("make", [prototypical, ridge_head])
def test_micro_batches_change_nothing_but_rounding(make):
    found = []
    for micro_batch in (None, 1, 2):
        algorithm = make(NETWORK, optax.sgd(0.1), micro_batch=micro_batch)
        state = algorithm.init(KEY, tasks_of())
        found.append(jax.jit(algorithm.step)(KEY, state, tasks_of()))
    for other in found[1:]:
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
            found[0],
            other,
        )


def test_a_task_that_diverges_is_left_out_of_the_gradient():
    tasks = tasks_of()
    # Finite, but its distances are not.
    far = tasks.support._replace(x=tasks.support.x.at[1].mul(1e30))
    algorithm = prototypical(NETWORK, optax.sgd(0.1))
    state = algorithm.init(KEY, tasks)
    after, info = algorithm.step(KEY, state, tasks._replace(support=far))
    kept = jax.tree.map(lambda leaf: leaf[jnp.array([0, 2, 3])], tasks)
    wanted, _ = algorithm.step(KEY, state, kept)
    assert info.num_diverged == 1
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        after.params,
        wanted.params,
    )


def test_a_stochastic_network_draws_while_training_alone():
    trunk = from_linen(Trunk(width=8, num_blocks=1, dropout=0.5))
    network = trunk._replace(
        init=lambda key, x, counted: trunk.init(key, x),
        apply=lambda params, x, counted, **extra: trunk.apply(params, x, **extra),
    )
    algorithm = prototypical(network, optax.sgd(0.1), stochastic=True)
    state = algorithm.init(KEY, tasks_of())
    losses = [
        algorithm.step(jax.random.key(i), state, tasks_of())[1].loss for i in (0, 1)
    ]
    assert losses[0] != losses[1]
    task = jax.tree.map(lambda leaf: leaf[0], tasks_of())
    np.testing.assert_array_equal(
        algorithm.predict(state.params, task), algorithm.predict(state.params, task)
    )
