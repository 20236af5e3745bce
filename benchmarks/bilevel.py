"""Published bilevel problems: jmeta beside optax by hand, jaxopt and TorchOpt.

    python benchmarks/bilevel.py --data ../shared/data --json --plot bilevel.png \\
        > bilevel.json

*Regularisation selection*: logistic regression with one log strength of the L2 penalty
per feature, on a PMLB table. *Data hyper-cleaning*: a linear softmax on images of which
half the labels are random, with a weight for each. Constants are those of
https://github.com/benchopt/benchmark_bilevel (`ijcnn1`, `datacleaning0_5`): batches of
64, 10 inner steps from where the last ones ended, 10 steps for the inverse Hessian,
corruption 0.5, penalty 0.2; and beside these *warm* solvers the *cold* ones, which
train from zero on all rows for every gradient.

What counts is the value function: the validation loss at the inner optimum, found by
SciPy in float64 outside the timed part. Solvers of a kind take the same steps from the
same values with the same optimizers. Seconds are the process's own, which on one core
that nothing else uses are those of the clock, and do not count what other programs do;
compiling is told apart. Before anything is timed, all gradients are compared with
finite differences of the value function.
"""

import dataclasses
import functools
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import scipy.optimize
import scipy.special
import scipy.stats
import tyro
from rich.console import Console
from rich.table import Table

from jmeta.adjoints import (
    Adjoint,
    Inner,
    Solver,
    cg,
    checkpointed,
    implicit,
    neumann,
    unrolled,
)
from jmeta.algorithms.bilevel import bilevel
from jmeta.base import Learner
from jmeta.learners.logistic import logistic
from jmeta.learners.trained import trained
from jmeta.spaces import Space
from jmeta.tasks import Examples, Task
from jmeta.types import Array

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # That it is no longer developed.
    import jaxopt

COLD_STEPS, WARM_STEPS, SOLVE_STEPS, BATCH = 100, 10, 10, 64
LOWEST, HIGHEST = -8.0, 2.0
"""Of the log strengths: beyond, the published step sizes diverge."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """What to run.

    Attributes:
      data: the folder that holds tabular/pmlb and images/mednist.
      table: of PMLB, with two classes.
      seeds: splits, corruptions and draws.
      seconds: of the process, for each solver on each problem and seed.
      problems: by name; all if nothing is said.
      json: print one JSON object and nothing else on stdout.
      plot: where the curves are drawn.
    """

    data: pathlib.Path
    table: str = "spambase"
    seeds: int = 3
    seconds: float = 2.0
    problems: tuple[str, ...] = ("regularisation", "cleaning")
    json: bool = False
    plot: pathlib.Path | None = None


class Rows(NamedTuple):
    """Features, and classes as integers."""

    x: Any
    y: Any


class Problem(NamedTuple):
    """What is minimised inside and outside.

    Attributes:
      train, validation, test: float32 and int32 NumPy arrays.
      num_classes: of the labels.
      outer: what is learnt, as it is at first.
      rates: of the outer Adam, the cold and the warm inner steps.
      decode: `outer -> strengths (features,), row weights (rows,)`, the strengths for
        `strengths / 2 * weights^2`.
    """

    train: Rows
    validation: Rows
    test: Rows
    num_classes: int
    outer: np.ndarray
    rates: tuple[float, float, float]
    decode: Callable[[Any], tuple[Any, Any]]


def with_ones(x: np.ndarray) -> np.ndarray:
    """Features in float32, with a column for the intercept."""
    return np.append(x, np.ones((len(x), 1)), axis=1).astype(np.float32)


def split(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> list[Rows]:
    """Half for training, a quarter for validation, the rest for a test; features are
    centred and scaled by one number."""
    order = rng.permutation(len(x))
    parts = np.split(order, [len(x) // 2, 3 * len(x) // 4])
    mean = x[parts[0]].mean(axis=0)
    scale = np.sqrt(x[parts[0]].var(axis=0).mean())
    return [
        Rows(with_ones((x[rows] - mean) / scale), y[rows].astype(np.int32))
        for rows in parts
    ]


def regularisation(arguments: Arguments, seed: int) -> Problem:
    """One strength per feature on a table; the intercept has none."""
    path = arguments.data / "tabular" / "pmlb" / f"{arguments.table}.csv.gz"
    frame = pd.read_csv(path, sep="\t")
    x = frame.drop(columns="class").to_numpy(float)
    x = (x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-12)
    _, y = np.unique(frame["class"], return_inverse=True)
    train, validation, test = split(x, y, np.random.default_rng(seed))

    def decode(outer: Any) -> tuple[Any, Any]:
        strengths = jnp.exp(jnp.clip(outer, LOWEST, HIGHEST))
        return jnp.append(strengths, 0.0), jnp.ones(len(train.x))

    outer = np.zeros(x.shape[1], np.float32)
    return Problem(train, validation, test, 2, outer, (0.1, 0.1, 0.05), decode)


def cleaning(arguments: Arguments, seed: int) -> Problem:
    """A weight for each image, half of whose labels are drawn anew."""
    path = arguments.data / "images" / "mednist" / "mednist_500_per_class.npz"
    with np.load(path) as file:
        images, y = file["images"], file["labels"]
    # Means of 4 x 4 pixels, which makes 16 x 16 of 64 x 64.
    x = images.reshape(len(images), 16, 4, 16, 4).mean(axis=(2, 4))
    rng = np.random.default_rng(seed)
    train, validation, test = split(x.reshape(len(x), -1), y, rng)
    drawn = rng.integers(0, 6, len(train.y)).astype(np.int32)
    labels = np.where(rng.random(len(train.y)) < 0.5, drawn, train.y)
    train = Rows(train.x, labels)

    def decode(outer: Any) -> tuple[Any, Any]:
        return jnp.full(train.x.shape[1], 0.4), jax.nn.sigmoid(outer)

    outer = np.zeros(len(train.x), np.float32)
    return Problem(train, validation, test, 6, outer, (0.1, 0.02, 0.01), decode)


PROBLEMS = {"regularisation": regularisation, "cleaning": cleaning}


def logits(weights: Array, x: Array) -> Array:
    """Of the classes; two classes have one column of weights."""
    out = x @ weights
    return jnp.concatenate([0.0 * out, out], axis=1) if out.shape[1] == 1 else out


def cross_entropy(weights: Array, rows: Rows) -> Array:
    """By row."""
    out = logits(weights, rows.x)
    return optax.softmax_cross_entropy_with_integer_labels(out, rows.y)


def drawn(key: Array, count: int, batch: int | None) -> Array:
    """Where a batch starts, which is a block of rows; 0 if there are no batches."""
    if batch is None:
        return jnp.zeros((), jnp.int32)
    block = jax.random.bits(key, dtype=jnp.uint32) % (count // batch)
    return (batch * block).astype(jnp.int32)


def picked(leaf: Any, place: Array, batch: int | None) -> Array:
    """The batch's rows."""
    leaf = jnp.asarray(leaf)
    return leaf if batch is None else jax.lax.dynamic_slice_in_dim(leaf, place, batch)


