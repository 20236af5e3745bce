"""A kernel of molecules: what a network makes of them, and the entries they share."""

import jax
import jax.numpy as jnp

from jmeta.algorithms.embedding import Rows
from jmeta.algorithms.row_kernel import Kernel, gaussian_kernel
from jmeta.fingerprints import dense_counts, tanimoto
from jmeta.types import Array, Params

__all__ = ["deep_tanimoto"]


def deep_tanimoto(num_bits: int = 2048) -> Kernel:
    """A Gaussian of the embeddings' distance plus Tanimoto on square roots of counts.

    Both heights are learnt, and the width of the Gaussian.
    """
    deep = gaussian_kernel()

    def init(size: int) -> Params:
        return {**deep.init(size), "log_tanimoto": jnp.zeros(()) - 1.0}

    def counts(x: Array) -> Array:
        # Roots make it the share of common entries where all counts are alike.
        return dense_counts(x.at[..., 1].set(jnp.sqrt(x[..., 1])), num_bits)

    def compare(a: Rows, b: Rows) -> tuple[Array, Array]:
        near = tanimoto(counts(a.x), counts(b.x))
        return deep.compare(a, b), jax.lax.stop_gradient(near)

    def covariance(params: Params, related: tuple[Array, Array]) -> Array:
        squared, near = related
        return deep.covariance(params, squared) + jnp.exp(params["log_tanimoto"]) * near

    def variance(params: Params, rows: Rows) -> Array:
        return deep.variance(params, rows) + jnp.exp(params["log_tanimoto"])

    return Kernel(init, compare, covariance, variance)
