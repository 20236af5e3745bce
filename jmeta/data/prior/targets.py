"""How targets come about: functions of the features, noise, classes, numbers."""

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from jmeta.data.prior.draw import log_between, one_of, weighted, whole
from jmeta.data.prior.latent import Causes, standardise
from jmeta.sorting import sort
from jmeta.types import Array, Key

__all__ = ["sample_classes", "sample_numbers", "sample_scores"]

_TREES = 4
_DEPTH = 4
_PROTOTYPES = 8
_WAVES = 48


def sample_scores(
    key: Key,
    seen: Float[Array, "n f"],
    causes: Causes,
    included: Bool[Array, " f"],
    mask: Bool[Array, " n"],
) -> Float[Array, "n classes"]:
    """Draw a score a class, standardised, without noise.

    A score is one of seven kinds of function, or sometimes a mixture of two.
    """
    keys = jax.random.split(jax.random.fold_in(key, 0), 7)
    u = jax.random.uniform(keys[0], (4,))
    x = standardise(seen, mask)
    num_classes = causes.graph.shape[1]
    relevance = _relevance(keys[1], included)
    scored = [
        _linear(keys[2], x * relevance, num_classes),
        _waves(keys[3], x * relevance, num_classes),
        _trees(keys[4], x, relevance, mask, num_classes),
        _parity(keys[5], x, relevance, mask, num_classes),
        _prototypes(keys[6], x * relevance, mask, num_classes),
        causes.graph,
        causes.cluster,
    ]
    # What the graph or the clusters say goes with features from there.
    usual = jnp.array([0.46, 0.15, 0.26, 0.03, 0.1, 0.0, 0.0])
    graph = jnp.array([0.14, 0.04, 0.08, 0.01, 0.03, 0.7, 0.0])
    cluster = jnp.array([0.04, 0.02, 0.02, 0.01, 0.01, 0.0, 0.9])
    chances = jnp.stack([usual, graph, cluster])[causes.source]
    first, second = weighted(u[:2], chances)
    share = jnp.where(u[2] < 0.3, 0.7 * u[3], 0.0)
    together = jnp.stack([_level(scores, mask) for scores in scored])
    return _level((1.0 - share) * together[first] + share * together[second], mask)


def _level(
    scores: Float[Array, "n classes"], mask: Bool[Array, " n"]
) -> Float[Array, "n classes"]:
    """Centre each score; scale all of them alike, so that classes stay comparable."""
    kept = mask[:, None]
    total = jnp.maximum(jnp.sum(mask), 1)
    mean = jnp.sum(jnp.where(kept, scores, 0.0), axis=0) / total
    centred = jnp.where(kept, scores - mean, 0.0)
    variance = jnp.sum(jnp.square(centred)) / (total * scores.shape[1])
    return centred * jax.lax.rsqrt(variance + 1e-6)


def _relevance(key: Key, included: Bool[Array, " f"]) -> Float[Array, " f"]:
    """How much each feature counts: a few, or all, of those there are."""
    table_key, order_key, scale_key = jax.random.split(key, 3)
    u = jax.random.uniform(table_key, (2,))
    count = jnp.sum(included)
    kept = jnp.ceil(jnp.exp(jnp.sqrt(u[0]) * jnp.log(count + 1e-3)))
    draw = jnp.where(included, jax.random.uniform(order_key, included.shape), 2.0)
    rank = jnp.sum(draw[:, None] > draw, axis=1)
    scale = jnp.exp(u[1] * jax.random.normal(scale_key, included.shape))
    return jnp.where(included & (rank < jnp.maximum(kept, 1)), scale, 0.0)


def _size(x: Float[Array, "n f"]) -> Float[Array, ""]:
    """The typical length of a row."""
    return jnp.sqrt(jnp.mean(jnp.square(x)) * x.shape[1] + 1e-6)


def _linear(key: Key, x: Float[Array, "n f"], k: int) -> Float[Array, "n classes"]:
    """A linear function, sometimes with a sum of products of features."""
    weight_key, share_key = jax.random.split(key)
    weights = jax.random.normal(weight_key, (x.shape[1], 3, k))
    line, left, right = (x @ weights[:, i] for i in range(3))
    curved = one_of(jax.random.uniform(share_key), [0.0, 0.0, 0.2, 0.5])
    return line + curved * left * right / _size(x)


def _waves(key: Key, x: Float[Array, "n f"], k: int) -> Float[Array, "n classes"]:
    """A smooth random function: a sum of cosines, as a Gaussian process draws it."""
    wave_key, phase_key, weight_key = jax.random.split(key, 3)
    u = jax.random.uniform(phase_key, (_WAVES + 1,))
    rough = log_between(u[-1], -1.5, 0.7) / _size(x)
    directions = rough * jax.random.normal(wave_key, (x.shape[1], _WAVES))
    waves = jnp.cos(x @ directions + 2.0 * jnp.pi * u[:-1])
    return waves @ jax.random.normal(weight_key, (_WAVES, k))


