"""A kernel of molecules: what a network makes of them, and the entries they share."""

import jax
import jax.numpy as jnp

from jmeta.algorithms.embedding import Rows
from jmeta.algorithms.ridge_head import Kernel
from jmeta.fingerprints import dense_counts, tanimoto
from jmeta.types import Array, Params

__all__ = ["deep_tanimoto"]


def deep_tanimoto(num_bits: int = 2048) -> Kernel:
    """A Gaussian of the embeddings' distance plus Tanimoto on square roots of counts.

    Both heights are learnt, and the width of the Gaussian.
    """

    def init(size: int) -> Params:
        del size
        zero = jnp.zeros(())
        return {"log_deep": zero, "log_tanimoto": zero - 1.0, "log_width": zero}

    def counts(x: Array) -> Array:
        # Roots make it the share of common entries where all counts are alike.
        return dense_counts(x.at[..., 1].set(jnp.sqrt(x[..., 1])), num_bits)

    def apply(params: Params, a: Rows, b: Rows) -> Array:
        away = jnp.sum(a.z * a.z, axis=1)[:, None] + jnp.sum(b.z * b.z, axis=1)
        squared = jnp.maximum(away - 2.0 * a.z @ b.z.T, 0.0) / a.z.shape[1]
        deep = jnp.exp(-0.5 * squared * jnp.exp(-2.0 * params["log_width"]))
        near = tanimoto(counts(a.x), counts(b.x))
        heights = jnp.exp(params["log_deep"]), jnp.exp(params["log_tanimoto"])
        return heights[0] * deep + heights[1] * jax.lax.stop_gradient(near)

    return Kernel(init=init, apply=apply)
