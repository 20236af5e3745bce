"""Solving with products alone gives what solving with the matrix gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jmeta.hessians import cg, neumann


def system():
    """A positive matrix with eigenvalues in [0.5, 2], on a record of two parts."""
    rng = np.random.default_rng(0)
    turn, _ = np.linalg.qr(rng.normal(size=(5, 5)))
    matrix = jnp.asarray(turn @ np.diag(np.linspace(0.5, 2.0, 5)) @ turn.T)
    right = {"a": jnp.asarray(rng.normal(size=(2,))), "b": jnp.asarray(rng.normal())}
    return matrix[:3, :3], right


def flat(record):
    return jnp.append(record["a"], record["b"])


def product(matrix):
    def times(record):
        told = matrix @ flat(record)
        return {"a": told[:2], "b": told[2]}

    return times


@pytest.mark.parametrize("damping", [0.0, 0.7])
def test_conjugate_gradients_solve_the_damped_system(damping):
    with jax.enable_x64(True):
        matrix, right = system()
        told = jax.jit(lambda right: cg(damping=damping)(product(matrix), right))(right)
        wanted = jnp.linalg.solve(matrix + damping * jnp.eye(3), flat(right))
        np.testing.assert_allclose(flat(told), wanted, rtol=1e-10)


def test_a_right_hand_side_of_zero_has_a_solution_of_zero():
    matrix, right = system()
    nothing = jax.tree.map(jnp.zeros_like, right)
    for solve in (cg(), neumann(3, 0.5)):
        np.testing.assert_array_equal(flat(solve(product(matrix), nothing)), 0.0)


def test_so_many_terms_of_the_series_are_added():
    with jax.enable_x64(True):
        matrix, right = system()
        told = neumann(3, 0.4)(product(matrix), right)
        left = jnp.eye(3) - 0.4 * matrix
        wanted = 0.4 * (jnp.eye(3) + left + left @ left) @ flat(right)
        np.testing.assert_allclose(flat(told), wanted, rtol=1e-12)


def test_the_series_tends_to_the_solution():
    with jax.enable_x64(True):
        matrix, right = system()
        told = neumann(200, 0.8)(product(matrix), right)
        wanted = jnp.linalg.solve(matrix, flat(right))
        np.testing.assert_allclose(flat(told), wanted, rtol=1e-10)


@pytest.mark.parametrize(("num_terms", "rate"), [(0, 0.1), (3, 0.0)])
def test_impossible_series_are_refused(num_terms, rate):
    with pytest.raises(ValueError, match="neumann: needs num_terms of at least 1"):
        neumann(num_terms, rate)
