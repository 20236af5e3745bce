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

from jmeta.episodes import Bank, draw_episode, draw_episodes, eligible, unit_targets
from jmeta.errors import InputError
from jmeta.tasks import Task, bucket
from jmeta.types import Array, Key
from jmeta.ways import draw_way_batch, draw_ways, enough_classes

__all__ = [
    "Draws",
    "Plan",
    "held_out_episodes",
    "judging_draws",
    "places_of",
    "sampler",
    "shuffled",
]

_LEAST_QUERY = 16
"""Rows that a task must have beyond the support's, where it is trained on."""

_AT_ONCE = 8
"""Held-out episodes that are predicted at once."""

_CHUNK = 20
"""Episodes that are judged at once, where classes are drawn from many."""


class Plan(NamedTuple):
    """What an episode of a run is; plain data.

    Attributes:
      kind: "classes" or "number".
      ways: classes of an episode, drawn from many; None where a task has two classes,
        or numbers.
      shots: sizes of supports, drawn alike: rows of a support, or with `ways` rows of
        each class.
      query: rows of a training episode's query, or with `ways` rows of each class.
      batch: episodes in a step.
      turn: whether images turned by quarters are trained on as classes of their own.
    """

    kind: str
    ways: int | None
    shots: tuple[int, ...]
    query: int
    batch: int
    turn: bool = False


class Draws(NamedTuple):
    """Episodes of one size of support.

    Attributes:
      task: its place; None where each episode is of its own.
      shot: size of the support, as in `Plan.shots`.
      episodes: with a leading axis of draws.
    """

    task: int | None
    shot: int
    episodes: Task


def _window(bank: Bank) -> int:
    return bucket(int(bank.size.max()), "rows")


def places_of(
    plan: Plan, bank: Bank, shot: int, least_query: int = _LEAST_QUERY
) -> np.ndarray:
    """The tasks that are large enough for an episode of one size.

    Args:
      plan: of the run.
      bank: of tasks.
      shot: size of the support.
      least_query: rows that must be left; with ways the plan's query counts instead.
    """
    if plan.ways is None:
        fits = eligible(bank, shot, least_query, numbers=plan.kind == "number")
    else:
        fits = enough_classes(bank, plan.ways, shot, plan.query)
    return np.flatnonzero(np.asarray(fits))


def _way_batch(plan: Plan, num_tasks: int, most_shots: int) -> Callable[..., Task]:
    """`(key, bank, shots) -> episodes` of some of many classes."""
    assert plan.ways is not None
    return functools.partial(
        draw_way_batch,
        num_tasks=num_tasks,
        ways=jnp.array([plan.ways]),
        most_ways=plan.ways,
        most_shots=most_shots,
        queries=plan.query,
    )


def sampler(plan: Plan, bank: Bank) -> Callable[[Key], Task]:
    """What `jmeta.train.train` draws a step's tasks with.

    Raises:
      InputError: if no task is large enough for one of the sizes.
    """
    for shot in plan.shots:
        if not len(places_of(plan, bank, shot)):
            raise InputError(_too_small(plan, len(bank.size), shot))
    numbers = plan.kind == "number"
    if plan.ways is None:
        draw = functools.partial(
            draw_episodes,
            num_tasks=plan.batch,
            support_rows=max(plan.shots),
            query_rows=plan.query,
            window=_window(bank),
            least_query=_LEAST_QUERY,
            numbers=numbers,
        )
    else:
        draw = _way_batch(plan, plan.batch, max(plan.shots))
        draw = functools.partial(draw, turn=plan.turn)

    def sample(bank: Bank, shots: Array, key: Key) -> Task:
        tasks = draw(key, bank, shots=shots)
        return jax.vmap(lambda task: unit_targets(task)[0])(tasks) if numbers else tasks

    return Partial(sample, bank, jnp.array(plan.shots))


def _too_small(plan: Plan, num_tasks: int, shot: int) -> str:
    if plan.ways is None:
        return (
            f"none of the {num_tasks} tasks has {shot} rows for a support, "
            f"{_LEAST_QUERY} for a query and two of each class; choose smaller --shots."
        )
    return (
        f"none of the {num_tasks} tasks has {plan.ways} classes with {shot} rows for "
        f"a support and {plan.query} for a query; choose smaller --ways, --shots or "
        "--query."
    )


