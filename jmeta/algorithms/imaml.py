"""iMAML: weights that training inside a task is held to, by the implicit gradient.

Training minimises the loss on the support and a proximal term, and the gradient at its
end does not depend on the path: memory does not grow with the steps.

Source: Rajeswaran et al., 2019, https://arxiv.org/abs/1909.04630, Algorithms 1 and 2.
"""

import jax
import jax.numpy as jnp
import optax

from jmeta.adjoints import Inner, Solver, cg, implicit
from jmeta.algorithms.episodic import adapting
from jmeta.base import InnerLearner, MetaAlgorithm
from jmeta.learners.inner import support_loss
from jmeta.tasks import Examples
from jmeta.types import Array, Key, Params, Weights

__all__ = ["imaml"]


def imaml(
    learner: InnerLearner,
    optimizer: optax.GradientTransformation,
    *,
    proximity: float | Array = 2.0,
    inner_lr: float | Array = 0.1,
    inner_steps: int = 16,
    solver: Solver | None = None,
    transductive: bool = False,
    micro_batch: int | None = None,
) -> MetaAlgorithm:
    """Learn the weights that training inside a task starts from and is held to.

    Args:
      learner: a network.
      optimizer: of the weights, across tasks.
      proximity: the term is half of this times the squared distance to the weights that
        are learnt. The larger, the fewer steps reach the optimum, at which the gradient
        is exact.
      inner_lr: of gradient descent on the whole support.
      inner_steps: at least 1.
      solver: of systems with the Hessian; None for five steps of conjugate gradients.
      transductive, micro_batch: as of `maml`.

    Raises:
      ValueError: if `inner_steps` or `micro_batch` is below 1.
    """
    how = implicit(cg(max_steps=5) if solver is None else solver)

    def loss(centre: Params, weights: Weights, support: Examples, key: Key) -> Array:
        del key  # All rows at every step.
        square = sum(
            jnp.sum(jnp.square(w - c))
            for w, c in zip(jax.tree.leaves(weights), jax.tree.leaves(centre))
        )
        return support_loss(learner, weights, support) + 0.5 * proximity * square

    inner = Inner(loss, lambda _: optax.sgd(inner_lr), inner_steps)

    def adapt(key: Key, params: Params, support: Examples) -> Weights:
        return how.train(inner, params, params, support, key)

    return adapting(
        "imaml",
        learner,
        learner.init,
        adapt,
        optimizer,
        adjoint=how,
        inner_steps=inner_steps,
        transductive=transductive,
        micro_batch=micro_batch,
    )