def _cuts(
    key: Key,
    x: Float[Array, "n f"],
    relevance: Float[Array, " f"],
    mask: Bool[Array, " n"],
    num: int,
) -> Bool[Array, "n cuts"]:
    """Whether rows lie above random cuts of relevant features at random rows."""
    u = jax.random.uniform(key, (num, 3))
    feature = weighted(u[:, 0], relevance)
    row = whole(u[:, 1], 0, jnp.sum(mask) - 1)
    # A step towards the middle, since a cut at the rim divides nothing.
    at = 0.7 * x[row, feature] + 0.15 * (u[:, 2] - 0.5)
    return x[:, feature] > at


def _trees(
    key: Key,
    x: Float[Array, "n f"],
    relevance: Float[Array, " f"],
    mask: Bool[Array, " n"],
    k: int,
) -> Float[Array, "n classes"]:
    """A sum of few trees, or one; every level or every node has a cut of its own."""
    cut_key, leaf_key, table_key = jax.random.split(key, 3)
    u = jax.random.uniform(table_key, (4,))
    nodes = 2**_DEPTH - 1
    cuts = _cuts(cut_key, x, relevance, mask, _TREES * nodes)
    cuts = cuts.reshape(len(x), _TREES, nodes)
    depth = whole(u[0], 1, _DEPTH)
    oblivious = u[1] < 0.3
    leaf = jnp.zeros((len(x), _TREES), int)
    for level in range(_DEPTH):
        node = jnp.where(oblivious, 0, leaf) + 2**level - 1
        above = jnp.take_along_axis(cuts, node[:, :, None], axis=2)[:, :, 0]
        leaf = jnp.where(level < depth, 2 * leaf + above, leaf)
    values = jax.random.normal(leaf_key, (_TREES, 2**_DEPTH, k))
    # A rule list: all leaves but two say the same.
    rule = (u[2] < 0.3) & (jnp.arange(2**_DEPTH) > 1)
    values = jnp.where(rule[:, None], 0.0, values)
    weights = jnp.where(u[3] < 0.5, jnp.arange(_TREES) == 0, 1.0)
    chosen = jax.nn.one_hot(leaf, 2**_DEPTH) * weights[:, None]
    return jnp.einsum("ntl,tlk->nk", chosen, values)


def _parity(
    key: Key,
    x: Float[Array, "n f"],
    relevance: Float[Array, " f"],
    mask: Bool[Array, " n"],
    k: int,
) -> Float[Array, "n classes"]:
    """Whether an odd number of two or three conditions hold: only together they say."""
    cut_key, weight_key = jax.random.split(key)
    draws = jax.random.normal(weight_key, (k + 1,))
    signs = 2.0 * _cuts(cut_key, x, relevance, mask, 3) - 1.0
    odd = signs[:, 0] * signs[:, 1] * jnp.where(draws[k] < -0.5, signs[:, 2], 1.0)
    return odd[:, None] * draws[:k]


def _prototypes(
    key: Key, x: Float[Array, "n f"], mask: Bool[Array, " n"], k: int
) -> Float[Array, "n classes"]:
    """The values of the nearest of a few rows."""
    row_key, value_key = jax.random.split(key)
    u = jax.random.uniform(row_key, (_PROTOTYPES,))
    centres = x[whole(u, 0, jnp.sum(mask) - 1)]
    distance = jnp.sum(jnp.square(centres), axis=1) - 2.0 * x @ centres.T
    nearest = jnp.argmin(distance, axis=1)
    return jax.random.normal(value_key, (_PROTOTYPES, k))[nearest]


def _noise_level(some: Array, size: Array) -> Float[Array, ""]:
    """From none to more than the signal, in units of the signal."""
    return jnp.where(some < 0.45, 0.0, log_between(size, -3.0, 0.0))


def sample_classes(
    key: Key, scores: Float[Array, "n classes"], mask: Bool[Array, " n"]
) -> Int[Array, " n"]:
    """Turn scores into classes of random shares, with noise.

    The classes that occur are numbered from 0 without gaps and have two rows each.
    """
    keys = jax.random.split(jax.random.fold_in(key, 1), 4)
    rows, most = scores.shape
    u = jax.random.uniform(keys[0], (8 + most,))
    draws = jax.random.normal(keys[1], (rows, most))
    flips = jax.random.uniform(keys[2], (rows, 2))
    count = jnp.where(u[0] < 0.65, 2, whole(u[1], 2, most))
    real = jnp.arange(most) < count
    uneven = jnp.where(u[2] < 0.5, 0.15, 0.7)
    shares = jnp.exp(uneven * jax.random.normal(keys[3], (most,)))
    shares = jnp.where(real, shares, 0.0) / jnp.sum(jnp.where(real, shares, 0.0))

    noisy = scores + _noise_level(u[3], u[4]) * draws
    ordered = _in_order(noisy[:, 0], shares, mask)
    apart = _best(noisy, shares, real, mask)
    y = jnp.where((count == 2) | (u[5] < 0.25), ordered, apart)

    rate = jnp.where(u[6] < 0.75, 0.0, 0.2 * u[7] ** 2)
    y = jnp.where(flips[:, 0] < rate, weighted(flips[:, 1], shares), y)
    return _without_gaps(jnp.argsort(u[8:])[y], mask, most)


