"""Meta-SGD: an initialisation, and for each weight the rate of its steps.

Source: Li et al., 2017, https://arxiv.org/abs/1707.09835, Algorithm 1.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jmeta.adjoints import Adjoint, Inner
from jmeta.algorithms.episodic import adapting, usual_adjoint
from jmeta.base import InnerLearner, MetaAlgorithm
from jmeta.learners.inner import support_loss
from jmeta.tasks import Examples
from jmeta.types import Array, Key, Params, Weights

__all__ = ["meta_sgd"]


def _each_its_own(rates: Params) -> optax.GradientTransformation:
    """Gradient descent with a rate for each weight."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del params
        return jax.tree.map(lambda rate, g: -rate * g, rates, updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def meta_sgd(
    learner: InnerLearner,
    optimizer: optax.GradientTransformation,
    *,
    inner_lr: float = 0.1,
    inner_steps: int = 1,
    adjoint: Adjoint | None = None,
    transductive: bool = False,
    micro_batch: int | None = None,
) -> MetaAlgorithm:
    """Learn the weights that training starts from, and every weight's learning rate.

    `params` holds `weights` and `rates`, which are alike.

    Args:
      learner: a network.
      optimizer: of weights and rates, across tasks.
      inner_lr: what all rates are at first; one may become negative.
      inner_steps, adjoint, transductive, micro_batch: as of `maml`.

    Raises:
      ValueError: if `inner_steps` or `micro_batch` is below 1.
    """
    how = usual_adjoint(inner_steps) if adjoint is None else adjoint
    inner = Inner(
        loss=lambda _, weights, support, key: support_loss(learner, weights, support),
        optimizer=_each_its_own,
        num_steps=inner_steps,
    )

    def init_params(key: Key, x: Array) -> Params:
        weights = learner.init(key, x)
        rates = jax.tree.map(lambda leaf: jnp.full_like(leaf, inner_lr), weights)
        return {"weights": weights, "rates": rates}

    def adapt(key: Key, params: Params, support: Examples) -> Weights:
        return how.train(inner, params["rates"], params["weights"], support, key)

    return adapting(
        "meta_sgd",
        learner,
        init_params,
        adapt,
        optimizer,
        adjoint=how,
        inner_steps=inner_steps,
        transductive=transductive,
        micro_batch=micro_batch,
    )
