"""Solving with a Hessian that is only known by its products with vectors."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["Solver", "cg", "neumann"]

Solver = Callable[[Callable[[Any], Any], Any], Any]
"""`(product, right) -> z` with `product(z) = right`, for a symmetric `product`."""


def cg(
    *, damping: float = 0.0, tol: float | None = None, max_steps: int = 100
) -> Solver:
    """Conjugate gradients, for a Hessian that is positive.

    Args:
      damping: added to the Hessian's diagonal, against flat directions; biases.
      tol: relative to the right-hand side; None for 1e-6 in float32, 1e-12 in float64.
      max_steps: at most so many Hessian-vector products.
    """

    def solve(product: Callable[[Any], Any], right: Any) -> Any:
        import lineax  # Costs a third of a second.

        def damped(vector: Any) -> Any:
            return jax.tree.map(lambda p, v: p + damping * v, product(vector), vector)

        shapes = jax.eval_shape(lambda: right)
        dtype = jax.tree.leaves(right)[0].dtype
        usual = 1e-12 if dtype == jnp.float64 else 1e-6
        found = lineax.linear_solve(
            lineax.FunctionLinearOperator(
                damped, shapes, tags=lineax.positive_semidefinite_tag
            ),
            right,
            lineax.CG(
                rtol=usual if tol is None else tol, atol=0.0, max_steps=max_steps
            ),
            throw=False,
        )
        return found.value

    return solve


def neumann(num_terms: int, rate: float) -> Solver:
    """The Neumann series `rate sum_i (I - rate H)^i`, cut after `num_terms`.

    As many Hessian-vector products, and no breakdown where the Hessian is not positive;
    but biased towards the steep directions, and divergent if `rate` times the largest
    eigenvalue is above 2.

    Raises:
      ValueError: if `num_terms` is below 1 or `rate` not above 0.
    """
    if num_terms < 1 or rate <= 0:
        raise ValueError(
            "neumann: needs num_terms of at least 1 and a rate above 0, got "
            f"{num_terms} and {rate}."
        )

    def solve(product: Callable[[Any], Any], right: Any) -> Any:
        def body(carry: Any, _: None) -> tuple[Any, None]:
            total, term = carry
            total = jax.tree.map(jnp.add, total, term)
            curved = product(term)
            return (total, jax.tree.map(lambda t, c: t - rate * c, term, curved)), None

        nothing = jax.tree.map(jnp.zeros_like, right)
        (total, _), _ = jax.lax.scan(body, (nothing, right), length=num_terms)
        return jax.tree.map(lambda leaf: rate * leaf, total)

    return solve
