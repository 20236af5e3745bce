import jax
import jax.numpy as jnp
import numpy as np

from jmeta.fingerprints import dense_counts, selected_sum, tanimoto

KEY = jax.random.key(0)
X = jnp.array([[[3.0, 2.0], [1.0, 1.0]], [[0.0, 5.0], [0.0, 0.0]]])


def test_counts_stand_where_they_belong():
    wanted = [[0.0, 1.0, 0.0, 2.0], [5.0, 0.0, 0.0, 0.0]]
    np.testing.assert_array_equal(dense_counts(X, 4), wanted)


def test_the_sum_of_rows_is_the_matrix_product_and_so_is_its_gradient():
    weights = jax.random.normal(KEY, (4, 3))
    functions = selected_sum, lambda weights, x: dense_counts(x, 4) @ weights
    for transform in (lambda f: f, lambda f: jax.grad(lambda *a: jnp.sum(f(*a) ** 3))):
        found, wanted = (transform(f)(weights, X) for f in functions)
        np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_tanimoto_of_bits_is_the_share_in_common():
    a, b = jnp.array([[1.0, 1, 0, 1], [0, 0, 0, 0]]), jnp.array([[1.0, 0, 1, 1]])
    np.testing.assert_allclose(tanimoto(a, b), [[0.5], [0.0]])
    np.testing.assert_allclose(jnp.diag(tanimoto(a, a)), [1.0, 0.0])
