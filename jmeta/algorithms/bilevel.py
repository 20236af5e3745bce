"""Settings that all tasks share, learnt through the training inside each of them.

phi <- phi - eta grad_phi mean_tasks L(theta_phi), where theta_phi is what training
with phi gives. `phi` is any pytree: learning rates by step or by layer, penalties,
weights of classes or of examples, initial weights. `meta_optimizer` gives each task
its own, from its description.

Source: Franceschi et al., 2018, https://arxiv.org/abs/1806.04910.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jmeta.adjoints import Adjoint
from jmeta.algorithms.meta_optimizer import meta_optimizer, query_loss
from jmeta.base import Learner, MetaAlgorithm, Network
from jmeta.tasks import Task
from jmeta.types import Array, Params, Settings, Weights

__all__ = ["bilevel"]


def bilevel(
    learner: Learner,
    optimizer: optax.GradientTransformation,
    *,
    start: Any = None,
    decode: Callable[[Any], Settings] | None = None,
    adjoint: Adjoint | None = None,
    micro_batch: int | None = None,
    max_task_norm: float | Array = 1.0,
    loss: Callable[[Learner, Weights, Task], Array] = query_loss,
) -> MetaAlgorithm:
    """Learn settings that all tasks share, by the gradient through the training itself.

    The tasks are `jmeta.tasks.Task`. `predict(params, description)` gives the settings,
    whatever the description.

    Args:
      learner: whose settings they are.
      optimizer: of what is learnt.
      start: what is learnt, as it is at first; None for the unit vector of the
        learner's defaults.
      decode: from what is learnt to the settings that the learner is fitted with, for
        instance `exp` to keep them positive; None for the learner's space.
      adjoint, micro_batch, max_task_norm, loss: as of `meta_optimizer`.
    """
    decode = learner.space.decode if decode is None else decode
    begin = learner.space.default() if start is None else start

    def init(key: Array, description: Array) -> Params:
        del key, description  # The same for all.
        return {learner.name: jax.tree.map(jnp.asarray, begin)}

    shared = Network(init=init, apply=lambda params, description: params)
    inside = meta_optimizer(
        shared,
        [learner],
        optimizer,
        adjoint=adjoint,
        micro_batch=micro_batch,
        max_task_norm=max_task_norm,
        loss=loss,
        decode=lambda learner, made: decode(made),
    )

    def predict(params: Params, description: Array) -> Settings:
        return decode(inside.predict(params, description)[learner.name])

    return inside._replace(predict=predict)
