"""Tasks that are prepared on the host while the device computes.

What a step trains on depends on the number of the step alone, so that a run that was
stopped goes on exactly.
"""

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

__all__ = ["prefetched"]


@contextlib.contextmanager
def prefetched(
    host_tasks: Callable[[int], Any], num_steps: int, steps_per_call: int
) -> Iterator[Callable[[int], Any]]:
    """Prepare one call's tasks ahead, in a thread.

    Args:
      host_tasks: `(step) -> tasks` of NumPy arrays, the same whenever it is asked.
      num_steps: of the whole run.
      steps_per_call: length to which calls are filled up.

    Yields:
      `(first) -> tasks` of the steps from there on, with a leading axis of steps.
    """

    def prepared(first: int) -> Any:
        steps = range(first, min(first + steps_per_call, num_steps))
        found = [host_tasks(step) for step in steps]
        found += found[-1:] * (steps_per_call - len(found))
        return jax.tree.map(lambda *leaves: np.stack(leaves), *found)

    ahead: dict[int, Future[Any]] = {}
    with ThreadPoolExecutor(1, thread_name_prefix="jmeta-tasks") as pool:

        def tasks_from(first: int) -> Any:
            ready = ahead.pop(first, None) or pool.submit(prepared, first)
            tasks = ready.result()
            if first + steps_per_call < num_steps:
                after = first + steps_per_call
                ahead[after] = pool.submit(prepared, after)
            return tasks

        try:
            yield tasks_from
        finally:
            for waiting in ahead.values():
                waiting.cancel()
