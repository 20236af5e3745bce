"""The schema of descriptions: which numbers, in which order, in which groups."""

from jmeta.describe import correlation, information, landmarks, simple

__all__ = ["SCHEMA_VERSION", "groups", "names"]

SCHEMA_VERSION = 1
"""Raised by every change to the names, their order or their meaning."""

_SCHEMA = {
    "classes": {
        "size": simple.SIZE,
        "balance": simple.BALANCE,
        "missing": simple.MISSING,
        "moments": simple.MOMENTS,
        "correlation": correlation.CORRELATION + correlation.TARGET_CLASSES,
        "information": information.INFORMATION,
        "landmarks": landmarks.CLASSES,
    },
    "number": {
        "size": simple.SIZE,
        "balance": simple.SPREAD,
        "missing": simple.MISSING,
        "moments": simple.MOMENTS,
        "correlation": correlation.CORRELATION + correlation.TARGET_NUMBER,
        "information": information.INFORMATION,
        "landmarks": landmarks.NUMBER,
    },
}


def names(kind: str) -> tuple[str, ...]:
    """The names of the numbers that describe a table, in order.

    Args:
      kind: `"classes"` or `"number"`: what the target is.

    Raises:
      ValueError: if the kind is unknown.
    """
    return tuple(name for group in _groups(kind).values() for name in group)


def groups(kind: str) -> dict[str, slice]:
    """Where each group stands in a description.

    Raises:
      ValueError: if the kind is unknown.
    """
    slices, start = {}, 0
    for group, members in _groups(kind).items():
        slices[group] = slice(start, start + len(members))
        start += len(members)
    return slices


def _groups(kind: str) -> dict[str, tuple[str, ...]]:
    if kind not in _SCHEMA:
        raise ValueError(
            f"describe: kind must be one of {tuple(_SCHEMA)}, got {kind!r}."
        )
    return _SCHEMA[kind]
