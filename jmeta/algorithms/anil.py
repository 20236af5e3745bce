"""ANIL: only the head is trained inside a task; what it sees is learnt across tasks.

Source: Raghu et al., 2020, https://arxiv.org/abs/1909.09157.
"""

import optax

from jmeta.adjoints import Adjoint, Inner
from jmeta.algorithms.episodic import adapting, usual_adjoint
from jmeta.base import InnerLearner, MetaAlgorithm
from jmeta.learners.inner import support_loss
from jmeta.tasks import Examples
from jmeta.types import Array, Key, Params, Weights

__all__ = ["anil"]


def anil(
    learner: InnerLearner,
    optimizer: optax.GradientTransformation,
    *,
    head: str = "head",
    inner_lr: float | Array = 0.1,
    inner_steps: int = 5,
    adjoint: Adjoint | None = None,
    transductive: bool = False,
    micro_batch: int | None = None,
) -> MetaAlgorithm:
    """Learn a network whose head is trained inside a task.

    Args:
      learner: whose weights are a dict by layer.
      optimizer: of all weights, across tasks.
      head: the layer that is trained inside a task.
      inner_lr, inner_steps, adjoint, transductive, micro_batch: as of `maml`.

    Raises:
      ValueError: if `inner_steps` or `micro_batch` is below 1; by `init`, if no layer
        is called `head`.
    """
    how = usual_adjoint(inner_steps) if adjoint is None else adjoint

    def loss(body: Params, weights: Weights, support: Examples, key: Key) -> Array:
        del key  # All rows at every step.
        return support_loss(learner, {**body, head: weights}, support)

    inner = Inner(loss, lambda _: optax.sgd(inner_lr), inner_steps)

    def init_params(key: Key, x: Array) -> Params:
        params = learner.init(key, x)
        if head not in params:
            raise ValueError(
                f"anil: no layer is called {head!r}; the network has {sorted(params)}."
            )
        return params

    def adapt(key: Key, params: Params, support: Examples) -> Weights:
        body = {name: leaf for name, leaf in params.items() if name != head}
        return {**body, head: how.train(inner, body, params[head], support, key)}

    return adapting(
        "anil",
        learner,
        init_params,
        adapt,
        optimizer,
        adjoint=how,
        inner_steps=inner_steps,
        transductive=transductive,
        micro_batch=micro_batch,
    )
