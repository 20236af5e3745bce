"""Evolution for trainings too long to be run in every meta-step.

Each meta-step goes on with the inner trainings for a few steps only. Every pair of
trainings keeps the sum of all moves of the settings that it has seen, so that what
earlier settings did is not forgotten, as it is when the gradient is truncated.

Source: Vicol, Metz and Sohl-Dickstein, 2021, Unbiased gradient estimation in unrolled
computation graphs with persistent evolution strategies,
https://arxiv.org/abs/2112.13835, Algorithm 2.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Float, Int

from jmeta.adjoints import Inner
from jmeta.base import MetaAlgorithm
from jmeta.types import Array, Key, Params

__all__ = ["PersistentInfo", "PersistentState", "persistent_evolution"]


class PersistentState(NamedTuple):
    """What the next step needs; arrays of trainings are `(tasks, pairs, 2, ...)`.

    Attributes:
      params: what is learnt.
      opt_state: of the outer optimizer.
      tasks: those whose trainings go on.
      inner: weights and optimizer's state of every training.
      moves: `(tasks, pairs, size)`, the sum of the moves so far.
      key: of the inner trainings.
      number: inner steps done.
    """

    params: Params
    opt_state: optax.OptState
    tasks: Any
    inner: Any
    moves: Float[Array, "tasks pairs size"]
    key: Key
    number: Int[Array, ""]


class PersistentInfo(NamedTuple):
    """Of one step.

    Attributes:
      loss: mean query loss after this stretch of training, over the finite tasks.
      grad_norm: of the estimated gradient.
      num_diverged: tasks left out because a training was not finite; they start anew
        with the next inner training.
    """

    loss: Float[Array, ""]
    grad_norm: Float[Array, ""]
    num_diverged: Int[Array, ""]


def persistent_evolution(
    inner: Inner,
    optimizer: optax.GradientTransformation,
    *,
    start: Any,
    weights: Callable[[Key, Any], Any],
    query_loss: Callable[[Any, Any], Array],
    stretch: int,
    sigma: float = 0.1,
    num_pairs: int = 4,
    decode: Callable[[Any], Any] = lambda params: params,
) -> MetaAlgorithm:
    """Learn shared settings from stretches of trainings that go on between meta-steps.

    The objective is the query loss averaged over the ends of the stretches. Needs no
    gradient with respect to the settings; time of `2 num_pairs stretch` inner steps a
    task, and memory for as many states. Unbiased for the smoothed objective but for
    the settings' drift while a training lasts; its variance grows with the number of
    stretches.

    `step` takes up the tasks it is given when an inner training begins, and until it
    ends goes on with those. `predict(params, task)` gives the settings.

    Args:
      inner: the training; `num_steps` must be a multiple of `stretch`. Its data are
        the tasks' `support`.
      optimizer: of what is learnt.
      start: what is learnt, as it is at first.
      weights: `(key, task) -> weights` to begin with.
      query_loss: `(weights, task) -> ()`.
      stretch: inner steps a meta-step.
      sigma: deviation of the moves, in the units of what is learnt.
      num_pairs: antithetic pairs a task.
      decode: from what is learnt to the settings of `inner`.

    Raises:
      ValueError: if a number is too small, or `stretch` does not divide the steps.
    """
    if stretch < 1 or inner.num_steps % stretch:
        raise ValueError(
            f"persistent_evolution: stretch={stretch} does not divide the "
            f"{inner.num_steps} inner steps; choose one that does."
        )
    if sigma <= 0 or num_pairs < 1:
        raise ValueError(
            "persistent_evolution: needs sigma above 0 and num_pairs of at least 1, "
            f"got {sigma} and {num_pairs}."
        )

    def begin(params: Any, tasks: Any, key: Key) -> Any:
        """Both trainings of every pair of every task, not yet trained."""
        settings = decode(params)

        def one(task: Any, key: Key) -> Any:
            begun = weights(key, task)
            state = begun, inner.optimizer(settings).init(begun)
            return jax.tree.map(
                lambda leaf: jnp.broadcast_to(leaf, (num_pairs, 2, *jnp.shape(leaf))),
                state,
            )

        keys = jax.random.split(key, _count(tasks))
        return jax.vmap(one)(tasks, keys)

    def advance(params: Any, state: Any, task: Any, key: Key, number: Array) -> Any:
        """One training, one stretch on; and its query loss then."""
        settings = decode(params)
        update = inner.optimizer(settings).update

        def body(state: Any, step: Array) -> tuple[Any, None]:
            now, opt_state = state
            step_key = jax.random.fold_in(key, step)
            grads = jax.grad(inner.loss, 1)(settings, now, task.support, step_key)
            updates, opt_state = update(grads, opt_state, now)
            return (optax.apply_updates(now, updates), opt_state), None

        state, _ = jax.lax.scan(body, state, number + jnp.arange(stretch))
        return state, query_loss(state[0], task)

    def init(key: Key, tasks: Any) -> PersistentState:
        params = jax.tree.map(jnp.asarray, start)
        size = ravel_pytree(params)[0].size
        return PersistentState(
            params=params,
            opt_state=optimizer.init(params),
            tasks=tasks,
            inner=begin(params, tasks, key),
            moves=jnp.zeros((_count(tasks), num_pairs, size)),
            key=key,
            number=jnp.zeros((), int),
        )

    def step(
        key: Key, state: PersistentState, tasks: Any
    ) -> tuple[PersistentState, PersistentInfo]:
        move_key, begin_key = jax.random.split(key)
        fresh = state.number % inner.num_steps == 0
        flat, unravel = ravel_pytree(state.params)
        begun = begin(state.params, tasks, begin_key)

        def either(new: Array, old: Array) -> Array:
            return jnp.where(fresh, new, old)

        inner_key = either(begin_key, state.key)
        tasks = jax.tree.map(either, tasks, state.tasks)
        trainings = jax.tree.map(either, begun, state.inner)
        number = jnp.where(fresh, 0, state.number)
        noise = sigma * jax.random.normal(move_key, state.moves.shape, flat.dtype)
        moves = jnp.where(fresh, 0.0, state.moves) + noise
        keys = jax.random.split(inner_key, _count(tasks))

        def one(training: Any, task: Any, key: Key, noise: Array) -> Any:
            def side(training: Any, move: Array) -> Any:
                return advance(unravel(flat + move), training, task, key, number)

            both = jnp.stack([noise, -noise], axis=1)
            return jax.vmap(jax.vmap(side))(training, both)

        trainings, losses = jax.vmap(one)(trainings, tasks, keys, noise)
        good = jnp.all(jnp.isfinite(losses), axis=(1, 2))
        count = jnp.maximum(jnp.sum(good), 1)
        losses = jnp.where(good[:, None, None], losses, 0.0)
        slopes = (losses[..., 0] - losses[..., 1]) / (2.0 * sigma**2 * num_pairs)
        estimate = jnp.einsum("tp,tps->s", slopes, moves) / count
        grads = unravel(estimate.astype(flat.dtype))
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        info = PersistentInfo(
            loss=jnp.sum(losses) / (2 * num_pairs * count),
            grad_norm=optax.tree.norm(grads),
            num_diverged=len(good) - jnp.sum(good),
        )
        state = PersistentState(
            params=optax.apply_updates(state.params, updates),
            opt_state=opt_state,
            tasks=tasks,
            inner=trainings,
            moves=moves,
            key=inner_key,
            number=(number + stretch) % inner.num_steps,
        )
        return state, info

    def predict(params: Params, task: Any) -> Any:
        del task  # The same for all.
        return decode(params)

    return MetaAlgorithm(init=init, step=step, predict=predict)


def _count(tasks: Any) -> int:
    return len(jax.tree.leaves(tasks)[0])
