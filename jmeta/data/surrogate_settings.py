"""The hyperparameters of a YAHPO Gym surrogate, and values of them as its codes."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jmeta.errors import InputError

__all__ = ["Hyperparameter", "code", "read_hyperparameters", "values_there"]

LACKING = "#na#"
"""How the codes call a word that is not there."""

SLACK = 1e-6
"""How far outside its range a printed number may lie, of its size."""

_KINDS = {"uniform_float": "float", "uniform_int": "int", "categorical": "word"}


class Hyperparameter(NamedTuple):
    """One hyperparameter.

    Attributes:
      name: of it.
      kind: "float", "int" or "word".
      low, high: the range of a number; 0 for words.
      log: whether equal steps of a search should be equal ratios.
      options: of a word, with the network's code of each; empty for numbers.
      needs: `(parent, values)`: it is there only where each parent, a word, is there
        and has one of such values.
      absent: what the network is told where it is not there.
      default: a value of it.
    """

    name: str
    kind: str
    low: float
    high: float
    log: bool
    options: Mapping[str, int]
    needs: tuple[tuple[str, tuple[str, ...]], ...]
    absent: int
    default: Any


def read_hyperparameters(
    space: Mapping[str, Any], codes: Mapping[str, Mapping[str, int]]
) -> dict[str, Hyperparameter]:
    """By name, from the content of `config_space.json` and `encoding.json`.

    Raises:
      ValueError: if they do not fit together or hold what is not understood.
    """
    if space.get("forbiddens"):
        raise ValueError("it forbids combinations, which is not understood")
    try:
        needs = _needs(space["conditions"])
        found = {
            str(stated["name"]): _hyperparameter(stated, codes, needs)
            for stated in space["hyperparameters"]
        }
    except KeyError as error:
        raise ValueError(f"{error} is missing there or in encoding.json") from error
    except (AttributeError, TypeError) as error:
        raise ValueError(f"its entries are not as expected ({error})") from error
    words = {name for name, one in found.items() if one.kind == "word"}
    if others := {parent for row in needs.values() for parent, _ in row} - words:
        raise ValueError(
            f"conditions depend on {', '.join(sorted(others))}, and only words are "
            "understood there"
        )
    _check_circles({child: {name for name, _ in row} for child, row in needs.items()})
    return found


def _check_circles(parents: Mapping[str, set[str]]) -> None:
    left = set(parents)
    while left:
        free = {child for child in left if not parents[child] & left}
        if not free:
            raise ValueError(f"conditions of {', '.join(sorted(left))} form a circle")
        left -= free


def _needs(conditions: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Parents with the values that they must have, by child."""
    needs: dict[str, list[Any]] = {}
    for one in conditions:
        if one["type"] not in ("EQ", "IN"):
            raise ValueError(f"it has a condition {one['type']!r}, not EQ or IN")
        values = one["values"] if one["type"] == "IN" else [one["value"]]
        parent = str(one["parent"]), tuple(map(str, values))
        needs.setdefault(str(one["child"]), []).append(parent)
    return needs


def _hyperparameter(
    stated: Mapping[str, Any],
    codes: Mapping[str, Mapping[str, int]],
    needs: Mapping[str, Sequence[Any]],
) -> Hyperparameter:
    name, kind = str(stated["name"]), _KINDS.get(stated["type"])
    if kind is None:
        raise ValueError(
            f"{name} is of type {stated['type']!r}, not one of {', '.join(_KINDS)}"
        )
    word = kind == "word"
    names = [str(option) for option in stated["choices"]] if word else []
    options = {option: int(codes[name][option]) for option in names}
    if any(not 0 <= place < 2**31 for place in options.values()):
        raise ValueError(f"encoding.json has codes of {name} that are no places")
    return Hyperparameter(
        name=name,
        kind=kind,
        low=0.0 if word else float(stated["lower"]),
        high=0.0 if word else float(stated["upper"]),
        log=not word and bool(stated["log"]),
        options=options,
        needs=tuple(needs.get(name, ())),
        absent=int(codes[name][LACKING]) if word else 0,
        default=stated["default"] if word else float(stated["default"]),
    )


def values_there(
    known: Mapping[str, Hyperparameter], given: Mapping[str, Any]
) -> dict[str, Any]:
    """The value of each hyperparameter, None where its conditions rule it out.

    Raises:
      InputError: if one is unknown or missing.
    """
    if unknown := set(given) - set(known):
        raise InputError(
            f"there are no settings {', '.join(sorted(unknown))}; there are "
            f"{', '.join(known)}."
        )

    def there(one: Hyperparameter) -> bool:
        return all(
            there(known[parent]) and str(given.get(parent)) in values
            for parent, values in one.needs
        )

    found = {one.name: given.get(one.name) for one in known.values() if there(one)}
    for name, value in found.items():
        if value is None:
            raise InputError(
                f"the setting {name} is missing; its default is "
                f"{known[name].default!r}."
            )
    return {name: found.get(name) for name in known}


def code(one: Hyperparameter, value: Any) -> float:
    """What the network is told; `value` is None where the setting is not there.

    Raises:
      InputError: if the value is no option or outside the range.
    """
    if value is None:
        return float(one.absent)
    if one.kind == "word":
        if str(value) not in one.options:
            raise InputError(
                f"{one.name} is {value!r}; it must be one of {', '.join(one.options)}."
            )
        return float(one.options[str(value)])
    least, most = one.low - SLACK * abs(one.low), one.high + SLACK * abs(one.high)
    is_number = isinstance(value, int | float | np.integer | np.floating)
    if (
        not is_number
        or not least <= value <= most
        or (one.kind == "int" and not float(value).is_integer())
    ):
        raise InputError(
            f"{one.name} is {value!r}; it must be "
            f"{'a whole number' if one.kind == 'int' else 'a number'} from "
            f"{one.low:g} to {one.high:g}."
        )
    return float(np.clip(value, one.low, one.high))