def held_out_episodes(
    plan: Plan,
    bank: Bank,
    shots: tuple[int, ...],
    *,
    most: int,
    query_rows: int = 128,
    seed: int = 0,
) -> Callable[[Callable[[Task], Any]], Any]:
    """What maps a function of an episode over episodes of tasks that were held out.

    All tasks that are large enough for a size count alike, several times where they are
    few. An episode is drawn when its turn comes, so that memory holds a few alone.

    Args:
      plan: of the run.
      bank: of the tasks that were held out.
      shots: sizes of supports, for each of which there is a task.
      most: episodes of each size.
      query_rows: of an episode, at most; with ways the plan's query counts instead.
      seed: of the draws.

    Returns:
      A pytree, whose arrays are arguments of a compiled function that it is given to.
    """
    sizes = jnp.asarray(np.repeat(shots, most), jnp.int32)
    keys = jax.random.split(jax.random.key(seed), len(sizes))
    places = [np.resize(places_of(plan, bank, shot), most) for shot in shots]
    of_each = jnp.asarray(np.concatenate(places), jnp.int32)
    over = _Over(
        ways=plan.ways,
        most_shots=max(shots),
        query=query_rows if plan.ways is None else plan.query,
        window=_window(bank),
        numbers=plan.kind == "number",
    )
    return Partial(over, bank, (keys, of_each, sizes))


class _Over(NamedTuple):
    """Maps over episodes; equal ones are one function to a compiled program."""

    ways: int | None
    most_shots: int
    query: int
    window: int
    numbers: bool

    def _draw(self, key: Key, bank: Bank, task: Array, shot: Array) -> Task:
        if self.ways is not None:
            return draw_ways(
                key,
                bank,
                task,
                jnp.array(self.ways),
                shot,
                most_ways=self.ways,
                most_shots=self.most_shots,
                queries=self.query,
            )
        return draw_episode(
            key,
            bank,
            task,
            shot,
            support_rows=self.most_shots,
            query_rows=self.query,
            window=self.window,
            numbers=self.numbers,
        )

    def __call__(self, bank: Bank, each: Any, function: Callable[[Task], Any]) -> Any:
        def one(each: Any) -> Any:
            key, task, shot = each
            return function(self._draw(key, bank, task, shot))

        return jax.lax.map(one, each, batch_size=_AT_ONCE)


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
    plan: Plan, bank: Bank, shots: tuple[int, ...], count: int, seed: int = 0
) -> Iterator[Draws]:
    """The episodes that judge.

    Without ways, draws of every task that is large enough, all other rows being the
    query: the protocol of FS-Mol, Stanley et al., 2021,
    https://openreview.net/forum?id=701FtuyLlAd, section 4. With ways, episodes.

    Args:
      plan: of the run.
      bank: of tasks.
      shots: sizes of supports.
      count: draws of each task, or episodes.
      seed: of the draws.
    """
    for shot in shots:
        if plan.ways is not None:
            yield from _judging_ways(plan, bank, shot, max(shots), count, seed)
            continue
        for task in places_of(plan, bank, shot, 2):
            key = jax.random.fold_in(jax.random.key(seed), int(task) * 1000 + shot)
            # One length of supports, so that there are few programs.
            window = bucket(int(bank.size[task]), "rows")
            draw = _drawer(max(shots), window, plan.kind == "number")
            keys = jax.random.split(key, count)
            episodes = draw(keys, bank, jnp.array(int(task)), jnp.array(shot))
            yield Draws(task=int(task), shot=shot, episodes=episodes)


def _judging_ways(
    plan: Plan, bank: Bank, shot: int, most_shots: int, count: int, seed: int
) -> Iterator[Draws]:
    draw = jax.jit(_way_batch(plan, _CHUNK, most_shots))
    key = jax.random.fold_in(jax.random.key(seed), shot)
    for first in range(0, count, _CHUNK):
        part = jax.random.fold_in(key, first)
        episodes = draw(part, bank, shots=jnp.array([shot]))
        left = min(_CHUNK, count - first)
        episodes = jax.tree.map(lambda leaf, left=left: leaf[:left], episodes)
        yield Draws(task=None, shot=shot, episodes=episodes)


@jax.jit
def _shuffled(y: Array, mask: Array) -> Array:
    def one(key: Key, y: Array, mask: Array) -> Array:
        ranks = jnp.where(mask, jax.random.uniform(key, y.shape), 2.0)
        # Rows that count come first in both orders, and stay among themselves.
        places = jnp.argsort(~mask, stable=True)
        return jnp.zeros_like(y).at[places].set(y[jnp.argsort(ranks)])

    return jax.vmap(one)(jax.random.split(jax.random.key(1), len(y)), y, mask)


def shuffled(draws: Draws) -> Draws:
    """The control: the same episodes, the targets of each support in random order."""
    support = draws.episodes.support
    support = support._replace(y=_shuffled(support.y, support.mask))
    return draws._replace(episodes=draws.episodes._replace(support=support))
