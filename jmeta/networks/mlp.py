"""Fully connected networks: the plain one, and the residual trunk of the others."""

import flax.linen as nn
import jax
from jaxtyping import Float

from jmeta.types import Array

__all__ = ["MLP", "Trunk"]


class MLP(nn.Module):
    """Fully connected network with the given widths; acts on the last axis.

    May be told which rows count, as a network that normalises must be; rows do not
    meet here.
    """

    hidden: tuple[int, ...]
    out: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "*batch features"], counted: Array | None = None
    ) -> Float[Array, "*batch o"]:
        """Apply the network."""
        del counted
        for width in self.hidden:
            x = jax.nn.relu(nn.Dense(width)(x))
        return nn.Dense(self.out)(x)


class Trunk(nn.Module):
    """Residual blocks of normalisation, two dense layers and dropout.

    Small data is the rule across tasks, so the blocks start near the identity and
    dropout acts only where `from_linen(...).apply` is given a key.

    Attributes:
      width: of every layer.
      num_blocks: how many residual blocks.
      dropout: the fraction of hidden units left out while training.

    Source: the tabular ResNet of Gorishniy et al., 2021,
    https://arxiv.org/abs/2106.11959, section 3.2, with LayerNorm for BatchNorm.
    """

    width: int = 128
    num_blocks: int = 2
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: Float[Array, "*batch features"]) -> Float[Array, "*batch w"]:
        """Apply the trunk to the last axis."""
        still = not self.has_rng("dropout")
        x = nn.Dense(self.width)(x)
        for _ in range(self.num_blocks):
            h = jax.nn.gelu(nn.Dense(self.width)(nn.LayerNorm()(x)))
            h = nn.Dropout(self.dropout, deterministic=still)(h)
            x = x + nn.Dense(self.width)(h)
        return jax.nn.gelu(nn.LayerNorm()(x))
