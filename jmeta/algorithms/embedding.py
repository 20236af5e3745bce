"""What algorithms share that embed the rows of a task and read the answer off them.

The gradient crosses the network once for all tasks of a micro-batch, so that no task
needs a copy of the network's gradient; tasks whose numbers are not finite are left out
of it nonetheless.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float

from jmeta.algorithms.episodic import EpisodicInfo, EpisodicState, followed
from jmeta.algorithms.micro_batches import check_micro_batch, finite_or_zero, summed
from jmeta.base import MetaAlgorithm, Network
from jmeta.gaussian import Gaussian, negative_log_likelihood
from jmeta.learners.common import clean
from jmeta.tasks import Examples, Task
from jmeta.types import Array, Key, Params

__all__ = ["Head", "Prediction", "Rows", "embedding"]

Prediction = Array | Gaussian
"""Log probabilities of classes, means of numbers, or distributions of numbers."""


class Rows(NamedTuple):
    """Rows of a task beside what the network makes of them.

    Attributes:
      z: embeddings.
      x: the rows themselves.
    """

    z: Float[Array, "*tasks n size"]
    x: Float[Array, "*tasks_n_features"]


class Head(NamedTuple):
    """What is done inside a task with rows that are embedded.

    Attributes:
      init: `(key, size of an embedding) -> params`.
      apply: `(params, support rows, support, query rows) -> log probabilities (m,
        classes)`, means `(m,)`, or a `Gaussian` for numbers with an uncertainty.
    """

    init: Callable[[Key, int], Params]
    apply: Callable[[Params, Rows, Examples, Rows], Prediction]


def _loss(outputs: Prediction, query: Examples) -> Array:
    """Mean over the query: log loss of log probabilities, squared error of means,
    negative log likelihood of Gaussians."""
    if isinstance(outputs, Gaussian):
        each = negative_log_likelihood(outputs, query.y)
    elif outputs.ndim == 2:
        truth = jnp.take_along_axis(outputs, query.y[:, None], axis=1)[:, 0]
        each = -truth
    else:
        each = jnp.square(outputs - query.y)
    return jnp.sum(jnp.where(query.mask, each, 0.0)) / jnp.maximum(query.mask.sum(), 1)


def embedding(
    who: str,
    network: Network,
    head: Head,
    optimizer: optax.GradientTransformation,
    *,
    stochastic: bool,
    micro_batch: int | None,
) -> MetaAlgorithm:
    """A meta-learning algorithm that trains a network through a head.

    The tasks are `Task`s, and `predict(params, task)` is the head's answer for the
    rows of the query.

    Args:
      who: what error messages name.
      network: `apply(params, x, counted) -> (n, size)`.
      head: of each task.
      optimizer: of network and head together.
      stochastic: whether `network.apply` takes `key=` and uses it while training, as
        networks with dropout do.
      micro_batch: how many tasks a device takes at once, for memory; must divide its
        share of a step's tasks. None for all.

    Raises:
      ValueError: if `micro_batch` is below 1.
    """
    check_micro_batch(who, micro_batch)

    def init(key: Key, tasks: Task) -> EpisodicState:
        x = tasks.support.x[0]
        counted = jnp.ones(len(x), bool)
        weights = network.init(key, x, counted)
        size = jax.eval_shape(network.apply, weights, x, counted).shape[-1]
        # Not a split: a network starts alike, whatever head is put on it.
        head_params = head.init(jax.random.fold_in(key, 1), size)
        params = {"network": weights, "head": head_params}
        return EpisodicState(params=params, opt_state=optimizer.init(params))

    def embed(weights: Params, task: Task, key: Key | None) -> Array:
        x = jnp.concatenate([task.support.x, task.query.x])
        # Layers that normalise take their statistics from the support alone.
        counted = jnp.concatenate([task.support.mask, jnp.zeros_like(task.query.mask)])
        extra = {} if key is None else {"key": key}
        return network.apply(weights, x, counted, **extra)

    def answer(head_params: Params, z: Array, task: Task) -> Prediction:
        count = len(task.support.mask)
        support = Rows(z=z[:count], x=task.support.x)
        query = Rows(z=z[count:], x=task.query.x)
        return head.apply(head_params, support, task.support, query)

    def cleaned(task: Task) -> Task:
        return task._replace(support=clean(task.support), query=clean(task.query))

    def task_grads(
        head_params: Params, z: Array, task: Task
    ) -> tuple[Array, Params, Array]:
        def loss(head_params: Params, z: Array) -> Array:
            return _loss(answer(head_params, z, task), task.query)

        found, good = finite_or_zero(jax.value_and_grad(loss, (0, 1))(head_params, z))
        return *found, good.astype(int)

    def step(
        key: Key, state: EpisodicState, tasks: Task
    ) -> tuple[EpisodicState, EpisodicInfo]:
        def batch_sums(params: Params, batch: Any) -> Any:
            keys, some = batch
            some = jax.vmap(cleaned)(some)

            def embedded(weights: Params) -> Array:
                if not stochastic:
                    return jax.vmap(embed, (None, 0, None))(weights, some, None)
                return jax.vmap(embed, (None, 0, 0))(weights, some, keys)

            z, pull = jax.vjp(embedded, params["network"])
            found = jax.vmap(task_grads, (None, 0, 0))(params["head"], z, some)
            losses, (head_grads, z_grads), good = found
            grads = {
                "network": pull(z_grads)[0],
                "head": jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), head_grads),
            }
            return jnp.sum(losses), grads, jnp.sum(good)

        num_tasks = len(tasks.support.x)
        batch = jax.random.split(key, num_tasks), tasks
        sums = summed(who, batch_sums, state.params, batch, micro_batch)
        return followed(optimizer, state, sums, num_tasks)

    def predict(params: Params, task: Task) -> Prediction:
        task = cleaned(task)
        z = embed(params["network"], task, None)
        return answer(params["head"], z, task)

    return MetaAlgorithm(init=init, step=step, predict=predict)
