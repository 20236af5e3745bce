import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jmeta.learners.ridge import ridge
from jmeta.networks import (
    MLP,
    MetaClassifier,
    MetaOptimizer,
    default_units,
    from_linen,
)

KEY = jax.random.key(0)


def test_one_description_gives_what_the_batch_gives():
    network = from_linen(MetaClassifier(5, 2, width=8, num_blocks=1))
    x = jax.random.normal(KEY, (3, 4))
    params = jax.tree.map(lambda leaf: leaf + 0.1, network.init(KEY, x[0]))
    batch = network.apply(params, x)
    assert batch.shape == (3, 5, 2)
    np.testing.assert_allclose(batch[1], network.apply(params, x[1]), rtol=1e-5)


def test_dropout_acts_only_where_a_key_is_given():
    network = from_linen(MetaClassifier(3, width=32, num_blocks=1, dropout=0.5))
    x = jax.random.normal(KEY, (4,))
    params = jax.tree.map(lambda leaf: leaf + 0.1, network.init(KEY, x))
    still = network.apply(params, x)
    np.testing.assert_array_equal(still, network.apply(params, x))
    assert not np.allclose(still, network.apply(params, x, key=KEY))


def test_a_fresh_meta_optimizer_gives_the_defaults():
    learner = ridge()
    units = default_units([learner])
    network = from_linen(MetaOptimizer(defaults={**units, "edge": (0.0, 1.0)}))
    x = jax.random.normal(KEY, (4,))
    got = network.apply(network.init(KEY, x), x)
    np.testing.assert_allclose(got["ridge"], learner.space.default(), rtol=1e-5)
    # A sigmoid cannot reach its ends, nor learn from there.
    np.testing.assert_allclose(got["edge"], [0.02, 0.98], rtol=1e-5)


def test_the_meta_optimizer_depends_on_the_description_once_it_has_weights():
    network = from_linen(MetaOptimizer(defaults={"a": (0.5,)}, width=8))
    x = jax.random.normal(KEY, (2, 4))
    params = jax.tree.map(
        lambda leaf: leaf + 0.2 * jax.random.normal(KEY, leaf.shape),
        network.init(KEY, x),
    )
    got = network.apply(params, x)["a"]
    assert got[0] != got[1] and ((got > 0) & (got < 1)).all()


def test_a_learner_depends_on_what_it_reads_alone_even_if_the_rest_is_missing():
    network = from_linen(
        MetaOptimizer(defaults={"a": (0.5,), "b": (0.5,)}, reads={"a": (0, 2)}, width=8)
    )
    x = jax.random.normal(KEY, (4,))
    params = jax.tree.map(
        lambda leaf: leaf + 0.2 * jax.random.normal(KEY, leaf.shape),
        network.init(KEY, x),
    )
    before = network.apply(params, x)
    after = network.apply(params, x.at[jnp.array([1, 3])].set(jnp.nan))
    assert before["a"] == after["a"] and before["b"] != after["b"]
    assert before["a"] != network.apply(params, x.at[2].add(1.0))["a"]


def test_reading_past_the_description_is_refused():
    network = from_linen(MetaOptimizer(defaults={"a": (0.5,)}, reads={"a": (0, 4)}))
    with pytest.raises(ValueError, match="a reads place 4 of a description of 4"):
        network.init(KEY, jnp.zeros(4))


def test_an_mlp_without_hidden_layers_is_a_matrix_product():
    network = from_linen(MLP(hidden=(), out=2))
    x = jnp.array([1.0, 2.0])
    params = network.init(KEY, x)
    np.testing.assert_allclose(
        network.apply(params, x), x @ params["Dense_0"]["kernel"], rtol=1e-6
    )
