"""The protocol of FS-Mol: draws of supports, and how their queries are judged.

Source: Stanley et al., 2021, https://openreview.net/forum?id=701FtuyLlAd, section 4.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.metrics import average_precision_score

from jmeta.episodes import Bank
from jmeta.fewshot.drawing import Draws, Plan, judging_draws
from jmeta.metrics import calibration_error

SHOTS = (16, 32, 64, 128)


def all_draws(bank: Bank, num_draws: int) -> Iterator[Draws]:
    """The episodes that judge, the same whenever they are asked for."""
    plan = Plan(kind="classes", ways=None, shots=SHOTS, query=1, batch=1)
    for shot in SHOTS:  # One at a time, so that no support is padded.
        yield from judging_draws(plan, bank, (shot,), num_draws)


def predictor(predict: Callable[..., Any]) -> Callable[[Any, Draws], np.ndarray]:
    """Probabilities `(draws, rows)` of the class 1, from log probabilities."""
    # One draw after another: queries are large.
    run = jax.jit(
        lambda params, tasks: jax.lax.map(lambda task: predict(params, task), tasks)
    )
    return lambda params, draws: np.exp(np.asarray(run(params, draws.episodes)))[..., 1]


def remembered(
    predict: Callable[[Draws], np.ndarray],
) -> Callable[[Draws], np.ndarray]:
    """The same, asked once for each task and size of support."""
    known: dict[tuple[int | None, int], np.ndarray] = {}

    def asked(draws: Draws) -> np.ndarray:
        place = draws.task, draws.shot
        if place not in known:
            known[place] = predict(draws)
        return known[place]

    return asked


BINS = 15


def judged(draws: Draws, probs: np.ndarray) -> dict[str, Any]:
    """Of one task, means over draws: dAUPRC (`gain`), the calibration error, and for
    each bin of the predicted probability by how much fewer are active than said, as a
    share of all queries (`excess`)."""
    query = draws.episodes.query
    gains, errors, excess = [], [], []
    for p, y, mask in zip(probs, np.asarray(query.y), np.asarray(query.mask)):
        gains.append(average_precision_score(y[mask], p[mask]) - y[mask].mean())
        both = jnp.stack([1.0 - p, p], axis=1)
        errors.append(float(_calibration(both, y, mask)))
        places = np.minimum((p[mask] * BINS).astype(int), BINS - 1)
        away = np.bincount(places, weights=p[mask] - y[mask], minlength=BINS)
        excess.append(away / mask.sum())
    return {
        "gain": float(np.mean(gains)),
        "calibration_error": float(np.mean(errors)),
        "excess": np.mean(excess, axis=0).tolist(),
    }


_calibration = jax.jit(calibration_error)


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over tasks, and standard errors, by size of support.

    Args:
      rows: of one method: `shot` of each task, and what `judged` gives.

    Returns:
      Of each size, also the calibration error of all tasks taken together, each of
      which counts alike (`pooled_calibration_error`): that of single draws is mostly
      the chance of their few queries.
    """
    out = {}
    for shot in sorted({row["shot"] for row in rows}):
        gains = np.array([row["gain"] for row in rows if row["shot"] == shot])
        errors = [row["calibration_error"] for row in rows if row["shot"] == shot]
        excess = np.mean([row["excess"] for row in rows if row["shot"] == shot], axis=0)
        out[str(shot)] = {
            "dauprc": round(float(gains.mean()), 4),
            "standard_error": round(float(gains.std(ddof=1) / len(gains) ** 0.5), 4),
            "calibration_error": round(float(np.mean(errors)), 4),
            "pooled_calibration_error": round(float(np.abs(excess).sum()), 4),
            "tasks": len(gains),
        }
    return out
