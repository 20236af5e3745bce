"""Reptile: the initial weights move towards what training makes of them.

No derivative crosses training, and no query is needed but to report the loss.

Source: Nichol, Achiam and Schulman, 2018, https://arxiv.org/abs/1803.02999,
Algorithm 2.
"""

import jax
import optax

from jmeta.adjoints import Inner, unrolled
from jmeta.algorithms.episodic import episodic
from jmeta.base import InnerLearner, MetaAlgorithm
from jmeta.learners.common import clean
from jmeta.learners.inner import query_loss, support_loss
from jmeta.tasks import Examples, Task
from jmeta.types import Array, Key, Params, Weights

__all__ = ["reptile"]


def reptile(
    learner: InnerLearner,
    optimizer: optax.GradientTransformation,
    *,
    inner_lr: float | Array = 0.1,
    inner_steps: int = 5,
    transductive: bool = False,
    micro_batch: int | None = None,
) -> MetaAlgorithm:
    """Learn the weights that training inside a task starts from.

    Args:
      learner: a network.
      optimizer: follows the mean of the initial weights less the trained ones as if it
        were a gradient; `optax.sgd(step)` is the published rule.
      inner_lr: of gradient descent on the whole support.
      inner_steps: at least 1; with 1, the gradient is that of training on all tasks.
      transductive, micro_batch: as of `maml`.

    Raises:
      ValueError: if `inner_steps` or `micro_batch` is below 1.
    """
    inner = Inner(
        loss=lambda _, weights, support, key: support_loss(learner, weights, support),
        optimizer=lambda _: optax.sgd(inner_lr),
        num_steps=inner_steps,
    )

    def adapt(key: Key, params: Params, support: Examples) -> Weights:
        return unrolled().train(inner, {}, params, support, key)

    def task_grads(key: Key, params: Params, task: Task) -> tuple[Array, Params]:
        weights = adapt(key, params, clean(task.support))
        loss = query_loss(learner, weights, task, transductive=transductive)
        return loss, jax.tree.map(lambda old, new: old - new, params, weights)

    return episodic(
        "reptile",
        learner,
        learner.init,
        task_grads,
        adapt,
        optimizer,
        inner_steps=inner_steps,
        transductive=transductive,
        micro_batch=micro_batch,
    )