def inner_loss(
    problem: Problem, outer: Array, weights: Array, place: Array, batch: int | None
) -> Array:
    """Of some training rows."""
    strengths, importance = problem.decode(outer)
    rows = Rows(*[picked(leaf, place, batch) for leaf in problem.train])
    losses = picked(importance, place, batch) * cross_entropy(weights, rows)
    square = jnp.sum(strengths[:, None] * jnp.square(weights))
    return jnp.mean(losses) + 0.5 * square


def outer_loss(
    problem: Problem, weights: Array, place: Array, batch: int | None
) -> Array:
    """Of some validation rows."""
    rows = Rows(*[picked(leaf, place, batch) for leaf in problem.validation])
    return jnp.mean(cross_entropy(weights, rows))


def zeros(problem: Problem) -> Array:
    """The weights at first."""
    columns = 1 if problem.num_classes == 2 else problem.num_classes
    return jnp.zeros((problem.train.x.shape[1], columns))


class Value:
    """The value function, by SciPy in float64; goes on from the last optimum."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.found = np.zeros(zeros(problem).shape).ravel()

    def _losses(self, flat: np.ndarray, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
        out = rows.x.astype(float) @ flat.reshape(rows.x.shape[1], -1)
        if self.problem.num_classes == 2:
            out = np.append(np.zeros_like(out), out, axis=1)
        out -= scipy.special.logsumexp(out, axis=1, keepdims=True)
        return -out[np.arange(len(out)), rows.y], np.exp(out)

    def __call__(self, outer: np.ndarray) -> tuple[float, float]:
        """Validation loss at the inner optimum, and the error on the test rows."""
        rows, count = self.problem.train, len(self.problem.train.x)
        decoded = self.problem.decode(jnp.asarray(outer))
        strengths, importance = (np.asarray(leaf, float) for leaf in decoded)
        hot = np.eye(self.problem.num_classes)[rows.y]
        penalty = np.repeat(strengths, self.found.size // len(strengths))

        def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
            losses, probs = self._losses(flat, rows)
            residual = importance[:, None] * (probs - hot) / count
            residual = residual[:, 1:] if hot.shape[1] == 2 else residual
            slope = (rows.x.T.astype(float) @ residual).ravel() + penalty * flat
            total = np.mean(importance * losses) + 0.5 * np.sum(penalty * flat**2)
            return float(total), slope

        self.found = scipy.optimize.minimize(
            loss,
            self.found,
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": 3000, "maxfun": 4000, "ftol": 1e-15, "gtol": 1e-7},
        ).x
        value = self._losses(self.found, self.problem.validation)[0].mean()
        test = self._losses(self.found, self.problem.test)[1].argmax(axis=1)
        return float(value), float(np.mean(test != self.problem.test.y))


class Recipe(NamedTuple):
    """What all solvers of a kind share.

    Attributes:
      num_steps: inner steps for one gradient.
      solve_steps: products with the Hessian.
      batch: rows of a step; None for all.
      inner: the optimizer of the weights.
      outer: that of what is learnt.
    """

    num_steps: int
    solve_steps: int
    batch: int | None
    inner: optax.GradientTransformation
    outer: optax.GradientTransformation


class Method(NamedTuple):
    """A solver of one problem, compiled or ready to run.

    Attributes:
      start: `() -> state`.
      step: `(key, state) -> state`, one outer step, that JAX can trace.
      outer: `state -> what is learnt`.
      traced: whether `step` is compiled, several steps in one program.
    """

    start: Callable[[], Any]
    step: Callable[[Any, Any], Any]
    outer: Callable[[Any], Any]
    traced: bool = True


def learner_of(problem: Problem, recipe: Recipe) -> Learner:
    """The inner training as a learner, from zero and on all rows."""

    def loss(outer: Any, weights: Array, support: Examples, key: Array) -> Array:
        del key  # All rows at every step.
        own = problem._replace(train=Rows(support.x, support.y))
        return inner_loss(own, outer, weights, jnp.zeros((), int), None)

    return trained(
        "linear",
        logits,
        lambda key, settings, x: zeros(problem),
        lambda settings: recipe.inner,
        kind="classes",
        space=Space(),
        num_steps=recipe.num_steps,
        loss=loss,
    )


def single_task(problem: Problem) -> Task:
    """The problem as a batch of one task."""

    def examples(rows: Rows) -> Examples:
        mask = np.ones(len(rows.y), bool)
        return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], Examples(*rows, mask))

    return Task(
        support=examples(problem.train),
        query=examples(problem.validation),
        description=jnp.zeros((1, 1)),
    )


def by_bilevel(
    problem: Problem,
    recipe: Recipe,
    learner: Learner,
    task: Task,
    decode: Callable[[Any], Any],
    adjoint: Adjoint | None,
) -> Method:
    """`jmeta.algorithms.bilevel` over a single task."""
    algorithm = bilevel(
        learner,
        recipe.outer,
        start=problem.outer,
        decode=decode,
        adjoint=adjoint,
        max_task_norm=jnp.inf,
    )
    return Method(
        start=lambda: algorithm.init(jax.random.key(0), task),
        step=lambda key, state: algorithm.step(key, state, task)[0],
        outer=lambda state: state.params["network"][learner.name],
    )


def jmeta_cold(problem: Problem, recipe: Recipe, adjoint: Adjoint) -> Method:
    """`bilevel` through the same steps that the others take."""
    learner = learner_of(problem, recipe)
    task = single_task(problem)
    return by_bilevel(problem, recipe, learner, task, lambda outer: outer, adjoint)


def jmeta_newton(problem: Problem, recipe: Recipe) -> Method:
    """`bilevel` over jmeta's logistic regression, which is solved and not trained.

    It sums over rows where the problem has means, and has its own intercept.
    """
    task, count = single_task(problem), len(problem.train.y)
    support = task.support._replace(x=task.support.x[..., :-1])
    task = task._replace(
        support=support, query=task.query._replace(x=task.query.x[..., :-1])
    )

    def decode(outer: Array) -> dict[str, Array]:
        return {"penalty": count * problem.decode(outer)[0][:-1]}

    return by_bilevel(problem, recipe, logistic(2), task, decode, None)


class Warm(NamedTuple):
    """What a warm solver carries from one outer step to the next."""

    outer: Any
    weights: Any
    opt_state: Any


def carried(
    problem: Problem,
    recipe: Recipe,
    gradient: Callable[[Any, Any, Any], tuple[Any, Any]],
    *,
    warm: bool = True,
) -> Method:
    """The loop around `gradient(key, outer, weights) -> (gradient, weights)`."""
    begin = zeros(problem)

    def start() -> Warm:
        outer = jnp.asarray(problem.outer)
        return Warm(outer, begin, recipe.outer.init(outer))

    def step(key: Array, state: Warm) -> Warm:
        grads, weights = gradient(key, state.outer, state.weights if warm else begin)
        updates, opt_state = recipe.outer.update(grads, state.opt_state, state.outer)
        return Warm(optax.apply_updates(state.outer, updates), weights, opt_state)

    return Method(start, step, lambda state: state.outer)


def jmeta_warm(problem: Problem, recipe: Recipe, solver: Solver) -> Method:
    """`jmeta.adjoints` in a loop of one's own: steps go on, then `implicit` without."""
    count, others = len(problem.train.y), len(problem.validation.y)

    def loss(outer: Any, weights: Any, data: Any, key: Array) -> Array:
        del data  # It is the problem's.
        place = drawn(key, count, recipe.batch)
        return inner_loss(problem, outer, weights, place, recipe.batch)

    inner = Inner(loss, lambda outer: recipe.inner, recipe.num_steps)
    there, back = inner._replace(num_steps=0), implicit(solver)

    def gradient(key: Array, outer: Array, weights: Array) -> tuple[Array, Array]:
        step_key, solve_key, query_key = jax.random.split(key, 3)
        weights = unrolled().train(inner, outer, weights, None, step_key)
        place = drawn(query_key, others, recipe.batch)

        def value(outer: Array) -> Array:
            found = back.train(there, outer, weights, None, solve_key)
            return outer_loss(problem, found, place, recipe.batch)

        return back.value_and_grad(value, outer, key)[1], weights

    return carried(problem, recipe, gradient)


