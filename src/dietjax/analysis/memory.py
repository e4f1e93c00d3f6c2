"""How much memory training and conversion take, before they are compiled, and what would make them fit."""

import math
import os
from contextlib import AbstractContextManager
from functools import partial

import jax
import jax.numpy as jnp

from .. import errors
from ..errors import InputError
from ..models import Network, columns, convolution, largest_block, winograd

WORKING_BLOCKS = 3
"""Blocks of the largest layer that live at once while the backward pass goes through it: its spikes, their cotangent,
and the currents' cotangent."""

BALANCING_BLOCKS = 3
"""Blocks of the largest layer that live at once while its threshold is set: currents, their copy as ordered bits from
which the percentile is selected, and what the layer before gave."""


def training_step(net: Network, batch: int, timesteps: int, chunk: int | None = None, remat: bool = False) -> int:
    """Predicted bytes of temporaries of loss and gradients on one device: an estimate. On a CPU, at T=5 and batch 8 to
    128, it was 1.0 to 1.65 of what XLA plans for VGG9 and VGG16, 0.75 to 1.0 for ResNet18 and ResNet20.

    Every layer's currents are kept for the backward pass (under `remat` those of one chunk, with the states between
    chunks), and what a residual brings; on top comes what the largest layer needs while its gradient is found. Weights,
    their gradients and the optimiser's state are not counted here.

    Args:
        net: ANN or SNN.
        batch: examples on that device.
        timesteps: T.
        chunk, remat: the schedule, as `Network` takes it.
    """
    chunk = timesteps if chunk is None else chunk
    size = jnp.dtype(net.dtype or jnp.float32).itemsize
    wiring = {c.name: c for c in net.connections()}
    neurons = [math.prod(wiring[layer.name].out_shape) for layer in net.layers]
    kept = 2 if net.batch_norm else 1  # batch norm keeps its input besides its output
    brought = sum(n for n, layer in zip(neurons, net.layers, strict=True) if layer.residual is not None)
    kept_steps = chunk if remat else timesteps
    per_step = batch * (sum(neurons) * kept + brought) * size
    constant = batch * neurons[0] * size * (kept_steps - 1) if net.encoder.constant else 0
    states = (timesteps // chunk) * batch * sum(neurons) * 4 if chunk < timesteps else 0
    working = max(WORKING_BLOCKS * batch * chunk * math.prod(c.out_shape) * size + _transforms(c, batch * chunk)
                  for c in wiring.values())
    return per_step * kept_steps - constant + states + working


def _transforms(connection, images):
    """Bytes that a convolution takes besides its maps: on the CPU, Winograd's tiles or columns, twice."""
    kernel = connection.kernel
    if jax.default_backend() != "cpu" or len(kernel) != 4:
        return 0
    height, width = connection.out_shape[:2]
    form = convolution.form_on_cpu(connection.in_shape[:2], kernel, connection.stride, connection.groups)
    if connection.pooled or form is columns.columns_in_parts:
        image = 4 * height * width * math.prod(kernel[:3])
        return 2 * image * columns.columns_images_at_once(images, kernel, (height, width))
    if form is not winograd.winograd_in_parts:
        return 0  # XLA's own takes none, and a part of a kernel's gradient a few MiB
    # with their cotangents; measured 1 to 3 times (VGG9, VGG4, VGG6 at batch 32 to 128)
    tiles = 4 * height * width * sum(kernel[2:])  # 16 values for 4 pixels, float32
    return 2 * 4 * tiles * winograd.winograd_images_at_once((images, height, width, kernel[2]))


def check(net: Network, batch: int, timesteps: int, chunk: int | None, remat: bool) -> None:
    """Refuse a step that cannot fit, before it is compiled.

    Raises:
        InputError: with the estimate, and the largest chunk that would fit, if any does.
    """
    limit = device_memory()
    needed = training_step(net, batch, timesteps, chunk, remat)
    if needed <= limit:
        return
    shortest = timesteps if net.batch_norm else 1  # its statistics are of all timesteps
    smaller = [c for c in range(timesteps, shortest - 1, -1) if timesteps % c == 0
               and training_step(net, batch, timesteps, c, remat=True) <= limit]
    if not smaller:
        remedy = "no chunk would fit; use a smaller batch, more microbatches (accumulate) or more devices"
    elif smaller[0] < timesteps:
        remedy = f"chunk={smaller[0]} would fit (it recomputes within chunks)"
    else:
        remedy = "without a chunk it would fit"
    raise InputError(f"a training step on {batch} images a device at {timesteps} timesteps takes about "
                     f"{needed / 1e9:.1f} GB, a device has {limit / 1e9:.1f} GB; {remedy}")


def naming_shortage(net: Network, batch: int, timesteps: int, chunk: int | None) -> AbstractContextManager[None]:
    """`errors.naming_shortage` around training steps; arguments as of `less`."""
    return errors.naming_shortage(f"a training step on {batch} images a device at {timesteps} timesteps",
                                  partial(less, net, batch, timesteps, chunk),
                                  partial(largest_block, net, batch, chunk or timesteps))


def less(net: Network, batch: int, timesteps: int, chunk: int | None) -> str:
    """What would take less memory than a training step that ran out of it.

    Args: as of `training_step`; `chunk` recomputes within chunks, as in training.
    """
    def estimate(net=net, batch=batch, chunk=chunk):
        return f"{training_step(net, batch, timesteps, chunk, remat=chunk is not None) / 1e9:.2g} GB"

    remedies = []
    if batch > 1:
        remedies.append(f"half the batch_size, or twice as much accumulate, {estimate(batch=batch // 2)}")
    if (chunk or timesteps) > 1 and not net.batch_norm:
        remedies.append(f"chunk=1 {estimate(chunk=1)}")
    if jnp.dtype(net.dtype or jnp.float32).itemsize > 2:
        remedies.append(f"dtype=bfloat16 {estimate(net.clone(dtype=jnp.bfloat16))}")
    return f"Such a step takes about {estimate()}" + (f"; with {'; with '.join(remedies)}." if remedies else
                                                      ": use more devices.")


def check_conversion(net: Network, images: int, timesteps: int) -> None:
    """Refuse a conversion that cannot fit: one device holds the largest layer's currents of all timesteps.

    timesteps: those over which thresholds are balanced; 1 where the ANN's activations are measured.

    Raises:
        InputError: with the estimate, and the number of images that would fit.
    """
    image = BALANCING_BLOCKS * 4 * timesteps * max(math.prod(c.out_shape) for c in net.connections())
    limit = device_memory()
    if images * image > limit:
        fewer = ", or fewer --conversion.timesteps" if timesteps > 1 else ""
        raise InputError(f"the conversion of {images} images over {timesteps} timesteps takes about "
                         f"{images * image / 1e9:.1f} GB, a device has {limit / 1e9:.1f} GB; use at most "
                         f"--conversion.images {limit // image}{fewer}")


def device_memory() -> int:
    """Bytes that one local device may use; on the CPU backend, its share of the machine's memory."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"]
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // jax.local_device_count()
