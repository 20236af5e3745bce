"""How targets come about: functions of the features, noise, classes, numbers."""

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from jmeta.data.prior.latent import Causes, standardise
from jmeta.types import Array, Key

__all__ = ["sample_classes", "sample_numbers", "sample_scores"]

_TREES = 6
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
    keys = jax.random.split(jax.random.fold_in(key, 0), 10)
    x = standardise(seen, mask)
    num_classes = causes.graph.shape[1]
    relevance = _relevance(keys[0], included)
    scored = [
        _linear(keys[1], x * relevance, num_classes),
        _waves(keys[2], x * relevance, num_classes),
        _trees(keys[3], x, relevance, mask, num_classes),
        _parity(keys[4], x, relevance, mask, num_classes),
        _prototypes(keys[5], x * relevance, mask, num_classes),
        causes.graph,
        causes.cluster,
    ]
    # What the graph or the clusters say goes with features from there.
    usual = jnp.array([0.34, 0.2, 0.24, 0.08, 0.14, 0.0, 0.0])
    graph = jnp.array([0.08, 0.05, 0.06, 0.02, 0.04, 0.75, 0.0])
    cluster = jnp.array([0.04, 0.02, 0.02, 0.01, 0.01, 0.0, 0.9])
    chances = jnp.stack([usual, graph, cluster])[causes.source]
    first = jax.random.choice(keys[6], len(scored), p=chances)
    second = jax.random.choice(keys[7], len(scored), p=chances)
    share = jax.random.uniform(keys[8], maxval=0.7)
    share = jnp.where(jax.random.uniform(keys[9]) < 0.3, share, 0.0)
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
    share_key, order_key, scale_key, even_key = jax.random.split(key, 4)
    count = jnp.sum(included)
    share = jax.random.uniform(share_key)
    kept = jnp.ceil(jnp.exp(share * jnp.log(count + 1e-3)))
    draw = jnp.where(included, jax.random.uniform(order_key, included.shape), 2.0)
    rank = jnp.sum(draw[:, None] > draw, axis=1)
    uneven = jax.random.uniform(even_key)
    scale = jnp.exp(uneven * jax.random.normal(scale_key, included.shape))
    return jnp.where(included & (rank < jnp.maximum(kept, 1)), scale, 0.0)


def _linear(key: Key, x: Float[Array, "n f"], k: int) -> Float[Array, "n classes"]:
    """A linear function, sometimes with a sum of products of features."""
    first, left, right, share = jax.random.split(key, 4)
    shape = (x.shape[1], k)
    line = x @ jax.random.normal(first, shape)
    product = (x @ jax.random.normal(left, shape)) * (
        x @ jax.random.normal(right, shape)
    )
    weight = jax.random.choice(share, jnp.array([0.0, 0.0, 0.2, 1.0]))
    size = jnp.sqrt(jnp.mean(jnp.square(x)) * x.shape[1] + 1e-6)
    return line + weight * product / size


def _waves(key: Key, x: Float[Array, "n f"], k: int) -> Float[Array, "n classes"]:
    """A smooth random function: a sum of cosines, as a Gaussian process draws it."""
    wave_key, phase_key, weight_key, scale_key = jax.random.split(key, 4)
    size = jnp.sqrt(jnp.mean(jnp.square(x)) * x.shape[1] + 1e-6)
    rough = jnp.exp(jax.random.uniform(scale_key, minval=-0.7, maxval=1.3))
    directions = jax.random.normal(wave_key, (x.shape[1], _WAVES)) * rough / size
    phases = jax.random.uniform(phase_key, (_WAVES,), maxval=2.0 * jnp.pi)
    return jnp.cos(x @ directions + phases) @ jax.random.normal(weight_key, (_WAVES, k))


def _cuts(
    key: Key,
    x: Float[Array, "n f"],
    relevance: Float[Array, " f"],
    mask: Bool[Array, " n"],
    num: int,
) -> Bool[Array, "n cuts"]:
    """Whether rows lie above random cuts of relevant features at random rows."""
    feature_key, row_key, side_key = jax.random.split(key, 3)
    feature = jax.random.categorical(
        feature_key, jnp.log(jnp.maximum(relevance, 1e-30)), shape=(num,)
    )
    row = jax.random.categorical(row_key, jnp.where(mask, 0.0, -jnp.inf), shape=(num,))
    # A step towards the middle, since a cut at the rim divides nothing.
    at = 0.7 * x[row, feature] + 0.05 * jax.random.normal(side_key, (num,))
    return x[:, feature] > at


def _trees(
    key: Key,
    x: Float[Array, "n f"],
    relevance: Float[Array, " f"],
    mask: Bool[Array, " n"],
    k: int,
) -> Float[Array, "n classes"]:
    """A sum of few trees, or one; every level or every node has a cut of its own."""
    cut_key, leaf_key, count_key, depth_key, even_key, rule_key = jax.random.split(
        key, 6
    )
    nodes = 2**_DEPTH - 1
    cuts = _cuts(cut_key, x, relevance, mask, _TREES * nodes)
    cuts = cuts.reshape(len(x), _TREES, nodes)
    depth = jax.random.randint(depth_key, (), 1, _DEPTH + 1)
    oblivious = jax.random.uniform(even_key) < 0.3
    leaf = jnp.zeros((len(x), _TREES), int)
    for level in range(_DEPTH):
        node = jnp.where(oblivious, 0, leaf) + 2**level - 1
        above = jnp.take_along_axis(cuts, node[:, :, None], axis=2)[:, :, 0]
        leaf = jnp.where(level < depth, 2 * leaf + above, leaf)
    values = jax.random.normal(leaf_key, (_TREES, 2**_DEPTH, k))
    # A rule list: all leaves but a few say the same.
    rule = jax.random.uniform(rule_key) < 0.3
    values = jnp.where(rule & (jnp.arange(2**_DEPTH) > 1)[:, None], 0.0, values)
    one = jax.random.randint(count_key, (), 0, 2) == 0
    weights = jnp.where(one, jnp.arange(_TREES) == 0, 1.0)
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
    cut_key, three_key, weight_key = jax.random.split(key, 3)
    signs = 2.0 * _cuts(cut_key, x, relevance, mask, 3) - 1.0
    third = jnp.where(jax.random.uniform(three_key) < 0.3, signs[:, 2], 1.0)
    odd = signs[:, 0] * signs[:, 1] * third
    return odd[:, None] * jax.random.normal(weight_key, (k,))


