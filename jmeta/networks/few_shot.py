"""The networks of published few-shot benchmarks; all are told which rows count."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Bool, Float

from jmeta.networks.conv import conv
from jmeta.networks.conv_block import ConvBlock
from jmeta.networks.mlp import MLP
from jmeta.types import Array

__all__ = [
    "ConvNet",
    "ResidualNet",
    "finn_mini_imagenet",
    "finn_omniglot",
    "pooled_omniglot",
    "sinusoid_mlp",
]


class ConvNet(nn.Module):
    """Blocks of convolution and normalisation, and a linear head.

    Attributes:
      out: outputs.
      num_blocks, channels: how many blocks, and how wide they are.
      strides, padding, pool, epsilon: of each `ConvBlock`.
      average: whether the head sees the mean over positions, or all of them.
    """

    out: int
    num_blocks: int = 4
    channels: int = 64
    strides: int = 1
    padding: str = "SAME"
    pool: bool = True
    average: bool = False
    epsilon: float = 1e-5

    @nn.compact
    def __call__(
        self, x: Float[Array, "n height width k"], counted: Bool[Array, " n"]
    ) -> Float[Array, "n out"]:
        """Apply the network."""
        for number in range(self.num_blocks):
            x = ConvBlock(
                self.channels,
                strides=self.strides,
                padding=self.padding,
                pool=self.pool,
                epsilon=self.epsilon,
                name=f"block{number}",
            )(x, counted)
        x = jnp.mean(x, axis=(1, 2)) if self.average else x.reshape(len(x), -1)
        return nn.Dense(self.out, name="head")(x)


class ResidualNet(nn.Module):
    """Small residual network for images of 32 to 64 pixels.

    Each stage adds two blocks to a projection of what it is given and halves the
    images; the head sees the mean over positions.

    Attributes:
      out: outputs.
      widths: channels of each stage.
    """

    out: int
    widths: tuple[int, ...] = (32, 64, 128)

    @nn.compact
    def __call__(
        self, x: Float[Array, "n height width k"], counted: Bool[Array, " n"]
    ) -> Float[Array, "n out"]:
        """Apply the network."""
        for number, width in enumerate(self.widths):
            name = f"stage{number}"
            h = ConvBlock(width, pool=False, name=f"{name}_first")(x, counted)
            h = ConvBlock(width, pool=False, name=f"{name}_second")(h, counted)
            project = nn.Conv(
                width,
                (1, 1),
                use_bias=False,
                conv_general_dilated=conv,
                name=f"{name}_project",
            )
            x = nn.avg_pool(h + project(x), (2, 2), (2, 2))
        return nn.Dense(self.out, name="head")(jnp.mean(x, axis=(1, 2)))


def sinusoid_mlp() -> MLP:
    """Of Finn et al., 2017, section 5.1."""
    return MLP(hidden=(40, 40), out=1)


def pooled_omniglot(out: int) -> ConvNet:
    """Of the example that higher, functorch and TorchOpt share; images 28 by 28.

    Source: https://github.com/facebookresearch/higher, `examples/maml-omniglot.py`.
    """
    return ConvNet(out=out, num_blocks=3, padding="VALID")


def finn_omniglot(out: int) -> ConvNet:
    """Of Finn et al., 2017, appendix A.1; images 28 by 28."""
    return ConvNet(out=out, strides=2, pool=False, average=True, epsilon=1e-3)


def finn_mini_imagenet(out: int) -> ConvNet:
    """Of Finn et al., 2017, appendix A.1; images 84 by 84, in colour."""
    return ConvNet(out=out, channels=32, epsilon=1e-3)
