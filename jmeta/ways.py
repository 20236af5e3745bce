"""N-way K-shot episodes: some of a task's classes, a few rows of each, masks.

What is drawn is which rows fill which slots. A bank on the device gathers them in the
same program; rows that do not fit there are gathered on the host, and the episodes are
the same.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from jmeta.dealing import distinct, uneven_counts
from jmeta.episodes import Bank
from jmeta.tasks import Examples, Task
from jmeta.types import Array, Key

__all__ = [
    "Slots",
    "WaySlots",
    "draw_slot_batch",
    "draw_way_batch",
    "draw_ways",
    "enough_classes",
]


class Slots(NamedTuple):
    """What fills a set of examples; outside the mask there is some row or other.

    Attributes:
      rows: places in the table of rows.
      turn: by how many quarters, counterclockwise, each image is turned.
      y: its class in the episode.
      mask: which slots are filled.
    """

    rows: Int[Array, "*tasks n"]
    turn: Int[Array, "*tasks n"]
    y: Int[Array, "*tasks n"]
    mask: Bool[Array, "*tasks n"]


class WaySlots(NamedTuple):
    """An episode before its rows are gathered; the description is (ways, shots)."""

    support: Slots
    query: Slots
    description: Float[Array, "*tasks 2"]


def enough_classes(
    bank: Bank,
    ways: int | Int[Array, ""],
    shots: int | Int[Array, ""],
    queries: int,
    *,
    turn: bool = False,
) -> Bool[Array, " tasks"]:
    """Tasks with so many classes that have rows enough for support and query.

    Args:
      bank: of tasks.
      ways, shots, queries, turn: see `draw_ways`.
    """
    fit = jnp.cumsum(bank.class_size >= jnp.asarray(shots) + queries)
    before = jnp.concatenate([jnp.zeros(1, fit.dtype), fit])
    last = bank.first_class + bank.num_classes
    return (before[last] - before[bank.first_class]) * (4 if turn else 1) >= ways


class _Rules(NamedTuple):
    """What `draw_ways` is told by name."""

    most_ways: int
    most_shots: int
    queries: int
    imbalance: float | Float[Array, ""]
    turn: bool

    @property
    def even(self) -> bool:
        """Whether it is known before the program runs that classes are alike."""
        return isinstance(self.imbalance, (int, float)) and self.imbalance == 0.0


def _draw_slots(
    key: Key,
    bank: Bank,
    task: Int[Array, ""],
    ways: Int[Array, ""],
    shots: Int[Array, ""],
    rules: _Rules,
) -> WaySlots:
    most_ways, most_shots, queries = rules[:3]
    turns = 4 if rules.turn else 1
    num_classes = len(bank.class_size)
    if min(most_ways, most_shots, queries) < 1 or most_ways > num_classes * turns:
        raise ValueError(
            "draw_ways: needs most_ways from 1 to the number of classes, "
            f"{num_classes * turns}, and most_shots and queries of at least 1, got "
            f"{most_ways}, {most_shots} and {queries}."
        )
    if rules.turn and (bank.x.ndim != 4 or bank.x.shape[1] != bank.x.shape[2]):
        raise ValueError(
            "draw_ways: turn=True needs images (height, width, channels) that are "
            f"square, got rows of shape {bank.x.shape[1:]}."
        )
    class_key, row_key, count_key = jax.random.split(key, 3)
    of_task = jnp.arange(num_classes) - bank.first_class[task]
    fit = (of_task >= 0) & (of_task < bank.num_classes[task])
    fit &= bank.class_size >= shots + queries
    chances = jax.random.uniform(class_key, (num_classes, turns))
    chances = jnp.where(fit[:, None], chances, -1.0)
    drawn = jax.lax.top_k(chances.ravel(), most_ways)[1]
    classes, quarter = drawn // turns, drawn % turns

    there = jnp.arange(most_ways) < ways
    sizes = bank.class_size[classes]
    slots, most = most_ways * most_shots, most_shots
    counts = jnp.where(there, shots, 0)
    if not rules.even:
        most = slots - 1
        counts = uneven_counts(
            count_key, there, sizes - queries, ways * shots, rules.imbalance, most
        )
    order = distinct(row_key, sizes, most + queries)

    def filled(way: Array, place: Array, mask: Array) -> Slots:
        entries = bank.class_first[classes[way]] + order[place, way]
        entries = jnp.where(mask, entries, 0)
        return Slots(
            rows=bank.rows[entries],
            turn=jnp.where(mask, quarter[way], 0),
            y=jnp.where(mask, way, 0).astype(jnp.int32),
            mask=mask,
        )

    ends = jnp.cumsum(counts)
    slot = jnp.arange(slots)
    way = jnp.minimum(jnp.searchsorted(ends, slot, side="right"), most_ways - 1)
    support = filled(way, slot - (ends - counts)[way], slot < ends[-1])
    way = jnp.repeat(jnp.arange(most_ways), queries)
    place = counts[way] + jnp.tile(jnp.arange(queries), most_ways)
    return WaySlots(
        support=support,
        query=filled(way, place, there[way]),
        description=jnp.stack([ways, shots]).astype(jnp.float32),
    )


def _task(bank: Bank, drawn: WaySlots, turn: bool) -> Task:
    return Task(
        support=_gathered(bank, drawn.support, turn),
        query=_gathered(bank, drawn.query, turn),
        description=drawn.description,
    )


def _gathered(bank: Bank, slots: Slots, turn: bool) -> Examples:
    x = bank.x[slots.rows].astype(jnp.float32) * bank.unit
    if turn:
        quarter = slots.turn[:, None, None, None]
        x = jnp.where(quarter >= 2, x[:, ::-1, ::-1], x)
        x = jnp.where(quarter % 2 == 1, jnp.rot90(x, axes=(1, 2)), x)
    return Examples(x=x, y=slots.y, mask=slots.mask)


def draw_ways(
    key: Key,
    bank: Bank,
    task: Int[Array, ""],
    ways: Int[Array, ""],
    shots: Int[Array, ""],
    *,
    most_ways: int,
    most_shots: int,
    queries: int,
    imbalance: float | Float[Array, ""] = 0.0,
    turn: bool = False,
) -> Task:
    """Draw classes of one task, numbered 0, 1, ... in random order, and rows of each.

    No image stands in both sets. The support has `most_ways * most_shots` slots and the
    query `most_ways * queries`, of which those that are filled come first. The
    description is (ways, shots).

    Args:
      key: of all draws.
      bank: of tasks.
      task: its place; one of `enough_classes`.
      ways: classes, from 2 to `most_ways`.
      shots: rows of each class in the support, from 1 to `most_shots`.
      most_ways, most_shots: lengths.
      queries: rows of each class in the query.
      imbalance: 0 for so many shots of each class. Else as many rows in all are dealt
        out, one to each class and the others in shares that are, at 1, mostly those of
        one or two classes.
      turn: whether the images of a class, turned by one, two or three quarters, are a
        class of their own. Images must be square.

    Raises:
      ValueError: if a length is below 1, `most_ways` above what all tasks have, or rows
        cannot be turned.
    """
    rules = _Rules(most_ways, most_shots, queries, imbalance, turn)
    drawn = _draw_slots(key, bank, task, ways, shots, rules)
    return _task(bank, drawn, turn)


def draw_slot_batch(
    key: Key,
    bank: Bank,
    num_tasks: int,
    ways: Int[Array, " ways"],
    shots: Int[Array, " shots"],
    *,
    most_ways: int,
    most_shots: int,
    queries: int,
    imbalance: float | Float[Array, ""] = 0.0,
    turn: bool = False,
) -> WaySlots:
    """What `draw_way_batch` gathers; of a bank that need hold no rows."""
    rules = _Rules(most_ways, most_shots, queries, imbalance, turn)

    def one(key: Key) -> WaySlots:
        way_key, shot_key, task_key, draw_key = jax.random.split(key, 4)
        num_ways = jax.random.choice(way_key, ways)
        num_shots = jax.random.choice(shot_key, shots)
        fits = enough_classes(bank, num_ways, num_shots, queries, turn=turn)
        ranks = jnp.cumsum(fits)
        drawn = jax.random.randint(task_key, (), 0, ranks[-1])
        task = jnp.searchsorted(ranks, drawn, side="right")
        return _draw_slots(draw_key, bank, task, num_ways, num_shots, rules)

    return jax.vmap(one)(jax.random.split(key, num_tasks))


def draw_way_batch(
    key: Key,
    bank: Bank,
    num_tasks: int,
    ways: Int[Array, " ways"],
    shots: Int[Array, " shots"],
    *,
    most_ways: int,
    most_shots: int,
    queries: int,
    imbalance: float | Float[Array, ""] = 0.0,
    turn: bool = False,
) -> Task:
    """A batch: each episode draws ways, shots, and a task that has enough for them.

    Args:
      key: of all draws.
      bank: of tasks; for all ways and shots at least one must have `enough_classes`.
      num_tasks: episodes, of which several may be of one task.
      ways, shots: numbers that are drawn alike, none above its length.
      most_ways, most_shots, queries, imbalance, turn: see `draw_ways`.

    Raises:
      ValueError: see `draw_ways`.
    """
    drawn = draw_slot_batch(
        key,
        bank,
        num_tasks,
        ways,
        shots,
        most_ways=most_ways,
        most_shots=most_shots,
        queries=queries,
        imbalance=imbalance,
        turn=turn,
    )
    return jax.vmap(lambda one: _task(bank, one, turn))(drawn)
