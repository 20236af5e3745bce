"""Conditional neural processes: nothing is fitted in a task, its support is read.

Source: Garnelo et al., 2018, https://arxiv.org/abs/1807.01613; classes, section 4.3.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jmeta.algorithms.embedding import Head, Prediction, Rows, embedding
from jmeta.base import MetaAlgorithm, Network
from jmeta.gaussian import Gaussian
from jmeta.learners.common import class_logits, one_hot, present
from jmeta.tasks import Examples
from jmeta.types import Array, Key, Params

__all__ = ["neural_process"]


def _size_of(network: Network, params: Params, *inputs: Any) -> int:
    return jax.eval_shape(network.apply, params, *inputs).shape[-1]


def neural_process(
    network: Network,
    encoder: Network,
    decoder: Network,
    optimizer: optax.GradientTransformation,
    *,
    num_classes: int | None = 2,
    min_deviation: float = 0.1,
    stochastic: bool = False,
    micro_batch: int | None = None,
) -> MetaAlgorithm:
    """Learn to read a support, and to answer from what was read.

    One vector is read off the embeddings of each class, or off embeddings and targets
    together where targets are numbers. The decoder sees it, or those of all classes one
    behind another, beside the embedding of a row of the query. Numbers are predicted as
    a `jmeta.gaussian.Gaussian`, whose likelihood is what is trained; they should be of
    unit size about, as nothing scales them. Classes that the support lacks are not
    predicted.

    Args:
      network: the embedding.
      encoder: `apply(params, rows (n, size), mask) -> (read,)`, whatever the order of
        the rows, such as `jmeta.networks.SetEncoder`.
      decoder: `apply(params, rows (m, size)) -> (m, num_classes)`, or `(m, 2)` for
        numbers, such as `jmeta.networks.MLP`.
      optimizer: of all three.
      num_classes: the most that a task has; None where targets are numbers.
      min_deviation: of numbers, below which a standard deviation never falls, in the
        unit of the targets; .1 as published. It keeps the likelihood bounded.
      stochastic, micro_batch: see `jmeta.algorithms.embedding`; of the network alone.

    Raises:
      ValueError: if `min_deviation` is not above 0, or `num_classes` or `micro_batch`
        is too small; at the start of training, if the decoder gives another number of
        outputs.
    """
    if not min_deviation > 0 or (num_classes is not None and num_classes < 2):
        raise ValueError(
            "neural_process: needs a min_deviation above 0 and at least 2 classes, or "
            f"None for numbers, got {min_deviation} and {num_classes}."
        )

    def init(key: Key, size: int) -> Params:
        keys = jax.random.split(key)
        rows = jnp.zeros((1, size if num_classes else size + 1))
        mask = jnp.ones(1, bool)
        read = encoder.init(keys[0], rows, mask)
        length = _size_of(encoder, read, rows, mask)
        asked = jnp.zeros((1, size + length * (num_classes or 1)))
        answer = decoder.init(keys[1], asked)
        outputs = _size_of(decoder, answer, asked)
        if outputs != (num_classes or 2):
            raise ValueError(
                f"neural_process: the decoder gives {outputs} outputs, where "
                f"{num_classes or 2} are needed: one a class, or the mean and the "
                "deviation of a number."
            )
        return {"encoder": read, "decoder": answer}

    def apply(
        params: Params, support: Rows, labels: Examples, query: Rows
    ) -> Prediction:
        def read(rows: Array, mask: Array) -> Array:
            return encoder.apply(params["encoder"], rows, mask)

        examples = labels._replace(x=support.z)
        if num_classes is None:
            pairs = jnp.concatenate([support.z, labels.y[:, None]], axis=1)
            told = read(pairs, labels.mask)
        else:
            members = one_hot(examples, num_classes) > 0
            told = jax.vmap(read, in_axes=(None, 1))(support.z, members).reshape(-1)
        told = jnp.broadcast_to(told, (len(query.z), len(told)))
        asked = jnp.concatenate([query.z, told], axis=1)
        outputs = decoder.apply(params["decoder"], asked)
        if num_classes is not None:
            return class_logits(outputs, present(examples, num_classes))
        spread = jax.nn.softplus(outputs[:, 1])
        return Gaussian(mean=outputs[:, 0], variance=jnp.square(min_deviation + spread))

    head = Head(init=init, apply=apply)
    return embedding(
        "neural_process",
        network,
        head,
        optimizer,
        stochastic=stochastic,
        micro_batch=micro_batch,
    )
