"""Flax Linen modules as the pair of functions that the rest of jmeta sees."""

from typing import Any

import flax.linen as nn

from jmeta.base import Network
from jmeta.types import Key, Params

__all__ = ["from_linen"]


def from_linen(module: nn.Module) -> Network:
    """Make a `Network` of a Linen module whose only collection is `params`.

    `apply(params, *inputs, key=key)` switches dropout on; without a key it is off,
    and the output is deterministic.
    """

    def init(key: Key, *inputs: Any) -> Params:
        return module.init(key, *inputs)["params"]

    def apply(params: Params, *inputs: Any, key: Key | None = None) -> Any:
        rngs = None if key is None else {"dropout": key}
        return module.apply({"params": params}, *inputs, rngs=rngs)

    return Network(init=init, apply=apply)
