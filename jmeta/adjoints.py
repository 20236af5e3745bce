"""How a gradient crosses the training inside a task.

Every algorithm that learns through training takes one of these as `adjoint=`; the call
is the same whichever it is.

| adjoint | gradient | time, in inner trainings | memory grows with |
|---|---|---|---|
| `unrolled` | exact | about 3 | all activations of every step |
| `checkpointed` | exact | about 5 | the root of the number of steps |
| `forward_over_reverse` | exact | about 4 | some copies of the weights a step |
| `truncated(k)` | of the last k steps | 1 and 3 k / steps | activations of k steps |
| `implicit(solver)` | at an optimum | 1 and the solve | nothing |
| `first_order` | without curvature | about 2 | some copies of the weights a step |
| `evolution` | of a smoothed loss | 2 pairs | nothing |

Sources: checkpoints, Chen et al., 2016, https://arxiv.org/abs/1604.06174; forward over
reverse, Kemaev et al., 2025, https://arxiv.org/abs/2505.00793; truncation, Shaban et
al., 2018, https://arxiv.org/abs/1810.10667; implicit, Lorraine et al., 2019,
https://arxiv.org/abs/1911.02590; evolution, Salimans et al., 2017,
https://arxiv.org/abs/1703.03864.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from jmeta.hessians import Solver, cg, neumann
from jmeta.types import Array, Key, Weights

__all__ = [
    "Adjoint",
    "Inner",
    "Solver",
    "cg",
    "checkpointed",
    "evolution",
    "first_order",
    "forward_over_reverse",
    "implicit",
    "neumann",
    "truncated",
    "unrolled",
]


class Inner(NamedTuple):
    """Training by gradient steps, inside one task.

    Attributes:
      loss: `(settings, weights, data, key) -> ()`, what is minimised. The key is
        another one at every step: for dropout, augmentation and mini-batches.
      optimizer: `settings -> optax.GradientTransformation`; `settings` are those of the
        loss, so that learning rates, momenta or schedules may be learnt.
      num_steps: how many.
    """

    loss: Callable[[Any, Weights, Any, Key], Array]
    optimizer: Callable[[Any], optax.GradientTransformation]
    num_steps: int


class Adjoint(NamedTuple):
    """How the gradient with respect to the settings is found.

    Attributes:
      name: of the function that made it.
      train: `(inner, settings, weights, data, key) -> weights`, trained from `weights`;
        all are the same numbers, and differ in their derivative.
      value_and_grad: `(function, settings, key) -> (value, gradient)` of a function of
        the settings that calls `train`.
      crosses_steps: whether the optimizer's own steps are differentiated.
    """

    name: str
    train: Callable[[Inner, Any, Weights, Any, Key], Weights]
    value_and_grad: Callable[[Callable[[Any], Array], Any, Key], tuple[Array, Any]]
    crosses_steps: bool = True


def _by_autodiff(
    function: Callable[[Any], Array], settings: Any, key: Key
) -> tuple[Array, Any]:
    del key  # Nothing is drawn.
    return jax.value_and_grad(function)(settings)


Gradient = Callable[[Any, Weights, Any, Key], Weights]


def _stepper(
    inner: Inner, gradient: Gradient, settings: Any, data: Any, key: Key
) -> Callable[[Any, Array], tuple[Any, None]]:
    """One step of training, as the body of a scan over their numbers."""

    def body(state: Any, number: Array) -> tuple[Any, None]:
        weights, opt_state = state
        grads = gradient(settings, weights, data, jax.random.fold_in(key, number))
        optimizer = inner.optimizer(settings)
        updates, opt_state = optimizer.update(grads, opt_state, weights)
        moved = jax.tree.map(lambda w, u: w + u.astype(w.dtype), weights, updates)
        return (moved, opt_state), None

    return body


def _start(inner: Inner, settings: Any, weights: Weights) -> tuple[Weights, Any]:
    return weights, inner.optimizer(settings).init(weights)


def _scan(body: Any, state: Any, first: int, last: int) -> Any:
    return jax.lax.scan(body, state, jnp.arange(first, last))[0]


def _plain(inner: Inner) -> Gradient:
    return jax.grad(inner.loss, argnums=1)


def _all_steps(
    inner: Inner, gradient: Gradient, settings: Any, weights: Any, data: Any, key: Key
) -> Weights:
    body = _stepper(inner, gradient, settings, data, key)
    return _scan(body, _start(inner, settings, weights), 0, inner.num_steps)[0]


def unrolled() -> Adjoint:
    """Plain reverse mode through every step. Exact.

    Time of about three trainings; memory of all steps' activations. The one to choose
    for few steps of a small network.
    """

    def train(inner: Inner, settings: Any, weights: Any, data: Any, key: Key) -> Any:
        return _all_steps(inner, _plain(inner), settings, weights, data, key)

    return Adjoint("unrolled", train, _by_autodiff)


def checkpointed() -> Adjoint:
    """Reverse mode that computes steps again instead of keeping them. Exact.

    Kept are the states at about every root of `num_steps` steps and, while one such
    stretch is crossed, its own: memory grows with that root. Two more forward
    trainings than `unrolled`.
    """

    def train(inner: Inner, settings: Any, weights: Any, data: Any, key: Key) -> Any:
        body = _stepper(inner, _plain(inner), settings, data, key)
        again = jax.checkpoint(body, prevent_cse=False)
        length = math.isqrt(inner.num_steps)
        count = inner.num_steps // max(length, 1)
        stretch = jax.checkpoint(
            lambda state, numbers: jax.lax.scan(again, state, numbers),
            prevent_cse=False,
        )
        state = _start(inner, settings, weights)
        numbers = jnp.arange(count * length).reshape(count, length)
        state, _ = jax.lax.scan(stretch, state, numbers)
        if count * length < inner.num_steps:
            state, _ = stretch(state, jnp.arange(count * length, inner.num_steps))
        return state[0]

    return Adjoint("checkpointed", train, _by_autodiff)


def _mixed(inner: Inner) -> Gradient:
    """The gradient, whose own derivative is one forward sweep over it."""
    gradient = _plain(inner)

    @jax.custom_vjp
    def mixed(settings: Any, weights: Any, data: Any, key: Key) -> Any:
        return gradient(settings, weights, data, key)

    def forward(*arguments: Any) -> Any:
        return mixed(*arguments), arguments

    def backward(arguments: Any, cotangent: Any) -> Any:
        settings, weights, data, key = arguments
        both = jax.grad(inner.loss, argnums=(0, 1))
        _, moved = jax.jvp(
            lambda w: both(settings, w, data, key), (weights,), (cotangent,)
        )
        return *moved, None, None

    mixed.defvjp(forward, backward)
    return mixed


def forward_over_reverse() -> Adjoint:
    """Each step's second derivatives by a forward sweep over its gradient. Exact.

    Reverse mode crosses the steps, and within a step the Hessian meets its vector
    going forwards, so that no activation is kept for a second backward sweep: memory
    is that of the weights, the gradient and the optimizer's state at every step, with
    Adam about seven copies of the weights. The data must not depend on what is learnt.
    """

    def train(inner: Inner, settings: Any, weights: Any, data: Any, key: Key) -> Any:
        return _all_steps(inner, _mixed(inner), settings, weights, data, key)

    return Adjoint("forward_over_reverse", train, _by_autodiff)


def truncated(num_steps: int) -> Adjoint:
    """Reverse mode through the last `num_steps` steps alone.

    Time and memory are those of these steps. Biased towards what pays at once: what the
    settings did to the earlier steps is taken as given, and the initial weights get no
    gradient at all if there are any.

    Raises:
      ValueError: if `num_steps` is below 1.
    """
    if num_steps < 1:
        raise ValueError(f"truncated: num_steps must be at least 1, got {num_steps}.")

    def train(inner: Inner, settings: Any, weights: Any, data: Any, key: Key) -> Any:
        first = max(inner.num_steps - num_steps, 0)
        gradient = _plain(inner)
        state = _start(inner, settings, weights)
        if first:
            fixed = jax.lax.stop_gradient(settings)
            body = _stepper(inner, gradient, fixed, data, key)
            state = _scan(body, jax.lax.stop_gradient(state), 0, first)
            state = jax.lax.stop_gradient(state)
        body = _stepper(inner, gradient, settings, data, key)
        return _scan(body, state, first, inner.num_steps)[0]

    return Adjoint(f"truncated({num_steps})", train, _by_autodiff)


def first_order() -> Adjoint:
    """Reverse mode that takes each step's gradient as independent of the weights.

    No second derivative with respect to the weights: the cheapest of those that cross
    the steps. Biased, since a step's effect on later gradients is left out: the
    gradient with respect to the initial weights is that at the trained ones, as in
    first-order MAML.
    """

    def train(inner: Inner, settings: Any, weights: Any, data: Any, key: Key) -> Any:
        plain = _plain(inner)

        def gradient(settings: Any, weights: Any, data: Any, key: Key) -> Any:
            return plain(settings, jax.lax.stop_gradient(weights), data, key)

        return _all_steps(inner, gradient, settings, weights, data, key)

    return Adjoint("first_order", train, _by_autodiff)


def implicit(solver: Solver | None = None) -> Adjoint:
    """The implicit function theorem at the end of training.

    Time of one training and one solve with the Hessian; memory does not grow with the
    steps. Exact at an optimum that is isolated, else biased by how far training is from
    it. Settings of the optimizer and the initial weights, which do not move an optimum,
    get a gradient of exactly zero.

    Args:
      solver: `cg(...)` or `neumann(...)`; None for `cg()`.

    `train` raises ValueError if no setting at all enters the loss.
    """
    solver = cg() if solver is None else solver

    def train(inner: Inner, settings: Any, weights: Any, data: Any, key: Key) -> Any:
        fixed = jax.lax.stop_gradient(settings)
        start = jax.lax.stop_gradient(weights)
        gradient = _plain(inner)
        found = _all_steps(inner, gradient, fixed, start, data, key)
        found = jax.lax.stop_gradient(found)
        last = jax.random.fold_in(key, inner.num_steps)

        def slope_at(settings: Any) -> Array:
            return ravel_pytree(gradient(settings, found, data, last))[0]

        if not _depends(slope_at, settings):
            raise ValueError(
                "implicit: no setting enters the inner loss, so that all gradients "
                "would be zero; take another adjoint, or penalise by a setting."
            )
        flat, unravel = ravel_pytree(found)

        def product(vector: Array) -> Array:
            def along(w: Any) -> Array:
                return ravel_pytree(gradient(fixed, w, data, last))[0]

            return jax.jvp(along, (found,), (unravel(vector),))[1]

        # Where the slope is zero the weights are `flat`, and where it moves they
        # follow; as one vector, since a solve needs a tangent of all leaves or none.
        @jax.custom_jvp
        def optimum(slope: Array) -> Array:
            del slope
            return flat

        @optimum.defjvp
        def _(primals: Any, tangents: Any) -> Any:
            del primals
            moved = jax.lax.custom_linear_solve(
                product, tangents[0], solver, symmetric=True
            )
            return flat, -moved

        return unravel(optimum(slope_at(settings)))

    return Adjoint("implicit", train, _by_autodiff, crosses_steps=False)


def _depends(function: Callable[[Any], Any], settings: Any) -> bool:
    """Whether any output moves with the settings, as the trace tells."""
    moves: list[bool] = []

    @jax.custom_jvp
    def look(out: Any) -> Any:
        return out

    def rule(primals: Any, tangents: Any) -> Any:
        zeros = [
            isinstance(leaf, jax.custom_derivatives.SymbolicZero)
            for leaf in jax.tree.leaves(tangents[0])
        ]
        moves.append(not all(zeros))
        return primals[0], primals[0]

    look.defjvp(rule, symbolic_zeros=True)
    jax.eval_shape(
        lambda s: jax.jvp(lambda s: look(function(s)), (s,), (s,))[1], settings
    )
    return any(moves)


def evolution(*, sigma: float = 0.1, num_pairs: int = 4) -> Adjoint:
    """Differences of the loss at settings moved to both sides at random.

    For what has no gradient: trees, integers, choices. `2 num_pairs` trainings at once,
    and no memory for a backward sweep. Unbiased for the loss averaged over a Gaussian
    around the settings, whose value is told; noisy, the more settings the more. See
    `jmeta.algorithms.persistent_evolution` for trainings too long for this.

    Args:
      sigma: deviation of the settings, in the units of what is learnt (of the unit
        cube for spaces).
      num_pairs: antithetic pairs.

    Raises:
      ValueError: if `sigma` is not above 0 or `num_pairs` below 1.
    """
    if sigma <= 0 or num_pairs < 1:
        raise ValueError(
            "evolution: needs sigma above 0 and num_pairs of at least 1, got "
            f"{sigma} and {num_pairs}."
        )

    def value_and_grad(
        function: Callable[[Any], Array], settings: Any, key: Key
    ) -> tuple[Array, Any]:
        flat, unravel = ravel_pytree(settings)
        noise = jax.random.normal(key, (num_pairs, flat.size), flat.dtype)
        moves = sigma * jnp.stack([noise, -noise])
        told = jax.vmap(jax.vmap(lambda move: function(unravel(flat + move))))(moves)
        slopes = (told[0] - told[1]) / (2.0 * sigma)
        return jnp.mean(told), unravel(slopes @ noise / num_pairs)

    plain = unrolled().train
    return Adjoint("evolution", plain, value_and_grad, crosses_steps=False)
