"""Several members of one algorithm, trained together; their spread is uncertainty.

Source: deep ensembles, Lakshminarayanan et al., 2017, https://arxiv.org/abs/1612.01474;
bagging, Breiman, 1996, https://doi.org/10.1007/BF00058655.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jmeta.base import MetaAlgorithm
from jmeta.types import Array, Key, Params

__all__ = ["EnsembleState", "ensemble"]


_POISSON = tuple(
    sum(math.exp(-1.0) / math.factorial(k) for k in range(n + 1)) for n in range(6)
)
"""The chances of at most 0, 1, 2, ... draws of one task in a large bootstrap."""


class EnsembleState(NamedTuple):
    """The members' states with a leading member axis, and what decides their tasks.

    Attributes:
      members: of the algorithm, each leaf with a leading member axis.
      keys: one a member; decide which tasks that member sees more or less often.
    """

    members: Any
    keys: Key

    @property
    def params(self) -> Params:
        """The members' parameters, each leaf with a leading member axis."""
        return self.members.params


def _shares(key: Key, descriptions: Float[Array, "tasks meta"]) -> Array:
    """How often a member's bootstrap holds each task: the same in every batch.

    A task is known by its description, since a stream of tasks has no numbers.
    """
    bits = jax.lax.bitcast_convert_type(descriptions.astype(jnp.float32), jnp.uint32)
    odd = 2 * jnp.arange(bits.shape[1], dtype=jnp.uint32) + 1
    names = jnp.sum(bits * (odd * jnp.uint32(2654435761)), axis=1, dtype=jnp.uint32)
    draws = jax.vmap(lambda name: jax.random.uniform(jax.random.fold_in(key, name)))
    return jnp.searchsorted(jnp.array(_POISSON), draws(names))


def ensemble(
    algorithm: MetaAlgorithm, num_members: int, *, bagged: bool = True
) -> MetaAlgorithm:
    """Train `num_members` of an algorithm side by side, in one program.

    Each member has its own first parameters and draws its own batch, with
    replacement, out of the tasks of a step. `info` has a leading member axis, and
    `predict(params, task)` gives one prediction a member.

    Args:
      algorithm: its tasks have a `description`, its state has `params`.
      num_members: at least 1.
      bagged: whether a member sees its own bootstrap of the tasks throughout (each
        task Poisson(1) times, so about a third never), which raises the spread
        where tasks are few.

    Raises:
      ValueError: if `num_members` is below 1.
    """
    if num_members < 1:
        raise ValueError(
            f"ensemble: num_members must be at least 1, got {num_members}."
        )

    def init(key: Key, tasks: Any) -> EnsembleState:
        member_key, bag_key = jax.random.split(key)
        keys = jax.random.split(member_key, num_members)
        return EnsembleState(
            members=jax.vmap(algorithm.init, in_axes=(0, None))(keys, tasks),
            keys=jax.random.split(bag_key, num_members),
        )

    def member_step(key: Key, state: Any, bag: Key, tasks: Any) -> tuple[Any, Any]:
        draw_key, step_key = jax.random.split(key)
        num_tasks = len(tasks.description)
        shares = jnp.ones(num_tasks)
        if bagged:
            counts = _shares(bag, tasks.description)
            # A batch without any task of this member's is used as it is.
            shares = jnp.where(jnp.any(counts > 0), counts, 1).astype(float)
        rows = jax.random.categorical(draw_key, jnp.log(shares), shape=(num_tasks,))
        drawn = jax.tree.map(lambda leaf: leaf[rows], tasks)
        return algorithm.step(step_key, state, drawn)

    def step(key: Key, state: EnsembleState, tasks: Any) -> tuple[EnsembleState, Any]:
        keys = jax.random.split(key, num_members)
        members, info = jax.vmap(member_step, in_axes=(0, 0, 0, None))(
            keys, state.members, state.keys, tasks
        )
        return EnsembleState(members=members, keys=state.keys), info

    def predict(params: Params, task: Any) -> Any:
        return jax.vmap(algorithm.predict, in_axes=(0, None))(params, task)

    return MetaAlgorithm(init=init, step=step, predict=predict)
