"""Why a candidate was recommended: attributions over the description.

Source: integrated gradients, Sundararajan et al., 2017,
https://arxiv.org/abs/1703.01365.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jmeta.algorithms import standardise, unstandardise
from jmeta.base import MetaAlgorithm
from jmeta.metamodel import MetaModel
from jmeta.types import Array, Params

__all__ = ["attributions", "unusual"]

STEPS = 64
FAR = 3.0


@functools.partial(jax.jit, static_argnames=("algorithm",))
def _integrate(
    algorithm: MetaAlgorithm,
    params: Params,
    scaler: dict[str, Array],
    description: Array,
    one: Array,
    other: Array,
    column: Array,
) -> Array:
    def advantage(z: Array) -> Array:
        costs = algorithm.predict(params, unstandardise(scaler, z)).mean(0)[:, column]
        return costs[other] - costs[one]

    # Along a line in standardised features: in their own units, one that lies far
    # out would do all its work in a corner of the line, between two steps.
    end = standardise(scaler, description)
    # Steps that are denser near the average task, where normalisation turns quickly.
    place = (jnp.arange(STEPS) + 0.5) / STEPS
    slopes = jax.vmap(lambda t: jax.grad(advantage)(t * end))(jnp.square(place))
    return end * jnp.mean(2 * place[:, None] * slopes, axis=0)


def _scaler(model: MetaModel) -> dict[str, Array]:
    """The first member's; all members saw the same tasks' descriptions."""
    return jax.tree.map(lambda leaf: leaf[0], model.params["classifier"]["scaler"])


def attributions(
    model: MetaModel,
    description: Float[np.ndarray, " meta"],
    place: int,
    other: int,
    column: int,
) -> Float[np.ndarray, " meta"]:
    """How much each feature moved one candidate's predicted lead over another.

    Integrated gradients from the average task to this one: they add up to the lead
    on this task minus the lead on the average task.

    Args:
      model: whose prediction is explained.
      description: of the task.
      place, other: the candidates; positive effects speak for the first.
      column: of the score, in `model.score_names`.
    """
    return np.asarray(
        _integrate(
            model.algorithm,
            model.params["classifier"],
            _scaler(model),
            jnp.asarray(description),
            place,
            other,
            column,
        )
    )


def unusual(model: MetaModel, description: Float[np.ndarray, " meta"]) -> list[int]:
    """The features in which the task is unlike the meta-training tasks.

    Their places; a feature counts from `FAR` robust deviations on.
    """
    z = np.asarray(standardise(_scaler(model), jnp.asarray(description)))
    return np.flatnonzero(np.abs(z) > FAR).tolist()
