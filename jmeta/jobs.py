"""Meta-training as commands run it: bars, a header that tells how, and the files."""

import datetime
import os
import pathlib
import platform
import time
from typing import Any

import flax
import jax

from jmeta import __version__, metamodel, screen
from jmeta.metatrain import meta_train
from jmeta.report import learning_curve

__all__ = ["meta_train_run", "versions"]


def meta_train_run(
    out: pathlib.Path,
    plans: dict[str, Any],
    candidates: dict[str, Any] | None,
    seed: int,
    config: dict[str, Any],
) -> dict[str, Any]:
    """Train a meta-model for each kind, and write what `jmeta train` writes.

    Args:
      out: the run's folder; what it holds of a stopped run is not done again.
      plans: by kind of target.
      candidates: by kind; None for the default ones.
      seed: decides everything.
      config: of the run, told in the model's header.

    Returns:
      The meta-models by kind.
    """
    begin = time.perf_counter()
    models = {}
    with screen.Bars() as bars:
        for kind, plan in plans.items():
            models[kind] = meta_train(
                out,
                kind,
                plan,
                seed=seed,
                candidates=None if candidates is None else candidates[kind],
                report=bars,
                header={
                    "name": f"jmeta {config['command']}",
                    "version": __version__,
                    "config": config,
                    **versions(),
                },
            )
    for model in models.values():
        model.header["seconds"] = round(time.perf_counter() - begin, 1)
    metamodel.save(out / "model.safetensors", models)
    learning_curve(out / "metrics.jsonl", out / "learning_curve.png")
    return models


def versions() -> dict[str, str]:
    """What a run ran on, for its records."""
    return {
        "jmeta": __version__,
        "jax": jax.__version__,
        "flax": flax.__version__,
        "python": platform.python_version(),
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "cores": str(os.cpu_count()),
        "date": datetime.date.today().isoformat(),
    }
