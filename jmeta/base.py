"""The interfaces: named tuples of pure functions, no base classes."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxtyping import Float

from jmeta.adjoints import Adjoint
from jmeta.spaces import Space
from jmeta.tasks import Examples
from jmeta.types import Array, Key, Params, Settings, Weights

__all__ = ["InnerLearner", "Learner", "MetaAlgorithm", "Network", "Proposals"]


class Network(NamedTuple):
    """A network as a pair of functions, whatever library it was written with.

    Attributes:
      init: `(key, *example_inputs) -> params`.
      apply: `(params, *inputs) -> outputs`.
    """

    init: Callable[..., Params]
    apply: Callable[..., Any]


class InnerLearner(NamedTuple):
    """A network that gradient steps train inside a task.

    Attributes:
      kind: `"classes"` or `"number"`: what it predicts.
      init: `(key, x) -> weights`.
      apply: `(weights, x, counted) -> outputs (n, out)`, where `counted` says of each
        row whether a normalising layer may take its statistics from it.
      loss: `(outputs, y, mask) -> ()`, a mean over the rows in the mask: log loss, or
        squared error.
    """

    kind: str
    init: Callable[[Key, Array], Weights]
    apply: Callable[[Weights, Array, Array], Array]
    loss: Callable[[Array, Array, Array], Array]


class Learner(NamedTuple):
    """Anything that can be fitted to the support of one task.

    Both functions are pure, of fixed shape, exact under `support.mask` and safe
    when masked rows hold NaN. Feature columns that are padding, and columns that
    are constant on the support, arrive as exact zeros (`jmeta.tasks.prepare`), so
    that a learner may count the columns that are not all zero.

    Attributes:
      name: the name it is registered under.
      kind: `"classes"` or `"number"`: what it predicts.
      space: its hyperparameters.
      fit: `(key, settings, support) -> weights`.
      predict: `(weights, x) -> logits (n, classes)` for classes, where
        `softmax(logits)` is the prediction and a class that is not in the support
        has a logit of `ABSENT`; `-> mean (n,)` for a number.
      uneven: whether settings differ so much in cost (depth, rounds) that they are
        better fitted one after another than in one batch, which pays for the worst.
      through: `adjoint -> Learner`, the same learner whose training the gradient
        crosses in that way; None if it is solved rather than trained by steps, and
        brings its own derivative or has none.
    """

    name: str
    kind: str
    space: Space
    fit: Callable[[Key, Settings, Examples], Weights]
    predict: Callable[[Weights, Array], Array]
    uneven: bool = False
    through: Callable[[Adjoint], "Learner"] | None = None


class MetaAlgorithm(NamedTuple):
    """A meta-learning algorithm as three pure functions.

    Attributes:
      init: `(key, tasks) -> state`.
      step: `(key, state, tasks) -> (state, info)`; `tasks` has a leading task axis.
      predict: `(params, task) -> prediction` for one task, without a task axis.
    """

    init: Callable[[Key, Any], Any]
    step: Callable[[Key, Any, Any], tuple[Any, Any]]
    predict: Callable[[Params, Any], Any]


class Proposals(NamedTuple):
    """Several settings of one learner, and which of them to try first.

    Attributes:
      units: unit vectors.
      logits: of the gate; the highest comes first.
    """

    units: Float[Array, "*batch proposals size"]
    logits: Float[Array, "*batch proposals"]
