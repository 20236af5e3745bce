"""From a name to an algorithm: what a few-shot run trains, as plain data.

A recipe is what JSON can hold, so that a published model says how it is rebuilt. A new
algorithm is one row of `ALGORITHMS`.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import optax

from jmeta.adjoints import first_order
from jmeta.algorithms import (
    anil,
    convex_head,
    deep_kernel,
    deep_tanimoto,
    imaml,
    maml,
    meta_sgd,
    neural_process,
    prototypical,
    reptile,
    ridge_head,
)
from jmeta.base import MetaAlgorithm, Network
from jmeta.data.collection import FORMS
from jmeta.errors import InputError
from jmeta.learners.inner import classifier, regressor
from jmeta.networks import (
    MLP,
    ConvNet,
    FingerprintMLP,
    ResidualNet,
    SetEncoder,
    from_linen,
)

__all__ = ["ALGORITHMS", "Recipe", "Row", "algorithm_of", "check_recipe", "named"]

_SMALL = 32
"""Images of fewer pixels a side go through a plain convolutional network."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """What is trained.

    Attributes:
      algorithm: a name in `ALGORITHMS`.
      form: of a row, of `jmeta.data.collection.FORMS`.
      kind: "classes" or "number": what a task's targets are.
      num_classes: the most that a task has.
      pixels: of the shorter side, where rows are images.
      num_descriptors: of the molecules, where rows are fingerprints.
      hidden: widths of the hidden layers, where rows are no images.
      size: of the embedding, for algorithms that read the answer off one.
      dropout: of the hidden units, for the same, where rows are fingerprints.
      steps: of meta-training, over which the rate falls to 0 by a cosine.
      lr: of Adam on the network; what a head has of its own learns ten times as fast.
      inner_lr, inner_steps: of training inside a task; None for the algorithm's own.
    """

    algorithm: str
    form: str
    kind: str = "classes"
    num_classes: int = 2
    pixels: int = 0
    num_descriptors: int = 0
    hidden: tuple[int, ...] = (512, 512)
    size: int = 256
    dropout: float = 0.0
    steps: int = 2000
    lr: float = 1e-3
    inner_lr: float | None = None
    inner_steps: int | None = None


class Row(NamedTuple):
    """One algorithm.

    Attributes:
      make: of a recipe.
      told: what it learns, in a few words.
      kinds, forms: what it is for.
      any_classes: whether a task may have more classes than those it was trained on.
    """

    make: Callable[[Recipe], MetaAlgorithm]
    told: str
    kinds: tuple[str, ...] = ("classes", "number")
    forms: tuple[str, ...] = FORMS
    any_classes: bool = False


def _network(recipe: Recipe, out: int) -> tuple[Network, str]:
    """The network for a form, and the name of its last layer."""
    last = f"Dense_{len(recipe.hidden)}"
    if recipe.form == "numbers":
        return from_linen(MLP(hidden=recipe.hidden, out=out)), last
    if recipe.form == "fingerprint":
        # Its first layer is no Dense one.
        last = f"Dense_{len(recipe.hidden) - 1}"
        module = FingerprintMLP(
            recipe.hidden,
            out,
            num_descriptors=recipe.num_descriptors,
            dropout=recipe.dropout,
        )
        return from_linen(module), last
    if recipe.pixels < _SMALL:
        # Each block halves the image.
        blocks = min(4, max(recipe.pixels.bit_length() - 1, 1))
        return from_linen(ConvNet(out=out, num_blocks=blocks)), "head"
    return from_linen(ResidualNet(out=out)), "head"


def _falling(recipe: Recipe, rate: float) -> optax.GradientTransformation:
    return optax.adam(optax.cosine_decay_schedule(rate, max(recipe.steps, 1)))


def _trained(
    make: Callable[..., MetaAlgorithm], inner_lr: float, inner_steps: int, **more: Any
) -> Callable[[Recipe], MetaAlgorithm]:
    """One whose network gradient steps train inside a task."""

    def made(recipe: Recipe) -> MetaAlgorithm:
        numbers = recipe.kind == "number"
        network, last = _network(recipe, 1 if numbers else recipe.num_classes)
        learner = (
            regressor(network) if numbers else classifier(network, recipe.num_classes)
        )
        extra = {"head": last} if make is anil else {}
        rate, count = recipe.inner_lr, recipe.inner_steps
        return make(
            learner,
            optax.chain(optax.clip_by_global_norm(1.0), _falling(recipe, recipe.lr)),
            inner_lr=inner_lr if rate is None else rate,
            inner_steps=inner_steps if count is None else count,
            **extra,
            **more,
        )

    return made


def _embedded(
    make: Callable[..., MetaAlgorithm], **more: Any
) -> Callable[[Recipe], MetaAlgorithm]:
    """One that reads the answer off an embedding."""

    def made(recipe: Recipe) -> MetaAlgorithm:
        network, _ = _network(recipe, recipe.size)
        parts: dict[Any, Any] = {
            "network": _falling(recipe, recipe.lr),
            "head": _falling(recipe, 10.0 * recipe.lr),
        }
        labels = {name: name for name in parts}
        optimizer = optax.chain(
            optax.clip_by_global_norm(1.0), optax.partition(parts, labels)
        )
        extra: dict[str, Any] = dict(more)
        extra["num_classes"] = recipe.num_classes if recipe.kind == "classes" else None
        if make is deep_kernel and recipe.form == "fingerprint":
            extra["kernel"] = deep_tanimoto()
        stochastic = recipe.dropout > 0 and recipe.form == "fingerprint"
        return make(network, optimizer, stochastic=stochastic, **extra)

    return made


def _process(
    network: Network,
    optimizer: optax.GradientTransformation,
    *,
    num_classes: int | None,
    stochastic: bool,
) -> MetaAlgorithm:
    """A conditional neural process, whose parts are as wide as is usual."""
    return neural_process(
        network,
        from_linen(SetEncoder()),
        from_linen(MLP(hidden=(128, 128), out=num_classes or 2)),
        optimizer,
        num_classes=num_classes,
        stochastic=stochastic,
    )


ALGORITHMS: dict[str, Row] = {
    "prototypical": Row(
        _embedded(prototypical),
        "an embedding, in which a class is as likely as its mean is near",
        kinds=("classes",),
        any_classes=True,
    ),
    "ridge_head": Row(
        _embedded(ridge_head, penalty=10.0),
        "an embedding, on which a ridge regression is solved (R2D2)",
        any_classes=True,
    ),
    "deep_ridge": Row(
        _embedded(ridge_head, kernel=deep_tanimoto(), penalty=0.1),
        "a kernel of molecules, with which a ridge regression is solved",
        forms=("fingerprint",),
        any_classes=True,
    ),
    "convex_head": Row(
        _embedded(convex_head, penalty=10.0),
        "an embedding, on which a support vector machine is fitted (MetaOptNet)",
        kinds=("classes",),
        any_classes=True,
    ),
    "deep_kernel": Row(
        _embedded(deep_kernel, inner_steps=0),
        "the kernel of a Gaussian process (deep kernel transfer)",
        any_classes=True,
    ),
    "adkf": Row(
        _embedded(deep_kernel),
        "the prior of a Gaussian process's kernel, which is fitted inside a task",
        any_classes=True,
    ),
    "neural_process": Row(
        _embedded(_process),
        "to read a support and to answer from what was read",
    ),
    "maml": Row(_trained(maml, 0.1, 5), "initial weights, through second derivatives"),
    "fomaml": Row(
        _trained(maml, 0.1, 5, adjoint=first_order()),
        "initial weights, by first derivatives alone",
    ),
    "anil": Row(
        _trained(anil, 0.1, 5), "a network, whose last layer is trained inside a task"
    ),
    "meta_sgd": Row(
        _trained(meta_sgd, 0.1, 1), "initial weights, and every weight's inner rate"
    ),
    "imaml": Row(
        _trained(imaml, 0.1, 16), "weights that training is held to (implicit gradient)"
    ),
    "reptile": Row(
        _trained(reptile, 0.1, 5), "initial weights, moved towards the trained ones"
    ),
}
"""What can be trained, by name."""


def named(algorithm: str) -> Row:
    """A row of `ALGORITHMS`.

    Raises:
      InputError: if there is none of that name.
    """
    if algorithm not in ALGORITHMS:
        raise InputError(
            f"no algorithm is called {algorithm!r}; choose one of "
            f"{', '.join(ALGORITHMS)}."
        )
    return ALGORITHMS[algorithm]


def check_recipe(recipe: Recipe) -> None:
    """See that an algorithm is for such tasks.

    Raises:
      InputError: if it is not, or is unknown.
    """
    row = named(recipe.algorithm)
    what = {"classes": "classes", "number": "numbers"}[recipe.kind]
    if recipe.kind not in row.kinds:
        fitting = [name for name, one in ALGORITHMS.items() if recipe.kind in one.kinds]
        raise InputError(
            f"{recipe.algorithm} does not predict {what}; choose one of "
            f"{', '.join(fitting)}."
        )
    if recipe.form not in row.forms:
        raise InputError(
            f"{recipe.algorithm} takes rows of the form {' or '.join(row.forms)}, and "
            f"these are of the form {recipe.form}; choose another algorithm."
        )


@functools.cache
def algorithm_of(recipe: Recipe) -> MetaAlgorithm:
    """The algorithm of a recipe, the same object for the same recipe.

    Raises:
      InputError: if it is unknown or for other tasks.
    """
    check_recipe(recipe)
    return named(recipe.algorithm).make(recipe)
