"""What a network is given: one image for all timesteps, or a frame for each; how long each example lasts."""

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from ..core.losses.lengths import check_lengths
from ..core.neurons import PSN
from ..errors import InputError
from ..types import Array, State
from .spec import is_whole
from .wiring import map_shape

if TYPE_CHECKING:
    from .network import Network


def check_input(net: "Network", images: Array, timesteps: int | None, lengths: Array | None = None,
                state: State = None, start: Array | int = 0) -> int:
    """T, of images or frames that this network takes; everything else is refused by name."""
    if not hasattr(images, "shape"):
        raise InputError(f"images are a {type(images).__name__}, and must be an array: jax.numpy.asarray(images)")
    wanted, shape = tuple(net.image_shape), images.shape
    if shape == wanted:
        raise InputError(f"one image of shape {shape} came without a batch axis; pass images[None], [1, "
                         f"{', '.join(map(str, shape))}]")
    framed = is_framed(net, images)
    if shape[2 if framed else 1:] != wanted:
        raise InputError(f"images have shape {shape}, this network takes images [B, ...] or frames [B, T, ...] with "
                         f"[...] = {wanted}; resize them, or build the network with the image_shape of yours "
                         "(without batch and time)")
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise InputError(f"images are {images.dtype}; make them floating point first (dietjax.data.normalise)")
    if timesteps is not None and (not is_whole(timesteps) or timesteps < 1):
        raise InputError(f"timesteps must be a whole number of at least 1, got {timesteps!r}")
    if 0 in shape[:2 if framed else 1]:
        raise InputError(f"{'frames' if framed else 'images'} have shape {shape}: there is no example"
                         f"{', or no frame' if framed else ''}")
    if framed:
        timesteps = _frames_of(shape, timesteps, lengths)
        looks_ahead = [name for name, neuron in net.neurons().items() if isinstance(neuron, PSN)]
        if lengths is not None and looks_ahead:
            raise InputError(f"layers {', '.join(looks_ahead)}: a PSN hears every timestep at each of them, also what "
                             "lies beyond an example's end; use SlidingPSN, or sequences of one length")
    elif lengths is not None:
        raise InputError("lengths say how many frames each example has, and these are images, the same at every "
                         "timestep; pass frames [B, T, ...], or leave out lengths")
    timesteps = 1 if timesteps is None else timesteps
    end = timesteps + (start if is_whole(start) else 0)
    if net.time_weights is not None and end > net.time_weights:
        raise InputError(f"the network has a weight for each of {net.time_weights} timesteps (time_weights), and is to "
                         f"run up to timestep {end}; run fewer, or build and train it with more")
    if net.time_weights is not None and state is not None and is_whole(start) and start == 0:
        raise InputError("a state came without the number of timesteps before it, and each has a weight of its own "
                         "(time_weights): pass start too")
    return timesteps


def _frames_of(shape, timesteps, lengths):
    if timesteps not in (None, shape[1]):
        raise InputError(f"timesteps are {timesteps}, and there are {shape[1]} frames an example: every timestep has a "
                         f"frame of its own; leave out timesteps, or pass frames[:, :{timesteps}]")
    if lengths is not None:
        check_lengths(lengths, *shape[:2])
    return shape[1]


def as_maps(net: "Network", images: Array) -> Array:
    """Images or frames whose signals [L, C] are maps [L, 1, C]."""
    inside = len(net.image_shape)
    return images.reshape(*images.shape[:images.ndim - inside], *map_shape(net.image_shape))


def is_framed(net: "Network", images: Array) -> bool:
    """Whether this is input over time, [B, T, *image_shape], not [B, *image_shape]."""
    return images.ndim == len(net.image_shape) + 2


def encode(encoder: Any, key: Array | None, frames: Array, start: Array | int) -> Array:
    """Frames [B, T, ...] as the encoder gives each of them at its own timestep, from `start` on."""
    if encoder.constant:  # the frame itself
        return frames
    steps = start + jnp.arange(frames.shape[1])
    return jax.vmap(lambda frame, t: encoder(key, frame, t, 1)[:, 0], in_axes=(1, 0), out_axes=1)(frames, steps)


def hold_last(logits: Array, lengths: Array) -> Array:
    """Logits [B, T, K] that stay, beyond an example's length, as they were at its end."""
    steps = jnp.minimum(jnp.arange(logits.shape[1]), jnp.maximum(jnp.asarray(lengths), 1)[:, None] - 1)
    return jnp.take_along_axis(logits, steps[..., None], axis=1)