def _in_order(
    score: Float[Array, " n"], shares: Float[Array, " classes"], mask: Bool[Array, " n"]
) -> Int[Array, " n"]:
    """Cut one score into classes whose shares are about those asked for.

    Rows with equal scores stay together, on whichever side fits the share better.
    """
    total = jnp.sum(mask)
    ranked = sort(jnp.where(mask, score, jnp.inf))
    wanted = jnp.cumsum(shares)[:-1] * total
    place = jnp.clip(wanted.astype(int), 1, total - 1)
    edge = ranked[place]
    below = jnp.sum(mask[:, None] & (score[:, None] < edge), axis=0)
    upto = jnp.sum(mask[:, None] & (score[:, None] <= edge), axis=0)
    strict = jnp.abs(upto - wanted) < jnp.abs(below - wanted)
    above = jnp.where(strict, score[:, None] > edge, score[:, None] >= edge)
    return jnp.sum(above & (jnp.cumsum(shares)[:-1] < 1.0 - 1e-6), axis=1)


def _best(
    scores: Float[Array, "n classes"],
    shares: Float[Array, " classes"],
    real: Bool[Array, " classes"],
    mask: Bool[Array, " n"],
) -> Int[Array, " n"]:
    """The class with the best score, lifted until the shares are about right."""
    total = jnp.maximum(jnp.sum(mask), 1)

    def lift(_, bias: Array) -> Array:
        best = jnp.argmax(scores + bias, axis=1)
        hot = jax.nn.one_hot(best, len(shares)) * mask[:, None]
        return bias + 0.4 * (
            jnp.log(shares + 0.02) - jnp.log(hot.sum(0) / total + 0.02)
        )

    start = jnp.zeros(len(shares))
    bias = jax.lax.fori_loop(
        0,
        8,
        lambda i, b: jnp.where(real, lift(i, b), b),
        jnp.where(real, start, -jnp.inf),
    )
    return jnp.argmax(scores + bias, axis=1)


def _without_gaps(
    y: Int[Array, " n"], mask: Bool[Array, " n"], most: int
) -> Int[Array, " n"]:
    """Merge classes with one row into the largest class, and number without gaps.

    If one class is left, every other row becomes a second one: a table to no avail.
    """
    counts = jnp.sum(jax.nn.one_hot(y, most) * mask[:, None], axis=0)
    kept = counts >= 2
    y = jnp.where(kept[y], y, jnp.argmax(counts))
    y = (jnp.cumsum(kept) - 1)[y]
    y = jnp.where(jnp.sum(kept) >= 2, y, jnp.arange(len(y)) % 2)
    return jnp.where(mask, y, 0).astype(jnp.int32)


def sample_numbers(
    key: Key, scores: Float[Array, "n classes"], mask: Bool[Array, " n"]
) -> Float[Array, " n"]:
    """Turn the first score into a number with noise, skew, rounding and a unit."""
    table_key, row_key = jax.random.split(jax.random.fold_in(key, 2))
    u = jax.random.uniform(table_key, (8,))
    draws = jax.random.normal(row_key, (len(mask), 5))
    # A normal over the root of a mean of four squares: Student's t, heavy-tailed.
    heavy = draws[:, 0] / jnp.sqrt(jnp.mean(jnp.square(draws[:, 1:]), axis=1) + 0.01)
    noise = jnp.where(u[0] < 0.2, heavy, draws[:, 0])
    signal = standardise(scores[:, :1], mask)[:, 0]
    y = signal + _noise_level(u[1], u[2]) * noise
    # A function that is constant on the rows leaves noise alone.
    flat = jnp.max(jnp.abs(jnp.where(mask, y, 0.0))) < 1e-3
    y = jnp.where(flat, noise, y)
    y = standardise(y[:, None], mask)[:, 0]
    skewed = jnp.stack(
        [y, jnp.exp(jnp.clip(y, -5.0, 5.0)), jnp.sign(y) * jnp.square(y)]
    )
    y = skewed[weighted(u[3:4], jnp.array([0.65, 0.25, 0.1]))[0]]
    step = 10.0 ** (-2.0 + 1.5 * u[4])
    y = jnp.where(u[5] < 0.4, jnp.round(y / step) * step, y)
    y = 10.0 ** (4.0 * u[6] - 1.0) * (y + whole(u[7], -5, 5))
    return jnp.where(mask, y, 0.0).astype(jnp.float32)
