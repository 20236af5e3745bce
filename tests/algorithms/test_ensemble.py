import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import KEY, scored_tasks, start

from jmeta.algorithms import ensemble, meta_classification
from jmeta.algorithms.ensemble import _shares
from jmeta.networks import MetaClassifier, from_linen

MEMBER = meta_classification(
    from_linen(MetaClassifier(4, 2, width=16, num_blocks=1)), optax.adam(1e-2)
)


ALGORITHM = ensemble(MEMBER, 8)
STEP = jax.jit(ALGORITHM.step)
TASKS = jax.tree.map(lambda leaf: leaf[:1], scored_tasks(KEY, 2))


def test_members_have_their_own_networks_and_share_what_was_fitted():
    state, info = STEP(KEY, start(ALGORITHM)(KEY, TASKS), TASKS)
    assert info.loss.shape == (8,)
    assert ALGORITHM.predict(state.params, TASKS.description[0]).shape == (8, 4, 2)
    kernels = state.params["network"]["Trunk_0"]["Dense_0"]["kernel"]
    assert (kernels.std(axis=0) > 0).all()
    np.testing.assert_array_equal(state.params["base"][0], state.params["base"][1])


def test_a_member_sees_the_same_bootstrap_in_every_batch():
    descriptions = scored_tasks(KEY, 2000).description
    shares = _shares(jax.random.key(3), descriptions)
    shuffled = jax.random.permutation(jax.random.key(4), 2000)
    again = _shares(jax.random.key(3), descriptions[shuffled])
    np.testing.assert_array_equal(again, shares[shuffled])
    # Poisson(1): mean 1, and exp(-1) of the tasks never; 2000 draws, 4 deviations.
    np.testing.assert_allclose(shares.mean(), 1.0, atol=4 / np.sqrt(2000))
    np.testing.assert_allclose((shares == 0).mean(), np.exp(-1), atol=0.045)
    other = _shares(jax.random.key(5), descriptions)
    assert abs(np.corrcoef(shares, other)[0, 1]) < 4 / np.sqrt(2000)


def test_a_batch_without_any_task_of_a_member_is_used_as_it_is():
    state = start(ALGORITHM)(KEY, TASKS)
    shares = jax.vmap(_shares, in_axes=(0, None))(state.keys, TASKS.description)
    assert jnp.any(shares == 0)
    _, info = STEP(KEY, state, TASKS)
    assert np.isfinite(info.loss).all()


def test_no_members_are_refused():
    with pytest.raises(ValueError, match="num_members must be at least 1, got 0"):
        ensemble(MEMBER, 0)
