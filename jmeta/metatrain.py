"""Meta-training from beginning to end: from the task prior to a meta-model.

Four stages, each of which a stopped run resumes: measure candidates on tasks from the
prior; learn the meta-optimizers from good settings and through training; measure
again, with the settings that they propose; learn the meta-classifiers.
"""

import dataclasses
import functools
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jmeta import algorithms, checkpoint, learners, logs, metadata, train
from jmeta.candidates import default_candidates
from jmeta.metadata import MetaDataset
from jmeta.metamodel import (
    MetaModel,
    classifier_algorithm,
    optimizer_network,
    signs,
    single_best,
)
from jmeta.plans import Plan, Share
from jmeta.score import Candidate, group
from jmeta.tasks import Task, task_of
from jmeta.types import Key

__all__ = ["THROUGH", "meta_train"]

_tasks_of = jax.jit(jax.vmap(task_of))

THROUGH = {
    learners.CLASSES: ("logistic", "gaussian_process", "mlp"),
    learners.NUMBER: ("ridge", "gaussian_process_regressor", "mlp_regressor"),
}
"""The learners whose settings are learnt through their training."""

HELD_OUT = 0.2
"""The share of the tasks with proposals that measures the meta-model's errors."""


Report = Callable[[str, int, int, dict[str, float]], None]
"""`(stage, done, total, numbers)`, called as work goes on."""


@dataclasses.dataclass(frozen=True)
class _Run:
    """Where one kind's meta-training writes, and whom it tells."""

    folder: pathlib.Path
    kind: str
    plan: Plan
    candidates: tuple[Candidate, ...]
    report: Report

    def log(self, stage: str) -> logs.MetricsLog:
        path = self.folder / "metrics.jsonl"
        return logs.MetricsLog(path, kind=self.kind, stage=stage)

    def tell(self, stage: str, done: int, total: int, numbers: dict[str, Any]) -> None:
        self.report(f"{self.kind}: {stage}", done, total, numbers)

    def checkpoints(self, stage: str) -> checkpoint.Checkpoints:
        return checkpoint.Checkpoints(
            self.folder / "checkpoints" / f"{self.kind}-{stage}", metric="loss"
        )


def _collect(
    run: _Run, key: Key, stage: str, share: float, propose: Any
) -> MetaDataset:
    """The tasks of one stage, those that are on disk already read from there."""
    jobs = [
        (number, part, size)
        for number, part in enumerate(run.plan.shares)
        for size in range(max(1, round(part.num_tasks * share / part.chunk)))
    ]
    total = sum(part.chunk for _, part, _ in jobs)
    about = metadata.signature(run.kind, run.candidates)
    parts, done = [], 0
    stage_name = f"measure {stage}"
    log = run.log(stage_name)
    for number, part, index in jobs:
        begin = time.perf_counter()
        path = run.folder / "meta" / f"{run.kind}-{stage}-{number}-{index:05d}.npz"
        numbers: dict[str, float] = {}
        if path.exists():
            data = metadata.read_chunk(path, about)
        else:
            chunk_key = jax.random.fold_in(jax.random.fold_in(key, number), index)
            data = metadata.collect(
                chunk_key,
                run.candidates,
                part.bucket,
                kind=run.kind,
                num_tasks=part.chunk,
                propose=propose,
            )
            metadata.write_chunk(path, data, about)
            rate = part.chunk / (time.perf_counter() - begin)
            numbers = {"tasks_per_s": rate}
            log.truncate(done)
            log({"step": done + part.chunk, **numbers})
        parts.append(data)
        done += part.chunk
        run.tell(stage_name, done, total, numbers)
    return metadata.concatenate(parts)


def _costs(run: _Run, data: MetaDataset) -> np.ndarray:
    """Costs of all scores, the few enormous ones clipped."""
    return np.clip(data.scores * signs(run.kind), -1.0, 4.0).astype(np.float32)


def _batch(tasks: Any, num_tasks: int, batch: int, key: Key) -> Any:
    """Some tasks, drawn with replacement."""
    rows = jax.random.randint(key, (batch,), 0, num_tasks)
    return jax.tree.map(lambda leaf: leaf[rows], tasks)


