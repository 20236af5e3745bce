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
from jmeta.algorithms.micro_batches import all_finite, check_micro_batch, summed
from jmeta.base import MetaAlgorithm
from jmeta.tasks import Task
from jmeta.types import Array, Key, Params

__all__ = ["EpisodicInfo", "EpisodicState", "episodic", "usual_adjoint"]


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


def episodic(
    who: str,
    init_params: Callable[[Key, Array], Params],
    task_grads: Callable[[Key, Params, Task], tuple[Array, Params]],
    predict: Callable[[Params, Task], Array],
    optimizer: optax.GradientTransformation,
    *,
    inner_steps: int,
    micro_batch: int | None,
) -> MetaAlgorithm:
    """A meta-learning algorithm from what it does with one task.

    Args:
      who: what error messages name.
      init_params: `(key, x of one support) -> params`.
      task_grads: `(key, params, task) -> (loss, gradient)`.
      predict: `(params, task) -> log probabilities or means of the query rows`.
      optimizer: of the parameters.
      inner_steps: checked here for all.
      micro_batch: how many tasks are taken at once, for memory and speed; must divide
        the number of tasks. None for all.

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
        loss, grads = task_grads(key, params, task)
        good = all_finite(loss, grads)
        loss, grads = jax.tree.map(
            lambda leaf: jnp.where(good, leaf, 0.0), (loss, grads)
        )
        return loss, grads, good

    def step(
        key: Key, state: EpisodicState, tasks: Task
    ) -> tuple[EpisodicState, EpisodicInfo]:
        def batch_sums(batch: Any) -> Any:
            keys, some = batch
            found = jax.vmap(kept, in_axes=(0, None, 0))(keys, state.params, some)
            return jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), found)

        num_tasks = len(tasks.support.x)
        batch = jax.random.split(key, num_tasks), tasks
        loss, grads, count = summed(who, batch_sums, batch, micro_batch)
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

    return MetaAlgorithm(init=init, step=step, predict=predict)
