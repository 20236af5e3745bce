import jax
import jax.numpy as jnp
import numpy as np
import optax
from helpers import KEY, start, tried_settings

from jmeta.algorithms import meta_regression
from jmeta.algorithms.meta_regression import distance
from jmeta.base import Network


def test_the_loss_is_the_distance_to_the_weighted_trials():
    # Weights 3/4 and 1/4; squared gaps 0.25 and 1.
    costs = jnp.array([0.0, 0.1 * np.log(3.0), -9.0])
    settings = jnp.array([[0.5], [1.0], [0.3]])
    mask = jnp.array([True, True, False])
    got, tried = distance(jnp.zeros(1), settings, costs, mask, 0.1)
    np.testing.assert_allclose(got, 0.75 * 0.25 + 0.25 * 1.0, rtol=1e-6)
    assert tried


def test_a_learner_that_was_never_tried_is_left_out():
    got, tried = distance(
        jnp.zeros(1), jnp.ones((2, 1)), jnp.ones(2), jnp.zeros(2, bool), 0.1
    )
    assert got == 0 and not tried


def test_the_gradient_step_is_the_closed_form():
    # One cold weight: d (u - 0.6)^2 / du = 2 (u - 0.6), with a network that is u.
    network = Network(
        init=lambda key, x: {"u": jnp.array([0.2])},
        apply=lambda params, x: {"ridge": params["u"]},
    )
    tasks = tried_settings(KEY, 1)
    tasks = tasks._replace(
        costs={"ridge": jnp.where(jnp.arange(6) == 3, 0.0, 1.0)[None]}
    )
    algorithm = meta_regression(network, optax.sgd(1.0), temperature=1e-3)
    state, info = jax.jit(algorithm.step)(KEY, start(algorithm)(KEY, tasks), tasks)
    np.testing.assert_allclose(info.loss, 0.16, rtol=1e-5)
    np.testing.assert_allclose(state.params["network"]["u"], [1.0], rtol=1e-5)
