"""What the compiled step does to a batch of raw images."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from ..types import Array


def _alike(function):
    """Of frames [B, T, H, W, C], what is drawn for an example is the same for all of them."""
    @functools.wraps(function)
    def of_examples(key, images, *settings, **options):
        if images.ndim == 4:
            return function(key, images, *settings, **options)
        batch, steps, height, width, channels = images.shape
        as_one = jnp.moveaxis(images, 1, 3).reshape(batch, height, width, steps * channels)
        found = function(key, as_one, *settings, **options).reshape(batch, height, width, steps, channels)
        return jnp.moveaxis(found, 3, 1)

    return of_examples


@_alike
def random_crop_flip(key: Array, images: Array, padding: int, flip: bool, *, fill: str = "black",
                     mirrored: Array | None = None) -> Array:
    """Random crop after padding, then random horizontal flip, per example: [B, H, W, C] -> [B, H, W, C], or frames
    [B, T, H, W, C], all of an example alike.

    For raw images, before `normalise`: the authors, with torchvision, pad with black, not with the mean.

    Args:
        key: of what is drawn.
        images: raw.
        padding: pixels on every side.
        flip: whether images are flipped, each with probability 1/2.
        fill: "black", or "reflect": the image mirrored at its edge, which itself does not come twice.
        mirrored: bool [B], which images are flipped, in the place of those drawn; see `order.alternate_sides`.
    """
    crop_key, flip_key = jax.random.split(key)
    batch, *shape = images.shape
    if padding:
        mode = {"black": "constant", "reflect": "reflect"}[fill]
        padded = jnp.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)), mode=mode)
        top, left = jax.random.randint(crop_key, (2, batch), 0, 2 * padding + 1)
        crop = jax.vmap(lambda image, top, left: jax.lax.dynamic_slice(image, (top, left, 0), shape))
        images = crop(padded, top, left)
    if flip:
        if mirrored is None:
            mirrored = jax.random.bernoulli(flip_key, shape=(batch,))
        images = jnp.where(mirrored.reshape(-1, 1, 1, 1), images[:, :, ::-1], images)
    return images


@_alike
def cutout(key: Array, images: Array, size: int) -> Array:
    """A square of zeros, size×size pixels, around a random pixel of each image; what lies outside is lost (DeVries &
    Taylor 2017, arXiv 1708.04552, section 3.2): [B, H, W, C] -> [B, H, W, C].

    For images after `normalise`, where 0 is the mean colour.
    """
    batch, height, width, _ = images.shape
    row, column = jax.random.randint(key, (2, batch, 1), 0, jnp.array([height, width]).reshape(2, 1, 1)) - size // 2
    rows, columns = ((start <= jnp.arange(side)[None]) & (jnp.arange(side)[None] < start + size)
                     for start, side in ((row, height), (column, width)))
    return jnp.where((rows[:, :, None] & columns[:, None, :])[..., None], 0, images)


def drop_events(key: Array, frames: Array, most: float) -> Array:
    """Events of an example fail to come, each pixel's in a frame with the same probability, which is drawn for the
    example from [0, most): [B, T, H, W, 2] -> [B, T, H, W, 2].

    The random drop of EventDrop (Gu et al., IJCAI 2021, arXiv 2106.05836), of frames: what a pixel counted in a frame
    goes together. Its drop by area is `cutout`. For raw frames, or any in which 0 is no event.
    """
    share_key, drop_key = jax.random.split(key)
    share = most * jax.random.uniform(share_key, (len(frames), *[1] * (frames.ndim - 1)))
    return jnp.where(jax.random.uniform(drop_key, frames.shape) < share, 0, frames)


def normalise(images: Array | np.ndarray, mean: tuple[float, ...], std: tuple[float, ...], dtype=jnp.float32) -> Array:
    """(images / 255 - mean) / std, per channel: uint8 [..., H, W, C] -> dtype [..., H, W, C]."""
    channels = images.shape[-1]
    if not len(mean) == len(std) == channels:
        raise ValueError(f"images have {channels} channels, mean has {len(mean)} and std {len(std)}: give one of each")
    shape = (1,) * (images.ndim - 1) + (channels,)  # explicit, for jax_numpy_rank_promotion="raise"
    shift, scale = (jnp.asarray(value, jnp.float32).reshape(shape) for value in (mean, std))
    return jnp.asarray((images.astype(jnp.float32) / 255 - shift) / scale, dtype)
