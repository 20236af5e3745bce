"""Steps of optimizers that can be differentiated where a gradient is zero."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jmeta.types import Array, Weights

__all__ = ["check_optimizer", "clip_by_global_norm", "clipped"]


def check_optimizer(
    who: str,
    optimizer: Callable[[Any], optax.GradientTransformation],
    settings: Any,
    weights: Weights,
) -> None:
    """See that steps along a gradient of zero can be differentiated.

    A dead unit, a column of padding or an empty task has such a gradient, and the root
    of Adam's second moment has no derivative there. Looks at shapes alone, so that it
    may be called while tracing.

    Raises:
      ValueError: if the derivative is not a number.
    """

    def filled(tree: Any, value: float) -> Any:
        return jax.tree.map(
            lambda leaf: jnp.full(jnp.shape(leaf), value, jnp.result_type(leaf)), tree
        )

    def moved(grads: Any, settings: Any) -> Array:
        made, here = optimizer(settings), filled(weights, 0.5)
        state = made.init(here)
        for _ in range(2):
            updates, state = made.update(grads, state, here)
        return sum(
            (jnp.sum(leaf) for leaf in jax.tree.leaves(updates)), start=jnp.zeros(())
        )

    with jax.ensure_compile_time_eval():
        told = jax.jit(jax.value_and_grad(moved, argnums=(0, 1)))(
            filled(weights, 0.0), filled(settings, 0.5)
        )
        value, grads = jax.device_get(told)
    finite = all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
    if np.isfinite(value) and not finite:
        raise ValueError(
            f"{who}: the optimizer's step along a gradient of zero has no derivative, "
            "so that a dead unit makes the meta-gradient NaN; give it eps_root=1e-16, "
            "as in optax.adamw(rate, eps_root=1e-16), clip with "
            "jmeta.inner_steps.clip_by_global_norm, or take implicit() or evolution()."
        )


def clipped(tree: Any, max_norm: float | Array) -> Any:
    """A gradient scaled down to a norm; zero stays zero, and has a derivative."""
    square = sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(tree))
    large = square > max_norm**2
    factor = max_norm / jnp.sqrt(jnp.where(large, square, 1.0))
    factor = jnp.where(large, factor, 1.0)
    return jax.tree.map(lambda leaf: leaf * factor.astype(leaf.dtype), tree)


def clip_by_global_norm(max_norm: float | Array) -> optax.GradientTransformation:
    """optax's, with a derivative where the whole gradient is zero, as in a task
    without rows."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del params
        return clipped(updates, max_norm), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
