"""Kernel ridge regression from descriptions, judged without each family in turn.

Leaving a family out needs no second fit: with A the inverse of the regularised kernel
matrix, the residual of family F that was left out is (A_FF)^-1 (A r)_F.

Source: Rasmussen and Williams, 2006, Gaussian Processes for Machine Learning, section
5.4.2, http://gaussianprocess.org/gpml/chapters/, for one example at a time.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from jmeta.types import Array

__all__ = ["distances", "honest_ridge"]


def distances(
    x: Float[Array, "tasks features"], rows: Int[Array, " n"]
) -> Float[Array, "tasks n"]:
    """Sums of absolute differences between every task and those at `rows`."""
    others = x[rows]
    return jax.lax.map(lambda row: jnp.abs(others - row).sum(1), x, batch_size=16)


def honest_ridge(
    gaps: Float[Array, "tasks n"],
    rows: Int[Array, " n"],
    train: Bool[Array, " n"],
    members: Int[Array, "families size"],
    targets: Float[Array, "tasks outputs"],
    noise: Float[Array, ""],
) -> Float[Array, "tasks outputs"]:
    """Predict every task; those learnt from as if their family had been left out.

    The kernel is exp(-gap / the median gap between training tasks); targets are taken
    as differences from 0.

    Args:
      gaps: distances of all tasks to those at `rows`.
      rows: places of the tasks that may be learnt from, all different.
      train: which of them are.
      members: for each family, places in `rows` of its members, and `n` as padding.
      targets: finite on the training tasks.
      noise: added to the kernel's diagonal, in units of the kernel's height.
    """
    size = len(rows)
    both = train[:, None] & train
    off = both & ~jnp.eye(size, dtype=bool)
    median = jnp.nanmedian(jnp.where(off, gaps[rows], jnp.nan))
    median = jnp.where(median > 0, median, 1.0)  # Also where it is NaN.
    kernel = jnp.exp(-gaps / median)
    system = jnp.where(both, kernel[rows], 0.0)
    system += jnp.diag(jnp.where(train, noise, 1.0))
    y = jnp.where(train[:, None], targets[rows], 0.0)
    # The noise keeps this well-conditioned. Solves with many right-hand sides are far
    # slower than inverses on a CPU.
    inverse = jnp.linalg.inv(system)
    weights = inverse @ y
    plain = jnp.where(train, kernel, 0.0) @ weights

    inside = members < size
    place = jnp.where(inside, members, 0)
    blocks = inverse[place[:, :, None], place[:, None, :]]
    blocks = jnp.where(inside[:, :, None] & inside[:, None, :], blocks, 0.0)
    blocks += jnp.where(inside, 0.0, 1.0)[:, :, None] * jnp.eye(members.shape[1])
    left = jnp.linalg.inv(blocks) @ jnp.where(inside[..., None], weights[place], 0.0)
    honest = (
        jnp.zeros_like(y)
        .at[members.reshape(-1)]
        .set(left.reshape(-1, y.shape[1]), mode="drop")
    )
    kept = jnp.where(train[:, None], y - honest, plain[rows])
    return plain.at[rows].set(kept)
