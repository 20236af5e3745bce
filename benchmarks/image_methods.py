"""Methods that learn across tasks, and plain training inside one, on pictures."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jmeta.algorithms import EpisodicInfo, EpisodicState, maml, prototypical, ridge_head
from jmeta.augment import jittered
from jmeta.base import MetaAlgorithm, Network
from jmeta.episodes import Bank
from jmeta.learners.common import clean
from jmeta.learners.inner import classifier, query_outputs, support_loss
from jmeta.networks import ConvNet, from_linen
from jmeta.tasks import Examples, Task
from jmeta.types import Array, Key, Params
from jmeta.ways import draw_way_batch

__all__ = ["LEARNED", "Plan", "fine_tuned", "learned", "pretraining", "sampler"]

LEARNED = ("prototypical", "ridge", "maml")
EMBEDDING = 64


class Plan(NamedTuple):
    """How one experiment trains.

    Attributes:
      channels: of the four blocks of the network.
      ways: of a training episode.
      shots: of which one is drawn.
      queries: of each class, in training.
      num_tasks: in a step.
      num_steps: of each method by name.
      lr: of Adam, falling to 0 by a cosine.
      inner_lr, inner_steps: of MAML.
      jitter: of `jittered`, on every picture of training.
    """

    channels: int
    ways: int
    shots: tuple[int, ...]
    queries: int
    num_tasks: int
    num_steps: dict[str, int]
    lr: float
    inner_lr: float
    inner_steps: int
    jitter: dict[str, Any]


def _network(plan: Plan, out: int) -> Network:
    # Strides instead of pooling, as in Finn et al., 2017: four times fewer products.
    return from_linen(ConvNet(out=out, channels=plan.channels, strides=2, pool=False))


def _optimizer(plan: Plan, name: str) -> optax.GradientTransformation:
    schedule = optax.cosine_decay_schedule(plan.lr, plan.num_steps[name])
    return optax.chain(optax.clip_by_global_norm(10.0), optax.adam(schedule))


def learned(name: str, plan: Plan) -> MetaAlgorithm:
    """A method by name; its tasks are episodes."""
    if name == "maml":
        learner = classifier(_network(plan, plan.ways), plan.ways)
        return maml(
            learner,
            _optimizer(plan, name),
            inner_lr=plan.inner_lr,
            inner_steps=plan.inner_steps,
            micro_batch=1,
        )
    make: dict[str, Callable[..., MetaAlgorithm]] = {
        "prototypical": prototypical,
        "ridge": functools.partial(ridge_head, penalty=10.0),
    }
    network = _network(plan, EMBEDDING)
    return make[name](network, _optimizer(plan, name), num_classes=plan.ways)


def _jittered(key: Key, x: Array, plan: Plan) -> Array:
    flat = jittered(key, x.reshape(-1, *x.shape[-3:]), **plan.jitter)
    return flat.reshape(x.shape)


def sampler(plan: Plan) -> Callable[[Bank, Key], Task]:
    """Episodes of a step, of classes that may be turned and pictures jittered."""

    def sample(bank: Bank, key: Key) -> Task:
        draw_key, support_key, query_key = jax.random.split(key, 3)
        tasks = draw_way_batch(
            draw_key,
            bank,
            plan.num_tasks,
            jnp.array([plan.ways]),
            jnp.array(plan.shots),
            most_ways=plan.ways,
            most_shots=max(plan.shots),
            queries=plan.queries,
            turn=True,
        )
        support, query = tasks.support, tasks.query
        return tasks._replace(
            support=support._replace(x=_jittered(support_key, support.x, plan)),
            query=query._replace(x=_jittered(query_key, query.x, plan)),
        )

    return sample


def pretraining(
    plan: Plan, bank: Bank, batch: int = 64
) -> tuple[MetaAlgorithm, Callable[[Bank, Key], Examples]]:
    """A network that tells all training classes apart, each turned four ways, and what
    draws its batches."""
    num_classes = 4 * len(bank.class_size)
    learner = classifier(_network(plan, num_classes), num_classes)
    optimizer = _optimizer(plan, "pretrained")

    def sample(bank: Bank, key: Key) -> Examples:
        entry_key, turn_key, jitter_key = jax.random.split(key, 3)
        entry = jax.random.randint(entry_key, (batch,), 0, len(bank.rows))
        # Classes lie one after another.
        of_class = jnp.searchsorted(bank.class_first, entry, side="right") - 1
        quarter = jax.random.randint(turn_key, (batch,), 0, 4)
        x = bank.x[bank.rows[entry]].astype(jnp.float32) * bank.unit
        x = jax.vmap(
            lambda x, q: jax.lax.switch(
                q, [functools.partial(jnp.rot90, k=k) for k in range(4)], x
            )
        )(x, quarter)
        return Examples(
            x=_jittered(jitter_key, x, plan),
            y=4 * of_class + quarter,
            mask=jnp.ones(batch, bool),
        )

    def init(key: Key, rows: Examples) -> EpisodicState:
        params = learner.init(key, rows.x)
        return EpisodicState(params=params, opt_state=optimizer.init(params))

    def step(key: Key, state: EpisodicState, rows: Examples) -> Any:
        del key

        def loss_of(params: Params) -> Array:
            return learner.loss(learner.apply(params, rows.x, rows.mask), *rows[1:])

        loss, grads = jax.value_and_grad(loss_of)(state.params)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        info = EpisodicInfo(
            loss=loss, grad_norm=optax.tree.norm(grads), num_diverged=jnp.array(0)
        )
        return EpisodicState(params=params, opt_state=opt_state), info

    def predict(params: Params, rows: Examples) -> Array:
        return learner.apply(params, rows.x, rows.mask)

    return MetaAlgorithm(init=init, step=step, predict=predict), sample


def fine_tuned(
    plan: Plan, x: Array, weights: Params | None, *, num_steps: int = 20
) -> tuple[Params, Callable[[Params, Task], Array]]:
    """Where training on a support starts, and what does it and predicts.

    Args:
      plan: of the network.
      x: some pictures.
      weights: of pretraining, whose head is replaced; None for a fresh network.
      num_steps: of Adam on all weights.
    """
    learner = classifier(_network(plan, plan.ways), plan.ways)
    fresh = learner.init(jax.random.key(0), x)
    start = fresh if weights is None else {**weights, "head": fresh["head"]}
    optimizer = optax.adam(1e-3)

    def predict(params: Params, task: Task) -> Array:
        support = clean(task.support)

        def body(carry: Any, _: None) -> Any:
            params, opt_state = carry
            grads = jax.grad(functools.partial(support_loss, learner))(params, support)
            updates, opt_state = optimizer.update(grads, opt_state, params)
            return (optax.apply_updates(params, updates), opt_state), None

        carry = (params, optimizer.init(params))
        (params, _), _ = jax.lax.scan(body, carry, length=num_steps)
        return query_outputs(learner, params, task)

    return start, predict
