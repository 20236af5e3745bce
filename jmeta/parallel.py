"""The tasks of a step split over devices: cores of a CPU, or accelerators.

Devices are told by JAX's own mesh, and every algorithm that adds up over tasks follows:

    use_cpu_cores()
    with jax.set_mesh(task_mesh()):
        state = train(algorithm, sample_tasks, key, num_steps=1000)

Parameters lie on every device. Each takes its share of the tasks, in micro-batches, and
one sum over the devices ends the step: of the gradient, the loss and the counts. This
is said by `shard_map` and not left to the compiler, which would gather whole batches at
convolutions that are vmapped over their kernels. The result is that of one device but
for the order of a sum.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

__all__ = [
    "TASKS",
    "dividing",
    "num_devices",
    "replicated",
    "split_sum",
    "task_mesh",
    "use_cpu_cores",
]

TASKS = "tasks"
"""The mesh axis that tasks are split over."""


def use_cpu_cores(count: int | None = None) -> None:
    """Make each core of the CPU a device of its own, where JAX was not told otherwise.

    One device uses several cores only within an operation, and those of a small
    network are too small for that. To be called before anything is computed. Does
    nothing if `JAX_NUM_CPU_DEVICES` is set.

    Args:
      count: of devices; None for as many as the process has cores.

    Raises:
      ValueError: if `count` is below 1.
      RuntimeError: if JAX has its devices already.
    """
    if count is None:
        # The cores that a batch system or `taskset` gives, where they can be asked for.
        asked = getattr(os, "sched_getaffinity", None)
        count = len(asked(0)) if asked else os.cpu_count() or 1
    if count < 1:
        raise ValueError(f"use_cpu_cores: count must be at least 1, got {count}.")
    if getattr(jax.config, "jax_num_cpu_devices") < 1:  # noqa: B009
        jax.config.update("jax_num_cpu_devices", count)


def task_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh that tasks are split over; None for all devices, of all processes."""
    chosen = np.asarray(jax.devices() if devices is None else devices)
    return Mesh(chosen, (TASKS,), axis_types=(AxisType.Auto,))


def dividing(num_tasks: int, most: int | None = None) -> list[Any]:
    """As many devices as divide the tasks of a step, of all or of the first `most`."""
    devices = jax.devices()[:most]
    counts = range(1, len(devices) + 1)
    return devices[: max(count for count in counts if num_tasks % count == 0)]


def num_devices() -> int:
    """Over how many devices the mesh that is set splits tasks; 1 if there is none."""
    return dict(jax.sharding.get_abstract_mesh().shape).get(TASKS, 1)


def replicated(tree: Any) -> Any:
    """Arrays laid on every device of the mesh that is set, as they are if none is.

    What a compiled step is given again and again would else be copied every time.
    """
    mesh = jax.sharding.get_mesh()
    if mesh.empty:
        return tree
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def split_sum(sums: Callable[[Any], Any], batch: Any) -> Any:
    """What `sums` gives for each device's share of a batch, added up.

    Args:
      sums: of records with a leading task axis; none on what it returns. It may close
        over arrays, which every device has whole.
      batch: records with a leading task axis, which the devices must divide.
    """
    if num_devices() == 1:
        return sums(batch)

    def local(share: Any) -> Any:
        return jax.lax.psum(sums(share), TASKS)

    # Unchecked: what may vary by device is asked of every scan inside a learner, and
    # the gradient of what lies on all devices would be summed in each micro-batch.
    return jax.shard_map(
        local,
        in_specs=PartitionSpec(TASKS),
        out_specs=PartitionSpec(),
        check_vma=False,
    )(batch)
