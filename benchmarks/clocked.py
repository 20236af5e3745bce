"""Meta-training that counts its seconds over all runs that it took."""

import json
import pathlib
import sys
import time
from typing import Any

from jmeta.base import MetaAlgorithm
from jmeta.checkpoint import Checkpoints
from jmeta.train import train


def told(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr, flush=True)


def trained_in(
    folder: pathlib.Path,
    label: str,
    algorithm: MetaAlgorithm,
    sample: Any,
    key: Any,
    **options: Any,
) -> tuple[Any, float]:
    """The state after training, which goes on where it was stopped, and its seconds.

    Args:
      folder: of checkpoints and clock.
      label: in the lines that tell of progress.
      algorithm, sample, key, options: of `jmeta.train.train`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    clock = folder / "seconds.json"
    spent = json.loads(clock.read_text()) if clock.exists() else 0.0
    begin = time.perf_counter()

    def progress(metrics: dict[str, float]) -> None:
        seconds = spent + time.perf_counter() - begin
        if "loss" in metrics:
            clock.write_text(json.dumps(seconds))
            told(
                f"{label}: step {metrics['step']:.0f}, loss {metrics['loss']:.4f}, "
                f"{metrics['tasks_per_s']:.0f} tasks/s, {seconds:.0f} s"
            )

    checkpoints = Checkpoints(folder / "checkpoints")
    state = train(
        algorithm, sample, key, checkpoints=checkpoints, progress=progress, **options
    )
    return state, round(json.loads(clock.read_text()), 1)
