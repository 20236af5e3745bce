"""Episodes on molecules, drawn on the device: a support of any size, a query, masks.

All molecules lie on the device once, as the few entries of their fingerprints that are
not zero; an episode is a gather. Episodes are `Task`s whose rows are
`(slots, 2)` numbers: places in the fingerprint, and the counts at those places.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int, Integer, UInt16

from jmeta.data.molecules import Molecules, padded_counts
from jmeta.tasks import Examples, Task
from jmeta.types import Array, Key

__all__ = ["Bank", "draw_episode", "draw_episodes", "eligible", "make_bank"]


class Bank(NamedTuple):
    """Tasks and their molecules on the device.

    Attributes:
      first, size: task i owns the `size[i]` rows from `first[i]` on.
      positives: how many of them are active.
      rows: which molecule each row is about.
      label: 1 if it is active, else 0.
      value: the logarithm of what was measured, NaN where unknown.
      counts: places in the fingerprint, and the counts there, 0 where there is none.
    """

    first: Int[Array, " tasks"]
    size: Int[Array, " tasks"]
    positives: Int[Array, " tasks"]
    rows: Int[Array, " n"]
    label: Int[Array, " n"]
    value: Float[Array, " n"]
    counts: UInt16[Array, "molecules slots 2"]


def make_bank(
    data: Molecules, tasks: Integer[np.ndarray, " some"] | None = None
) -> Bank:
    """Bring tasks to the device.

    Args:
      data: as read.
      tasks: places of those wanted; None for all.
    """
    tasks = np.arange(len(data.tasks)) if tasks is None else tasks
    ones = np.concatenate([np.zeros(1, int), np.cumsum(data.label, dtype=np.int64)])
    first, last = data.offset[tasks], data.offset[tasks + 1]
    return Bank(
        first=jnp.asarray(first, jnp.int32),
        size=jnp.asarray(last - first, jnp.int32),
        positives=jnp.asarray(ones[last] - ones[first], jnp.int32),
        rows=jnp.asarray(data.rows),
        label=jnp.asarray(data.label),
        value=jnp.asarray(data.value),
        counts=jnp.asarray(padded_counts(data)),
    )


def eligible(
    bank: Bank, num_support: int | Int[Array, ""], least_query: int = 16
) -> Bool[Array, " tasks"]:
    """Tasks with rows enough, and with two of each class, one for either set.

    Args:
      bank: of tasks.
      num_support: rows that the support takes.
      least_query: rows that must be left; at least 2.
    """
    both = jnp.minimum(bank.positives, bank.size - bank.positives) >= 2
    return both & (bank.size >= num_support + least_query)


def draw_episode(
    key: Key,
    bank: Bank,
    task: Int[Array, ""],
    num_support: Int[Array, ""],
    *,
    support_rows: int,
    query_rows: int,
    window: int,
    numbers: bool = False,
) -> Task:
    """Split the rows of one task at random, the support holding the task's share of
    each class, and at least one row of it.

    The description is the share of active rows in the support.

    Args:
      key: of the split.
      bank: of tasks.
      task: its place; must be `eligible`.
      num_support: rows of the support, from 2 to `support_rows`.
      support_rows: length to which the support is padded.
      query_rows: the same of the query, which holds the rest as far as there is room.
      window: at least the size of the task.
      numbers: whether the targets are the values, those unknown being left out of both
        sets, instead of the classes.
    """
    size, positives = bank.size[task], bank.positives[task]
    share = positives / size
    wanted = jnp.round(num_support * share).astype(int)
    least = jnp.maximum(1, num_support - (size - positives - 1))
    wanted = jnp.clip(wanted, least, jnp.minimum(num_support, positives) - 1)

    there = jnp.arange(window) < size
    order = jnp.argsort(jnp.where(there, jax.random.uniform(key, (window,)), 2.0))
    rows = bank.first[task] + jnp.where(there, order, 0)
    positive = there & (bank.label[rows] == 1)
    negative = there & ~positive
    chosen = (positive & (jnp.cumsum(positive) <= wanted)) | (
        negative & (jnp.cumsum(negative) <= num_support - wanted)
    )

    def examples(member: Array, length: int) -> Examples:
        place = jnp.where(member, jnp.cumsum(member) - 1, length)
        taken = jnp.zeros(length, rows.dtype).at[place].set(rows, mode="drop")
        mask = jnp.arange(length) < jnp.sum(member)
        x = bank.counts[bank.rows[taken]].astype(jnp.float32)
        y = bank.value[taken] if numbers else bank.label[taken].astype(jnp.int32)
        known = mask & jnp.isfinite(bank.value[taken]) if numbers else mask
        return Examples(x=x, y=y, mask=known)

    return Task(
        support=examples(chosen, support_rows),
        query=examples(there & ~chosen, query_rows),
        description=(wanted / num_support)[None].astype(jnp.float32),
    )


def draw_episodes(
    key: Key,
    bank: Bank,
    num_tasks: int,
    shots: Int[Array, " shots"],
    *,
    support_rows: int,
    query_rows: int,
    window: int,
    least_query: int = 16,
    numbers: bool = False,
) -> Task:
    """A batch: each episode draws its support's size, then a task that is large enough.

    Args:
      key: of all draws.
      bank: of tasks; for each of the shots at least one must be `eligible`.
      num_tasks: episodes, of which several may be of one task.
      shots: sizes of supports, drawn alike.
      support_rows, query_rows, window, numbers: see `draw_episode`.
      least_query: see `eligible`.
    """

    def one(key: Key) -> Task:
        shot_key, task_key, split_key = jax.random.split(key, 3)
        num_support = jax.random.choice(shot_key, shots)
        ranks = jnp.cumsum(eligible(bank, num_support, least_query))
        drawn = jax.random.randint(task_key, (), 0, ranks[-1])
        task = jnp.searchsorted(ranks, drawn, side="right")
        return draw_episode(
            split_key,
            bank,
            task,
            num_support,
            support_rows=support_rows,
            query_rows=query_rows,
            window=window,
            numbers=numbers,
        )

    return jax.vmap(one)(jax.random.split(key, num_tasks))
