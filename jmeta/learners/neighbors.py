"""k nearest neighbours, without a sort.

The k-th smallest distance of a row is found by bisection, digit by digit, counting
the rows below; that is many times faster than a sort or `top_k` on a CPU, and
lets k be an ordinary array. Neighbours tied at that distance share the places left,
so that the order of the rows does not matter.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from jmeta.base import Learner
from jmeta.learners.common import class_logits, clean, one_hot
from jmeta.learners.kernels import squared_distances
from jmeta.spaces import Hyper, Space, choice, integer, real
from jmeta.tasks import Examples
from jmeta.types import Array, Key, Settings, Weights

__all__ = ["knn", "knn_regressor", "nearest", "neighbor_weights"]


def nearest(
    squared: Float[Array, "n m"], mask: Bool[Array, " m"], k: Float[Array, ""]
) -> Float[Array, "n m"]:
    """Which support rows are among the k nearest of each row, as weights in [0, 1].

    Args:
      squared: squared distances.
      mask: support rows that count.
      k: whole, at least 1 and at most the number of rows that count.

    Returns:
      Weights that sum to k in each row: 1 for nearer rows, and an equal share of what
      is left for rows tied at the k-th distance, up to rounding of the largest one.
    """
    dtype = squared.dtype
    digits = jnp.finfo(dtype).nmant + 1
    largest = jnp.max(jnp.where(mask, squared, 0.0), axis=1, keepdims=True)
    # In [0, 1) for rows that count, so that edges are sums of powers of two.
    part = squared / jnp.where(largest > 0, largest, 1.0)
    part = jnp.where(mask, jnp.minimum(part, 1.0 - 2.0**-digits), 2.0)

    grouped = _grouped(part)

    def body(_, carry):
        edge, width = carry
        middle = edge + 0.5 * width
        return jnp.where(_count(grouped, middle) < k, middle, edge), 0.5 * width

    start = jnp.zeros_like(largest), jnp.ones((), dtype)
    edge, width = jax.lax.fori_loop(0, digits, body, start)
    before, after = _count(grouped, edge), _count(grouped, edge + width)
    share = (k - before) / jnp.maximum(after - before, 1.0)
    return jnp.where(part < edge, 1.0, jnp.where(part < edge + width, share, 0.0))


def _grouped(part: Float[Array, "n m"]) -> Float[Array, "n groups words 4"]:
    """Rows as groups of at most 128 fours, filled up with twos."""
    size = part.shape[1]
    group = min(512, size + -size % 4)
    filled = jnp.pad(part, ((0, 0), (0, -size % group)), constant_values=2.0)
    return filled.reshape(len(part), -1, group // 4, 4)


def _count(
    grouped: Float[Array, "n groups words 4"], edge: Float[Array, "n 1"]
) -> Float[Array, "n 1"]:
    """How many values of each row are below its edge.

    Four comparisons are added at a time, as the bytes of one word, none of which can
    overflow in a group: on a CPU that is four to eight times faster than a plain sum.
    """
    below = (grouped < edge[:, :, None, None]).astype(jnp.uint8)
    words = jax.lax.bitcast_convert_type(below, jnp.uint32)
    sums = jnp.sum(words, axis=-1, dtype=jnp.uint32)
    counts = jax.lax.bitcast_convert_type(sums, jnp.uint8).astype(jnp.int32)
    total = jnp.sum(counts, axis=(1, 2), dtype=jnp.int32)
    return total[:, None].astype(edge.dtype)


def neighbor_weights(
    squared: Float[Array, "n m"], mask: Bool[Array, " m"], settings: Settings
) -> Float[Array, "n m"]:
    """How much each support row counts for each row; they sum to k.

    Args:
      squared: squared distances.
      mask: support rows that count.
      settings: `neighbors` and `weighting`.
    """
    squared = jax.lax.stop_gradient(squared)
    rows = jnp.maximum(jnp.sum(mask), 1).astype(squared.dtype)
    k = jnp.minimum(jnp.round(settings["neighbors"]), rows).astype(squared.dtype)
    k = jax.lax.stop_gradient(k)
    uniform = nearest(squared, mask, k)
    # Rows that coincide take all the weight, as in scikit-learn.
    closest = jnp.min(jnp.where(mask, squared, jnp.inf), axis=1, keepdims=True)
    nearness = jnp.where(
        closest > 0, jax.lax.rsqrt(squared), (squared == 0).astype(squared.dtype)
    )
    by_distance = jnp.where(uniform > 0, uniform * nearness, 0.0)
    total = jnp.sum(by_distance, axis=1, keepdims=True)
    by_distance *= k / jnp.where(total > 0, total, 1.0)
    return jnp.where(settings["weighting"] < 0.5, uniform, by_distance)


def _hypers() -> dict[str, Hyper]:
    return {
        "neighbors": integer(1, 64, default=10, log=True, at_most_rows=True),
        "weighting": choice("uniform", "distance", default="uniform"),
    }


def knn(num_classes: int) -> Learner:
    """Votes of the nearest rows by Euclidean distance.

    The probability of a class is `(votes + smoothing * share) / (k + smoothing)`,
    with `share` the class's share of the support, so that no probability is zero;
    as `smoothing` vanishes it is that of scikit-learn's `KNeighborsClassifier`.
    """
    space = Space(**_hypers(), smoothing=real(1e-6, 10.0, default=1.0, log=True))

    def fit(key: Key, settings: Settings, support: Examples) -> Weights:
        del key  # Nothing is drawn.
        support = clean(support)
        hot = one_hot(support, num_classes)
        return {"x": support.x, "hot": hot, "mask": support.mask, "settings": settings}

    def predict(weights: Weights, x: Array) -> Array:
        squared = squared_distances(x, weights["x"])
        settings = weights["settings"]
        votes = neighbor_weights(squared, weights["mask"], settings) @ weights["hot"]
        counts = jnp.sum(weights["hot"], axis=0)
        share = counts / jnp.maximum(jnp.sum(counts), 1.0)
        smoothing = settings["smoothing"].astype(x.dtype)
        scores = jnp.log(jnp.where(counts > 0, votes + smoothing * share, 1.0))
        return class_logits(scores, counts > 0)

    return Learner(name="knn", kind="classes", space=space, fit=fit, predict=predict)


def knn_regressor() -> Learner:
    """Weighted mean of the nearest rows; scikit-learn's `KNeighborsRegressor`."""
    space = Space(**_hypers())

    def fit(key: Key, settings: Settings, support: Examples) -> Weights:
        del key  # Nothing is drawn.
        support = clean(support)
        return {
            "x": support.x,
            "y": support.y.astype(support.x.dtype),
            "mask": support.mask,
            "settings": settings,
        }

    def predict(weights: Weights, x: Array) -> Array:
        squared = squared_distances(x, weights["x"])
        counted = neighbor_weights(squared, weights["mask"], weights["settings"])
        return counted @ weights["y"] / jnp.maximum(jnp.sum(counted, axis=1), 1e-30)

    return Learner(
        name="knn_regressor", kind="number", space=space, fit=fit, predict=predict
    )
