"""Convolution, batch normalisation, ReLU and max-pooling as one layer.

The order of the last three is turned round, which changes nothing but the bytes that
are moved through first and second derivatives: normalisation is increasing or
decreasing in each channel, so that pooling may come first, and what follows it sees a
quarter of the positions.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from jmeta.networks.conv import Padding, patch_product, patches
from jmeta.types import Array

__all__ = ["ConvBlock"]


def _moments(
    rows: Float[Array, "n places k"], counted: Bool[Array, " n"]
) -> tuple[Float[Array, " k"], Float[Array, "n places k"], Float[Array, "n 1 1"]]:
    """Mean over the rows counted, what all are about it, and how much each counts."""
    total = jnp.maximum(jnp.sum(counted), 1) * rows.shape[1]
    share = (counted / total).astype(rows.dtype)[:, None, None]
    mean = jnp.sum(share * rows, axis=(0, 1))
    return mean, rows - mean, share


def _window(z: Float[Array, "n h w c"]) -> list[Float[Array, "n_a_b c"]]:
    """The four places of each 2 by 2 window; an odd row or column is left out."""
    n, h, w, c = z.shape
    z = z[:, : h // 2 * 2, : w // 2 * 2].reshape(n, h // 2, 2, w // 2, 2, c)
    # The transpose of a split is a concatenation, that of slices a sum of paddings.
    return [
        place.reshape(-1, c)
        for row in jax.lax.split(z, (1, 1), axis=2)
        for place in jax.lax.split(row, (1, 1), axis=4)
    ]


def _largest(
    places: list[Float[Array, "m c"]], scale: Float[Array, " c"]
) -> Float[Array, "m c"]:
    """The value that is largest once it is multiplied by `scale`."""
    sign = jnp.where(jax.lax.stop_gradient(scale) < 0, -1.0, 1.0)
    fixed = [jax.lax.stop_gradient(place) * sign for place in places]
    best, index = fixed[0], jnp.zeros(fixed[0].shape, jnp.int8)
    for number, other in enumerate(fixed[1:], start=1):
        index = jnp.where(other > best, jnp.int8(number), index)
        best = jnp.maximum(best, other)
    kept = [jnp.where(index == q, place, 0.0) for q, place in enumerate(places)]
    return sum(kept, start=jnp.zeros_like(best))


class ConvBlock(nn.Module):
    """3 by 3 convolution, batch normalisation, ReLU and, if `pool`, max-pooling of 2.

    Statistics are those of the rows counted in this very batch, and none are kept. The
    convolution has no bias, which the normalisation would take away.

    Attributes:
      channels: of the output.
      strides: of the convolution.
      padding: of the convolution.
      pool: whether to pool; an odd row or column is left out.
      epsilon: added to the variance.
    """

    channels: int
    strides: int = 1
    padding: Padding = "SAME"
    pool: bool = True
    epsilon: float = 1e-5

    @nn.compact
    def __call__(
        self, x: Float[Array, "n height width k"], counted: Bool[Array, " n"]
    ) -> Float[Array, "n a b channels"]:
        """Apply the layer."""
        inside, out = x.shape[-1], self.channels
        initial = nn.initializers.lecun_normal()
        kernel = self.param("kernel", initial, (3, 3, inside, out))
        scale = self.param("scale", nn.initializers.ones, (out,))
        bias = self.param("bias", nn.initializers.zeros, (out,))
        kernel = kernel.reshape(9 * inside, out)
        seen = patches(x, (3, 3), (self.strides,) * 2, self.padding)
        n, h, w, k = seen.shape

        if k < out:
            # Fewer numbers go in than out: their moments give those of what comes out.
            mean, about, share = _moments(seen.reshape(n, h * w, k), counted)
            spread = jnp.einsum("npk,npl->kl", share * about, about)
            mean, variance = mean @ kernel, jnp.sum(kernel * (spread @ kernel), axis=0)
            rows = _window(seen) if self.pool else [seen.reshape(-1, k)]
            places = [patch_product(one, kernel) for one in rows]
        else:
            z = patch_product(seen.reshape(-1, k), kernel)
            mean, about, share = _moments(z.reshape(n, h * w, out), counted)
            variance = jnp.sum(share * jnp.square(about), axis=(0, 1))
            places = _window(z.reshape(n, h, w, out)) if self.pool else [z]
        y = _largest(places, scale) if self.pool else places[0]
        slope = scale / jnp.sqrt(variance + self.epsilon)
        y = jax.nn.relu(y * slope + (bias - mean * slope))
        return y.reshape(n, *((h // 2, w // 2) if self.pool else (h, w)), out)
