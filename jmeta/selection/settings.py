"""Candidates' own settings as numbers, so that alike candidates are near each other.

`read_space` looks at the settings of all candidates once; the space it returns turns
settings into columns in [0, 1] and columns back into settings.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

__all__ = ["Setting", "SettingsSpace", "encode_settings", "read_space"]


class Setting(NamedTuple):
    """One setting, as the candidates have it.

    Attributes:
      name: of the setting.
      optional: whether some candidates lack it.
      options: the values of a setting that is not a number, else ().
      kind: of a number: bool, int or float.
      low, high: the range of a number.
      log: whether equal steps in [0, 1] are equal ratios.
    """

    name: str
    optional: bool
    options: tuple[Any, ...] = ()
    kind: type = float
    low: float = 0.0
    high: float = 0.0
    log: bool = False

    @property
    def size(self) -> int:
        """How many columns it has."""
        return 1 + max(len(self.options), 1)

    def columns(self, values: Sequence[Any]) -> list[np.ndarray]:
        """Who has the setting; then its number, or one column an option."""
        there = np.array([value is not None for value in values], float)
        if self.options:
            names = np.array([str(value) for value in values])
            rest = [there * (names == str(option)) for option in self.options]
        else:
            rest = [there * self._unit(values)]
        return [there, *rest]

    def _unit(self, values: Sequence[Any]) -> np.ndarray:
        numbers = np.array([self.low if v is None else float(v) for v in values])
        return self.unit(np.clip(numbers, self.low, self.high))

    def unit(self, numbers: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Numbers in the range as positions in [0, 1]; 0 if there is but one."""
        if self.low == self.high:
            return np.zeros_like(numbers)
        if self.log:
            return np.log(numbers / self.low) / np.log(self.high / self.low)
        return (numbers - self.low) / (self.high - self.low)

    def number(self, unit: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Positions as numbers, whole ones if the setting's are."""
        unit = np.clip(unit, 0.0, 1.0)
        if self.log:
            numbers = self.low * (self.high / self.low) ** unit
        else:
            numbers = self.low + unit * (self.high - self.low)
        return numbers if self.kind is float else np.round(numbers)

    def value(self, columns: Float[np.ndarray, " columns"]) -> Any:
        """What columns mean: a plain value, None where the setting is lacking."""
        if self.optional and columns[0] < 0.5:
            return None
        if self.options:
            return self.options[int(np.argmax(columns[1:]))]
        number = float(self.number(columns[1:])[0])
        return float(f"{number:.6g}") if self.kind is float else self.kind(number)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SettingsSpace:
    """Settings of candidates and columns in [0, 1], both ways.

    A setting that a candidate does not have is 0 in all its columns; one that some
    candidates lack gets a column that says who has it. What never varies among the
    candidates has no column.

    Attributes:
      settings: in the candidates' order; those that nobody has are left out.
      kept: which of all settings' columns vary.
    """

    settings: tuple[Setting, ...]
    kept: tuple[bool, ...]

    def encode(self, settings: pd.DataFrame) -> Float[np.ndarray, "rows columns"]:
        """Settings as columns in [0, 1]: numbers scaled, anything else one-hot."""
        return self._all(settings)[:, np.array(self.kept, bool)]

    def _all(self, settings: pd.DataFrame) -> np.ndarray:
        columns = [
            column
            for setting in self.settings
            for column in setting.columns(settings[setting.name].tolist())
        ]
        return np.stack(columns, axis=1) if columns else np.zeros((len(settings), 0))

    def decode(self, unit: Float[np.ndarray, " columns"]) -> dict[str, Any]:
        """The settings that columns mean, as plain values; without those lacking."""
        whole = self._spread(unit)
        found = {
            setting.name: setting.value(whole[first : first + setting.size])
            for setting, first in zip(self.settings, self._firsts())
        }
        return {name: value for name, value in found.items() if value is not None}

    def snap(self, units: Float[np.ndarray, "*rows columns"]) -> np.ndarray:
        """Columns in which whole numbers are whole."""
        whole = self._spread(units)
        for setting, first in zip(self.settings, self._firsts()):
            if setting.kind is int and not setting.options:
                place = (..., slice(first + 1, first + 2))
                whole[place] = setting.unit(setting.number(whole[place]))
        return whole[..., np.array(self.kept, bool)]

    def _spread(self, units: np.ndarray) -> np.ndarray:
        """All settings' columns; 0 where a column does not vary."""
        whole = np.zeros((*units.shape[:-1], len(self.kept)))
        whole[..., np.array(self.kept, bool)] = units
        return whole

    def _firsts(self) -> list[int]:
        """Where each setting's columns begin."""
        return np.cumsum([0, *(setting.size for setting in self.settings)]).tolist()

    def movable(self, settings: pd.DataFrame) -> Bool[np.ndarray, "rows columns"]:
        """Where a value may be changed alone: numbers that a row has."""
        columns = []
        for setting in self.settings:
            there = settings[setting.name].notna().to_numpy(bool)
            free = not setting.options and setting.kind is not bool
            nothing = np.zeros(len(settings), bool)
            rest = [nothing] * len(setting.options) or [there & free]
            columns += [nothing, *rest]
        whole = np.stack(columns, axis=1) if columns else np.zeros((len(settings), 0))
        return whole[:, np.array(self.kept, bool)].astype(bool)


def read_space(settings: pd.DataFrame) -> SettingsSpace:
    """The space that candidates' settings span.

    Numbers are on a logarithmic scale if they span two orders.

    Args:
      settings: as `MetaDataset.settings`: plain values, None where unknown.
    """
    named = {name: settings[name].tolist() for name in settings}
    found = [_setting(str(name), values) for name, values in named.items()]
    space = SettingsSpace(settings=tuple(one for one in found if one), kept=())
    whole = space._all(settings)
    kept = np.ptp(whole, axis=0) > 0 if whole.size else np.zeros(whole.shape[1], bool)
    return dataclasses.replace(space, kept=tuple(kept.tolist()))


def _setting(name: str, values: list[Any]) -> Setting | None:
    there = [value for value in values if value is not None]
    if not there:
        return None
    optional = len(there) < len(values)
    if not all(isinstance(v, bool | int | float) and math.isfinite(v) for v in there):
        named = {str(value): value for value in there}
        return Setting(name, optional, tuple(named[key] for key in sorted(named)))
    kinds = {type(value) for value in there}
    kind = float if float in kinds else int if int in kinds else bool
    low, high = float(min(there)), float(max(there))
    log = low > 0 and high / low >= 100
    return Setting(name, optional, (), kind, low, high, log)


def encode_settings(
    settings: pd.DataFrame,
) -> Float[np.ndarray, "candidates columns"]:
    """Candidates' settings in the space that they span themselves; see `read_space`."""
    return read_space(settings).encode(settings)
