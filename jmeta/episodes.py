"""Episodes, drawn on the device: a support of any size, a query, masks.

All rows lie on the device once, as small as they are stored; an episode is a gather.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int, Num

from jmeta.data.collection import Collection, unit_of
from jmeta.tasks import Examples, Task, target_scaling
from jmeta.types import Array, Key

__all__ = [
    "Bank",
    "draw_episode",
    "draw_episodes",
    "eligible",
    "make_bank",
    "unit_targets",
]


class Bank(NamedTuple):
    """Tasks and their rows on the device.

    Attributes:
      first, size: task i owns the `size[i]` entries from `first[i]` on, which are
        sorted by class.
      positives: how many of them are of class 1.
      known: how many of them have a number.
      first_class, num_classes: task i owns the `num_classes[i]` classes from
        `first_class[i]` on.
      class_first, class_size: class c owns the `class_size[c]` entries from
        `class_first[c]` on.
      rows: which row each entry is about.
      label: its class within the task.
      value: its number, NaN where unknown.
      x: rows, as stored.
      unit: what a stored number is multiplied by.
    """

    first: Int[Array, " tasks"]
    size: Int[Array, " tasks"]
    positives: Int[Array, " tasks"]
    known: Int[Array, " tasks"]
    first_class: Int[Array, " tasks"]
    num_classes: Int[Array, " tasks"]
    class_first: Int[Array, " classes"]
    class_size: Int[Array, " classes"]
    rows: Int[Array, " n"]
    label: Int[Array, " n"]
    value: Float[Array, " n"]
    x: Num[Array, "rows *shape"]
    unit: Float[Array, ""]


def make_bank(data: Collection) -> Bank:
    """Bring tasks to the device."""
    sizes = np.diff(data.offset)
    counts = np.array([max(len(names), 1) for names in data.classes])
    first_class = np.cumsum(counts) - counts
    of_entry = np.repeat(np.arange(len(sizes)), sizes)
    owner = first_class[of_entry] + data.label
    order = np.argsort(owner, kind="stable")
    class_size = np.bincount(owner, minlength=int(counts.sum()))

    def count(member: np.ndarray) -> np.ndarray:
        return np.bincount(of_entry[member], minlength=len(sizes))

    def ints(numbers: np.ndarray) -> Array:
        return jnp.asarray(numbers, jnp.int32)

    return Bank(
        first=ints(data.offset[:-1]),
        size=ints(sizes),
        positives=ints(count(data.label == 1)),
        known=ints(count(np.isfinite(data.value))),
        first_class=ints(first_class),
        num_classes=ints(counts),
        class_first=ints(np.cumsum(class_size) - class_size),
        class_size=ints(class_size),
        rows=ints(data.rows[order]),
        label=ints(data.label[order]),
        value=jnp.asarray(data.value[order], jnp.float32),
        x=jnp.asarray(data.x),
        unit=jnp.asarray(unit_of(data.form)),
    )


def unit_targets(
    task: Task,
) -> tuple[Task, Float[Array, ""], Float[Array, ""]]:
    """A task whose numbers have mean 0 and deviation 1 on the support; and what these
    were, to bring predictions back (`jmeta.tasks.target_scaling`)."""
    mean, scale = target_scaling(task.support)

    def scaled(examples: Examples) -> Examples:
        return examples._replace(y=(examples.y - mean) / scale)

    task = task._replace(support=scaled(task.support), query=scaled(task.query))
    return task, mean, scale


def eligible(
    bank: Bank,
    num_support: int | Int[Array, ""],
    least_query: int = 16,
    *,
    numbers: bool = False,
) -> Bool[Array, " tasks"]:
    """Tasks with rows enough, and with two of each class, one for either set.

    Args:
      bank: of tasks.
      num_support: rows that the support takes.
      least_query: rows that must be left; at least 2.
      numbers: whether the targets are numbers, of which enough must be known.
    """
    if numbers:
        return bank.known >= num_support + least_query
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
    balanced: bool = False,
) -> Task:
    """Split the rows of one task at random, the support holding the task's share of
    each of its two classes, and at least one row of it.

    The description is the share of class 1 in the support.

    Args:
      key: of the split.
      bank: of tasks.
      task: its place; must be `eligible`.
      num_support: rows of the support, from 2 to `support_rows`.
      support_rows: length to which the support is padded.
      query_rows: the same of the query, which holds the rest as far as there is room.
      window: at least the size of the task.
      numbers: whether the targets are the numbers that are known, instead of classes.
      balanced: whether the support holds as many rows of each class instead, as far as
        there are.
    """
    size, positives = bank.size[task], bank.positives[task]
    there = jnp.arange(window) < size
    order = jnp.argsort(jnp.where(there, jax.random.uniform(key, (window,)), 2.0))
    rows = bank.first[task] + jnp.where(there, order, 0)
    positive = there & (bank.label[rows] == 1)
    if numbers:
        there = there & jnp.isfinite(bank.value[rows])
        chosen = there & (jnp.cumsum(there) <= num_support)
    else:
        share = 0.5 if balanced else positives / size
        wanted = jnp.round(num_support * share).astype(int)
        least = jnp.maximum(1, num_support - (size - positives - 1))
        wanted = jnp.clip(wanted, least, jnp.minimum(num_support, positives) - 1)
        negative = there & ~positive
        chosen = (positive & (jnp.cumsum(positive) <= wanted)) | (
            negative & (jnp.cumsum(negative) <= num_support - wanted)
        )
    held = jnp.sum(chosen & positive) / num_support

    def examples(member: Array, length: int) -> Examples:
        place = jnp.where(member, jnp.cumsum(member) - 1, length)
        taken = jnp.zeros(length, rows.dtype).at[place].set(rows, mode="drop")
        mask = jnp.arange(length) < jnp.sum(member)
        x = bank.x[bank.rows[taken]].astype(jnp.float32) * bank.unit
        y = bank.value[taken] if numbers else bank.label[taken]
        return Examples(x=x, y=y, mask=mask)

    return Task(
        support=examples(chosen, support_rows),
        query=examples(there & ~chosen, query_rows),
        description=held[None].astype(jnp.float32),
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
    balanced: bool = False,
) -> Task:
    """A batch: each episode draws its support's size, then a task that is large enough.

    Args:
      key: of all draws.
      bank: of tasks; for each of the shots at least one must be `eligible`.
      num_tasks: episodes, of which several may be of one task.
      shots: sizes of supports, drawn alike.
      support_rows, query_rows, window, numbers, balanced: see `draw_episode`.
      least_query: see `eligible`.
    """

    def one(key: Key) -> Task:
        shot_key, task_key, split_key = jax.random.split(key, 3)
        num_support = jax.random.choice(shot_key, shots)
        fits = eligible(bank, num_support, least_query, numbers=numbers)
        ranks = jnp.cumsum(fits)
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
            balanced=balanced,
        )

    return jax.vmap(one)(jax.random.split(key, num_tasks))
