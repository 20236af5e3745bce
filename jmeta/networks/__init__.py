"""Flax modules; the only package that imports flax."""

from jmeta.networks.linen import from_linen
from jmeta.networks.meta_classifier import MetaClassifier
from jmeta.networks.meta_optimizer import MetaOptimizer, default_units
from jmeta.networks.mlp import MLP, Trunk

__all__ = [
    "MLP",
    "MetaClassifier",
    "MetaOptimizer",
    "Trunk",
    "default_units",
    "from_linen",
]
