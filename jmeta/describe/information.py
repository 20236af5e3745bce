"""Mutual information of binned features, and of pairs of them, with the target.

Counts are corrected for their bias (Miller, 1955) and results are in units of the
target's entropy. Missing values are a bin of their own.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jmeta.describe.view import View, average, quantile, ratio, top_mean
from jmeta.sorting import sort
from jmeta.types import Array

__all__ = ["INFORMATION", "information"]

INFORMATION = (
    "information_max",
    "information_top3",
    "information_mean",
    "information_sum",
    "informative_share",
    "feature_entropy",
    "nonlinearity_max",
    "nonlinearity_mean",
    "interaction_max",
    "interaction_upper",
    "interaction_mean",
)

_BINS = 6
_PAIR_BINS = 3
_PAIRED = 32


def _bins(v: View, num: int) -> Float[Array, "n f b"]:
    """One-hot bins of about equal counts; the last is for missing values."""
    count = jnp.sum(v.known, axis=0)
    cuts = []
    for i in range(1, num):
        index = jnp.clip((i * count) // num, 0, len(v.ordered) - 1)
        cuts.append(jnp.take_along_axis(v.ordered, index[None], axis=0)[0])
    # Rows equal to a cut go above it, unless nothing would stay below: a column
    # whose most frequent value is its lowest is cut just above that value.
    edges = jnp.stack(cuts)
    lowest = v.ordered[0]
    above = v.raw[:, None] >= edges
    above = jnp.where(edges > lowest, above, v.raw[:, None] > edges)
    code = jnp.where(v.known, jnp.sum(above, axis=1), num)
    hot = jax.nn.one_hot(code, num + 1, dtype=v.raw.dtype)
    return jnp.where(v.mask[:, None, None] & v.useful[:, None], hot, 0.0)


def _target_bins(v: View) -> Float[Array, "n t"]:
    """The classes, or five bins of a number of about equal counts."""
    if v.target.shape[1] > 1:
        return v.target
    y = v.target[:, 0]
    ordered = sort(jnp.where(v.mask, y, jnp.inf))
    index = (jnp.arange(1, 5) * v.rows / 5).astype(int)
    edges = ordered[index]
    above = jnp.where(edges > ordered[0], y[:, None] >= edges, y[:, None] > edges)
    hot = jax.nn.one_hot(jnp.sum(above, axis=1), 5, dtype=y.dtype)
    return jnp.where(v.mask[:, None], hot, 0.0)


def _entropy(counts: Array, rows: Array, axis: int | tuple[int, ...]) -> Array:
    """Entropy in nats of counts along axes, with Miller's correction."""
    share = counts / rows
    plain = -jnp.sum(share * jnp.log(jnp.where(counts > 0, share, 1.0)), axis=axis)
    filled = jnp.sum(counts > 0, axis=axis)
    return plain + jnp.maximum(filled - 1, 0) / (2.0 * rows)


def information(v: View) -> dict[str, Array]:
    """Information of single features and of pairs beyond the single ones."""
    bins, target = _bins(v, _BINS), _target_bins(v)
    entropy = _entropy(jnp.sum(target, axis=0), v.rows, 0)
    counts = jnp.einsum("nfb,nt->fbt", bins, target)
    of_feature = _entropy(jnp.sum(counts, axis=2), v.rows, 1)
    shared = of_feature + entropy - _entropy(counts, v.rows, (1, 2))
    size = jnp.where(v.useful, jnp.clip(ratio(shared, entropy), 0.0, 1.0), 0.0)
    bend = _bend(v, bins)
    pair, both = _interaction(v, target, size, entropy)
    return {
        "information_max": jnp.max(size),
        "information_top3": top_mean(size, v.useful, 3),
        "information_mean": average(size, v.useful),
        "information_sum": jnp.log1p(jnp.sum(size)),
        "informative_share": average(size > 0.02, v.useful),
        "feature_entropy": average(of_feature, v.useful) / jnp.log(float(_BINS)),
        "nonlinearity_max": jnp.max(bend),
        "nonlinearity_mean": average(bend, v.useful),
        "interaction_max": jnp.max(pair),
        "interaction_upper": quantile(pair.ravel(), both.ravel(), 0.9),
        "interaction_mean": average(pair, both),
    }


def _bend(v: View, bins: Float[Array, "n f b"]) -> Float[Array, " f"]:
    """How much more of the target the bins of a feature explain than its line does.

    The difference of two adjusted R2, for classes averaged over them by variance.
    """
    centred = v.target - jnp.sum(v.target, axis=0) / v.rows
    centred = jnp.where(v.mask[:, None], centred, 0.0)
    total = jnp.sum(jnp.square(centred))
    line = jnp.sum(jnp.square(v.z.T @ centred), axis=1) / v.rows
    filled = jnp.sum(bins, axis=0)
    sums = jnp.einsum("nfb,nt->fbt", bins, centred)
    stairs = jnp.sum(ratio(jnp.sum(jnp.square(sums), axis=2), filled), axis=1)
    used = jnp.sum(filled > 0, axis=1)

    def adjusted(explained: Array, spent: Array | float) -> Array:
        left = jnp.maximum(v.rows - spent, 1.0)
        return 1.0 - (1.0 - ratio(explained, total)) * (v.rows - 1.0) / left

    gain = adjusted(stairs, used) - jnp.maximum(adjusted(line, 2.0), 0.0)
    return jnp.where(v.useful, jnp.clip(gain, 0.0, 1.0), 0.0)


def _interaction(
    v: View, target: Float[Array, "n t"], size: Float[Array, " f"], entropy: Array
) -> tuple[Float[Array, "q q"], Array]:
    """What pairs tell about the target beyond the sum of what each tells.

    Among the 32 most informative features, in three bins each. A feature's entropy
    given the rest cancels from the three terms, so that joint counts are enough.
    """
    _, picked = jax.lax.top_k(jnp.where(v.useful, size, -1.0), min(_PAIRED, len(size)))
    chosen = _bins(v, _PAIR_BINS)[:, picked]
    n, q, b = chosen.shape
    flat = chosen.reshape(n, q * b)
    by_class = jnp.einsum("nt,ni->tni", target, flat)
    counts = jnp.einsum("tni,nj->ijt", by_class, flat).reshape(q, b, q, b, -1)
    counts = counts.transpose(0, 2, 1, 3, 4)
    pair_target = _entropy(counts, v.rows, (2, 3, 4))
    pair = _entropy(jnp.sum(counts, axis=4), v.rows, (2, 3))
    together = pair + entropy - pair_target

    single = jnp.einsum("nfb,nt->fbt", chosen, target)
    alone = _entropy(jnp.sum(single, axis=2), v.rows, 1)
    alone = jnp.maximum(alone + entropy - _entropy(single, v.rows, (1, 2)), 0.0)
    beyond = together - alone[:, None] - alone
    useful = v.useful[picked]
    both = useful[:, None] & useful & ~jnp.eye(q, dtype=bool)
    return jnp.where(both, jnp.clip(ratio(beyond, entropy), 0.0, 1.0), 0.0), both
