"""Randomised regression trees over tasks, thousands of them in one program.

A tree says which training tasks are like a new one: those in the same leaf. All trees
have the same static shape, so folds, seeds and trees are one `vmap`; what is predicted
from a leaf is decided afterwards.

Source: extremely randomised trees, Geurts, Ernst and Wehenkel, 2006,
https://doi.org/10.1007/s10994-006-6226-1; subsampling in place of the bootstrap,
Buehlmann and Yu, 2002, https://doi.org/10.1214/aos/1031689014.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int, UInt

from jmeta.sorting import sort
from jmeta.types import Array, Key

__all__ = ["Bag", "Leaves", "draw_bag", "grow", "leaf_means"]

_BLOCK = 32
"""Rows a block of running sums has; a bag's length is a multiple of it."""

_ALIKE = 1e-4
"""Gains that differ by less of the highest are the same but for rounding."""


class Bag(NamedTuple):
    """Which tasks one tree is grown on.

    Attributes:
      rows: places of tasks; the first `size` of them are in the bag.
      size: how many.
      judged: tasks whose family has no member in the bag: what the tree says of them
        is an honest prediction. True for every task outside training.
    """

    rows: Int[Array, " length"]
    size: Int[Array, ""]
    judged: Bool[Array, " tasks"]


class Leaves(NamedTuple):
    """Where the tasks end in one tree.

    Attributes:
      rows: places of the bag's tasks, those of a leaf side by side.
      start: of each task's leaf in `rows`.
      count: how many of the bag's tasks are in that leaf.
    """

    rows: Int[Array, " length"]
    start: Int[Array, " tasks"]
    count: Int[Array, " tasks"]


def draw_bag(
    key: Key,
    families: Int[Array, " tasks"],
    train: Bool[Array, " tasks"],
    *,
    length: int,
    most: Float[Array, ""],
) -> Bag:
    """Draw training tasks without replacement, family by family.

    The bag ends with the last family that fits whole, so that a large one is left out
    of some bags too. Only if the first does not fit, a part of it is taken.

    Args:
      key: decides the order of the families.
      families: of each task, in [0, tasks).
      train: which tasks may be drawn.
      length: of `rows`, at least `most`.
      most: at most so many tasks, at least one.
    """
    num_tasks = train.shape[0]
    draws = jax.random.uniform(key, (num_tasks,))[families]
    draws = jnp.where(train, draws, 2.0)
    rows = jnp.argsort(draws)[:length]
    rows = jnp.pad(rows, (0, max(0, length - num_tasks)))
    most = jnp.maximum(most.astype(jnp.int32), 1)
    ordered = sort(draws)
    ends = jnp.append(ordered[1:] > ordered[:-1], True)
    counts = jnp.arange(1, num_tasks + 1)
    size = jnp.max(jnp.where(ends & (counts <= most), counts, 0))
    size = jnp.where(size > 0, size, most).astype(jnp.int32)
    last = ordered[size - 1]
    return Bag(rows=rows.astype(jnp.int32), size=size, judged=draws > last)


def _hash(values: Array) -> Array:
    """Scrambled 32-bit integers: random draws that need no state and cost little."""
    values = values.astype(jnp.uint32)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1)):
        values = (values ^ (values >> shift)) * jnp.uint32(factor)
    return values


def _fraction(bits: Array) -> Array:
    """Hashed integers as floats in [0, 1)."""
    return (bits >> 8).astype(jnp.float32) * jnp.float32(2.0**-24)


