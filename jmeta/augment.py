"""Small random changes of images, on the device."""

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Float

from jmeta.types import Array, Key

__all__ = ["jittered"]


def jittered(
    key: Key,
    x: Float[Array, "n height width channels"],
    *,
    degrees: float = 0.0,
    scale: float = 0.0,
    shear: float = 0.0,
    shift: float = 0.0,
    edge: str = "constant",
) -> Float[Array, "n height width channels"]:
    """Turn, stretch, shear and move each image a little about its centre.

    Every number is the deviation of what is drawn for each image; pixels between pixels
    are interpolated linearly.

    Args:
      key: of the draws.
      x: images.
      degrees: of the angle.
      scale: of the logarithm of the size, each axis for itself.
      shear: of how far a column moves for each row.
      shift: in pixels, each axis for itself.
      edge: what lies outside, "constant" for 0 or "nearest".
    """
    n, height, width = x.shape[:3]
    angle, *rest = jnp.moveaxis(jax.random.normal(key, (n, 6)), 1, 0)
    angle = jnp.deg2rad(degrees) * angle
    tall, wide = jnp.exp(scale * rest[0]), jnp.exp(scale * rest[1])
    sine, cosine = jnp.sin(angle), jnp.cos(angle)
    lean = shear * rest[2]
    # Where in the old image each place of the new one is looked up.
    by_row = jnp.stack([tall * cosine, tall * (lean * cosine + sine)])
    by_column = jnp.stack([-wide * sine, wide * (cosine - lean * sine)])
    row = jnp.arange(height)[:, None] - (height - 1) / 2
    column = jnp.arange(width) - (width - 1) / 2

    def one(image: Array, by_row: Array, by_column: Array, moved: Array) -> Array:
        places = [
            by_row[axis] * row + by_column[axis] * column + moved[axis] + middle
            for axis, middle in enumerate(((height - 1) / 2, (width - 1) / 2))
        ]
        look_up = jax.vmap(
            lambda channel: map_coordinates(channel, places, order=1, mode=edge), 2, 2
        )
        return look_up(image)

    moved = shift * jnp.stack(rest[3:], axis=1)
    return jax.vmap(one)(x, by_row.T, by_column.T, moved)
