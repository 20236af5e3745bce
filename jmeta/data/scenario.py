"""The description of an ASlib scenario: what was measured and how features come.

Source: Bischl et al., 2016, https://arxiv.org/abs/1506.02465, section 4.
"""

import math
import re
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from jmeta.data.cells import read_text
from jmeta.data.columns import quote
from jmeta.errors import InputError

__all__ = ["Scenario", "Step", "read_scenario"]

_FLAGS = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}
_TYPES = ("runtime", "solution_quality")
_BLANK = ("", "?", "null", "~", "NA")


class Step(NamedTuple):
    """A step that computes features.

    Attributes:
      provides: features that need this step.
      requires: steps that must run before.
    """

    provides: tuple[str, ...]
    requires: tuple[str, ...]


class Scenario(NamedTuple):
    """What `description.txt` says.

    Attributes:
      name: of the scenario.
      measure: the first performance measure, a column of the runs.
      is_runtime: whether it is one, in seconds.
      maximize: whether higher is better.
      cutoff: of an algorithm's run, in seconds; None if there is no positive one.
      steps: by name, in the order of the file.
    """

    name: str
    measure: str
    is_runtime: bool
    maximize: bool
    cutoff: float | None
    steps: dict[str, Step]


def read_scenario(path: Path) -> Scenario:
    """Read the YAML of a `description.txt`.

    Lists and single values mean the same, and of several performance measures the
    first counts. Without `scenario_id` the folder names the scenario; runtimes need no
    `maximize`; `feature_steps` and the cutoff may be absent.

    Raises:
      InputError: if it is no YAML or lacks what is needed; names the line.
    """
    text, what = read_text(path), repr(str(path))
    found = _parse(text, what)

    def fault(key: str, wanted: str) -> InputError:
        line = _line_of(key, text)
        if line is None:
            return InputError(f"{what} lacks {key}, which must be {wanted}.")
        value = quote(found.get(key))
        return InputError(f"{what}: line {line}: {key} must be {wanted}, not {value}.")

    def first(key: str) -> str:
        values = [value for value in _list(found.get(key)) if value not in _BLANK]
        return values[0] if values else ""

    measure = first("performance_measures")
    if not measure:
        raise fault("performance_measures", "the name of a column of the runs")
    kind = first("performance_type").lower()
    if kind not in _TYPES:
        raise fault("performance_type", " or ".join(_TYPES))
    is_runtime = kind == "runtime"
    maximize = _FLAGS.get(first("maximize").lower())
    if maximize is None and is_runtime and "maximize" not in found:
        maximize = False
    if maximize is None or (maximize and is_runtime):
        raise fault("maximize", "false of a runtime" if is_runtime else "true or false")
    cutoff = _number(first("algorithm_cutoff_time"))
    if cutoff is None:
        raise fault("algorithm_cutoff_time", "seconds, or ? where there is no limit")
    steps = _steps(found.get("feature_steps"))
    if steps is None:
        raise fault("feature_steps", "a mapping from steps to what they provide")
    return Scenario(
        name=first("scenario_id") or path.absolute().parent.name,
        measure=measure,
        is_runtime=is_runtime,
        maximize=maximize,
        cutoff=cutoff if 0 < cutoff < math.inf else None,
        steps=steps,
    )


def _parse(text: str, what: str) -> dict[str, Any]:
    try:
        # Like safe_load it builds no objects, and it leaves names such as "no" or
        # "1e5" the texts that they are in the tables.
        found = yaml.load(text, Loader=yaml.BaseLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        # Of a character that YAML does not allow the place in the text is told.
        line = text.count("\n", 0, getattr(error, "position", 0))
        reason = getattr(error, "problem", None) or getattr(error, "reason", "")
        reason = " ".join(str(reason).split()) or "it cannot be parsed"
        raise InputError(
            f"{what}: line {(mark.line if mark else line) + 1} is no YAML: {reason}."
        ) from None
    except RecursionError:
        raise InputError(f"{what} is no description: it nests too deeply.") from None
    if not isinstance(found, dict):
        raise InputError(
            f"{what}: line 1 begins no description; it must hold 'key: value' lines, "
            "performance_measures among them."
        )
    return found


def _line_of(key: str, text: str) -> int | None:
    match = re.search(rf"^{key}\s*:", text, re.MULTILINE)
    return text.count("\n", 0, match.start()) + 1 if match else None


def _list(value: Any) -> list[str]:
    """The texts of a list, or of a single value; without nested ones."""
    values = value if isinstance(value, list) else [value]
    return [item for item in values if isinstance(item, str)]


def _number(text: str) -> float | None:
    """Seconds; infinite if it is blank, None if it is no number."""
    if not text:
        return math.inf
    try:
        return float(text)
    except ValueError:
        return None


def _steps(value: Any) -> dict[str, Step] | None:
    """The steps; None if they do not have the form of any version of the format."""
    if value is None or value in _BLANK:
        return {}
    if not isinstance(value, dict):
        return None
    steps = {}
    for name, step in value.items():
        # In the first version a step is the list of what it provides.
        parts = step if isinstance(step, dict) else {"provides": step}
        steps[str(name)] = Step(
            provides=_names(parts.get("provides")),
            requires=_names(parts.get("requires")),
        )
    return steps


def _names(value: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for name in _list(value) if name))
