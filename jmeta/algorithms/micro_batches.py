"""Sums over the tasks of a step, some tasks at once and the rest one after another."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Bool

from jmeta.parallel import num_devices, split_sum
from jmeta.types import Array

__all__ = ["check_micro_batch", "finite_or_zero", "summed"]


def check_micro_batch(who: str, micro_batch: int | None) -> None:
    """See that a number of tasks is one.

    Raises:
      ValueError: if it is below 1.
    """
    if micro_batch is not None and micro_batch < 1:
        raise ValueError(f"{who}: micro_batch must be at least 1, got {micro_batch}.")


def finite_or_zero(tree: Any) -> tuple[Any, Bool[Array, ""]]:
    """The tree, or zeros if any number in it is not finite; and whether all are."""
    leaves = jax.tree.leaves(tree)
    good = jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]))
    return jax.tree.map(lambda leaf: jnp.where(good, leaf, 0.0), tree), good


def summed(
    who: str,
    batch_sums: Callable[[Any, Any], Any],
    params: Any,
    batch: Any,
    micro_batch: int | None,
) -> Any:
    """What `batch_sums` gives for a batch, added up over devices and micro-batches.

    Each device of the mesh that is set (see `jmeta.parallel`) scans over the
    micro-batches of its share. Gradients must be taken inside `batch_sums`, so that
    nothing but the sums outlives a micro-batch.

    Args:
      who: what the error message names.
      batch_sums: `(params, records with a leading task axis) -> sums` without it.
      params: what every task sees whole.
      batch: records with a leading task axis.
      micro_batch: how many tasks a device takes at once, or all of its share if there
        are not as many. None for all.

    Raises:
      ValueError: if the devices do not divide the number of tasks, or `micro_batch`
        does not divide the share of one.
    """
    num_tasks, devices = len(jax.tree.leaves(batch)[0]), num_devices()
    if num_tasks % devices:
        raise ValueError(
            f"{who}: the {devices} devices do not divide the {num_tasks} tasks of a "
            "step; draw a multiple of their number."
        )
    share = num_tasks // devices
    if micro_batch is None or micro_batch >= share:
        return split_sum(batch_sums, params, batch)
    if share % micro_batch:
        of = "of a step" if devices == 1 else "that each device takes in a step"
        raise ValueError(
            f"{who}: micro_batch={micro_batch} does not divide the {share} tasks {of}; "
            "choose one that does."
        )

    def scanned(params: Any, some: Any) -> Any:
        batches = jax.tree.map(
            lambda leaf: leaf.reshape(
                share // micro_batch, micro_batch, *leaf.shape[1:]
            ),
            some,
        )
        one = jax.tree.map(lambda leaf: leaf[0], batches)
        shapes = jax.eval_shape(batch_sums, params, one)
        start = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

        def body(sums: Any, part: Any) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, sums, batch_sums(params, part)), None

        return jax.lax.scan(body, start, batches)[0]

    return split_sum(scanned, params, batch)
