"""What algorithms share that adapt a network to each task: one step over a batch.

Each task yields its query loss and a gradient with respect to what is learnt; tasks
whose numbers are not finite are left out; an optimizer follows the mean.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float, Int

from jmeta.adjoints import Adjoint, checkpointed, unrolled
from jmeta.algorithms.micro_batches import check_micro_batch, finite_or_zero, summed
from jmeta.base import InnerLearner, MetaAlgorithm
from jmeta.learners.common import clean
from jmeta.learners.inner import query_loss, query_outputs
from jmeta.tasks import Examples, Task
from jmeta.types import Array, Key, Params, Weights

__all__ = [
    "EpisodicInfo",
    "EpisodicState",
    "adapting",
    "episodic",
    "followed",
    "usual_adjoint",
]

Adapt = Callable[[Key, Params, Examples], Weights]
"""`(key, params, support) -> weights`, the support being cleaned."""


class EpisodicState(NamedTuple):
    """What the next step needs, and nothing else."""

    params: Params
    opt_state: optax.OptState


class EpisodicInfo(NamedTuple):
    """Of one step.

    Attributes:
      loss: mean over the tasks that are finite.
      grad_norm: of the mean gradient that the optimizer follows.
      num_diverged: tasks left out because loss or gradient were not finite.
    """

    loss: Float[Array, ""]
    grad_norm: Float[Array, ""]
    num_diverged: Int[Array, ""]


def usual_adjoint(inner_steps: int) -> Adjoint:
    """Checkpoints pay from the second inner step on."""
    return unrolled() if inner_steps == 1 else checkpointed()


def followed(
    optimizer: optax.GradientTransformation,
    state: EpisodicState,
    sums: tuple[Array, Params, Array],
    num_tasks: int,
) -> tuple[EpisodicState, EpisodicInfo]:
    """One step of the optimizer, along the mean over the tasks that are finite.

    Args:
      optimizer: of the parameters.
      state: before the step.
      sums: over these tasks: the loss, the gradient, and how many they are.
      num_tasks: of the step.
    """
    loss, grads, count = sums
    some = jnp.maximum(count, 1)
    grads = jax.tree.map(lambda leaf: leaf / some, grads)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    info = EpisodicInfo(
        loss=loss / some,
        grad_norm=optax.tree.norm(grads),
        num_diverged=num_tasks - count,
    )
    params = optax.apply_updates(state.params, updates)
    return EpisodicState(params=params, opt_state=opt_state), info


def episodic(
    who: str,
    learner: InnerLearner,
    init_params: Callable[[Key, Array], Params],
    task_grads: Callable[[Key, Params, Task], tuple[Array, Params]],
    adapt: Adapt,
    optimizer: optax.GradientTransformation,
    *,
    inner_steps: int,
    transductive: bool,
    micro_batch: int | None,
) -> MetaAlgorithm:
    """A meta-learning algorithm from what it does with one task.

    Args:
      who: what error messages name.
      learner: the network.
      init_params: `(key, x of one support) -> params`.
      task_grads: `(key, params, task) -> (loss, gradient)`.
      adapt: what `predict` trains with; draws nothing.
      optimizer: of the parameters.
      inner_steps: checked here for all.
      transductive: see `query_outputs`.
      micro_batch: how many tasks a device takes at once, for memory and speed; must
        divide its share of a step's tasks. None for all.

    Raises:
      ValueError: if `inner_steps` or `micro_batch` is below 1.
    """
    if inner_steps < 1:
        raise ValueError(f"{who}: inner_steps must be at least 1, got {inner_steps}.")
    check_micro_batch(who, micro_batch)

    def init(key: Key, tasks: Task) -> EpisodicState:
        params = init_params(key, tasks.support.x[0])
        return EpisodicState(params=params, opt_state=optimizer.init(params))

    def kept(key: Key, params: Params, task: Task) -> tuple[Array, Params, Array]:
        found, good = finite_or_zero(task_grads(key, params, task))
        return *found, good.astype(int)

    def step(
        key: Key, state: EpisodicState, tasks: Task
    ) -> tuple[EpisodicState, EpisodicInfo]:
        def batch_sums(params: Params, batch: Any) -> Any:
            keys, some = batch
            if len(keys) == 1:
                # Not a batch of one, for which compilers find worse programs.
                one = jax.tree.map(lambda leaf: leaf[0], batch)
                return kept(one[0], params, one[1])
            found = jax.vmap(kept, in_axes=(0, None, 0))(keys, params, some)
            return jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), found)

        num_tasks = len(tasks.support.x)
        batch = jax.random.split(key, num_tasks), tasks
        sums = summed(who, batch_sums, state.params, batch, micro_batch)
        return followed(optimizer, state, sums, num_tasks)

    def predict(params: Params, task: Task) -> Array:
        weights = adapt(jax.random.key(0), params, clean(task.support))
        return query_outputs(learner, weights, task, transductive=transductive)

    return MetaAlgorithm(init=init, step=step, predict=predict)


def adapting(
    who: str,
    learner: InnerLearner,
    init_params: Callable[[Key, Array], Params],
    adapt: Adapt,
    optimizer: optax.GradientTransformation,
    *,
    adjoint: Adjoint,
    inner_steps: int,
    transductive: bool,
    micro_batch: int | None,
) -> MetaAlgorithm:
    """One that follows the gradient of the query loss through `adapt`.

    Arguments are those of `episodic`, and the adjoint that `adapt` trains by.
    """

    def task_grads(key: Key, params: Params, task: Task) -> tuple[Array, Params]:
        def loss(params: Params) -> Array:
            weights = adapt(key, params, clean(task.support))
            return query_loss(learner, weights, task, transductive=transductive)

        return adjoint.value_and_grad(loss, params, key)

    return episodic(
        who,
        learner,
        init_params,
        task_grads,
        adapt,
        optimizer,
        inner_steps=inner_steps,
        transductive=transductive,
        micro_batch=micro_batch,
    )