def steps_by_hand(problem: Problem, recipe: Recipe) -> Callable[..., Array]:
    """What a user writes with optax: `(weights, outer, places by step) -> weights`."""

    def steps(weights: Array, outer: Array, places: Array) -> Array:
        def body(state: Any, place: Array) -> tuple[Any, None]:
            weights, opt_state = state
            grads = jax.grad(inner_loss, argnums=2)(
                problem, outer, weights, place, recipe.batch
            )
            updates, opt_state = recipe.inner.update(grads, opt_state, weights)
            return (optax.apply_updates(weights, updates), opt_state), None

        state = (weights, recipe.inner.init(weights))
        return jax.lax.scan(body, state, places)[0][0]

    return steps


def batches(key: Array, problem: Problem, recipe: Recipe) -> tuple[Any, Any, Any]:
    """Places of the steps' rows, of the solve's and of the validation's."""
    step_key, solve_key, query_key = jax.random.split(key, 3)
    count, others = len(problem.train.y), len(problem.validation.y)
    keys = jax.random.split(step_key, recipe.num_steps)
    steps = jax.vmap(lambda key: drawn(key, count, recipe.batch))(keys)
    solve = drawn(solve_key, count, recipe.batch)
    return steps, solve, drawn(query_key, others, recipe.batch)


