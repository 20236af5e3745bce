"""The meta-classifier: from the description of a task to a score of each candidate."""

import flax.linen as nn
from jaxtyping import Float

from jmeta.networks.mlp import Trunk
from jmeta.types import Array

__all__ = ["MetaClassifier"]


class MetaClassifier(nn.Module):
    """Scores of all candidates from one standardised description.

    A score is the sum of how hard the task is (shared by all candidates), a linear
    and a deep part for each candidate. All output layers start at zero: a fresh
    network says of every candidate what it costs on average
    (`jmeta.algorithms.meta_classification` adds that average).

    Attributes:
      num_candidates: how many candidates are scored.
      num_metrics: how many scores each candidate gets.
      width, num_blocks, dropout: see `Trunk`.
    """

    num_candidates: int
    num_metrics: int = 1
    width: int = 128
    num_blocks: int = 2
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self, description: Float[Array, "*batch meta"]
    ) -> Float[Array, "*batch candidates metrics"]:
        """Score every candidate; lower is better."""
        zeros = nn.initializers.zeros
        h = Trunk(self.width, self.num_blocks, self.dropout)(description)
        level = nn.Dense(self.num_metrics, kernel_init=zeros, name="level")(h)
        size = self.num_candidates * self.num_metrics
        deep = nn.Dense(size, kernel_init=zeros, name="deep")(h)
        linear = nn.Dense(size, kernel_init=zeros, use_bias=False, name="linear")
        scores = (deep + linear(description)).reshape(
            *description.shape[:-1], self.num_candidates, self.num_metrics
        )
        return level[..., None, :] + scores
