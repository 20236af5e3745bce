"""Networks on fingerprints, whose few entries that are not zero select rows of weights.

Rows are as in `jmeta.fingerprints`.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from jmeta.fingerprints import selected_sum
from jmeta.types import Array

__all__ = ["FingerprintMLP"]


class FingerprintMLP(nn.Module):
    """Fully connected network on the logarithms of one plus the counts.

    Attributes:
      hidden: widths of the layers, each normalised, then ReLU.
      out: outputs.
      num_bits: length of a fingerprint.
      num_descriptors: how many slots at the start hold levels of descriptors, from 0 to
        255, instead of counts.
      dropout: the fraction of hidden units left out where `from_linen(...).apply` is
        given a key.
    """

    hidden: tuple[int, ...] = (512, 512)
    out: int = 256
    num_bits: int = 2048
    num_descriptors: int = 0
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self, x: Float[Array, "n slots 2"], counted: Array | None = None
    ) -> Float[Array, "n out"]:
        """Apply the network; rows do not meet in it."""
        del counted
        still = not self.has_rng("dropout")
        # About fifty entries are not zero.
        initial = nn.initializers.normal(50**-0.5)
        first = self.param("first", initial, (self.num_bits, self.hidden[0]))
        levels, counts = jnp.split(x, [self.num_descriptors], axis=1)
        x = selected_sum(first, counts.at[..., 1].set(jnp.log1p(counts[..., 1])))
        if self.num_descriptors:
            described = nn.Dense(self.hidden[0], use_bias=False, name="described")
            x += described(levels[..., 1] / 127.5 - 1.0)
        for number, width in enumerate(self.hidden):
            x = nn.Dense(width)(x) if number else x
            x = jax.nn.relu(nn.LayerNorm()(x))
            x = nn.Dropout(self.dropout, deterministic=still)(x)
        return nn.Dense(self.out)(x)
