import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jmeta.networks import FingerprintMLP, from_linen

KEY = jax.random.key(0)
X = jnp.array([[[3.0, 2.0], [1.0, 1.0]], [[0.0, 5.0], [0.0, 0.0]]])


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_empty_slots_change_nothing(dropout):
    network = from_linen(FingerprintMLP((8, 8), 3, num_bits=4, dropout=dropout))
    params = network.init(KEY, X)
    wider = jnp.pad(X, ((0, 0), (0, 3), (0, 0)))
    found = network.apply(params, wider, jnp.ones(2, bool))
    assert found.shape == (2, 3)
    np.testing.assert_array_equal(found, network.apply(params, X))
    drawn = network.apply(params, X, key=KEY)
    assert np.allclose(drawn, found) == (dropout == 0.0)
