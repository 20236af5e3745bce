"""Hyperparameter spaces: named, typed settings <-> a vector in the unit cube.

What is not a real number is relaxed for the gradient alone. Values are always exact,
those that a learner is fitted with as well as those that are recommended:

- a whole number is rounded, and its gradient passes straight through, as if it had not
  been; learners in which nothing is between two whole numbers, such as the number of
  neighbours, stop it, and leave such settings to `jmeta.adjoints.evolution`;
- a choice is a position on the line through its options, rounded to the nearest, with
  the gradient of a position. A learner that can tell how its loss would change on the
  way to the neighbouring option gives it: `jmeta.learners.kernels.kernel` has the slope
  of the straight line between two kernels. Others give zero;
- a setting that only means something under some options of a choice, as `when` says, is
  its default under the others, and its gradient is then exactly zero: it neither moves
  nor adds noise until its choice makes it count. `readable` leaves it out. The choice
  gets no gradient from that switch.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jmeta.types import Array, Key, Settings

__all__ = ["Hyper", "Space", "When", "choice", "integer", "real"]

When = tuple[str, tuple[str, ...]]
"""The name of a choice, and the options under which a setting counts."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hyper:
    """One hyperparameter: a range or a list of options.

    Attributes:
      low, high: the range, both ends included; for a choice 0 and the number of
        options minus one.
      default: the value used where nothing else is said.
      log: whether equal steps of the unit interval are equal ratios.
      integer: whether the value is rounded; its gradient passes straight through.
      options: what the values of a choice mean, else empty.
      at_most_rows: whether the value may not exceed the number of support rows.
      when: the choice, earlier in the space, and its options under which the setting
        counts; None for all. A setting under one that does not count does not either.
    """

    low: float
    high: float
    default: float
    log: bool = False
    integer: bool = False
    options: tuple[str, ...] = ()
    at_most_rows: bool = False
    when: When | None = None

    def decode(self, unit: Array) -> Array:
        """Turn positions in [0, 1] into values; positions outside are clipped."""
        unit = jnp.clip(unit, 0.0, 1.0)
        if self.log:
            low, high = math.log(self.low), math.log(self.high)
            value = jnp.exp(low + unit * (high - low))
        else:
            value = self.low + unit * (self.high - self.low)
        value = jnp.clip(value, self.low, self.high)
        if self.integer:
            # After clipping, which would halve the gradient at both ends.
            value = value + jax.lax.stop_gradient(jnp.round(value) - value)
        return value

    def encode(self, value: Array) -> Array:
        """Turn values into positions in [0, 1]; values outside are clipped."""
        value = jnp.clip(jnp.asarray(value, float), self.low, self.high)
        if self.high == self.low:
            return jnp.zeros_like(value)
        if self.log:
            low, high = math.log(self.low), math.log(self.high)
            return (jnp.log(value) - low) / (high - low)
        return (value - self.low) / (self.high - self.low)


def real(
    low: float,
    high: float,
    *,
    default: float,
    log: bool = False,
    when: When | None = None,
) -> Hyper:
    """A real number in [low, high]; `log=True` needs `low > 0`."""
    _check("real", low, high, default, log)
    return Hyper(low=low, high=high, default=default, log=log, when=when)


def integer(
    low: int,
    high: int,
    *,
    default: int,
    log: bool = False,
    at_most_rows: bool = False,
    when: When | None = None,
) -> Hyper:
    """A whole number in [low, high], rounded; its gradient passes straight through."""
    _check("integer", float(low), float(high), float(default), log)
    return Hyper(
        low=float(low),
        high=float(high),
        default=float(default),
        log=log,
        integer=True,
        at_most_rows=at_most_rows,
        when=when,
    )


def choice(*options: str, default: str, when: When | None = None) -> Hyper:
    """One of a few named options; inside the program, the option's number."""
    if len(set(options)) != len(options) or default not in options:
        raise ValueError(
            f"choice: options must differ and hold the default, got {options} "
            f"and default={default!r}."
        )
    return Hyper(
        low=0.0,
        high=float(len(options) - 1),
        default=float(options.index(default)),
        integer=True,
        options=options,
        when=when,
    )


def _check(who: str, low: float, high: float, default: float, log: bool) -> None:
    if not (low <= default <= high and (low > 0 or not log)):
        raise ValueError(
            f"{who}: needs low <= default <= high, and low > 0 if log, got "
            f"low={low}, default={default}, high={high}, log={log}."
        )