def _trained(
    run: _Run,
    stage: str,
    algorithm: Any,
    tasks: Any,
    key: Key,
    num_steps: int,
    batch: int,
    **options: Any,
) -> Any:
    """The final state of one algorithm on tasks that are held in memory."""
    tasks = jax.tree.map(jnp.asarray, tasks)
    num_tasks = len(jax.tree.leaves(tasks)[0])
    sample = functools.partial(_batch, tasks, num_tasks, min(batch, num_tasks))
    checkpoints = run.checkpoints(stage)

    stage_name = f"learn {stage}"

    def listen(numbers: dict[str, Any]) -> None:
        run.tell(stage_name, int(numbers["step"]), num_steps, numbers)

    try:
        return train.train(
            algorithm,
            sample,
            key,
            num_steps=num_steps,
            steps_per_call=min(50, num_steps),
            checkpoints=checkpoints,
            checkpoint_every=max(250, num_steps // 4),
            init_tasks=tasks,
            log=run.log(stage_name),
            progress=listen,
            **options,
        )
    finally:
        checkpoints.close()


def _settings_tasks(run: _Run, data: MetaDataset) -> Any:
    """The measured tasks as `MetaSettings`: what was tried, and what it cost."""
    costs = jnp.asarray(_costs(run, data)[:, :, 0])
    settings, by_name, mask = {}, {}, {}
    for name, places in group(run.candidates).items():
        fixed = [p for p in places if run.candidates[p].unit is not None]
        units = np.array([run.candidates[p].unit for p in fixed], np.float32)
        settings[name] = jnp.broadcast_to(units, (len(costs), *units.shape))
        by_name[name] = costs[:, jnp.asarray(fixed)]
        mask[name] = jnp.isfinite(by_name[name])
    return algorithms.MetaSettings(
        description=jnp.asarray(data.descriptions),
        settings=settings,
        costs=by_name,
        mask=mask,
    )


def _through_tasks(key: Key, num_tasks: int, share: Share, kind: str) -> Task:
    """Tasks from the prior with their descriptions, as learners train on them.

    Drawn in chunks of the same size as those that are measured, which is the same
    compiled program.
    """
    parts = []
    for chunk in range(max(1, num_tasks // share.chunk)):
        tables, folds, descriptions = metadata.draw_described(
            jax.random.fold_in(key, chunk), share.chunk, share.bucket, kind
        )
        support, query = folds.support[:, 0], folds.query[:, 0]
        parts.append(_tasks_of(tables, support, query, descriptions))
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)


def _learn_optimizers(run: _Run, key: Key, data: MetaDataset) -> dict[str, Any]:
    """Parameters of both meta-optimizers, by name."""
    settings_key, draw_key, through_key = jax.random.split(key, 3)
    names = tuple(group(run.candidates))
    tasks = _settings_tasks(run, data)
    plan = run.plan
    schedule = optax.cosine_decay_schedule(2e-3, plan.optimizer_steps)
    supervised = _trained(
        run,
        "settings",
        algorithms.meta_regression(
            optimizer_network(names),
            optax.adamw(schedule, weight_decay=1e-3),
            temperature=0.03,
            feature_dropout=0.05,
        ),
        tasks,
        settings_key,
        plan.optimizer_steps,
        plan.batch,
    )
    out = {"settings": supervised.params}
    through = THROUGH[run.kind]
    through = tuple(name for name in through if name in names)
    if plan.through_steps and through:
        share = plan.shares[0]
        batch = min(plan.batch, 32)
        algorithm = algorithms.meta_optimizer(
            optimizer_network(through),
            [learners.get(name, share.bucket.num_classes) for name in through],
            optax.adam(optax.cosine_decay_schedule(3e-3, plan.through_steps)),
            micro_batch=min(8, batch),
            feature_dropout=0.05,
        )
        state = _trained(
            run,
            "through training",
            algorithm,
            _through_tasks(draw_key, min(len(data.rows), 512), share, run.kind),
            through_key,
            plan.through_steps,
            batch,
        )
        out["through"] = state.params
    return out


def _learn_classifier(
    run: _Run, key: Key, data: MetaDataset, valid: np.ndarray
) -> dict[str, Any]:
    """The ensemble, its errors on the tasks of `valid`, and how sure it must be."""
    costs = _costs(run, data)
    examples = algorithms.MetaExamples(
        description=jnp.asarray(data.descriptions),
        costs=jnp.asarray(costs),
        mask=jnp.isfinite(costs),
    )
    rest = jax.tree.map(lambda leaf: leaf[~valid], examples)
    plan = run.plan
    algorithm = classifier_algorithm(
        plan.shape, *costs.shape[1:], plan.learning_rate, plan.num_steps
    )
    predict = jax.jit(
        lambda params, descriptions: jax.vmap(
            lambda d: algorithm.predict(params, d).mean(0)
        )(descriptions)
    )
    held_out = jnp.asarray(data.descriptions[valid])

    def evaluate(state: Any) -> dict[str, float]:
        predicted = np.asarray(predict(state.params, held_out))
        chosen = np.argmin(predicted[:, :, 0], axis=1)
        some = np.arange(len(chosen))
        best = np.nanmin(costs[valid][:, :, 0], axis=1)
        return {
            "held_out_regret": float(
                np.mean(costs[valid][some, chosen, 0] - best, dtype=float)
            )
        }

    state = _trained(
        run,
        "candidates",
        algorithm,
        rest,
        key,
        plan.num_steps,
        plan.batch,
        evaluate=evaluate,
    )
    predicted = np.asarray(predict(state.params, held_out))
    typical = np.nanmean(costs[~valid], axis=0)
    return {
        "classifier": state.params,
        "residuals": (costs[valid] - predicted).astype(np.float32),
        "typical": typical,
        "sure": _sureness(predicted, costs[valid], typical, run.candidates),
    }


def _sureness(
    predicted: np.ndarray,
    costs: np.ndarray,
    typical: np.ndarray,
    candidates: Sequence[Candidate],
) -> np.ndarray:
    """The probability of a gain below which the single best does better, per score.

    Chosen on held-out tasks: the smallest mean cost of "take the predicted best if
    its gain is at least this probable, else the single best".
    """
    thresholds = np.array([0.0, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.9, 1.1])
    chosen = []
    for score in range(costs.shape[2]):
        reference = single_best(typical, candidates, score)
        best = np.argmin(predicted[:, :, score], axis=1)
        some = np.arange(len(best))
        error = costs[:, :, score] - predicted[:, :, score]
        gap = predicted[:, reference, score] - predicted[some, best, score]
        # By candidate, how far the errors of all held-out tasks move the gap.
        moves = error[:, [reference]] - error
        probability = np.array([np.mean(gap[t] + moves[:, best[t]] > 0) for t in some])
        taken = costs[some, best, score]
        kept = costs[:, reference, score]
        means = [
            np.mean(np.where(probability >= threshold, taken, kept))
            for threshold in thresholds
        ]
        chosen.append(thresholds[int(np.argmin(means))])
    return np.array(chosen, np.float32)


def meta_train(
    folder: pathlib.Path,
    kind: str,
    plan: Plan,
    *,
    seed: int = 0,
    candidates: Sequence[Candidate] | None = None,
    report: Report = lambda *_: None,
    header: dict[str, Any] | None = None,
) -> MetaModel:
    """Learn a meta-model for one kind of target from the task prior.

    What is on disk in `folder` is not computed again, so that calling it again with
    the same arguments resumes a stopped run, to the same result.

    Args:
      folder: of the run.
      kind: `"classes"` or `"number"`.
      plan: how much of what.
      seed: decides everything.
      candidates: what can be recommended; None for `default_candidates`.
      report: told of progress.
      header: provenance to keep in the meta-model.
    """
    candidates = default_candidates(kind) if candidates is None else tuple(candidates)
    run = _Run(
        folder=folder,
        kind=kind,
        plan=plan,
        candidates=candidates,
        report=report,
    )
    keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), len(kind)), 4)
    first = _collect(run, keys[0], "fixed settings", 1.0 - plan.proposed, None)
    optimizers = _learn_optimizers(run, keys[1], first)
    names = {
        "settings": tuple(group(candidates)),
        "through": tuple(n for n in THROUGH[kind] if n in group(candidates)),
    }
    draft = MetaModel(
        kind=kind,
        candidates=candidates,
        shape=plan.shape,
        params={"optimizers": optimizers},
        learner_names={name: names[name] for name in optimizers},
        header={},
    )
    second = _collect(run, keys[2], "proposed settings", plan.proposed, draft.propose)
    data = metadata.concatenate([first, second])
    valid = np.zeros(len(data.rows), bool)
    # Spread over the sizes of tasks, which lie one after another.
    step = round(1 / HELD_OUT)
    valid[len(first.rows) :: step] = True
    learnt = _learn_classifier(run, keys[3], data, valid)
    return dataclasses.replace(
        draft,
        params={"optimizers": optimizers} | learnt,
        header={
            "num_tasks": len(data.rows),
            "trained_on": f"{len(data.rows)} tasks of the built-in prior, seed {seed}",
            **(header or {}),
        },
    )
