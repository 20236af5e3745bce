"""Real tables that scikit-learn bundles, padded with junk, and learners on them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from sklearn import datasets

from jmeta import learners
from jmeta.tasks import Examples

KEY = jax.random.key(0)
ROWS, FEATURES = 256, 32
TOLERANCE = {"float32": 1e-4, "float64": 1e-7}
"""The largest difference of predictions from scikit-learn's."""


def real_table(name):
    """Standardised features and classes, or a standardised number; 240 rows at most."""
    loaders = {
        "breast cancer": datasets.load_breast_cancer,
        "wine": datasets.load_wine,
        "diabetes": datasets.load_diabetes,
    }
    x, y = loaders[name](return_X_y=True)
    x, y = x[:240], y[:240]
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    if name == "diabetes":
        return x, (y - y.mean()) / y.std()
    return x, y.astype(np.int32)


def padded(x, y, dtype, *, rows=ROWS):
    """Examples with zeros in padded columns and NaN, and wrong classes, in padded
    rows."""
    wide = np.zeros((rows, FEATURES))
    wide[: len(x), : x.shape[1]] = x
    wide[len(x) :] = np.nan
    is_number = y.dtype.kind == "f"
    long = np.full(rows, np.nan if is_number else 1, dtype if is_number else np.int32)
    long[: len(y)] = y
    return Examples(
        x=jnp.asarray(wide, dtype),
        y=jnp.asarray(long),
        mask=jnp.arange(rows) < len(x),
    )


@functools.cache
def compiled(name, num_classes):
    """One program `(settings, support, query) -> output` for all tests."""
    learner = learners.get(name, num_classes)
    return jax.jit(
        lambda settings, support, query: learner.predict(
            learner.fit(KEY, settings, support), query
        )
    )


def largest_difference(name, table, settings, reference, dtype, num_classes=None):
    """Of predictions on the support from those of a scikit-learn estimator."""
    with jax.enable_x64(dtype == "float64"):
        x, y = real_table(table)
        learner = learners.get(name, num_classes)
        fitted = learner.space.decode(learner.space.encode({}).astype(dtype))
        fitted |= {name: jnp.asarray(v, dtype) for name, v in settings.items()}
        query = jnp.pad(jnp.asarray(x, dtype), ((0, 0), (0, FEATURES - x.shape[1])))
        output = compiled(name, num_classes)(fitted, padded(x, y, dtype), query)
        assert output.dtype == dtype
        reference = reference.fit(x, y)
        if num_classes is None:
            return np.max(np.abs(output - reference.predict(x)))
        expected = reference.predict_proba(x)
        probs = np.asarray(jax.nn.softmax(output, axis=-1))
        assert np.all(probs[:, expected.shape[1] :] < 1e-15)
        return np.max(np.abs(probs[:, : expected.shape[1]] - expected))
