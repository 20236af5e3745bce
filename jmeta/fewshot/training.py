"""Meta-training of a few-shot model: the loop, the choice of a checkpoint, the file."""

import functools
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jmeta.base import MetaAlgorithm
from jmeta.checkpoint import Checkpoints
from jmeta.data.collection import Collection, compact
from jmeta.episodes import Bank, make_bank, unit_targets
from jmeta.errors import InputError
from jmeta.fewshot import calibration as calibrating
from jmeta.fewshot.calibration import INTERVAL, LEVELS, Calibration
from jmeta.fewshot.drawing import (
    Plan,
    held_out_episodes,
    places_of,
    sampler,
)
from jmeta.fewshot.model import FILE, FewShotModel, raw, save
from jmeta.fewshot.recipes import Recipe, algorithm_of
from jmeta.fewshot.splits import origins
from jmeta.logs import MetricsLog
from jmeta.parallel import alone, first, local
from jmeta.tasks import Task
from jmeta.train import train
from jmeta.types import Array, Params

__all__ = ["Banks", "Held", "bring", "calibrate", "held_loss", "train_fewshot"]

METRIC = "held_out_loss"
"""Of the tasks that choose the checkpoint; lower is better."""

_EACH = 200
"""Episodes of each size that calibrate, at most."""

_CHOOSING = 32
"""Episodes of each size that choose the checkpoint, at most."""

_FEW = 8
"""Tasks that a size of support must be left with to be calibrated at."""


class Held(NamedTuple):
    """Predictions of episodes that were not trained on.

    Attributes:
      out: log probabilities `(episodes, n, classes)`, or means `(episodes, n)`.
      log_std: of numbers.
      y, mask: true targets, and which of them count.
      rows: of each episode's support.
    """

    out: Array
    log_std: Array
    y: Array
    mask: Array
    rows: Array


@functools.cache
def _predict_held(
    algorithm: MetaAlgorithm, kind: str
) -> Callable[[Params, Callable[..., Any]], Held]:
    """`(params, what held_out_episodes gives) -> predictions`, compiled."""

    def run(params: Params, over: Callable[..., Any]) -> Held:
        def one(task: Task) -> Held:
            rows = jnp.sum(task.support.mask)
            task = unit_targets(task)[0] if kind == "number" else task
            out, log_std = raw(algorithm, kind, params, task)
            return Held(out, log_std, task.query.y, task.query.mask, rows)

        return over(one)

    return jax.jit(run)


def _fitted(held: Held) -> tuple[Array, Array]:
    """The power that fits best, and the log loss that is then left."""
    if held.out.ndim == 3:
        return calibrating.fit_temperature(held.out, held.y, held.mask, held.rows)
    errors = (held.y - held.out) * jnp.exp(-held.log_std)
    return calibrating.fit_factor(errors, held.log_std, held.mask, held.rows)


def held_loss(held: Held) -> Array:
    """Log loss once predictions are calibrated, in nats, means over episodes.

    A network that is right but too sure of it must not be rejected for that.
    """
    return _fitted(held)[1]


def calibrate(held: Held) -> Calibration:
    """Learn how sure predictions are, for every size of support among the episodes."""
    power, _ = _fitted(held)
    sizes = np.unique(np.asarray(held.rows))
    first = Calibration(
        power=power,
        rows=jnp.asarray(sizes, jnp.int32),
        confidence=jnp.zeros((len(sizes), LEVELS)),
        reach=jnp.zeros(len(sizes)),
    )
    factors = jax.vmap(functools.partial(calibrating.factor, first))(held.rows)
    if held.out.ndim == 3:
        cooled = held.out / factors[:, None, None]
        confidence = jnp.max(jax.nn.softmax(cooled, axis=-1), axis=-1)
        errors = jnp.zeros_like(confidence)
    else:
        std = jnp.exp(held.log_std) * jnp.sqrt(factors)[:, None]
        confidence, errors = -std, jnp.abs(held.y - held.out) / std
    levels = np.linspace(0.0, 1.0, LEVELS)

    def quantiles(values: Array, levels: np.ndarray) -> Array:
        host, mask, rows = map(np.asarray, (values, held.mask, held.rows))
        each = [
            calibrating.quantiles(host[rows == size], mask[rows == size], levels)
            for size in sizes
        ]
        return jnp.asarray(np.stack(each), jnp.float32)

    return first._replace(
        confidence=quantiles(confidence, levels),
        reach=quantiles(errors, np.array([INTERVAL]))[:, 0],
    )