def optax_unrolled(problem: Problem, recipe: Recipe, *, warm: bool) -> Method:
    """`jax.grad` through a scan of optax steps."""
    steps = steps_by_hand(problem, recipe)

    def gradient(key: Array, outer: Array, weights: Array) -> tuple[Array, Array]:
        places, _, query = batches(key, problem, recipe)

        def value(outer: Array) -> tuple[Array, Array]:
            found = steps(weights, outer, places)
            return outer_loss(problem, found, query, recipe.batch), found

        return jax.grad(value, has_aux=True)(outer)

    return carried(problem, recipe, gradient, warm=warm)


def jaxopt_root(
    problem: Problem, recipe: Recipe, solve: Callable[..., Any], *, warm: bool
) -> Method:
    """jaxopt's `custom_root` around the steps written by hand."""
    steps = steps_by_hand(problem, recipe)

    def slope(weights: Array, outer: Array, places: Any) -> Array:
        return jax.grad(inner_loss, argnums=2)(
            problem, outer, weights, places[1], recipe.batch
        )

    @jaxopt.implicit_diff.custom_root(slope, solve=solve)
    def solver(weights: Array, outer: Array, places: Any) -> Array:
        return steps(weights, outer, places[0])

    def gradient(key: Array, outer: Array, weights: Array) -> tuple[Array, Array]:
        places, rows, query = batches(key, problem, recipe)

        def value(outer: Array) -> tuple[Array, Array]:
            found = solver(weights, outer, (places, rows))
            return outer_loss(problem, found, query, recipe.batch), found

        return jax.grad(value, has_aux=True)(outer)

    return carried(problem, recipe, gradient, warm=warm)


