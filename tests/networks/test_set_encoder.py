import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jmeta.networks import SetEncoder, from_linen

KEY = jax.random.key(0)
ROWS = jax.random.normal(KEY, (5, 3))
ALL = jnp.ones(5, bool)
pooling = pytest.mark.parametrize("num_heads", [0, 2])


def encoder(num_heads):
    network = from_linen(SetEncoder(hidden=(8,), out=4, num_heads=num_heads))
    return jax.jit(network.apply), jax.jit(network.init)(KEY, ROWS, ALL)


def test_without_hidden_layers_it_is_the_product_of_the_mean():
    network = from_linen(SetEncoder(hidden=(), out=2))
    rows = jnp.array([[1.0, 0.0], [3.0, 4.0], [50.0, 60.0]])
    mask = jnp.array([True, True, False])
    params = network.init(KEY, rows, mask)
    wanted = jnp.array([2.0, 2.0]) @ params["MLP_0"]["Dense_0"]["kernel"]
    np.testing.assert_allclose(network.apply(params, rows, mask), wanted, rtol=1e-6)


@pooling
def test_neither_order_nor_padding_changes_the_vector(num_heads):
    apply, params = encoder(num_heads)
    order = jnp.array([3, 0, 4, 1, 2])
    mask = jnp.array([True, False, True, True, False])
    wanted = apply(params, ROWS, mask)
    assert wanted.shape == (4,)
    np.testing.assert_allclose(
        apply(params, ROWS[order], mask[order]), wanted, rtol=1e-5, atol=1e-6
    )
    holed = jnp.where(mask[:, None], ROWS, jnp.nan)
    np.testing.assert_array_equal(apply(params, holed, mask), wanted)
    kept = apply(params, ROWS[np.asarray(mask)], jnp.ones(3, bool))
    np.testing.assert_allclose(kept, wanted, rtol=1e-5, atol=1e-6)
    assert not np.allclose(apply(params, ROWS, ALL), wanted, atol=1e-3)


@pooling
def test_an_empty_set_gives_zeros_and_a_gradient_that_is_finite(num_heads):
    apply, params = encoder(num_heads)

    @jax.jit
    def slope(params, rows, mask):
        return jax.grad(lambda *both: jnp.sum(apply(*both, mask)), (0, 1))(params, rows)

    holes = jnp.full_like(ROWS, jnp.nan)
    np.testing.assert_array_equal(apply(params, holes, ~ALL), jnp.zeros(4))
    for leaf in jax.tree.leaves(slope(params, holes, ~ALL)):
        np.testing.assert_array_equal(leaf, 0.0)
    some = slope(params, holes.at[:2].set(ROWS[:2]), jnp.arange(5) < 2)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(some))
