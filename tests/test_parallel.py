"""Tasks split over devices: the same numbers, and one sum as all that is moved."""

import functools
import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh

from jmeta.algorithms.micro_batches import summed
from jmeta.parallel import (
    TASKS,
    dividing,
    num_devices,
    replicated,
    task_mesh,
    use_cpu_cores,
)

SCRIPT = pathlib.Path(__file__).with_name("four_devices.py")
PROGRAM = f"""
import runpy
from jmeta.parallel import use_cpu_cores
use_cpu_cores(4)
runpy.run_path({str(SCRIPT)!r}, run_name="__main__")
"""
NAMES = ["maml", "prototypical", "meta_optimizer", "train"]


@functools.cache
def told():
    """What the script prints; it takes seconds, so once for all tests."""
    paths = [str(SCRIPT.parents[1]), str(SCRIPT.parent)]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", NAMES)
def test_four_devices_come_to_what_one_does(name):
    found = told()[name]
    assert told()["devices"] == 4
    for one, four in zip(found["alone"], found["split"], strict=True):
        scale = 1e-6 * np.max(np.abs(one), initial=0.0)
        np.testing.assert_allclose(four, one, rtol=1e-6, atol=scale)


@pytest.mark.parametrize("name", NAMES)
def test_the_only_collective_is_the_sum(name):
    found = told()[name]
    assert found["none"] == {}
    # One of floats and one of counts.
    assert found["found"] == {"all-reduce": 2}


def test_tasks_that_do_not_divide_are_refused():
    def sums(params, batch):
        return params * jnp.sum(batch)

    tasks = jnp.zeros(12)
    with jax.sharding.use_abstract_mesh(AbstractMesh((8,), (TASKS,))):
        assert num_devices() == 8
        with pytest.raises(ValueError, match="8 devices do not divide the 12 tasks"):
            summed("maml", sums, 1.0, tasks, None)
    with jax.sharding.use_abstract_mesh(AbstractMesh((2,), (TASKS,))):
        with pytest.raises(ValueError, match="the 6 tasks that each device takes"):
            summed("maml", sums, 1.0, tasks, 4)
        made = jax.eval_shape(lambda x: summed("maml", sums, 1.0, x, 8), tasks)
        assert made.shape == ()


def test_one_device_needs_no_mesh():
    x = jnp.arange(3.0)
    assert num_devices() == 1
    assert replicated(x) is x
    with jax.set_mesh(task_mesh()):
        assert num_devices() == jax.device_count()
        np.testing.assert_array_equal(replicated(x), x)


def test_as_many_devices_as_divide_the_tasks(monkeypatch):
    monkeypatch.setattr(jax, "devices", lambda: list("abcdef"))
    counts = {tasks: len(dividing(tasks)) for tasks in (1, 4, 7, 9, 12)}
    assert counts == {1: 1, 4: 4, 7: 1, 9: 3, 12: 6}
    assert dividing(12, 5) == list("abcd") and dividing(12, 9) == list("abcdef")


def test_cores_are_counted_before_jax_starts():
    jnp.zeros(1).block_until_ready()
    with pytest.raises(ValueError, match="count must be at least 1, got 0"):
        use_cpu_cores(0)
    with pytest.raises(RuntimeError, match="before"):
        use_cpu_cores(2)