def jaxopt_lbfgs(problem: Problem, recipe: Recipe) -> Method:
    """jaxopt's L-BFGS to its own tolerance, from the last optimum, on all rows."""
    everything = jnp.zeros((), jnp.int32)
    solver = jaxopt.LBFGS(
        lambda weights, outer: inner_loss(problem, outer, weights, everything, None),
        maxiter=recipe.num_steps,
        implicit_diff_solve=jaxopt_cg(recipe.solve_steps),
    )

    def gradient(key: Array, outer: Array, weights: Array) -> tuple[Array, Array]:
        del key  # All rows.

        def value(outer: Array) -> tuple[Array, Array]:
            found = solver.run(weights, outer).params
            return outer_loss(problem, found, everything, None), found

        return jax.grad(value, has_aux=True)(outer)

    return carried(problem, recipe, gradient)


def jaxopt_cg(num_steps: int) -> Callable[..., Any]:
    """Conjugate gradients with as many steps as jmeta's."""

    def solve(matvec: Callable[[Any], Any], b: Any, **options: Any) -> Any:
        return jaxopt.linear_solve.solve_cg(
            matvec, b, maxiter=num_steps, tol=1e-6, **options
        )

    return solve


def neumann_by_hand(num_terms: int, rate: float) -> Callable[..., Any]:
    """The published solvers' series, which jaxopt does not have."""

    def solve(matvec: Callable[[Any], Any], b: Any, **options: Any) -> Any:
        del options  # No start is used.

        def body(carry: Any, _: None) -> tuple[Any, None]:
            total, term = carry
            return (total + term, term - rate * matvec(term)), None

        start = (jnp.zeros_like(b), b)
        return rate * jax.lax.scan(body, start, length=num_terms)[0][0]

    return solve


