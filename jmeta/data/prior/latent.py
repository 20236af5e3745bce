"""Where features come from: independent, factors, causal graphs or clusters."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from jmeta.types import Array, Key

__all__ = ["Causes", "sample_latent", "standardise"]

_MOST_CLUSTERS = 3
_HIDDEN_LAYERS = 3


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
    """Draw features in one of four ways, chosen at random for the table."""
    source_key, plain_key, graph_key, cluster_key, copy_key = jax.random.split(key, 5)
    source = jax.random.choice(source_key, 3, p=jnp.array([0.4, 0.35, 0.25]))
    plain = _factors(plain_key, mask, len(included))
    nodes, graph = _graph(graph_key, mask, len(included), num_classes)
    grouped, cluster = _clusters(cluster_key, mask, len(included), num_classes)
    values = jnp.stack([plain, nodes, grouped])[source]
    values = _repeat(copy_key, values, included)
    return Causes(
        values=standardise(values, mask), graph=graph, cluster=cluster, source=source
    )


def _factors(key: Key, mask: Bool[Array, " n"], features: int) -> Float[Array, "n f"]:
    """Independent features, or features that share a few factors."""
    keys = jax.random.split(key, 6)
    rows = len(mask)
    own = jax.random.normal(keys[0], (rows, features))
    heavy = jnp.exp(0.5 * jax.random.normal(keys[1], (rows, 1)))
    own = jnp.where(jax.random.uniform(keys[2]) < 0.15, own * heavy, own)
    num_factors = jax.random.randint(keys[3], (), 1, 5)
    loadings = jax.random.normal(keys[4], (4, features))
    loadings = jnp.where(jnp.arange(4)[:, None] < num_factors, loadings, 0.0)
    shared = jax.random.normal(jax.random.fold_in(keys[4], 1), (rows, 4)) @ loadings
    weight = jax.random.choice(keys[5], jnp.array([0.0, 0.5, 1.0, 3.0]))
    return own + weight * shared


def _activate(key: Key, x: Float[Array, "n f"]) -> Float[Array, "n f"]:
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
    pick_key, share_key, one_key, same_key = jax.random.split(key, 4)
    own = jax.random.randint(pick_key, x.shape[1:], 1, len(forms))
    linear = jax.random.uniform(share_key, x.shape[1:]) < 0.4
    one = jax.random.randint(one_key, (), 0, len(forms))
    same = jax.random.uniform(same_key) < 0.4
    form = jnp.where(same, one, jnp.where(linear, 0, own))
    return jnp.take_along_axis(forms, form[None, None], axis=0)[0]


def _graph(
    key: Key, mask: Bool[Array, " n"], features: int, num_classes: int
) -> tuple[Float[Array, "n f"], Float[Array, "n classes"]]:
    """A layered causal graph; features and targets are nodes anywhere in it."""
    keys = jax.random.split(key, _HIDDEN_LAYERS + 5)
    width = min(features, 24)
    rows = len(mask)
    num_roots = jax.random.randint(keys[0], (), 2, max(width // 2, 3) + 1)
    roots = jax.random.normal(keys[1], (rows, width))
    layer = jnp.where(jnp.arange(width) < num_roots, roots, 0.0)
    density = jax.random.uniform(keys[2], minval=0.1, maxval=0.7)
    noise = jnp.exp(jax.random.uniform(keys[3], minval=-4.0, maxval=0.0))
    layers = [layer]
    for layer_key in keys[4 : 4 + _HIDDEN_LAYERS]:
        weight_key, edge_key, noise_key, form_key = jax.random.split(layer_key, 4)
        weights = jax.random.normal(weight_key, (width, width))
        edges = jax.random.uniform(edge_key, (width, width)) < density
        # A node keeps at least one parent, or it would be noise alone.
        edges = edges | jnp.eye(width, dtype=bool)
        layer = standardise(layer @ jnp.where(edges, weights, 0.0), mask)
        layer = standardise(_activate(form_key, layer), mask)
        layer = layer + noise * jax.random.normal(noise_key, (rows, width))
        layers.append(layer)
    nodes = jnp.concatenate(layers, axis=1)
    alive = jnp.concatenate(
        [jnp.arange(width) < num_roots, jnp.ones(_HIDDEN_LAYERS * width, bool)]
    )
    score = jnp.where(alive, jax.random.gumbel(keys[-1], alive.shape), -jnp.inf)
    order = jnp.argsort(-score)
    order = jnp.concatenate([order] * (1 + (features + num_classes) // len(order)))
    picked = nodes[:, order[: features + num_classes]]
    return picked[:, num_classes:], standardise(picked[:, :num_classes], mask)


def _clusters(
    key: Key, mask: Bool[Array, " n"], features: int, num_classes: int
) -> tuple[Float[Array, "n f"], Float[Array, "n classes"]]:
    """Rows around the centres of their class, each centre with a shape of its own."""
    keys = jax.random.split(key, 10)
    rows = len(mask)
    each = jax.random.randint(keys[0], (), 1, _MOST_CLUSTERS + 1)
    usual = jax.random.uniform(keys[1]) < 0.6
    most = jax.random.randint(keys[2], (), 2, num_classes + 1)
    classes = jnp.where(usual, 2, most)
    lean = jnp.exp(0.8 * jax.random.normal(keys[3], (num_classes,)))
    lean = jnp.where(jnp.arange(num_classes) < classes, jnp.log(lean), -jnp.inf)
    label = jax.random.categorical(keys[4], lean, shape=(rows,))
    which = jnp.floor(jax.random.uniform(keys[5], (rows,)) * each).astype(int)
    cluster = label * _MOST_CLUSTERS + which
    count = num_classes * _MOST_CLUSTERS

    apart = jnp.exp(jax.random.uniform(keys[6], minval=-1.5, maxval=1.0))
    useful = jax.random.uniform(keys[7]) ** 2
    carries = jax.random.uniform(keys[8], (features,)) < 0.1 + 0.9 * useful
    centre_key, scale_key, common_key, mix_key = jax.random.split(keys[9], 4)
    centres = apart * carries * jax.random.normal(centre_key, (count, features))
    differ = jax.random.choice(jax.random.fold_in(mix_key, 1), jnp.array([0.0, 0.6]))
    scales = jnp.exp(differ * carries * jax.random.normal(scale_key, (count, features)))
    noise = jax.random.normal(common_key, (rows, features))
    mixing = jax.random.normal(mix_key, (features, features)) / jnp.sqrt(features)
    together = jax.random.choice(
        jax.random.fold_in(mix_key, 2), jnp.array([0.0, 0.5, 1.0])
    )
    noise = noise + together * (noise @ mixing)
    x = centres[cluster] + scales[cluster] * noise
    hot = jax.nn.one_hot(label, num_classes)
    return x, hot


def _repeat(
    key: Key, values: Float[Array, "n f"], included: Bool[Array, " f"]
) -> Float[Array, "n f"]:
    """In some tables, make some features near copies of others."""
    keys = jax.random.split(key, 5)
    features = values.shape[1]
    some = jax.random.uniform(keys[0]) < 0.2
    copied = some & (jax.random.uniform(keys[1], (features,)) < 0.3)
    logits = jnp.where(included, 0.0, -jnp.inf)
    source = jax.random.categorical(keys[2], logits, shape=(features,))
    noise = jnp.exp(jax.random.uniform(keys[3], (features,), minval=-6.0, maxval=0.0))
    near = values[:, source] + noise * jax.random.normal(keys[4], values.shape)
    return jnp.where(copied, near, values)
