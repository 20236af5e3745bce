"""From a set of rows to one vector, whatever their order and number.

Sources: the mean, Zaheer et al., 2017, https://arxiv.org/abs/1703.06114; attention, Lee
et al., 2019, https://arxiv.org/abs/1810.00825, sections 3.1 and 3.2.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Bool, Float

from jmeta.networks.mlp import MLP
from jmeta.types import Array

__all__ = ["SetEncoder"]


class _Attention(nn.Module):
    """What each of some rows makes of a set; as wide as they are."""

    num_heads: int

    @nn.compact
    def __call__(
        self,
        asking: Float[Array, "m width"],
        rows: Float[Array, "n width"],
        mask: Bool[Array, " n"],
    ) -> Float[Array, "m width"]:
        """Apply the layer."""
        attend = nn.MultiHeadDotProductAttention(self.num_heads)
        h = nn.LayerNorm()(asking + attend(asking, rows, mask=mask[None, None]))
        width = asking.shape[-1]
        return nn.LayerNorm()(h + MLP(hidden=(width,), out=width)(h))


class SetEncoder(nn.Module):
    """A network on each row, and the mean of what it gives, or attention to it.

    What should follow the pooling is the business of the network that reads the vector.
    An empty set gives zeros.

    Attributes:
      hidden: widths of the layers of each row's network.
      out: length of the vector.
      num_heads: of attention, by which rows see each other before they are pooled, and
        by which they are pooled; must divide `out`. 0 for the mean alone.
      num_blocks: how often rows see each other, where there is attention.
    """

    hidden: tuple[int, ...] = (128,)
    out: int = 128
    num_heads: int = 0
    num_blocks: int = 1

    @nn.compact
    def __call__(
        self, rows: Float[Array, "n d"], mask: Bool[Array, " n"]
    ) -> Float[Array, " out"]:
        """Encode the rows in the mask; the others may hold anything."""
        # Before the network, or its gradient would be that of NaN times zero.
        h = MLP(self.hidden, self.out)(jnp.where(mask[:, None], rows, 0.0))
        if self.num_heads == 0:
            total = jnp.sum(jnp.where(mask[:, None], h, 0.0), axis=0)
            return total / jnp.maximum(jnp.sum(mask), 1)
        for _ in range(self.num_blocks):
            h = _Attention(self.num_heads)(h, h, mask)
        seed = self.param("seed", nn.initializers.normal(1.0), (1, self.out))
        pooled = _Attention(self.num_heads)(seed, h, mask)[0]
        return jnp.where(jnp.any(mask), pooled, 0.0)