def torchopt_warm(
    problem: Problem, recipe: Recipe, rates: tuple[float, float]
) -> Method:
    """TorchOpt's `custom_root` with its Neumann series, in PyTorch.

    The rates are those of the outer Adam (0 for plain steps of length 1, and then
    conjugate gradients, as the others are checked) and of the inner steps.
    """
    import torch
    import torchopt

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    warnings.filterwarnings("ignore", message=".*functorch into PyTorch")
    x, y, query_x, query_y = (
        torch.tensor(leaf) for leaf in (*problem.train, *problem.validation)
    )
    y, query_y = y.long(), query_y.long()
    two = problem.num_classes == 2

    def losses(weights: Any, x: Any, y: Any) -> Any:
        out = x @ weights
        out = torch.cat([torch.zeros_like(out), out], dim=1) if two else out
        return torch.nn.functional.cross_entropy(out, y, reduction="none")

    def loss(weights: Any, outer: Any, places: Any) -> Any:
        if two:
            strengths = torch.exp(torch.clamp(outer, LOWEST, HIGHEST))
            strengths = torch.cat([strengths, torch.zeros(1)])
            importance = torch.ones(())
        else:
            strengths = torch.full((x.shape[1],), 0.4)
            importance = torch.sigmoid(outer)[places]
        square = torch.sum(strengths[:, None] * weights**2)
        return (importance * losses(weights, x[places], y[places])).mean() + square / 2

    slope = torch.func.grad(loss, argnums=0)
    if rates[0]:
        solve = torchopt.linear_solve.solve_inv(
            ns=True, maxiter=recipe.solve_steps, alpha=rates[1]
        )
    else:
        solve = torchopt.linear_solve.solve_cg(maxiter=recipe.solve_steps)

    @torchopt.diff.implicit.custom_root(
        lambda weights, outer, places: slope(weights, outer, places[-1]),
        argnums=1,
        solve=solve,
    )
    def solver(begin: Any, outer: Any, places: Any) -> Any:
        weights, moved = begin, torch.zeros_like(begin)
        momentum = 0.0 if rates[0] else 0.9
        for rows in places[:-1]:
            with torch.no_grad():
                grads = slope(weights, outer.detach(), rows)
                moved = grads + momentum * moved
                weights = weights - rates[1] * (grads + momentum * moved)
        return weights.requires_grad_()

    def rows(count: int) -> Any:
        if recipe.batch is None:
            return slice(0, count)
        start = recipe.batch * int(torch.randint(count // recipe.batch, ()))
        return slice(start, start + recipe.batch)

    def start() -> Any:
        torch.manual_seed(0)
        outer = torch.tensor(problem.outer, requires_grad=True)
        made = torch.optim.Adam([outer], rates[0]) if rates[0] else None
        made = made or torch.optim.SGD([outer], 1.0)
        return outer, torch.zeros(zeros(problem).shape), made

    def step(key: Any, state: Any) -> Any:
        del key  # PyTorch keeps its own.
        outer, weights, optimizer = state
        places = [rows(len(x)) for _ in range(recipe.num_steps + 1)]
        found = solver(weights, outer, places)
        query = rows(len(query_x))
        optimizer.zero_grad()
        losses(found, query_x[query], query_y[query]).mean().backward()
        optimizer.step()
        return outer, found.detach(), optimizer

    return Method(start, step, lambda state: state[0].detach().clone().numpy(), False)


Maker = Callable[[Problem], Method]


def methods(
    cold: Recipe, warm: Recipe, ours: Solver, theirs: Callable[..., Any], two: bool
) -> dict[str, Maker]:
    """All solvers of JAX by name; the warm ones solve as `ours` and `theirs` do."""
    partial, cut = functools.partial, cold.solve_steps
    made: dict[str, Maker] = {
        "cold: jmeta bilevel, checkpointed": partial(
            jmeta_cold, recipe=cold, adjoint=checkpointed()
        ),
        "cold: jmeta bilevel, unrolled": partial(
            jmeta_cold, recipe=cold, adjoint=unrolled()
        ),
        "cold: optax unrolled by hand": partial(
            optax_unrolled, recipe=cold, warm=False
        ),
        "cold: jmeta bilevel, implicit": partial(
            jmeta_cold, recipe=cold, adjoint=implicit(cg(max_steps=cut))
        ),
        "cold: jaxopt custom_root": partial(
            jaxopt_root, recipe=cold, solve=jaxopt_cg(cut), warm=False
        ),
        "warm: jmeta adjoints, implicit": partial(jmeta_warm, recipe=warm, solver=ours),
        "warm: jaxopt custom_root": partial(
            jaxopt_root, recipe=warm, solve=theirs, warm=True
        ),
        "warm: optax unrolled by hand": partial(optax_unrolled, recipe=warm, warm=True),
        "own: jaxopt L-BFGS": partial(jaxopt_lbfgs, recipe=cold),
    }
    if two:
        made["own: jmeta bilevel, Newton"] = partial(jmeta_newton, recipe=cold)
    return made


def timed_methods(problem: Problem) -> dict[str, Maker]:
    """As they are raced."""
    rate, cold_rate, warm_rate = problem.rates
    inner = optax.sgd(cold_rate, momentum=0.9, nesterov=True)
    cold = Recipe(COLD_STEPS, SOLVE_STEPS, None, inner, optax.adam(rate))
    warm = Recipe(
        WARM_STEPS, SOLVE_STEPS, BATCH, optax.sgd(warm_rate), optax.adam(rate)
    )
    made = methods(
        cold,
        warm,
        neumann(SOLVE_STEPS, warm_rate),
        neumann_by_hand(SOLVE_STEPS, warm_rate),
        problem.num_classes == 2,
    )
    if importlib.util.find_spec("torchopt") is not None:
        made["warm: TorchOpt custom_root"] = functools.partial(
            torchopt_warm, recipe=warm, rates=(rate, warm_rate)
        )
    return made


def gradient_errors(problem: Problem, num_steps: int = 2000) -> dict[str, float]:
    """Of each solver's gradient, trained and solved to the end on all rows.

    Largest over three random directions, relative to the largest finite difference of
    the value function among them.
    """
    rng = np.random.default_rng(0)
    outer = rng.uniform(-2.0, 0.0, problem.outer.shape).astype(np.float32)
    problem = problem._replace(outer=outer)
    directions = rng.normal(size=(3, outer.size))
    value, slopes = Value(problem), []
    for direction in directions:
        # The change along it is seen in float64; decode is in float32.
        size = 0.03
        high, low = (value(outer + s * size * direction)[0] for s in (1.0, -1.0))
        slopes.append((high - low) / (2.0 * size))
    rate = problem.rates[1]
    inner = optax.sgd(rate, momentum=0.9, nesterov=True)
    recipe = Recipe(num_steps, 300, None, inner, optax.sgd(1.0))
    two = problem.num_classes == 2
    made = methods(recipe, recipe, cg(max_steps=300), jaxopt_cg(300), two)
    if importlib.util.find_spec("torchopt") is not None:
        made["warm: TorchOpt custom_root"] = functools.partial(
            torchopt_warm, recipe=recipe._replace(num_steps=1000), rates=(0.0, rate)
        )
    errors = {}
    for name, make in made.items():
        method = make(problem)
        step = jax.jit(method.step) if method.traced else method.step
        after = method.outer(step(jax.random.key(0), method.start()))
        along = directions @ (outer.astype(float) - np.asarray(after, float))
        errors[name] = float(np.abs(along - slopes).max() / np.abs(slopes).max())
    return errors


Advance = Callable[[Problem, Any, int], Any]


def compiled(make: Maker, problem: Problem, seed: int) -> tuple[Advance, int, float]:
    """Several outer steps as a function `(problem, state, steps so far) -> state`.

    Also how many, and what compiling took. The data are arguments, so that one program
    serves all seeds.
    """
    key, method = jax.random.key(seed), make(problem)
    if not method.traced:

        def advance(problem: Problem, state: Any, first: int) -> Any:
            del problem  # PyTorch's steps hold their data.
            for number in range(5):
                state = method.step(first + number, state)
            return state

        advance(problem, method.start(), 0)  # Whatever PyTorch does at first.
        return advance, 5, 0.0

    def several(data: tuple[Rows, Rows], state: Any, first: Array) -> Any:
        train, validation = data
        own = make(problem._replace(train=train, validation=validation))

        def body(state: Any, number: Array) -> tuple[Any, None]:
            return own.step(jax.random.fold_in(key, number), state), None

        return jax.lax.scan(body, state, first + jnp.arange(20))[0]

    data, begin = (problem.train, problem.validation), time.process_time()
    run = jax.jit(several).lower(data, method.start(), jnp.asarray(0)).compile()
    seconds = time.process_time() - begin

    def advance(problem: Problem, state: Any, first: int) -> Any:
        data = (problem.train, problem.validation)
        return jax.block_until_ready(run(data, state, jnp.asarray(first)))

    advance(problem, method.start(), 0)
    return advance, 20, seconds


class Run(NamedTuple):
    """One solver on one problem and seed: what was learnt after so many seconds."""

    steps: int
    wall_s: float
    seconds: list[float]
    outers: list[np.ndarray]


def race(
    make: Maker, advance: Advance, size: int, problem: Problem, limit: float
) -> Run:
    """Outer steps for so long; keeping what is learnt after a call is not timed."""
    method = make(problem)
    state, done, wall = method.start(), 0, 0.0
    spent, outers = [0.0], [np.array(method.outer(state))]
    while spent[-1] < limit:
        begin, begin_wall = time.process_time(), time.perf_counter()
        state = advance(problem, state, done)
        spent.append(spent[-1] + time.process_time() - begin)
        wall += time.perf_counter() - begin_wall
        done += size
        outers.append(np.array(method.outer(state)))
    return Run(done, wall, spent, outers)


def thinned(count: int, most: int = 24) -> list[int]:
    """At most so many places, the first ones dense."""
    places = np.geomspace(1, count, most) - 1
    return sorted({round(place) for place in places})


def measured(problem: Problem, run: Run) -> dict[str, Any]:
    """Values along one run."""
    value, places = Value(problem), thinned(len(run.outers))
    found = [value(run.outers[place]) for place in places]
    return {
        "wall_s": run.wall_s,
        "outer_steps": run.steps,
        "ms_per_step": 1e3 * run.seconds[-1] / run.steps,
        "seconds": [run.seconds[place] for place in places],
        "values": [pair[0] for pair in found],
        "test_errors": [pair[1] for pair in found],
    }


def reached(curve: dict[str, Any], target: float) -> float:
    """Seconds until the value first is at most the target, on straight lines between
    the values that are known; infinite if never."""
    seconds, values = curve["seconds"], curve["values"]
    for place, value in enumerate(values):
        if value <= target:
            before = max(place - 1, 0)
            share = (values[before] - target) / max(values[before] - value, 1e-12)
            return seconds[before] + share * (seconds[place] - seconds[before])
    return float("inf")


def run_problem(arguments: Arguments, name: str) -> dict[str, Any]:
    """All solvers on all seeds of one problem."""
    make = PROBLEMS[name]
    errors = gradient_errors(make(arguments, 0))
    problems = [make(arguments, seed) for seed in range(arguments.seeds)]
    curves: dict[str, list[dict[str, Any]]] = {}
    compile_s = {}
    for solver, maker in timed_methods(problems[0]).items():
        advance, size, compile_s[solver] = compiled(maker, problems[0], 0)
        curves[solver] = []
        for seed, problem in enumerate(problems):
            if not compile_s[solver]:  # Steps of PyTorch hold their data.
                advance, size, _ = compiled(maker, problem, seed)
            run = race(maker, advance, size, problem, arguments.seconds)
            curves[solver].append(measured(problem, run))
        print(f"{name}: {solver}", file=sys.stderr, flush=True)
        jax.clear_caches()
    for found in zip(*curves.values()):
        best = min(min(curve["values"]) for curve in found)
        start = found[0]["values"][0]
        target = best + 0.05 * (start - best)
        for curve in found:
            curve["target"], curve["seconds_to_target"] = target, reached(curve, target)
    problem = problems[0]
    return {
        "train": list(problem.train.x.shape),
        "validation": len(problem.validation.y),
        "learnt": problem.outer.size,
        "gradient_errors": errors,
        "compile_s": compile_s,
        "curves": curves,
    }


def interval(values: list[float]) -> str:
    """The mean, with half the width of Student's 95 % interval."""
    if not np.isfinite(values).all():
        count = int(np.isfinite(values).sum())
        return f"{count} of {len(values)}" if count else "not reached"
    mean, count = np.mean(values), len(values)
    if count < 2:
        return f"{mean:.3g}"
    half = scipy.stats.t.ppf(0.975, count - 1) * np.std(values, ddof=1) / count**0.5
    return f"{mean:.3g} ± {half:.2g}"


def show(console: Console, name: str, results: dict[str, Any]) -> None:
    """A row a solver: times, and where it ended."""
    table = Table("", title=f"{name}: {results['train']} rows and columns")
    headings = ("to target, s", "last value", "ms a step", "compile, s", "gradient")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for solver, curves in results["curves"].items():
        table.add_row(
            solver,
            interval([curve["seconds_to_target"] for curve in curves]),
            interval([curve["values"][-1] for curve in curves]),
            f"{np.median([curve['ms_per_step'] for curve in curves]):.3g}",
            f"{results['compile_s'][solver]:.2g}",
            f"{results['gradient_errors'][solver]:.1e}",
        )
    console.print(table)


def draw(results: dict[str, Any], path: pathlib.Path) -> None:
    """Values above the best over seconds, of the first seed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 5), layout="constrained")
    panels = figure.subplots(1, len(results["problems"]), squeeze=False)[0]
    styles = {"cold": "--", "warm": "-", "own:": ":"}
    for axes, (name, found) in zip(panels, results["problems"].items()):
        for solver, curves in found["curves"].items():
            curve = curves[0]
            axes.plot(
                curve["seconds"][1:],
                curve["values"][1:],
                styles[solver[:4]],
                lw=2.2 if "jmeta" in solver else 1.2,
                label=solver,
            )
        axes.axhline(curve["target"], color="0.7", lw=0.8)
        axes.set_xscale("log")
        axes.set_title(name)
        axes.set_xlabel("seconds of the process, without compiling")
        axes.set_ylabel("validation loss at the inner optimum")
        axes.legend(fontsize=7)
    figure.savefig(path, dpi=120)


def main(arguments: Arguments) -> None:
    """Run, show, write."""
    jax.config.update("jax_enable_compilation_cache", False)  # Its time is told.
    if unknown := set(arguments.problems) - set(PROBLEMS):
        sys.exit(
            f"bilevel.py: no problem {sorted(unknown)}; there are {list(PROBLEMS)}."
        )
    results: dict[str, Any] = {
        "device": jax.devices()[0].device_kind,
        "cores": len(os.sched_getaffinity(0)),
        "jax": jax.__version__,
        "jaxopt": importlib.metadata.version("jaxopt"),
        "table": arguments.table,
        "seeds": arguments.seeds,
        "seconds": arguments.seconds,
    }
    if importlib.util.find_spec("torchopt") is not None:
        results["torchopt"] = importlib.metadata.version("torchopt")
    results["problems"] = {
        name: run_problem(arguments, name) for name in arguments.problems
    }
    for name, found in results["problems"].items():
        show(Console(stderr=arguments.json), name, found)
    if arguments.json:
        # What was never reached is null, since JSON has no infinity.
        strict = json.loads(json.dumps(results), parse_constant=lambda _: None)
        print(json.dumps(strict, indent=1, allow_nan=False))
    if arguments.plot is not None:
        draw(results, arguments.plot)


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
