"""What is drawn for a few-shot run: episodes to train on, to calibrate with, to judge.

Everything follows from keys, so that it is the same whenever it is asked for.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Float, Int

from jmeta.episodes import Bank, draw_episode, draw_episodes, eligible, unit_targets
from jmeta.errors import InputError
from jmeta.tasks import Task, bucket
from jmeta.types import Array, Key

__all__ = [
    "LEAST_QUERY",
    "Draws",
    "Plan",
    "count_eligible",
    "held_out_episodes",
    "judging_draws",
    "sampler",
    "shuffled",
]

LEAST_QUERY = 16
"""Rows that a task must have beyond the support's, where it is trained on."""


class Plan(NamedTuple):
    """What an episode of a run is; plain data.

    Attributes:
      kind: "classes" or "number".
      ways: classes of an episode that are drawn from many; None where a task has two
        classes, or numbers.
      shots: sizes of supports, drawn alike: rows of a support, or with `ways` rows of
        each class.
      query: rows of a training episode's query, or with `ways` rows of each class.
      batch: episodes in a step.
    """

    kind: str
    ways: int | None
    shots: tuple[int, ...]
    query: int
    batch: int


class Draws(NamedTuple):
    """Episodes of one task and one size of support.

    Attributes:
      task: its place.
      shot: size of the support, as in `Plan.shots`.
      episodes: with a leading axis of draws.
    """

    task: int
    shot: int
    episodes: Task


def _window(bank: Bank) -> int:
    return bucket(int(bank.size.max()), "rows")


def count_eligible(plan: Plan, bank: Bank, shot: int, least_query: int) -> np.ndarray:
    """Places of the tasks that an episode of one size can be drawn from."""
    numbers = plan.kind == "number"
    fits = eligible(bank, shot, least_query, numbers=numbers)
    return np.flatnonzero(np.asarray(fits))


def sampler(plan: Plan, bank: Bank) -> Callable[[Key], Task]:
    """What `jmeta.train.train` draws a step's tasks with.

    Raises:
      InputError: if no task is large enough for one of the sizes.
    """
    for shot in plan.shots:
        if not len(count_eligible(plan, bank, shot, LEAST_QUERY)):
            raise InputError(
                f"none of the {len(bank.size)} tasks has {shot} rows for a support, "
                f"{LEAST_QUERY} for a query and two of each class; choose smaller "
                "--shots."
            )
    numbers = plan.kind == "number"
    draw = functools.partial(
        draw_episodes,
        num_tasks=plan.batch,
        support_rows=max(plan.shots),
        query_rows=plan.query,
        window=_window(bank),
        least_query=LEAST_QUERY,
        numbers=numbers,
    )

    def sample(bank: Bank, shots: Array, key: Key) -> Task:
        tasks = draw(key, bank, shots=shots)
        return jax.vmap(lambda task: unit_targets(task)[0])(tasks) if numbers else tasks

    return Partial(sample, bank, jnp.array(plan.shots))


def held_out_episodes(
    plan: Plan,
    bank: Bank,
    shots: tuple[int, ...],
    *,
    most: int,
    query_rows: int = 128,
    seed: int = 0,
) -> Callable[[Callable[[Task], Any]], Any]:
    """Episodes of every task that was held out, of each size that it is large enough
    for, and a function that maps a function of an episode over them.

    The mapping draws an episode when its turn comes: they need not fit into memory
    together.

    Args:
      plan: of the run.
      bank: of the tasks that were held out.
      shots: sizes of supports.
      most: episodes of each size; where there are more tasks, the first ones count.
      query_rows: of an episode, at most.
      seed: of the splits.
    """
    found = [count_eligible(plan, bank, shot, LEAST_QUERY)[:most] for shot in shots]
    places = jnp.asarray(np.concatenate(found), jnp.int32)
    sizes = jnp.asarray(np.repeat(shots, [len(one) for one in found]), jnp.int32)
    draw = functools.partial(
        draw_episode,
        support_rows=max(shots),
        query_rows=query_rows,
        window=_window(bank),
        numbers=plan.kind == "number",
    )
    keys = jax.random.split(jax.random.key(seed), len(places))

    def over(function: Callable[[Task], Any]) -> Any:
        return jax.lax.map(
            lambda each: function(draw(each[0], bank, each[1], each[2])),
            (keys, places, sizes),
            batch_size=8,
        )

    return over


@functools.cache
def _drawer(support_rows: int, window: int, numbers: bool) -> Callable[..., Task]:
    draw = functools.partial(
        draw_episode,
        support_rows=support_rows,
        query_rows=window,
        window=window,
        numbers=numbers,
    )
    return jax.jit(jax.vmap(draw, in_axes=(0, None, None, None)))


def judging_draws(
    plan: Plan, bank: Bank, shots: tuple[int, ...], num_draws: int, seed: int = 0
) -> Iterator[Draws]:
    """The episodes that judge: of every task that is large enough, all other rows being
    the query.

    Source: FS-Mol's protocol, Stanley et al., 2021,
    https://openreview.net/forum?id=701FtuyLlAd, section 4.
    """
    for shot in shots:
        for task in count_eligible(plan, bank, shot, 2):
            key = jax.random.fold_in(jax.random.key(seed), int(task) * 1000 + shot)
            # One length of supports, so that there are few programs.
            window = bucket(int(bank.size[task]), "rows")
            draw = _drawer(max(shots), window, plan.kind == "number")
            keys = jax.random.split(key, num_draws)
            episodes = draw(keys, bank, jnp.array(int(task)), jnp.array(shot))
            yield Draws(task=int(task), shot=shot, episodes=episodes)


@jax.jit
def _shuffled(y: Float[Array, "draws n"] | Int[Array, "draws n"], mask: Array) -> Array:
    def one(key: Key, y: Array, mask: Array) -> Array:
        ranks = jnp.where(mask, jax.random.uniform(key, y.shape), 2.0)
        # Rows that count come first in both orders, and stay among themselves.
        places = jnp.argsort(jnp.where(mask, 0, 1), stable=True)
        return jnp.zeros_like(y).at[places].set(y[jnp.argsort(ranks)])

    return jax.vmap(one)(jax.random.split(jax.random.key(1), len(y)), y, mask)


def shuffled(draws: Draws) -> Draws:
    """The control: the same episodes, the targets of each support in random order."""
    support = draws.episodes.support
    support = support._replace(y=_shuffled(support.y, support.mask))
    return draws._replace(episodes=draws.episodes._replace(support=support))
