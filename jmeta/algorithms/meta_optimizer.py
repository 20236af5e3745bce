"""The meta-optimizer trained through training: phi <- phi - eta grad_phi L(theta_phi).

A network turns each task's description into settings of every learner, the learner is
fitted to the support with them, and the loss on the query is differentiated through
the fit, back to the network.

The chain is cut at the settings: each task yields its loss and the gradient with
respect to its few settings, and one pull-back through the network sums them up. That
is the same gradient, keeps no fit alive longer than its task, and shows which tasks
diverged before they are mixed with the others.

Source: hyperparameter networks, Lorraine and Duvenaud, 2018,
https://arxiv.org/abs/1802.09419; bilevel view, Franceschi et al., 2018,
https://arxiv.org/abs/1806.04910.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float, Int

from jmeta.adjoints import Adjoint, checkpointed
from jmeta.algorithms.micro_batches import check_micro_batch, finite_or_zero, summed
from jmeta.algorithms.scaler import fit_scaler, standardise
from jmeta.base import Learner, MetaAlgorithm, Network
from jmeta.inner_steps import clipped
from jmeta.tasks import Task
from jmeta.types import Array, Key, Params, Settings, Weights

__all__ = ["MetaOptimizerInfo", "MetaOptimizerState", "meta_optimizer", "query_loss"]

_MARGIN = 0.02
"""Settings nearer to an end of the unit cube could hardly be moved."""


class MetaOptimizerState(NamedTuple):
    """What the next step needs; `params` holds `network` and `scaler`."""

    params: Params
    opt_state: optax.OptState


class MetaOptimizerInfo(NamedTuple):
    """Of one step. A pair is one learner on one task.

    Attributes:
      loss: mean query loss over the pairs that are finite.
      grad_norm: of the network's gradient.
      num_diverged: pairs left out because loss or gradient were not finite.
      losses: the loss by the learner's name.
      diverged: how many tasks were left out, by the learner's name.
    """

    loss: Float[Array, ""]
    grad_norm: Float[Array, ""]
    num_diverged: Int[Array, ""]
    losses: dict[str, Float[Array, ""]]
    diverged: dict[str, Int[Array, ""]]


def query_loss(learner: Learner, weights: Weights, task: Task) -> Float[Array, ""]:
    """Log loss on the query, or squared error over the variance of the support's y.

    Dividing by the variance makes tasks in different units count alike.
    """
    support, query = task.support, task.query
    prediction = learner.predict(weights, jnp.where(query.mask[:, None], query.x, 0.0))
    count = jnp.maximum(jnp.sum(query.mask), 1)
    if learner.kind == "classes":
        labels = jnp.where(query.mask, query.y, 0)
        losses = optax.softmax_cross_entropy_with_integer_labels(prediction, labels)
        return jnp.sum(jnp.where(query.mask, losses, 0.0)) / count
    total = jnp.maximum(jnp.sum(support.mask), 1)
    y = jnp.where(support.mask, support.y, 0.0)
    deviation = jnp.where(support.mask, y - jnp.sum(y) / total, 0.0)
    variance = jnp.sum(jnp.square(deviation)) / total
    error = jnp.where(query.mask, prediction - jnp.where(query.mask, query.y, 0.0), 0.0)
    return jnp.sum(jnp.square(error)) / count / jnp.where(variance > 0, variance, 1.0)


def _decoded(learner: Learner, unit: Array) -> Settings:
    return learner.space.decode(unit)


def _moved(start: Array, move: Array) -> Array:
    """The odds of both multiplied, so that it stays in the unit cube."""
    start = jnp.clip(start, _MARGIN, 1.0 - _MARGIN)
    both = start * move
    return both / (both + (1.0 - start) * (1.0 - move))


def _check(
    learners: Sequence[Learner],
    micro_batch: int | None,
    adjoint: Adjoint | Mapping[str, Adjoint] | None,
) -> None:
    kinds = {learner.kind for learner in learners}
    names = [learner.name for learner in learners]
    unknown = set(adjoint) - set(names) if isinstance(adjoint, Mapping) else set()
    if unknown:
        raise ValueError(
            f"meta_optimizer: adjoint names no learner {sorted(unknown)}; the learners "
            f"are {names}."
        )
    if len(kinds) != 1 or len(set(names)) != len(names):
        raise ValueError(
            "meta_optimizer: needs learners of one kind with different names, got "
            f"{[(learner.name, learner.kind) for learner in learners]}."
        )
    check_micro_batch("meta_optimizer", micro_batch)


def meta_optimizer(
    network: Network,
    learners: Sequence[Learner],
    optimizer: optax.GradientTransformation,
    *,
    adjoint: Adjoint | Mapping[str, Adjoint] | None = None,
    micro_batch: int | None = None,
    max_task_norm: float | Array = 1.0,
    feature_dropout: float | Array = 0.0,
    loss: Callable[[Learner, Weights, Task], Array] = query_loss,
    decode: Callable[[Learner, Any], Settings] = _decoded,
    start: Callable[[Array], Mapping[str, Array]] | None = None,
) -> MetaAlgorithm:
    """Train a network to give settings by the gradient through the training itself.

    The tasks are `jmeta.tasks.Task`. `init` fits the scaler on the tasks it is given.
    `predict(params, description)` gives unit vectors `(size,)` by the learner's name.

    Args:
      network: `apply(params, description (meta,)) -> {name: (size,)}` in the unit
        cube, such as `jmeta.networks.MetaOptimizer`.
      learners: of one kind, differentiable in their settings unless the adjoint is
        `evolution`.
      optimizer: of the network's parameters.
      adjoint: how the gradient crosses training (see `jmeta.adjoints`) in learners
        that are trained by steps; those that are solved bring their own derivative,
        which `evolution` replaces. With a mapping, by the learner's name; what it
        leaves out, and None, means `checkpointed()`.
      micro_batch: how many tasks a device fits at once, for memory; must divide its
        share of a step's tasks. None for all.
      max_task_norm: a task's gradient with respect to the settings of a learner is
        scaled down to this norm, so that no task outweighs the rest; `inf` for never.
      feature_dropout: the fraction of description features hidden in each step.
      loss: `(learner, weights, task) -> ()`.
      decode: `(learner, what the network gives) -> settings`.
      start: `(description) -> {name: (size,)}`, settings that are already known to be
        near, such as `jmeta.describe.probes.lowest`; the network then says how to move
        from there, and one half moves nothing. It may leave learners out.

    Raises:
      ValueError: if the learners differ in kind or share a name, `micro_batch` is
        below 1, or the adjoint names a learner that is not there.
    """
    _check(learners, micro_batch, adjoint)
    given = adjoint if isinstance(adjoint, Mapping) else {}
    default = adjoint if isinstance(adjoint, Adjoint) else checkpointed()
    how = {one.name: given.get(one.name, default) for one in learners}
    learners = [one.through(how[one.name]) if one.through else one for one in learners]

    def task_grads(key: Key, units: Params, task: Task) -> tuple[Any, Any, Any]:
        """Of one task, by learner: loss, clipped gradient, and whether it counts."""
        losses, grads, finite = {}, {}, {}
        last = jnp.zeros(())
        for place, learner in enumerate(learners):
            name = learner.name
            # One after another, for the reason that `describe.landmarks` gives.
            unit = jax.tree.map(
                lambda leaf, last=last: jnp.where(last < -1e30, 0.0, leaf), units[name]
            )
            fit_key = jax.random.fold_in(key, place)

            def fitted_loss(unit: Any, learner=learner, fit_key=fit_key) -> Array:
                weights = learner.fit(fit_key, decode(learner, unit), task.support)
                return loss(learner, weights, task)

            value, grad = how[name].value_and_grad(
                fitted_loss, unit, jax.random.fold_in(fit_key, 1)
            )
            last = value + sum(jnp.sum(leaf) for leaf in jax.tree.leaves(grad))
            (losses[name], kept), finite[name] = finite_or_zero((value, grad))
            grads[name] = clipped(kept, max_task_norm)
        return losses, grads, finite

    def units_of(trained: Params, inputs: Array, description: Array) -> Params:
        """What is decoded, by learner, from a description and its standardised form."""
        made = network.apply(trained, inputs)
        known = {} if start is None else start(description)
        moved = {n: _moved(unit, made[n]) for n, unit in known.items() if n in made}
        return {**made, **moved}

    def batch_sums(trained: Params, batch: tuple[Array, Array, Task]) -> Any:
        """Summed network gradient, losses and counts of some tasks."""
        keys, inputs, tasks = batch
        units, pull_back = jax.vjp(
            lambda p: jax.vmap(units_of, (None, 0, 0))(p, inputs, tasks.description),
            trained,
        )
        chosen = {learner.name: units[learner.name] for learner in learners}
        losses, grads, finite = jax.vmap(task_grads)(keys, chosen, tasks)
        # A network may hold settings of learners that are not trained here.
        (summed,) = pull_back({**jax.tree.map(jnp.zeros_like, units), **grads})
        return summed, *jax.tree.map(lambda leaf: jnp.sum(leaf, 0), (losses, finite))

    def init(key: Key, tasks: Task) -> MetaOptimizerState:
        scaler = fit_scaler(tasks.description)
        trained = network.init(key, standardise(scaler, tasks.description[0]))
        return MetaOptimizerState(
            params={"network": trained, "scaler": scaler},
            opt_state=optimizer.init(trained),
        )

    def step(
        key: Key, state: MetaOptimizerState, tasks: Task
    ) -> tuple[MetaOptimizerState, MetaOptimizerInfo]:
        params = state.params
        fit_key, hide_key = jax.random.split(key)
        inputs = standardise(params["scaler"], tasks.description)
        hidden = jax.random.uniform(hide_key, inputs.shape) < feature_dropout
        inputs = jnp.where(hidden, 0.0, inputs)
        keys = jax.random.split(fit_key, len(inputs))
        grads, losses, counts = summed(
            "meta_optimizer",
            batch_sums,
            params["network"],
            (keys, inputs, tasks),
            micro_batch,
        )
        count = jnp.sum(jnp.stack(list(counts.values())))
        grads = jax.tree.map(lambda leaf: leaf / jnp.maximum(count, 1), grads)
        updates, opt_state = optimizer.update(grads, state.opt_state, params["network"])
        trained = optax.apply_updates(params["network"], updates)
        info = MetaOptimizerInfo(
            loss=jnp.sum(jnp.stack(list(losses.values()))) / jnp.maximum(count, 1),
            grad_norm=optax.tree.norm(grads),
            num_diverged=len(inputs) * len(learners) - count,
            losses={
                name: losses[name] / jnp.maximum(counts[name], 1) for name in losses
            },
            diverged={name: len(inputs) - counts[name] for name in counts},
        )
        state = MetaOptimizerState(
            params={**params, "network": trained}, opt_state=opt_state
        )
        return state, info

    def predict(params: Params, description: Float[Array, " meta"]) -> dict[str, Any]:
        inputs = standardise(params["scaler"], description)
        return units_of(params["network"], inputs, description)

    return MetaAlgorithm(init=init, step=step, predict=predict)
