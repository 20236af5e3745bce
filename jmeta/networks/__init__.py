"""Flax modules; the only package that imports flax."""

from jmeta.networks.conv import conv
from jmeta.networks.conv_block import ConvBlock
from jmeta.networks.few_shot import (
    ConvNet,
    ResidualNet,
    finn_mini_imagenet,
    finn_omniglot,
    pooled_omniglot,
    sinusoid_mlp,
)
from jmeta.networks.fingerprint import FingerprintMLP
from jmeta.networks.linen import from_linen
from jmeta.networks.meta_classifier import MetaClassifier
from jmeta.networks.meta_optimizer import MetaOptimizer, default_units
from jmeta.networks.mlp import MLP, Trunk
from jmeta.networks.set_encoder import SetEncoder

__all__ = [
    "MLP",
    "ConvBlock",
    "ConvNet",
    "FingerprintMLP",
    "MetaClassifier",
    "MetaOptimizer",
    "ResidualNet",
    "SetEncoder",
    "Trunk",
    "conv",
    "default_units",
    "finn_mini_imagenet",
    "finn_omniglot",
    "from_linen",
    "pooled_omniglot",
    "sinusoid_mlp",
]
