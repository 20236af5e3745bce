"""Logistic regression that corrects a model fitted elsewhere, from few rows.

With no rows it is that model; with many, a logistic regression of its own. How far it
moves is a matter of a few penalties, the inverse variances of what such models lack
from place to place, which `jmeta.algorithms.bilevel` learns across tasks.

Source: the prior is that of hierarchical logistic regression, Gelman and Hill, 2007,
chapter 14; recalibration is the case of no features, Steyerberg et al., 2004,
https://doi.org/10.1002/sim.1844.
"""

import jax.numpy as jnp
from jaxtyping import Float

from jmeta.base import Learner
from jmeta.learners.common import clean
from jmeta.learners.logistic import solve
from jmeta.learners.newton import targets
from jmeta.spaces import Space, real
from jmeta.tasks import Examples
from jmeta.types import Array, Key, Settings, Weights

__all__ = ["correction"]


def correction() -> Learner:
    """Two classes; the last feature of a row is its log odds by the other model.

    It minimises `sum log loss + intercept / 2 a^2 + slope / 2 b^2 + features / 2 |w|^2`
    where the log odds are `trust * odds + a + b * odds + x w`. The settings are the
    three penalties and `trust`, and `features` may be one number for each feature. A
    class that the support lacks is still predicted, unlike by other learners.
    """
    penalty = real(1e-4, 1e6, default=1.0, log=True)
    space = Space(
        intercept=penalty,
        slope=penalty,
        features=penalty,
        trust=real(0.05, 5.0, default=1.0, log=True),
    )

    def fit(key: Key, settings: Settings, support: Examples) -> Weights:
        del key  # The optimum is unique.
        support = clean(support)
        there = support.mask.astype(support.x.dtype)
        # One class alone tells something too, where a model is there to begin with.
        wanted = targets(support, 2)._replace(rows=there)
        x = jnp.concatenate([support.x, there[:, None]], axis=1)
        count = support.x.shape[1] - 1
        penalty = jnp.concatenate(
            [
                jnp.broadcast_to(settings["features"], (count,)),
                jnp.stack([settings["slope"], settings["intercept"]]),
            ]
        )
        offset = settings["trust"] * support.x[:, -1:]
        found = solve(x, penalty.astype(x.dtype), wanted, offset)[:, 0]
        return {
            "features": found[:-2],
            "slope": settings["trust"] + found[-2],
            "intercept": found[-1],
        }

    def predict(weights: Weights, x: Array) -> Float[Array, "n 2"]:
        own = x[:, :-1] @ weights["features"] + weights["intercept"]
        odds = weights["slope"] * x[:, -1] + own
        return jnp.stack([jnp.zeros_like(odds), odds], axis=1)

    return Learner(
        name="correction", kind="classes", space=space, fit=fit, predict=predict
    )
