"""One process of a run: `processes.py HOST:PORT COUNT NUMBER FOLDER STEPS REST`.

Joins the others, trains with checkpoints in a folder, rests between its calls, and
prints as JSON which losses it saw, or where a signal stopped it.
"""

import json
import sys
import time

import jax
import optax

from jmeta import parallel
from jmeta.algorithms import prototypical
from jmeta.checkpoint import Checkpoints
from jmeta.networks import MLP, from_linen
from jmeta.train import Interrupted, train


def trained(folder, steps, rest=0.0):
    """The final state, and the losses of every call."""
    from helpers import KEY, two_clouds  # Computes, which must wait for the others.

    losses = []

    def progress(told):
        if "loss" in told:
            losses.append(told["loss"])
            print(f"step {told['step']}", file=sys.stderr, flush=True)
            time.sleep(rest)

    network = from_linen(MLP(hidden=(8,), out=4))
    state = train(
        prototypical(network, optax.sgd(0.1)),
        lambda key: two_clouds(key, 8),
        KEY,
        num_steps=steps,
        steps_per_call=2,
        checkpoints=Checkpoints(folder),
        checkpoint_every=4,
        progress=progress,
    )
    return state, losses


def main():
    """Train as one of several."""
    address, count, number, folder, steps, rest = sys.argv[1:]
    parallel.join(address, int(count), int(number), heartbeat=10)
    with jax.set_mesh(parallel.task_mesh()):
        try:
            _, losses = trained(folder, int(steps), float(rest))
        except Interrupted as stopped:
            print(json.dumps({"stopped": stopped.step, "signal": stopped.signal}))
            return
    print(json.dumps({"devices": jax.device_count(), "losses": losses}))


if __name__ == "__main__":
    main()