def _check_when(name: str, hyper: Hyper, earlier: Mapping[str, Hyper]) -> None:
    if hyper.when is None:
        return
    parent, options = hyper.when
    known = earlier[parent].options if parent in earlier else ()
    # Earlier alone, so that no two depend on each other.
    if not options or not set(options) <= set(known):
        choices = {other: made.options for other, made in earlier.items()}
        raise ValueError(
            f"Space: {name} counts when {parent} is one of {options}, which must be "
            f"options of a choice before it; before it are {choices}."
        )


class Space:
    """A learner's hyperparameters: `Space(penalty=real(1e-3, 1e3, default=1.0))`.

    `decode` and `encode` are differentiable where the setting is, and act on the
    last axis, so they need no `vmap`. Equal spaces compare and hash equal.

    Raises:
      ValueError: if a setting depends on what is not an option of an earlier choice.
    """

    def __init__(self, **hypers: Hyper) -> None:
        earlier: dict[str, Hyper] = {}
        for name, hyper in hypers.items():
            _check_when(name, hyper, earlier)
            earlier[name] = hyper
        self.hypers = dict(hypers)

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in the order of the unit vector."""
        return tuple(self.hypers)

    def __len__(self) -> int:
        return len(self.hypers)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Space) and self.hypers == other.hypers

    def __hash__(self) -> int:
        return hash(tuple(self.hypers.items()))

    def __repr__(self) -> str:
        return f"Space({', '.join(self.names)})"

    def decode(self, unit: Float[Array, "*batch size"]) -> Settings:
        """Turn unit vectors into settings, one array `(*batch,)` a name.

        Settings that do not count are their defaults.
        """
        settings: Settings = {}
        counts: dict[str, Array | bool] = {}
        for i, (name, hyper) in enumerate(self.hypers.items()):
            value = hyper.decode(unit[..., i])
            counts[name] = True
            if hyper.when is not None:
                parent, options = hyper.when
                known = self.hypers[parent].options
                chosen = jnp.asarray([known.index(option) for option in options])
                same = jnp.any(settings[parent][..., None] == chosen, axis=-1)
                counts[name] = counts[parent] & same
                value = jnp.where(counts[name], value, hyper.default)
            settings[name] = value
        return settings

    def encode(self, settings: Mapping[str, Any]) -> Float[Array, "*batch size"]:
        """Turn settings into unit vectors; a name left out takes its default.

        Settings that do not count may be left out or given; the way back makes them
        their defaults.

        Raises:
          ValueError: if a name is not in the space, or an option is unknown.
        """
        unknown = sorted(set(settings) - set(self.hypers))
        if unknown:
            raise ValueError(
                f"Space.encode: no hyperparameter {unknown}; known are "
                f"{list(self.names)}."
            )
        columns = []
        for name, hyper in self.hypers.items():
            value = settings.get(name, hyper.default)
            if isinstance(value, str):
                if value not in hyper.options:
                    raise ValueError(
                        f"Space.encode: {name} must be one of {hyper.options}, "
                        f"got {value!r}."
                    )
                value = hyper.options.index(value)
            columns.append(hyper.encode(jnp.asarray(value, float)))
        if not columns:
            return jnp.zeros((0,))
        return jnp.stack(jnp.broadcast_arrays(*columns), axis=-1)

    def default(self) -> Float[Array, " size"]:
        """The unit vector of the defaults."""
        return self.encode({})

    def sample(self, key: Key, num: int) -> Float[Array, "num size"]:
        """Draw unit vectors uniformly."""
        return jax.random.uniform(key, (num, len(self)))

    def readable(
        self, unit: Float[Array, " size"] | Sequence[float], num_rows: int | None = None
    ) -> dict[str, float | int | str]:
        """One unit vector as plain Python values, as people read and JSON holds them.

        Settings that do not count are left out. With `num_rows`, limits that depend
        on the task are applied.
        """
        values = _values(self, tuple(np.asarray(unit, np.float32).tolist()))
        out: dict[str, float | int | str] = {}
        for (name, hyper), value in zip(self.hypers.items(), values):
            if hyper.when is not None and out.get(hyper.when[0]) not in hyper.when[1]:
                continue
            if hyper.at_most_rows and num_rows is not None:
                value = min(value, num_rows)
            if hyper.options:
                out[name] = hyper.options[round(value)]
            elif hyper.integer:
                out[name] = round(value)
            else:
                out[name] = float(f"{value:.6g}")
        return out


@functools.lru_cache(maxsize=4096)
def _values(space: Space, unit: tuple[float, ...]) -> tuple[float, ...]:
    """Decoded settings; kept, since the same candidates are told again and again."""
    settings = space.decode(jnp.asarray(unit))
    return tuple(float(settings[name]) for name in space.names)