def _prototypes(
    key: Key, x: Float[Array, "n f"], mask: Bool[Array, " n"], k: int
) -> Float[Array, "n classes"]:
    """The values of the nearest of a few rows."""
    row_key, value_key = jax.random.split(key)
    row = jax.random.categorical(
        row_key, jnp.where(mask, 0.0, -jnp.inf), shape=(_PROTOTYPES,)
    )
    centres = x[row]
    distance = jnp.sum(jnp.square(centres), axis=1) - 2.0 * x @ centres.T
    nearest = jnp.argmin(distance, axis=1)
    return jax.random.normal(value_key, (_PROTOTYPES, k))[nearest]


def _noise_level(key: Key) -> Float[Array, ""]:
    """From none to far more than the signal, in units of the signal."""
    some_key, size_key = jax.random.split(key)
    size = jnp.exp(jax.random.uniform(size_key, minval=-3.0, maxval=1.2))
    return jnp.where(jax.random.uniform(some_key) < 0.2, 0.0, size)


def sample_classes(
    key: Key, scores: Float[Array, "n classes"], mask: Bool[Array, " n"]
) -> Int[Array, " n"]:
    """Turn scores into classes of random shares, with noise.

    The classes that occur are numbered from 0 without gaps and have two rows each.
    """
    keys = jax.random.split(jax.random.fold_in(key, 1), 9)
    rows, most = scores.shape
    two = jax.random.uniform(keys[0]) < 0.6
    count = jnp.where(two, 2, jax.random.randint(keys[1], (), 2, most + 1))
    real = jnp.arange(most) < count
    uneven = jnp.where(jax.random.uniform(keys[2]) < 0.3, 0.1, 1.0)
    shares = jnp.exp(uneven * jax.random.normal(keys[3], (most,)))
    shares = jnp.where(real, shares, 0.0) / jnp.sum(jnp.where(real, shares, 0.0))

    noise = _noise_level(keys[4]) * jax.random.normal(keys[5], scores.shape)
    noisy = scores + noise
    ordered = _in_order(noisy[:, 0], shares, mask)
    apart = _best(noisy, shares, real, mask)
    y = jnp.where((count == 2) | (jax.random.uniform(keys[6]) < 0.25), ordered, apart)

    flip_key, rate_key, other_key, sure_key = jax.random.split(keys[7], 4)
    rate = 0.3 * jax.random.uniform(rate_key) ** 2
    rate = jnp.where(jax.random.uniform(sure_key) < 0.6, 0.0, rate)
    flipped = jax.random.uniform(flip_key, (rows,)) < rate
    other = jax.random.categorical(
        other_key, jnp.log(jnp.maximum(shares, 1e-30)), shape=(rows,)
    )
    y = jnp.where(flipped, other, y)
    order = jax.random.permutation(keys[8], most)
    return _without_gaps(order[y], mask, most)


def _in_order(
    score: Float[Array, " n"], shares: Float[Array, " classes"], mask: Bool[Array, " n"]
) -> Int[Array, " n"]:
    """Cut one score into classes whose shares are about those asked for.

    Rows with equal scores stay together, on whichever side fits the share better.
    """
    total = jnp.sum(mask)
    ranked = jnp.sort(jnp.where(mask, score, jnp.inf))
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
    keys = jax.random.split(jax.random.fold_in(key, 2), 9)
    uniform = jax.random.uniform
    noise = jax.random.normal(keys[0], mask.shape)
    heavy = jax.random.t(keys[1], 4.0, mask.shape)
    noise = jnp.where(uniform(keys[2]) < 0.2, jnp.clip(heavy, -8.0, 8.0), noise)
    signal = standardise(scores[:, :1], mask)[:, 0]
    y = signal + _noise_level(keys[3]) * noise
    # A function that is constant on the rows leaves noise alone.
    flat = jnp.max(jnp.abs(jnp.where(mask, y, 0.0))) < 1e-3
    y = jnp.where(flat, noise, y)
    y = standardise(y[:, None], mask)[:, 0]
    skewed = jnp.stack([y, jnp.exp(y), jnp.sign(y) * jnp.square(y)])
    y = skewed[jax.random.choice(keys[4], 3, p=jnp.array([0.65, 0.25, 0.1]))]
    step = 10.0 ** (-2.0 + 1.5 * uniform(keys[5]))
    y = jnp.where(uniform(keys[6]) < 0.4, jnp.round(y / step) * step, y)
    scale = 10.0 ** (4.0 * uniform(keys[7]) - 1.0)
    y = scale * (y + 3.0 * jnp.round(jax.random.normal(keys[8])))
    return jnp.where(mask, y, 0.0).astype(jnp.float32)