def _running_sums(values: Float[Array, "n columns"]) -> Float[Array, "_ columns"]:
    """Sums of the first 0, 1, ..., n rows, as two triangular matrix products."""
    size, columns = values.shape
    blocks = values.reshape(size // _BLOCK, _BLOCK, columns)
    inside = jnp.einsum("ab,nbc->nac", jnp.tri(_BLOCK), blocks)
    before = jnp.tri(len(blocks), k=-1) @ inside[:, -1]
    sums = (inside + before[:, None]).reshape(size, columns)
    return jnp.concatenate([jnp.zeros((1, columns)), sums])


class _Nodes(NamedTuple):
    """The state of a growing tree: each place in `rows` knows its node.

    A node is a run of places; its first place is its name.
    """

    rows: Array
    start: Array
    count: Array
    ends: Array  # (tasks,): the name of the node that each task is in.


class _Splits(NamedTuple):
    """What became of the nodes that are large enough to be split, a slot each."""

    feature: Array
    threshold: Array
    left: Array  # How many tasks of the bag go left; 0 where nothing was split.


def grow(
    key: UInt[Array, ""],
    value: Callable[[Array, Array], Array],
    usable: Int[Array, " meta"],
    num_usable: Int[Array, ""],
    targets: Float[Array, "tasks outputs"],
    bag: Bag,
    *,
    candidates: int,
    levels: int,
    min_leaf: int,
) -> Leaves:
    """Grow one tree on a bag of tasks, and say where every task ends in it.

    In each node `candidates` features are drawn, each with one threshold (midway
    between two of the node's tasks), and the split that lowers the squared error of
    the targets the most is taken.

    Args:
      key: an unsigned integer; decides the draws.
      value: `(places of tasks, features) -> values` of the descriptions, elementwise;
        missing ones are a number below all others.
      usable: the features that are not constant, in its first `num_usable` places.
      num_usable: at least 1.
      targets: what should be alike within a leaf, in comparable units.
      bag: the tasks to grow on; the length of its rows is a multiple of 32.
      candidates: how many splits are drawn in a node.
      levels: at most so deep.
      min_leaf: at least so many of the bag's tasks in each leaf.
    """
    length, num_tasks = len(bag.rows), len(targets)
    places = jnp.arange(length)
    real = places < bag.size
    slots = length // (2 * min_leaf) + 1

    def draw_splits(level: Array, nodes: _Nodes, first: Array) -> tuple[Array, Array]:
        """Features and thresholds `(slots, candidates)`."""
        numbers = first[:, None] * candidates + jnp.arange(candidates)
        bits = _hash(numbers.astype(jnp.uint32) * 64 + level + _hash(key))
        chosen = usable[(bits % num_usable.astype(jnp.uint32)).astype(jnp.int32)]
        count = nodes.count[first][:, None]
        ends = []
        for _ in range(2):
            bits = _hash(bits + 1)
            offset = (_fraction(bits) * count).astype(jnp.int32)
            place = first[:, None] + jnp.minimum(offset, count - 1)
            ends.append(value(nodes.rows[place], chosen))
        return chosen, (ends[0] + ends[1]) / 2

    def choose(
        nodes: _Nodes, first: Array, slot: Array, active: Array, level: Array
    ) -> _Splits:
        chosen, thresholds = draw_splits(level, nodes, first)
        values = value(nodes.rows[:, None], chosen[slot])
        left = ((values <= thresholds[slot]) & active[:, None]).astype(jnp.float32)
        y = jnp.where(active[:, None], targets[nodes.rows], 0.0)
        products = (left[:, :, None] * y[:, None, :]).reshape(length, -1)
        sums = _running_sums(jnp.concatenate([left, products, y], axis=1))
        count = nodes.count[first]
        sums = sums[first + count] - sums[first]
        num_left = sums[:, :candidates]
        sum_left, total = jnp.split(sums[:, candidates:], [products.shape[1]], axis=1)
        sum_left = sum_left.reshape(slots, candidates, -1)
        total = total[:, None]
        num_right = count[:, None] - num_left
        gain = (
            jnp.sum(sum_left**2, -1) / jnp.maximum(num_left, 1)
            + jnp.sum((total - sum_left) ** 2, -1) / jnp.maximum(num_right, 1)
            - jnp.sum(total**2, -1) / count[:, None]
        )
        fits = (num_left >= min_leaf) & (num_right >= min_leaf)
        gain = jnp.where(fits, gain, -1.0)
        # Many splits part the bag alike; which comes first, rounding must not decide.
        highest = jnp.max(gain, axis=1, keepdims=True)
        best = jnp.argmax(gain >= highest - _ALIKE * jnp.abs(highest), axis=1)[:, None]

        def take(array: Array) -> Array:
            return jnp.take_along_axis(array, best, axis=1)[:, 0]

        split = take(fits) & (take(gain) > 1e-9)
        return _Splits(
            feature=take(chosen),
            threshold=take(thresholds),
            left=jnp.where(split, take(num_left).astype(jnp.int32), 0),
        )

    def level_step(nodes: _Nodes, level: Array) -> tuple[_Nodes, None]:
        large = real & (nodes.count >= 2 * min_leaf)
        opens = large & (nodes.start == places)
        first = jnp.nonzero(opens, size=slots, fill_value=length - 1)[0]
        slot_of = jnp.clip(jnp.cumsum(opens) - 1, 0, slots - 1)
        splits = choose(nodes, first, slot_of[nodes.start], large, level)

        def goes(node: Array, rows: Array) -> tuple[Array, Array, Array]:
            """Whether the node was split, whether rows go left, how many go left."""
            slot = slot_of[node]
            left = value(rows, splits.feature[slot]) <= splits.threshold[slot]
            number = jnp.where(large[node], splits.left[slot], 0)
            return number > 0, left, number

        split, left, number = goes(nodes.start, nodes.rows)
        running = jnp.concatenate([jnp.zeros(1, int), jnp.cumsum(left)])
        before = running[places] - running[nodes.start]
        right_place = nodes.start + number + (places - nodes.start - before)
        place = jnp.where(left, nodes.start + before, right_place)
        place = jnp.where(split, place, places)
        start = jnp.where(split & ~left, nodes.start + number, nodes.start)
        size = jnp.where(left, number, nodes.count - number)
        count = jnp.where(split, size, nodes.count)
        moved = jnp.stack([nodes.rows, start, count], axis=1).astype(jnp.int32)
        moved = jnp.zeros_like(moved).at[place].set(moved, unique_indices=True)
        split, left, number = goes(nodes.ends, jnp.arange(num_tasks))
        ends = nodes.ends + jnp.where(split & ~left, number, 0)
        return _Nodes(moved[:, 0], moved[:, 1], moved[:, 2], ends), None

    root = _Nodes(
        rows=bag.rows,
        start=jnp.where(real, 0, bag.size),
        count=jnp.where(real, bag.size, length - bag.size),
        ends=jnp.zeros(num_tasks, jnp.int32),
    )
    nodes, _ = jax.lax.scan(level_step, root, jnp.arange(levels, dtype=jnp.uint32))
    return Leaves(rows=nodes.rows, start=nodes.ends, count=nodes.count[nodes.ends])


def leaf_means(
    leaves: Leaves, values: Float[Array, "tasks columns"]
) -> Float[Array, "tasks columns"]:
    """What each task's leaf holds on average; NaN has no place in `values`."""
    sums = _running_sums(values[leaves.rows])
    total = sums[leaves.start + leaves.count] - sums[leaves.start]
    return total / leaves.count[:, None]
