"""Convolution, batch normalisation, ReLU and max-pooling as one layer.

The order of the last three is turned round, which changes nothing but the bytes that
are moved through first and second derivatives: normalisation is increasing or
decreasing in each channel, so that pooling may come first, and what follows it sees a
quarter of the positions.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from jmeta.networks.conv import Padding, patch_product, patches
from jmeta.networks.winograd import interleaved, winograd, winograd_pays
from jmeta.types import Array

__all__ = ["ConvBlock"]


def _share(
    counted: Bool[Array, " n"], places: int, dtype: Any
) -> Float[Array, "n 1 1"]:
    """How much each place of a row counts in a mean over all places."""
    total = jnp.maximum(jnp.sum(counted), 1) * places
    return (counted / total).astype(dtype)[:, None, None]


def _mean(
    share: Float[Array, "n 1 1"], parts: Sequence[Float[Array, "n _ k"]]
) -> Float[Array, " k"]:
    """Over the rows counted, whose places lie in several arrays."""
    sums = [jnp.sum(share * part, axis=(0, 1)) for part in parts]
    return sum(sums[1:], start=sums[0])


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
        n, flat = len(x), kernel.reshape(9 * inside, out)

        def seen_by(x: Array) -> Array:
            return patches(x, (3, 3), (self.strides,) * 2, self.padding)

        h, w = jax.eval_shape(seen_by, x).shape[1:3]
        share = _share(counted, h * w, x.dtype)

        if len(flat) < out:
            # Fewer numbers go in than out: their moments give those of what comes out.
            seen = seen_by(x)
            rows = seen.reshape(n, h * w, -1)
            mean = _mean(share, [rows])
            about = rows - mean
            spread = jnp.einsum("npk,npl->kl", share * about, about)
            mean, variance = mean @ flat, jnp.sum(flat * (spread @ flat), axis=0)
            parts = _window(seen) if self.pool else [seen.reshape(-1, len(flat))]
            places = [patch_product(one, flat) for one in parts]
        else:
            if self.strides == 1 and winograd_pays(h, w, inside):
                quarters = winograd(x, kernel, self.padding)
                parts = [z for row in quarters for z in row]
                if self.pool:
                    places = [z[:, : h // 2, : w // 2].reshape(-1, out) for z in parts]
                else:
                    places = [interleaved(quarters).reshape(-1, out)]
            else:
                z = patch_product(seen_by(x).reshape(-1, len(flat)), flat)
                parts = [z.reshape(n, h, w, out)]
                places = _window(parts[0]) if self.pool else [z]
            parts = [z.reshape(n, -1, out) for z in parts]
            mean = _mean(share, parts)
            variance = _mean(share, [jnp.square(z - mean) for z in parts])
        y = _largest(places, scale) if self.pool else places[0]
        slope = scale / jnp.sqrt(variance + self.epsilon)
        y = jax.nn.relu(y * slope + (bias - mean * slope))
        return y.reshape(n, *((h // 2, w // 2) if self.pool else (h, w)), out)