def calibration_shots(plan: Plan, bank: Bank) -> tuple[int, ...]:
    """The sizes of training and twice the largest, as far as held-out tasks are enough;
    those of training if they are for none.

    Raises:
      InputError: if no task is large enough for any.
    """
    wanted = sorted({*plan.shots, max(plan.shots) * 2})
    counts = {shot: len(places_of(plan, bank, shot)) for shot in wanted}
    found = [shot for shot in wanted if counts[shot] >= _FEW]
    found = found or [shot for shot in plan.shots if counts[shot]]
    if not found:
        raise InputError(
            f"none of the {len(bank.size)} tasks held out is large enough for "
            f"--shots {min(plan.shots)}; raise --holdout, or name larger tasks by "
            "--valid."
        )
    return tuple(found)


class Banks(NamedTuple):
    """The tasks of a run on the device, in their roles.

    Attributes:
      sample: draws a step's tasks of training.
      calibrating, choosing: episodes that teach how sure predictions are, and that
        choose the checkpoint.
      origins: families or classes that are trained on.
      held: how many tasks are held out.
    """

    sample: Callable[..., Task]
    calibrating: Callable[..., Any]
    choosing: Callable[..., Any]
    origins: tuple[str, ...]
    held: int


def bring(
    plan: Plan, training: Collection, held: Collection, choosing: Collection | None
) -> Banks:
    """Bring the tasks of a run to the device.

    Args:
      plan: of the run.
      training: tasks.
      held: tasks of other families, to calibrate with.
      choosing: tasks that choose the checkpoint; None for those that are held out.

    Raises:
      InputError: if they are too small.
    """
    sample = sampler(plan, make_bank(compact(training)))
    bank = make_bank(compact(held))
    other = bank if choosing is None else make_bank(compact(choosing))
    return Banks(
        sample=sample,
        calibrating=held_out_episodes(
            plan, bank, calibration_shots(plan, bank), most=_EACH
        ),
        choosing=held_out_episodes(
            plan, other, calibration_shots(plan, other), most=_CHOOSING, seed=1
        ),
        origins=tuple(sorted(set(origins(training, plan.ways)))),
        held=len(held.tasks),
    )


def train_fewshot(
    out: pathlib.Path,
    recipe: Recipe,
    plan: Plan,
    banks: Banks,
    *,
    reader: dict[str, Any],
    seed: int,
    checkpoint_every: int,
    header: dict[str, Any],
    report: Callable[..., None] | None = None,
) -> FewShotModel:
    """Train, choose the best checkpoint, calibrate, and write the model.

    Args:
      out: the run's folder; what it holds of a stopped run is not done again.
      recipe, plan: what is trained, and on what episodes.
      banks: of `bring`.
      reader: see `jmeta.fewshot.sources.Source`.
      seed: decides everything.
      checkpoint_every: steps between checkpoints, at least.
      header: kept in the model's file.
      report: told `(stage, done, total, numbers)`.
    """
    algorithm = algorithm_of(recipe)
    predict = _predict_held(algorithm, recipe.kind)
    checkpoints = Checkpoints(out / "checkpoints", metric=METRIC)
    state = train(
        algorithm,
        banks.sample,
        jax.random.key(seed),
        num_steps=recipe.steps,
        steps_per_call=min(50, checkpoint_every),
        checkpoints=checkpoints,
        checkpoint_every=checkpoint_every,
        evaluate=lambda state: {
            METRIC: held_loss(predict(state.params, banks.choosing))
        },
        log=MetricsLog(out / "metrics.jsonl"),
        progress=None
        if report is None
        else lambda told: report("training", int(told["step"]), recipe.steps, told),
    )
    best = checkpoints.best
    if best is not None and best != checkpoints.latest:
        found = checkpoints.restore(state, step=best)
        state = state if found is None else found[1]
    checkpoints.close()
    params = local(state.params)
    with alone():
        calibration = calibrate(predict(params, banks.calibrating))
    model = FewShotModel(
        recipe=recipe,
        plan=plan,
        reader=reader,
        params=params,
        calibration=calibration,
        header=header
        | {
            "origins": list(banks.origins),
            "step": recipe.steps if best is None else best,
            "calibrated_on": banks.held,
        },
    )
    if first():
        save(out / FILE, model)
    return model
