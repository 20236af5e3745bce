"""MAML: an initialisation from which a few gradient steps solve a new task.

Source: Finn, Abbeel and Levine, 2017, https://arxiv.org/abs/1703.03400, Algorithm 2.
"""

import optax

from jmeta.adjoints import Adjoint, Inner
from jmeta.algorithms.episodic import adapting, usual_adjoint
from jmeta.base import InnerLearner, MetaAlgorithm
from jmeta.learners.inner import support_loss
from jmeta.tasks import Examples
from jmeta.types import Array, Key, Params, Weights

__all__ = ["maml"]


def maml(
    learner: InnerLearner,
    optimizer: optax.GradientTransformation,
    *,
    inner_lr: float | Array = 0.1,
    inner_steps: int = 5,
    adjoint: Adjoint | None = None,
    transductive: bool = False,
    micro_batch: int | None = None,
) -> MetaAlgorithm:
    """Learn the weights that training inside a task starts from.

    Args:
      learner: a network, such as `jmeta.learners.inner.classifier` makes one.
      optimizer: of the initial weights, across tasks.
      inner_lr: of gradient descent on the whole support.
      inner_steps: at least 1.
      adjoint: how the gradient crosses training; None for `unrolled()` through one
        step and `checkpointed()` through more. `first_order()` is first-order MAML.
        Not `implicit()`, to which the start is all the same: see `imaml`.
      transductive: see `jmeta.learners.inner.query_outputs`.
      micro_batch: how many tasks a device takes at once, for memory and speed; must
        divide its share of a step's tasks. None for all.

    Raises:
      ValueError: if `inner_steps` or `micro_batch` is below 1.
    """
    how = usual_adjoint(inner_steps) if adjoint is None else adjoint
    inner = Inner(
        loss=lambda _, weights, support, key: support_loss(learner, weights, support),
        optimizer=lambda _: optax.sgd(inner_lr),
        num_steps=inner_steps,
    )

    def adapt(key: Key, params: Params, support: Examples) -> Weights:
        return how.train(inner, {}, params, support, key)

    return adapting(
        "maml",
        learner,
        learner.init,
        adapt,
        optimizer,
        adjoint=how,
        inner_steps=inner_steps,
        transductive=transductive,
        micro_batch=micro_batch,
    )
