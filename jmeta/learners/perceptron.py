"""Multi-layer perceptrons, trained by full-batch Adam for a fixed number of steps.

The parts (`init_weights`, `apply`, `class_loss`, `number_loss`, `train`) serve
bilevel algorithms that differentiate through the training, too.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float

from jmeta.base import Learner
from jmeta.learners.common import active, class_logits, clean, one_hot, present
from jmeta.spaces import Hyper, Space, real
from jmeta.tasks import Examples
from jmeta.types import Array, Key, Settings, Weights

__all__ = [
    "apply",
    "class_loss",
    "init_weights",
    "mlp",
    "mlp_regressor",
    "number_loss",
    "train",
]

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


def _mean(losses: Float[Array, " n"], support: Examples) -> Float[Array, ""]:
    rows = support.mask.astype(losses.dtype)
    return jnp.sum(rows * losses) / jnp.maximum(jnp.sum(rows), 1.0)


def class_loss(
    weights: Weights, support: Examples, label_smoothing: Float[Array, ""] | float = 0.0
) -> Float[Array, ""]:
    """Mean cross-entropy over a cleaned support, among the classes it holds."""
    outputs = apply(weights, support.x)
    num_classes = outputs.shape[-1]
    hot, held = one_hot(support, num_classes), present(support, num_classes)
    even = held / jnp.maximum(jnp.sum(held), 1)
    wanted = (1.0 - label_smoothing) * hot + label_smoothing * even
    logits = jax.nn.log_softmax(jnp.where(held, outputs, -1e30), axis=-1)
    losses = -jnp.sum(jnp.where(held, wanted * logits, 0.0), axis=-1)
    return _mean(losses, support)


def number_loss(weights: Weights, support: Examples) -> Float[Array, ""]:
    """Half the mean squared error over a cleaned support."""
    return _mean(0.5 * jnp.square(apply(weights, support.x)[:, 0] - support.y), support)


def train(
    loss: Callable[[Weights], Array],
    weights: Weights,
    *,
    learning_rate: Float[Array, ""] | float,
    weight_decay: Float[Array, ""] | float,
    num_steps: int = NUM_STEPS,
) -> Weights:
    """Minimise `loss` by Adam with decoupled weight decay and a cosine schedule.

    Differentiable in both settings, in the initial weights and in whatever `loss`
    closes over; memory grows linearly with `num_steps` then.
    """
    # eps_root: the root of a second moment of zero has no derivative.
    adam = optax.scale_by_adam(eps_root=1e-16)
    rates = 0.5 * (1.0 + jnp.cos(jnp.pi * jnp.arange(num_steps) / num_steps))

    def body(carry, rate):
        weights, state = carry
        updates, state = adam.update(jax.grad(loss)(weights), state)
        weights = jax.tree.map(
            lambda w, u: (
                w - (learning_rate * rate * (u + weight_decay * w)).astype(w.dtype)
            ),
            weights,
            updates,
        )
        return (weights, state), None

    (weights, _), _ = jax.lax.scan(body, (weights, adam.init(weights)), rates)
    return weights


def _hypers() -> dict[str, Hyper]:
    return {
        "learning_rate": real(1e-3, 0.1, default=0.003, log=True),
        # At most 1 / learning_rate, beyond which decay overshoots.
        "weight_decay": real(1e-2, 10.0, default=3.0, log=True),
    }


def mlp(num_classes: int) -> Learner:
    """A perceptron that minimises the cross-entropy of the classes present."""
    space = Space(**_hypers(), label_smoothing=real(0.0, 0.3, default=0.05))

    def fit(key: Key, settings: Settings, support: Examples) -> Weights:
        support = clean(support)
        weights = train(
            lambda weights: class_loss(weights, support, settings["label_smoothing"]),
            init_weights(key, support.x, num_classes),
            learning_rate=settings["learning_rate"],
            weight_decay=settings["weight_decay"],
        )
        return {"network": weights, "present": present(support, num_classes)}

    def predict(weights: Weights, x: Array) -> Array:
        return class_logits(apply(weights["network"], x), weights["present"])

    return Learner(name="mlp", kind="classes", space=space, fit=fit, predict=predict)


def mlp_regressor() -> Learner:
    """A perceptron that minimises the squared error, about the support's mean."""
    space = Space(**_hypers())

    def fit(key: Key, settings: Settings, support: Examples) -> Weights:
        support = clean(support)
        mean = _mean(support.y.astype(support.x.dtype), support)
        centred = support._replace(y=support.y - mean)
        weights = train(
            lambda weights: number_loss(weights, centred),
            init_weights(key, support.x, 1),
            learning_rate=settings["learning_rate"],
            weight_decay=settings["weight_decay"],
        )
        return {"network": weights, "mean": mean}

    def predict(weights: Weights, x: Array) -> Array:
        return weights["mean"] + apply(weights["network"], x)[:, 0]

    return Learner(
        name="mlp_regressor", kind="number", space=space, fit=fit, predict=predict
    )
