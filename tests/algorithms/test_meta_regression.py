import jax
import jax.numpy as jnp
import numpy as np
import optax
from helpers import KEY, start, tried_settings

from jmeta.algorithms import meta_regression
from jmeta.algorithms.meta_regression import (
    MetaSettings,
    distance,
    mixture_distance,
)
from jmeta.base import Network, Proposals
from jmeta.networks import MetaOptimizer, from_linen


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


def test_a_single_proposal_is_judged_by_the_distance_itself():
    unit = jnp.array([0.3, 0.9])
    settings = jax.random.uniform(KEY, (5, 2))
    costs, mask = jnp.linspace(0.0, 0.3, 5), jnp.arange(5) < 4
    one = Proposals(units=unit[None], logits=jnp.zeros(1))
    for scale in (0.05, 0.5):
        got = mixture_distance(one, settings, costs, mask, 0.1, scale)
        np.testing.assert_allclose(
            got[0], distance(unit, settings, costs, mask, 0.1)[0], rtol=1e-5
        )


def test_several_proposals_are_judged_by_their_mixture():
    # Gates 3/4 and 1/4; gaps 0 and 0.5 in the unit 2 * 0.5**2 of the scale.
    made = Proposals(
        units=jnp.array([[0.0], [0.5]]), logits=jnp.log(jnp.array([3.0, 1.0]))
    )
    got, tried = mixture_distance(
        made, jnp.zeros((1, 1)), jnp.zeros(1), jnp.ones(1, bool), 0.1, 0.5
    )
    expected = -0.5 * np.log(0.75 + 0.25 * np.exp(-0.25 / 0.5))
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    assert tried


def test_where_two_settings_are_good_proposals_find_both_and_a_mean_neither():
    tasks = MetaSettings(
        description=jax.random.normal(KEY, (8, 3)),
        settings={"a": jnp.tile(jnp.array([[0.1], [0.5], [0.9]]), (8, 1, 1))},
        costs={"a": jnp.tile(jnp.array([0.0, 1.0, 0.0]), (8, 1))},
        mask={"a": jnp.ones((8, 3), bool)},
    )

    def trained(*defaults):
        network = from_linen(
            MetaOptimizer(defaults={"a": jnp.array(defaults)[:, None]}, width=8)
        )
        algorithm = meta_regression(network, optax.adam(0.03))

        def body(state, _):
            return algorithm.step(KEY, state, tasks)[0], None

        state, _ = jax.lax.scan(body, algorithm.init(KEY, tasks), length=200)
        return algorithm.predict(state.params, tasks.description[0])["a"].units.ravel()

    np.testing.assert_allclose(trained(0.3), [0.5], atol=0.02)
    np.testing.assert_allclose(trained(0.3, 0.6), [0.1, 0.9], atol=0.03)
