"""The few types that every module names."""

from typing import Any, TypeAlias

import jax

__all__ = ["Array", "Key", "Params", "Settings", "Weights"]

Array: TypeAlias = jax.Array
"""Any JAX array."""

Key: TypeAlias = jax.Array
"""A typed key from `jax.random.key`; always the first argument."""

Params: TypeAlias = Any
"""A pytree of arrays that is learnt across tasks."""

Weights: TypeAlias = Any
"""A pytree of arrays that is trained inside one task."""

Settings: TypeAlias = dict[str, jax.Array]
"""Hyperparameters by name, each a scalar float32 array (see `jmeta.spaces`)."""
