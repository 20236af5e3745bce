"""A response model: what settings cost, as a smooth function of task and settings.

Kernel ridge regression on all pairs of a task and a candidate, with the product of a
kernel of descriptions and one of settings. Where every candidate has a cost on every
task, the system is a Kronecker product, so that the eigenvectors of both kernels solve
it: a hundred tasks with five hundred candidates take no more than two small matrices.

Source: Bonilla, Chai and Williams, 2007, Multi-task Gaussian process prediction,
https://papers.nips.cc/paper/3189-multi-task-gaussian-process-prediction.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Bool, Float

from jmeta.types import Array

__all__ = ["climb", "product_ridge", "settings_kernel"]


def settings_kernel(
    units: Float[Array, "n columns"],
    others: Float[Array, "m columns"],
    length: float | Array,
) -> Float[Array, "n m"]:
    """Matern kernel (5/2) of settings; smooth, so that a gradient leads somewhere."""
    squares = jnp.sum(jnp.square(units[:, None] - others), axis=-1)
    # Not exactly 0: the square root has no gradient there.
    away = jnp.sqrt(5.0 * jnp.maximum(squares, 1e-10)) / length
    return (1.0 + away + jnp.square(away) / 3.0) * jnp.exp(-away)


def product_ridge(
    tasks: tuple[Float[Array, " t"], Float[Array, "t t"]],
    candidates: tuple[
        Float[Array, " candidates"], Float[Array, "candidates candidates"]
    ],
    targets: Float[Array, "t c"],
    noise: float | Array,
) -> Float[Array, "t c"]:
    """Weights `w` with which `task_kernel @ w @ settings_kernel` is the prediction.

    They solve (A x B + noise I) w = targets, x being the Kronecker product.

    Args:
      tasks: eigenvalues and eigenvectors of the kernel A of descriptions.
      candidates: those of the kernel B of settings.
      targets: a task that is not learnt from has zeros in A and here.
      noise: added to the diagonal; above 0.
    """
    (heights, left), (widths, right) = tasks, candidates
    scales = jnp.maximum(heights, 0.0)[:, None] * jnp.maximum(widths, 0.0) + noise
    return left @ ((left.T @ targets @ right) / scales) @ right.T


def climb(
    weights: Float[Array, "lengths candidates"],
    settings: Float[Array, "candidates columns"],
    lengths: Float[Array, " lengths"],
    start: Float[Array, " columns"],
    movable: Bool[Array, " columns"],
    reach: float | Array,
    *,
    num_steps: int = 40,
    learning_rate: float = 0.02,
) -> Float[Array, " columns"]:
    """Settings of lower predicted cost, from a start, within the unit cube.

    Args:
      weights: of each candidate's kernel of each length in the predicted cost.
      movable: which columns may change.
      reach: how far from the start, in Euclidean distance, since the model knows
        little of where nothing was run.

    Returns:
      The best place on the way, which is never worse than the start.
    """

    def cost(unit: Array) -> Array:
        kernels = jax.vmap(settings_kernel, in_axes=(None, None, 0))
        return jnp.sum(kernels(unit[None], settings, lengths)[:, 0] * weights)

    # The length of a step must not depend on the costs' unit: Adam's does not.
    optimizer = optax.adam(learning_rate)

    def step(carry: Any, _: None) -> tuple[Any, None]:
        unit, state, best, lowest = carry
        value, slope = jax.value_and_grad(cost)(unit)
        best = jnp.where(value < lowest, unit, best)
        updates, state = optimizer.update(slope, state)
        moved = (
            jnp.clip(unit + jnp.where(movable, jnp.asarray(updates), 0.0), 0.0, 1.0)
            - start
        )
        away = jnp.sqrt(jnp.sum(jnp.square(moved)))
        moved = start + moved * jnp.minimum(1.0, reach / jnp.maximum(away, 1e-12))
        return (moved, state, best, jnp.minimum(value, lowest)), None

    first = (start, optimizer.init(start), start, cost(start))
    (last, _, best, lowest), _ = jax.lax.scan(step, first, length=num_steps)
    return jnp.where(cost(last) < lowest, last, best)
