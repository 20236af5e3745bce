"""Multi-layer perceptrons, trained by full-batch Adam for a fixed number of steps."""

import functools

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float

from jmeta.base import Learner
from jmeta.learners.common import active
from jmeta.learners.trained import class_loss, trained
from jmeta.spaces import Hyper, Space, real
from jmeta.tasks import Examples
from jmeta.types import Array, Key, Settings, Weights

__all__ = ["apply", "init_weights", "mlp", "mlp_regressor"]

HIDDEN, NUM_STEPS = 32, 150


def init_weights(
    key: Key, x: Float[Array, "n features"], num_outputs: int, hidden: int = HIDDEN
) -> Weights:
    """Weights of two hidden layers; the last layer starts at zero.

    The scale of the first layer follows the number of columns of `x` that are not
    all zero, and the draws of the others do not depend on padding.
    """
    first, second = jax.random.split(key)
    fan_in = jnp.maximum(jnp.sum(active(x)), 1).astype(x.dtype)
    draw = functools.partial(jax.random.normal, dtype=x.dtype)
    zeros = jnp.zeros(hidden, x.dtype)
    return {
        "w1": draw(first, (x.shape[1], hidden)) / jnp.sqrt(fan_in),
        "b1": zeros,
        "w2": draw(second, (hidden, hidden)) / jnp.sqrt(hidden),
        "b2": zeros,
        "w3": jnp.zeros((hidden, num_outputs), x.dtype),
        "b3": jnp.zeros(num_outputs, x.dtype),
    }


def apply(weights: Weights, x: Float[Array, "n features"]) -> Float[Array, "n outputs"]:
    """The network's outputs."""
    hidden = jax.nn.silu(x @ weights["w1"] + weights["b1"])
    hidden = jax.nn.silu(hidden @ weights["w2"] + weights["b2"])
    return hidden @ weights["w3"] + weights["b3"]


def _adam(settings: Settings) -> optax.GradientTransformation:
    """Adam with decoupled weight decay and a cosine schedule."""
    unit = optax.cosine_decay_schedule(1.0, NUM_STEPS)
    return optax.adamw(
        lambda count: settings["learning_rate"] * unit(count),
        # The root of a second moment of zero has no derivative.
        eps_root=1e-16,
        weight_decay=settings["weight_decay"],
    )


def _hypers() -> dict[str, Hyper]:
    return {
        "learning_rate": real(1e-3, 0.1, default=0.003, log=True),
        # At most 1 / learning_rate, beyond which decay overshoots.
        "weight_decay": real(1e-2, 10.0, default=3.0, log=True),
    }


def mlp(num_classes: int) -> Learner:
    """A perceptron that minimises the cross-entropy of the classes present."""

    def loss(
        settings: Settings, weights: Weights, support: Examples, key: Key
    ) -> Array:
        del key  # All rows at every step.
        smoothing = settings["label_smoothing"]
        return class_loss(apply(weights, support.x), support, label_smoothing=smoothing)

    return trained(
        "mlp",
        apply,
        lambda key, settings, x: init_weights(key, x, num_classes),
        _adam,
        kind="classes",
        space=Space(**_hypers(), label_smoothing=real(0.0, 0.3, default=0.05)),
        num_steps=NUM_STEPS,
        loss=loss,
    )


def mlp_regressor() -> Learner:
    """A perceptron that minimises the squared error, about the support's mean."""
    return trained(
        "mlp_regressor",
        apply,
        lambda key, settings, x: init_weights(key, x, 1),
        _adam,
        kind="number",
        space=Space(**_hypers()),
        num_steps=NUM_STEPS,
    )
