"""Learners that are trained by gradient steps: any network, any optax optimizer.

What the training may be told by its settings, and so what may be learnt: whatever the
loss, the optimizer and the initial weights make of them.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from jmeta.adjoints import Adjoint, Inner, unrolled
from jmeta.base import Learner
from jmeta.inner_steps import check_optimizer
from jmeta.learners.common import class_logits, clean, one_hot, present
from jmeta.spaces import Space
from jmeta.tasks import Examples
from jmeta.types import Array, Key, Settings, Weights

__all__ = ["class_loss", "number_loss", "trained"]

_STEPS = 0x57E9
"""Folded into a fit's key for its steps, whose draws are not those of its start."""

Apply = Callable[[Weights, Array], Array]


def _mean(losses: Array, support: Examples, weights: Array | None = None) -> Array:
    rows = support.mask.astype(losses.dtype)
    rows = rows if weights is None else rows * weights
    total = jnp.sum(rows)
    return jnp.sum(rows * losses) / jnp.where(total > 0, total, 1.0)


def class_loss(
    outputs: Array,
    support: Examples,
    *,
    label_smoothing: Array | float = 0.0,
    class_weights: Array | None = None,
) -> Array:
    """Mean cross-entropy of outputs `(n, classes)`, among the classes of the support.

    Args:
      outputs: scores before the softmax.
      support: cleaned.
      label_smoothing: the share of the target spread over the classes present.
      class_weights: `(classes,)`, how much rows of each class count.
    """
    num_classes = outputs.shape[-1]
    hot, held = one_hot(support, num_classes), present(support, num_classes)
    even = held / jnp.maximum(jnp.sum(held), 1)
    wanted = (1.0 - label_smoothing) * hot + label_smoothing * even
    logits = jax.nn.log_softmax(jnp.where(held, outputs, -1e30), axis=-1)
    losses = -jnp.sum(jnp.where(held, wanted * logits, 0.0), axis=-1)
    rows = None if class_weights is None else hot @ class_weights
    return _mean(losses, support, rows)


def number_loss(outputs: Array, support: Examples) -> Array:
    """Half the mean squared error of outputs `(n, 1)` over a cleaned support."""
    return _mean(0.5 * jnp.square(outputs[:, 0] - support.y), support)


def _about(mean: Array, support: Examples) -> Examples:
    """The same rows with the mean subtracted; none of them if the target is constant,
    which leaves nothing to learn but a curvature that no step uses up."""
    away = jnp.where(support.mask, support.y - mean, 0.0)
    size = jnp.max(jnp.where(support.mask, jnp.abs(support.y), 0.0))
    varies = jnp.max(jnp.abs(away)) > 8.0 * jnp.finfo(away.dtype).eps * size
    return support._replace(y=away, mask=support.mask & varies)


def trained(
    name: str,
    apply: Apply,
    init: Callable[[Key, Settings, Array], Weights],
    optimizer: Callable[[Settings], optax.GradientTransformation],
    *,
    kind: str,
    space: Space,
    num_steps: int,
    loss: Callable[[Settings, Weights, Examples, Key], Array] | None = None,
    adjoint: Adjoint | None = None,
) -> Learner:
    """A learner that takes gradient steps on a loss.

    Everything that `init`, `optimizer` and `loss` take from the settings may be learnt
    through the training, in the way that the adjoint of the bilevel algorithm says. For
    classes, classes that the support does not hold are left out of the prediction; a
    number is learnt about the mean of the support.

    Args:
      name: of the learner.
      apply: `(weights, x) -> (n, outputs)`.
      init: `(key, settings, x) -> weights`, x being the support's features.
      optimizer: `settings -> optax.GradientTransformation`. One that divides by the
        root of squared gradients needs `eps_root` above 0 (`optax.adamw(rate,
        eps_root=1e-16)`), or the derivative is not a number where a gradient is zero.
      kind: `"classes"` or `"number"`.
      space: of the settings.
      num_steps: at least 1.
      loss: `(settings, weights, support, key) -> ()`, the support being cleaned; None
        for `class_loss` or `number_loss` of `apply`.
      adjoint: None for `unrolled()`; bilevel algorithms put in their own.

    Raises:
      ValueError: if `num_steps` is below 1.
    """
    if num_steps < 1:
        raise ValueError(f"{name}: num_steps must be at least 1, got {num_steps}.")
    how = unrolled() if adjoint is None else adjoint
    plain = class_loss if kind == "classes" else number_loss
    inner = Inner(
        loss=loss
        or (lambda settings, w, support, key: plain(apply(w, support.x), support)),
        optimizer=optimizer,
        num_steps=num_steps,
    )

    def fit(key: Key, settings: Settings, support: Examples) -> Weights:
        support = clean(support)
        weights = init(key, settings, support.x)
        mean = jnp.zeros((), support.x.dtype)
        if kind == "number":
            mean = _mean(support.y.astype(support.x.dtype), support)
            support = _about(mean, support)
        steps_key = jax.random.fold_in(key, _STEPS)
        if adjoint is not None and adjoint.crosses_steps:
            check_optimizer(name, optimizer, settings, weights)
        found = how.train(inner, settings, weights, support, steps_key)
        if kind == "number":
            return {"network": found, "mean": mean}
        outputs = jax.eval_shape(apply, found, support.x).shape[-1]
        return {"network": found, "present": present(support, outputs)}

    def predict(weights: Weights, x: Array) -> Array:
        outputs = apply(weights["network"], x)
        if kind == "number":
            return weights["mean"] + outputs[:, 0]
        return class_logits(outputs, weights["present"])

    def through(adjoint: Adjoint) -> Learner:
        return trained(
            name,
            apply,
            init,
            optimizer,
            kind=kind,
            space=space,
            num_steps=num_steps,
            loss=loss,
            adjoint=adjoint,
        )

    return Learner(
        name=name, kind=kind, space=space, fit=fit, predict=predict, through=through
    )
