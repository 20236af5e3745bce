import pathlib
import subprocess
import sys

import pytest

EXAMPLES = pathlib.Path(__file__).parents[1] / "examples"


@pytest.mark.slow
def test_a_learner_of_ones_own_is_registered_and_scored():
    # In a process of its own, since what is registered stays registered.
    command = [sys.executable, str(EXAMPLES / "own_learner.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["nearest_mean"] * 3 + ["lda"]
    losses = [float(line.split("log_loss ")[1].split(",")[0]) for line in lines]
    assert all(0.2 < loss < 2.0 for loss in losses)


@pytest.mark.slow
def test_a_networks_rate_and_decay_are_learnt_through_its_training():
    command = [sys.executable, str(EXAMPLES / "through_training.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = [line.replace(",", "").split() for line in done.stdout.splitlines()]
    losses = [float(line[3]) for line in lines]
    rates, decays = ([float(line[i]) for line in lines] for i in (5, 7))
    assert sum(losses[-3:]) < 3 * losses[0]
    # Noisy planes want smaller steps and a stronger decay than the defaults.
    assert rates[-1] < 0.005 and decays[-1] > 2.0
