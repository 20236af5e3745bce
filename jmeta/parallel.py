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

The devices may be those of several processes, on one host or many, that `join` each
other first and then all run the same program on the same data; the first of them alone
writes files.
"""

import contextlib
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

__all__ = [
    "TASKS",
    "alone",
    "any_process",
    "dividing",
    "first",
    "join",
    "local",
    "num_devices",
    "replicated",
    "shaped",
    "split_sum",
    "task_mesh",
    "together",
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


_SCHEDULERS = {
    "SLURM_NTASKS": "SLURM_STEP_NODELIST",
    "OMPI_COMM_WORLD_SIZE": "OMPI_MCA_orte_hnp_uri",
    "TPU_WORKER_HOSTNAMES": "TPU_WORKER_ID",
}
"""Of schedulers, what says how many processes there are, and that this is one."""


def join(
    coordinator: str | None = None,
    processes: int | None = None,
    process_id: int | None = None,
    *,
    heartbeat: int = 100,
) -> None:
    """Become one of several processes of a run, by `jax.distributed`.

    To be called before anything is computed. Without arguments the processes of
    Slurm, Open MPI and TPU pods find each other; one that none of them
    has started stays alone.

    Args:
      coordinator: `host:port` of the process 0, which listens there and nowhere else.
      processes: how many there are.
      process_id: which of them this is, from 0.
      heartbeat: seconds until a process that died ends the others.

    Raises:
      ValueError: if some of the first three are given and not all, or one is out of
        range.
      RuntimeError: if JAX has its devices already, or the others do not come.
    """
    given = [value is not None for value in (coordinator, processes, process_id)]
    if not any(given):
        if any(_started_by(*names) for names in _SCHEDULERS.items()):
            jax.distributed.initialize(heartbeat_timeout_seconds=heartbeat)
        return
    if coordinator is None or processes is None or process_id is None:
        raise ValueError(
            "join: coordinator, processes and process_id go together; give all."
        )
    if not 0 <= process_id < processes:
        raise ValueError(
            f"join: process_id must be from 0 to {processes - 1}, got {process_id}."
        )
    port = coordinator.rpartition(":")[2]
    if ":" not in coordinator or not port.isdigit():
        raise ValueError(f"join: coordinator must be HOST:PORT, got {coordinator!r}.")
    jax.distributed.initialize(
        coordinator,
        processes,
        process_id,
        coordinator_bind_address=coordinator if process_id == 0 else None,
        heartbeat_timeout_seconds=heartbeat,
    )


def _started_by(count: str, member: str) -> bool:
    """Whether a scheduler has started this as one of several processes."""
    size = os.environ.get(count, "1")
    several = len(size.split(",")) > 1 if not size.isdigit() else int(size) > 1
    return several and member in os.environ


def first() -> bool:
    """Whether this is the process that writes files."""
    return jax.process_index() == 0


def together(what: str) -> None:
    """Wait until all processes have come here.

    Args:
      what: they wait for; the same in all.
    """
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(what)


def any_process(flag: bool) -> bool:
    """Whether the flag is set in any process; all must ask together."""
    if jax.process_count() == 1:
        return flag
    from jax.experimental import multihost_utils

    return bool(np.any(multihost_utils.process_allgather(np.array(flag))))


def local(tree: Any) -> Any:
    """The copy of arrays, of which each device has one, on the first device of this
    process."""
    if num_devices() == 1 and jax.process_count() == 1:
        return tree
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)


def alone() -> AbstractContextManager[Any]:
    """Compute on the first device of this process, whatever mesh is set."""
    if num_devices() == 1:
        return contextlib.nullcontext()
    return jax.set_mesh(task_mesh(jax.local_devices()[:1]))


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


def shaped(tree: Any) -> Any:
    """The shapes of arrays as `replicated` lays them; arrays as they are without a
    mesh."""
    mesh = jax.sharding.get_mesh()
    if mesh.empty:
        return tree
    everywhere = NamedSharding(mesh, PartitionSpec())
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=everywhere),
        tree,
    )


def split_sum(sums: Callable[[Any, Any], Any], params: Any, batch: Any) -> Any:
    """What `sums` gives for each device's share of a batch, added up.

    Args:
      sums: `(params, records with a leading task axis) -> sums` without that axis.
      params: what every device has whole. Not closed over, since what is closed over
        belongs to all devices, and cannot be indexed where one computes.
      batch: records with a leading task axis, which the devices must divide.
    """
    if num_devices() == 1:
        return sums(params, batch)

    def local(params: Any, share: Any) -> Any:
        return jax.lax.psum(sums(params, share), TASKS)

    # Unchecked: what may vary by device is asked of every scan inside a learner, and
    # the gradient of what lies on all devices would be summed in each micro-batch.
    return jax.shard_map(
        local,
        in_specs=(PartitionSpec(), PartitionSpec(TASKS)),
        out_specs=PartitionSpec(),
        check_vma=False,
    )(params, batch)
