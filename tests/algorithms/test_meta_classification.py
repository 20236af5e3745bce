import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import KEY, scored_tasks, start

from jmeta.algorithms import LOSSES, MetaExamples, meta_classification
from jmeta.algorithms.meta_classification import additive_fit
from jmeta.base import Network
from jmeta.networks import MetaClassifier, from_linen

NETWORK = from_linen(MetaClassifier(4, 2, width=16, num_blocks=1))


def test_a_fresh_network_says_what_each_candidate_costs_on_average():
    tasks = scored_tasks(KEY, 16)
    algorithm = meta_classification(NETWORK, optax.adam(1e-3))
    state = start(algorithm)(KEY, tasks)
    got = algorithm.predict(state.params, tasks.description[0])
    np.testing.assert_allclose(got[:3], tasks.costs[:, :3].mean(axis=0), rtol=1e-5)
    # A candidate that never ran is as bad as the worst one that did.
    np.testing.assert_allclose(got[3], got[:3].max(axis=0), rtol=1e-5)


def test_a_candidate_is_not_blamed_for_having_run_on_hard_tasks_only():
    # Levels 0 and 10, candidates 1 and 2; the second ran on the hard task alone.
    costs = jnp.array([[1.0, jnp.nan, 3.0], [11.0, 12.0, 13.0]])
    base, spread = additive_fit(jnp.nan_to_num(costs), jnp.isfinite(costs))
    np.testing.assert_allclose(np.asarray(base) - base[0], [0.0, 1.0, 2.0], atol=1e-4)
    np.testing.assert_allclose(base[0], 6.0, rtol=1e-5)
    assert spread > 0


def test_info_tells_the_regret_of_the_choice_and_of_the_single_best():
    # Two tasks; the single best is the first (mean 1 against 1.5).
    tasks = MetaExamples(
        description=jnp.array([[0.0], [1.0]]),
        costs=jnp.array([[[0.0], [3.0]], [[2.0], [0.0]]]),
        mask=jnp.ones((2, 2), bool),
    )
    flip = Network(
        init=lambda key, x: {"w": jnp.zeros(())},
        apply=lambda params, x: params["w"] + jnp.array([[9.0], [-9.0]]),
    )
    algorithm = meta_classification(flip, optax.sgd(0.1))
    _, info = jax.jit(algorithm.step)(KEY, start(algorithm)(KEY, tasks), tasks)
    np.testing.assert_allclose(info.single_best_regret, (0 + 2) / 2)
    np.testing.assert_allclose(info.regret, (3 + 0) / 2)


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_learns_which_candidate_is_best(loss):
    tasks = scored_tasks(KEY, 64)
    algorithm = meta_classification(NETWORK, optax.adam(1e-2), loss=loss)
    state = start(algorithm)(KEY, tasks)

    def body(state, step):
        return algorithm.step(jax.random.fold_in(KEY, step), state, tasks)

    _, info = jax.jit(lambda s: jax.lax.scan(body, s, jnp.arange(150)))(state)
    assert info.regret[-1] < 0.3 * info.single_best_regret[-1]


def test_a_metric_that_was_not_measured_is_left_out():
    tasks = scored_tasks(KEY, 4)
    wide = jnp.broadcast_to(tasks.mask[..., None], tasks.costs.shape)
    algorithm = meta_classification(NETWORK, optax.sgd(0.1))
    state = start(algorithm)(KEY, tasks)
    step = jax.jit(algorithm.step)
    _, info = step(KEY, state, tasks)
    _, same = step(KEY, state, tasks._replace(mask=wide))
    np.testing.assert_allclose(info.loss, same.loss, rtol=1e-6)
    half = wide.at[..., 1].set(False)
    _, masked = step(KEY, state, tasks._replace(mask=half))
    missing = tasks.costs.at[..., 1].set(jnp.nan)
    _, absent = step(KEY, state, tasks._replace(costs=missing, mask=wide))
    np.testing.assert_array_equal(masked.loss, absent.loss)
    assert masked.loss != info.loss


def test_an_unknown_loss_is_refused_by_name():
    with pytest.raises(ValueError, match=r"meta_classification: loss .*'regret'"):
        meta_classification(NETWORK, optax.sgd(0.1), loss="regret")
