"""The meta-classifier: from the description of a task to a score of each candidate."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from jmeta.networks.mlp import Trunk
from jmeta.types import Array

__all__ = ["MetaClassifier"]


class MetaClassifier(nn.Module):
    """Scores of all candidates from one standardised description.

    A score is the sum of how hard the task is (shared by all candidates), a linear
    and a deep part for each candidate, and, where the candidates' settings are given,
    a part that alike settings share: it is all that is known of a candidate that was
    hardly ever run. All output layers start at zero: a fresh network says of every
    candidate what it costs on average (`jmeta.algorithms.meta_classification` adds
    that average).

    Attributes:
      num_candidates: how many candidates are scored.
      num_metrics: how many scores each candidate gets.
      width, num_blocks, dropout: see `Trunk`.
      rank: of the linear and the deep part together, as if candidates differed in so
        many ways; 0 for as many as there are. Cheaper where candidates are hundreds.
    """

    num_candidates: int
    num_metrics: int = 1
    width: int = 128
    num_blocks: int = 2
    dropout: float = 0.0
    rank: int = 0

    @nn.compact
    def __call__(
        self,
        description: Float[Array, "*batch meta"],
        settings: Float[Array, "candidates columns"] | None = None,
    ) -> Float[Array, "*batch candidates metrics"]:
        """Score every candidate; lower is better."""
        zeros = nn.initializers.zeros
        h = Trunk(self.width, self.num_blocks, self.dropout)(description)
        level = nn.Dense(self.num_metrics, kernel_init=zeros, name="level")(h)
        size = self.num_candidates * self.num_metrics
        if self.rank:
            ways = nn.Dense(self.rank)(jnp.concatenate([h, description], axis=-1))
            scores = nn.Dense(size, kernel_init=zeros, name="ways")(ways)
        else:
            linear = nn.Dense(size, kernel_init=zeros, use_bias=False, name="linear")
            deep = nn.Dense(size, kernel_init=zeros, name="deep")
            scores = deep(h) + linear(description)
        scores = scores.reshape(
            *description.shape[:-1], self.num_candidates, self.num_metrics
        )
        if settings is not None:
            like = jax.nn.gelu(nn.Dense(self.width)(settings))
            like = nn.Dense(self.width)(like) / self.width**0.5
            shared = nn.Dense(
                self.num_metrics * self.width, kernel_init=zeros, name="shared"
            )(h)
            shared = shared.reshape(*h.shape[:-1], self.num_metrics, self.width)
            scores += jnp.einsum("...mw,cw->...cm", shared, like)
        return level[..., None, :] + scores
