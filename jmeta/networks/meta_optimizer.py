"""The meta-optimizer: from the description of a task to settings of each learner."""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.core import FrozenDict
from jaxtyping import Float

from jmeta.base import Learner, Proposals
from jmeta.networks.mlp import Trunk
from jmeta.types import Array

__all__ = ["MetaOptimizer", "default_units"]


def default_units(learners: Sequence[Learner]) -> dict[str, tuple[float, ...]]:
    """Each learner's default settings as a unit vector, by the learner's name."""
    return {
        learner.name: tuple(np.asarray(learner.space.default()).tolist())
        for learner in learners
    }


class MetaOptimizer(nn.Module):
    """Unit vectors of settings, one a learner, from one standardised description.

    The output layers start at zero weights, so that a fresh network gives the
    defaults whatever the description.

    Attributes:
      defaults: unit vector of each learner's defaults, by the learner's name. With
        several, `(proposals, size)`, a learner gets `Proposals`, one from each, whose
        gate starts even.
      reads: by the learner's name, the places in the description that its settings
        depend on, such as `jmeta.describe.probes.columns_for`; a learner that is left
        out reads everything. The trunk is the same for all.
      width, num_blocks, dropout: see `Trunk`.
      margin: defaults nearer to 0 or 1 than this are moved inside, since a sigmoid
        has no gradient at its ends.
    """

    defaults: Mapping[str, tuple[float, ...] | Float[Array, "_ _"]]
    reads: Mapping[str, tuple[int, ...]] = FrozenDict()
    width: int = 64
    num_blocks: int = 1
    dropout: float = 0.0
    margin: float = 0.02

    @nn.compact
    def __call__(
        self, description: Float[Array, "*batch meta"]
    ) -> dict[str, Float[Array, "*batch _"] | Proposals]:
        """Positions in (0, 1) for every setting of every learner."""
        trunk = Trunk(self.width, self.num_blocks, self.dropout)
        of_all = trunk(description)
        units = {}
        for name, default in self.defaults.items():
            h = of_all
            if name in self.reads:
                h = trunk(self._read(name, description))
            inside = jnp.clip(jnp.asarray(default), self.margin, 1.0 - self.margin)
            logits = jnp.log(inside) - jnp.log1p(-inside)
            layer = nn.Dense(
                logits.size,
                kernel_init=nn.initializers.zeros,
                bias_init=lambda key, shape, dtype, logits=logits: jnp.asarray(
                    logits.ravel(), dtype
                ),
                name=name,
            )
            units[name] = jax.nn.sigmoid(layer(h))
            if logits.ndim == 2:
                gate = nn.Dense(
                    len(logits),
                    kernel_init=nn.initializers.zeros,
                    name=f"{name}_gate",
                )
                units[name] = Proposals(
                    units=units[name].reshape(*h.shape[:-1], *logits.shape),
                    logits=gate(h),
                )
        return units

    def _read(self, name: str, description: Array) -> Array:
        """The description with zeros, its mean, where a learner does not read it."""
        size, places = description.shape[-1], self.reads[name]
        if any(place >= size for place in places):
            raise ValueError(
                f"MetaOptimizer: {name} reads place {max(places)} of a description of "
                f"{size} numbers; give places below {size}."
            )
        return jnp.where(np.isin(range(size), places), description, 0.0)
