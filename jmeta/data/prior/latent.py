"""Where features come from: independent, factors, causal graphs or clusters."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from jmeta.data.prior.draw import between, log_between, one_of, weighted, whole
from jmeta.types import Array, Key

__all__ = ["Causes", "sample_latent", "standardise"]

_MOST_CLUSTERS = 3
_HIDDEN_LAYERS = 3
_WIDEST = 24


class Causes(NamedTuple):
    """Standardised features, and the two targets that came about with them.

    Attributes:
      values: about standard normal in scale, continuous.
      graph: for each class, a node of the causal graph that the features may be
        other nodes of.
      cluster: for each class, whether the row was drawn from its clusters.
      source: 0 for independent features or factors, 1 for the graph, 2 for clusters.
    """

    values: Float[Array, "n f"]
    graph: Float[Array, "n classes"]
    cluster: Float[Array, "n classes"]
    source: Int[Array, ""]


def standardise(
    values: Float[Array, "n f"], mask: Bool[Array, " n"]
) -> Float[Array, "n f"]:
    """Centre and scale columns over the rows in the mask; zeros elsewhere."""
    kept = mask[:, None]
    total = jnp.maximum(jnp.sum(mask), 1)
    mean = jnp.sum(jnp.where(kept, values, 0.0), axis=0) / total
    centred = jnp.where(kept, values - mean, 0.0)
    variance = jnp.sum(jnp.square(centred), axis=0) / total
    return centred * jax.lax.rsqrt(variance + 1e-6)


def sample_latent(
    key: Key, mask: Bool[Array, " n"], included: Bool[Array, " f"], num_classes: int
) -> Causes:
    """Draw features in one of three ways, chosen at random for the table."""
    source_key, plain_key, graph_key, cluster_key, copy_key = jax.random.split(key, 5)
    u = jax.random.uniform(source_key, (1,))
    source = weighted(u, jnp.array([0.35, 0.3, 0.35]))[0]
    plain = _factors(plain_key, mask, len(included))
    nodes, graph = _graph(graph_key, mask, len(included), num_classes)
    grouped, cluster = _clusters(cluster_key, mask, len(included), num_classes)
    values = jnp.stack([plain, nodes, grouped])[source]
    values = _repeat(copy_key, values, included)
    return Causes(
        values=standardise(values, mask), graph=graph, cluster=cluster, source=source
    )


def _factors(key: Key, mask: Bool[Array, " n"], features: int) -> Float[Array, "n f"]:
    """Independent features, or features that share up to four factors."""
    row_key, load_key, table_key = jax.random.split(key, 3)
    u = jax.random.uniform(table_key, (3,))
    draws = jax.random.normal(row_key, (len(mask), features + 5))
    own, heavy, factors = jnp.split(draws, [features, features + 1], axis=1)
    own = jnp.where(u[0] < 0.15, own * jnp.exp(0.5 * heavy), own)
    loadings = jax.random.normal(load_key, (4, features))
    there = jnp.arange(4)[:, None] < whole(u[1], 1, 4)
    return own + one_of(u[2], [0.0, 0.5, 1.0, 2.0]) * (
        factors @ jnp.where(there, loadings, 0.0)
    )


def _activate(x: Float[Array, "n f"], form: Int[Array, " f"]) -> Float[Array, "n f"]:
    """Give every node a mechanism of its own."""
    forms = jnp.stack(
        [
            x,
            jnp.tanh(2.0 * x),
            jnp.maximum(x, 0.0),
            jnp.abs(x),
            jnp.sin(2.0 * x),
            jnp.square(x),
            jnp.sign(x),
            jnp.exp(-jnp.square(x)),
        ]
    )
    return jnp.take_along_axis(forms, form[None, None], axis=0)[0]


def _graph(
    key: Key, mask: Bool[Array, " n"], features: int, num_classes: int
) -> tuple[Float[Array, "n f"], Float[Array, "n classes"]]:
    """A layered causal graph; features and targets are nodes anywhere in it."""
    table_key, row_key, weight_key, node_key = jax.random.split(key, 4)
    width = min(features, _WIDEST)
    count = (1 + _HIDDEN_LAYERS) * width
    u = jax.random.uniform(table_key, (5,))
    draws = jax.random.normal(row_key, (len(mask), 1 + _HIDDEN_LAYERS, width))
    weights = jax.random.normal(weight_key, (_HIDDEN_LAYERS, width, width, 2))
    node = jax.random.uniform(node_key, (count, 3))

    root = jnp.arange(width) < whole(u[0], 2, max(width // 2, 3))
    # Of the second half of the normal draws, those this far out make an edge.
    far = between(u[1], 0.7, 2.0)
    noise = log_between(u[2], -4.0, -0.5)
    own = jnp.where(node[:, 0] < 0.4, 0, whole(node[:, 1], 1, 7))
    form = jnp.where(u[3] < 0.4, whole(u[4], 0, 7), own)
    layers = [jnp.where(root, draws[:, 0], 0.0)]
    for i in range(_HIDDEN_LAYERS):
        # A node keeps at least one parent, or it would be noise alone.
        edges = (jnp.abs(weights[i, :, :, 1]) > far) | jnp.eye(width, dtype=bool)
        layer = layers[-1] @ jnp.where(edges, weights[i, :, :, 0], 0.0)
        these = form[(i + 1) * width : (i + 2) * width]
        layer = standardise(_activate(standardise(layer, mask), these), mask)
        layers.append(layer + noise * draws[:, i + 1])
    nodes = jnp.concatenate(layers, axis=1)
    alive = jnp.concatenate([root, jnp.ones(count - width, bool)])
    # Targets are picked first: seldom roots, which little may depend on.
    late = node[:, 2] + 0.5 * (jnp.arange(count) < width)
    order = jnp.argsort(jnp.where(alive, late, 2.0))
    order = jnp.tile(order, 1 + (features + num_classes) // count)
    picked = nodes[:, order[: features + num_classes]]
    return picked[:, num_classes:], standardise(picked[:, :num_classes], mask)


def _clusters(
    key: Key, mask: Bool[Array, " n"], features: int, num_classes: int
) -> tuple[Float[Array, "n f"], Float[Array, "n classes"]]:
    """Rows around the centres of their class, each centre with a shape of its own."""
    keys = jax.random.split(key, 7)
    rows, count = len(mask), num_classes * _MOST_CLUSTERS
    u = jax.random.uniform(keys[0], (8,))
    row = jax.random.uniform(keys[1], (rows, 2))
    carries = jax.random.uniform(keys[2], (features,)) < 0.1 + 0.9 * u[0]
    classes = jnp.where(u[1] < 0.65, 2, whole(u[2], 2, num_classes))
    lean = jnp.exp(0.5 * jax.random.normal(keys[3], (num_classes,)))
    label = weighted(row[:, 0], jnp.where(jnp.arange(num_classes) < classes, lean, 0))
    which = whole(row[:, 1], 0, whole(u[3], 1, _MOST_CLUSTERS) - 1)
    cluster = label * _MOST_CLUSTERS + which

    shape = jax.random.normal(keys[4], (count, features, 2)) * carries[:, None]
    centres = log_between(u[4], -0.7, 1.2) * shape[:, :, 0]
    scales = jnp.exp(one_of(u[5], [0.0, 0.6]) * shape[:, :, 1])
    noise = jax.random.normal(keys[5], (rows, features))
    mixing = jax.random.normal(keys[6], (features, features)) / jnp.sqrt(features)
    noise = noise + one_of(u[6], [0.0, 0.5, 1.0]) * (noise @ mixing)
    hot = jax.nn.one_hot(label, num_classes)
    return centres[cluster] + scales[cluster] * noise, hot


def _repeat(
    key: Key, values: Float[Array, "n f"], included: Bool[Array, " f"]
) -> Float[Array, "n f"]:
    """In some tables, make some features near copies of others."""
    table_key, feature_key, row_key = jax.random.split(key, 3)
    features = values.shape[1]
    each = jax.random.uniform(feature_key, (features, 3))
    copied = (jax.random.uniform(table_key) < 0.25) & (each[:, 0] < 0.4)
    source = weighted(each[:, 1], included.astype(values.dtype))
    noise = log_between(each[:, 2], -6.0, 0.0)
    near = values[:, source] + noise * jax.random.normal(row_key, values.shape)
    return jnp.where(copied, near, values)
