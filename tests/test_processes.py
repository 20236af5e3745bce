"""Several processes as one run: the same numbers, one stop for all, no orphans."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from processes import trained

from jmeta import parallel

SCRIPT = pathlib.Path(__file__).with_name("processes.py")
pytestmark = pytest.mark.slow


def free_address():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{found.getsockname()[1]}"


@pytest.fixture
def start(tmp_path):
    """Start the processes of a run; none outlives the test."""
    begun = []

    def start(count, folder, steps, rest):
        address = free_address()
        paths = os.pathsep.join([str(SCRIPT.parents[1]), str(SCRIPT.parent)])
        # Two devices in each of two processes hang on a CPU with jax 0.10.2.
        env = os.environ | {"PYTHONPATH": paths, "JAX_NUM_CPU_DEVICES": "1"}
        for number in range(count):
            args = (address, count, number, folder, steps, rest)
            with (tmp_path / f"errors{len(begun)}").open("w") as errors:
                begun.append(
                    subprocess.Popen(
                        [sys.executable, SCRIPT, *map(str, args)],
                        env=env,
                        stdout=subprocess.PIPE,
                        stderr=errors,
                        text=True,
                    )
                )
        return begun[-count:]

    yield start
    for process in begun:
        process.kill()
        process.wait()
        process.stdout.close()


def wait_for_step(tmp_path, step, process):
    while f"step {step}\n" not in (tmp_path / "errors0").read_text():
        assert process.poll() is None, (tmp_path / "errors0").read_text()
        time.sleep(0.1)


def test_a_signal_to_one_of_two_stops_both_and_one_alone_goes_on(start, tmp_path):
    run = tmp_path / "run"
    both = start(2, run, 60, rest=0.2)
    wait_for_step(tmp_path, 6, both[0])
    both[1].send_signal(signal.SIGTERM)
    # Gloo prints lines of its own before.
    lines = [p.communicate(timeout=60)[0].splitlines()[-1] for p in both]
    told = [json.loads(line) for line in lines]
    assert [process.returncode for process in both] == [0, 0]
    assert told[0] == told[1] and told[0]["signal"] == signal.SIGTERM
    steps = told[0]["stopped"]
    assert 6 <= steps < 60 and (run / str(steps)).is_dir()
    # Saved by two, gone on with by one.
    resumed, rest = trained(run, steps + 6)
    whole, losses = trained(tmp_path / "whole", steps + 6)
    np.testing.assert_allclose(rest, losses[-3:], rtol=1e-6)
    for one, other in zip(jax.tree.leaves(resumed), jax.tree.leaves(whole)):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


def test_a_process_that_dies_ends_the_other(start, tmp_path):
    one, other = start(2, tmp_path / "run", 10_000, rest=0.1)
    wait_for_step(tmp_path, 4, one)
    other.kill()
    one.communicate(timeout=60)
    assert one.returncode not in (0, None)
    assert "distributed service" in (tmp_path / "errors0").read_text()


@pytest.mark.parametrize(
    "given, told",
    [
        (("localhost:99", None, 0), "go together"),
        (("localhost:99", 2, 2), "process_id must be from 0 to 1, got 2"),
        (("localhost", 2, 0), "must be HOST:PORT, got 'localhost'"),
    ],
)
def test_processes_must_say_who_they_are(given, told):
    with pytest.raises(ValueError, match=told):
        parallel.join(*given)


@pytest.mark.parametrize(
    "env, found",
    [
        ({"SLURM_NTASKS": "2", "SLURM_STEP_NODELIST": "n[1-2]"}, True),
        ({"SLURM_NTASKS": "1", "SLURM_STEP_NODELIST": "n1"}, False),
        ({"SLURM_NTASKS": "8"}, False),  # Allotted, but not started by srun.
        ({"TPU_WORKER_HOSTNAMES": "a,b", "TPU_WORKER_ID": "1"}, True),
        ({"TPU_WORKER_HOSTNAMES": "localhost", "TPU_WORKER_ID": "0"}, False),
        ({}, False),
    ],
)
def test_schedulers_are_known_by_what_they_set(monkeypatch, env, found):
    for name in ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE", "JOB_COMPLETIONS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    begun = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda **how: begun.append(how))
    parallel.join()
    assert bool(begun) == found
