"""N-way K-shot episodes of rows that do not fit on the device."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jmeta.data.collection import Collection, unit_of
from jmeta.episodes import make_bank
from jmeta.tasks import Examples, Task
from jmeta.types import Key
from jmeta.ways import Slots, draw_slot_batch

__all__ = ["host_ways"]


def host_ways(
    key: Key,
    data: Collection,
    num_tasks: int,
    ways: Sequence[int],
    shots: Sequence[int],
    *,
    most_ways: int | None = None,
    most_shots: int | None = None,
    queries: int,
    imbalance: float = 0.0,
    turn: bool = False,
) -> Callable[[int], Task]:
    """What `jmeta.train.train` takes as `host_tasks`: the episodes of a step.

    They are those that `jmeta.ways.draw_way_batch` draws with the step's number folded
    into the key; but rows stay on the host, such as in a file that is mapped into
    memory, and only those that are drawn are read.

    Args:
      key: of all steps.
      data: tasks; its rows are images.
      num_tasks, queries, imbalance, turn: see `draw_way_batch`.
      ways, shots: numbers that are drawn alike.
      most_ways, most_shots: lengths; None for the largest of them.

    Raises:
      ValueError: if rows are no images; by what is returned, see `draw_ways`.
    """
    if data.form != "image":
        raise ValueError(f"host_ways: rows must be images, not of form {data.form!r}.")
    host = jax.local_devices(backend="cpu")[0]
    with jax.default_device(host):
        bank = make_bank(data._replace(x=data.x[:0]))
        some_ways, some_shots = jnp.asarray(ways), jnp.asarray(shots)

    @jax.jit
    def drawn(key: Key, step: Any) -> Any:
        return draw_slot_batch(
            jax.random.fold_in(key, step),
            bank,
            num_tasks,
            some_ways,
            some_shots,
            most_ways=max(ways) if most_ways is None else most_ways,
            most_shots=max(shots) if most_shots is None else most_shots,
            queries=queries,
            imbalance=imbalance,
            turn=turn,
        )

    def host_tasks(step: int) -> Task:
        # Not on the device, where they would wait for the call that is running.
        with jax.default_device(host):
            slots = jax.device_get(drawn(jax.device_put(key, host), step))
        return Task(
            support=_read(data.x, slots.support),
            query=_read(data.x, slots.query),
            description=slots.description,
        )

    return host_tasks


def _read(x: np.ndarray, slots: Slots) -> Examples:
    found: Any = np.asarray(x[np.asarray(slots.rows)])
    for quarter in (1, 2, 3):
        turned = np.asarray(slots.turn) == quarter
        if turned.any():
            found[turned] = np.rot90(found[turned], quarter, axes=(1, 2))
    found = found.astype(np.float32) * unit_of("image")
    return Examples(x=found, y=slots.y, mask=slots.mask)
