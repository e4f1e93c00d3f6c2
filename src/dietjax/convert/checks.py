"""What conversions refuse, each in the same words: networks and variables that no ANN's parameters can become."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..core.scan import defined_with_step
from ..errors import InputError, naming_shortage
from ..models import Network, largest_block
from ..models.inputs import check_input, is_framed
from ..models.inside import only_valid, valid_steps
from ..types import Array, Neuron

MOST_RANKED = 2**31 - 1
"""Numbers of which one can be selected: they are counted as int32."""


def check_convertible(net: Network) -> None:
    """Refuse a network with parts that no ANN has: recurrent layers, weights of timesteps, a readout that fires."""
    if net.time_weights is not None:
        raise InputError("weights of timesteps (time_weights) have no counterpart in an ANN to convert from; train "
                         "this network from its initial variables, or leave them out")
    if getattr(net.readout, "spiking", False):
        raise InputError(f"the readout {net.readout} fires, and an ANN's logits are sums of its currents: "
                         "use readout=dietjax.LI(), or train this network from its initial variables")
    recurrent = [layer.name for layer in net.layers if layer.recurrent]
    if recurrent:
        raise InputError(f"recurrent layers ({', '.join(recurrent)}) have no counterpart in an ANN to convert from; "
                         "train this network from its initial variables")


def check_spiking(net: Network) -> None:
    """Refuse a network with neurons whose threshold conversion cannot set: without one, or that do not say how."""
    for neuron, layers in _grouped(net.neurons()):
        params = neuron.init(jax.random.key(0), (1,))
        # an ANN's neuron may have a threshold too, its trained level: what it lacks is a membrane
        if not getattr(neuron, "spiking", False) and not jax.tree.leaves(neuron.initial_state(params, (1, 1))):
            raise InputError(f"{layers}: neuron {neuron} has no threshold to set; give the network a spiking one, "
                             "for example net.clone(neuron=dietjax.LIF())")
        if not defined_with_step(neuron, "with_threshold"):
            raise InputError(f"{layers}: {neuron} does not say how a threshold is set under which it integrates "
                             "without leak, and one found for another neuron would be wrong. Define "
                             "with_threshold(params, threshold) in the class that defines its step, where there is "
                             "such a threshold (as in dietjax.LIF); or convert to LIF; or train this network from its "
                             "initial variables")
        if getattr(neuron, "reset", None) == "none":
            raise InputError(f"{layers}: {neuron} is never reset (reset='none'), so that its spikes do not say how "
                             "much current came; convert with reset='subtract', or train this network from its "
                             "initial variables")


def check_worth(net: Network) -> None:
    """Refuse a network in which a spike is not worth its layer's threshold to whatever comes behind."""
    for layer in net.layers:
        if layer.pool == "max":
            raise InputError(f"layer {layer.name!r}: the rate behind a max pool is not the largest of the rates before "
                             "it, so spikes behind it have no one worth; pool by the mean (pool=True), or find "
                             "thresholds with dietjax.convert.balance_thresholds")
        if layer.residual is not None:
            raise InputError(f"layer {layer.name!r}: a spike-element-wise residual joins spikes of two layers, each of "
                             "which is worth another threshold; let a shortcut end in the current (shortcut=), or find "
                             "thresholds with dietjax.convert.balance_thresholds")
    for neuron, layers in _grouped(net.neurons()):
        if getattr(neuron, "graded", False):
            raise InputError(f"{layers}: the events of {neuron} are graded, and match_activations takes each for one "
                             "threshold; convert to a neuron whose spikes are 1, such as dietjax.LIF()")
        found = _outputs(neuron)
        if not np.isin(found[:, 0], (0, 1)).all() or found[:, 1].any():
            raise InputError(f"{layers}: {neuron} answers a current of 3 thresholds with {found[:, 0].tolist()}, one "
                             f"of -3 with {found[:, 1].tolist()}, and match_activations is for spikes of 1, none below "
                             "the threshold; find thresholds with dietjax.convert.balance_thresholds, or train this "
                             "network from its initial variables")


def _outputs(neuron):
    """What two neurons of threshold 1 put out in 3 timesteps [3, 2], under currents of 3 and -3."""
    params = neuron.with_threshold(neuron.init(jax.random.key(0), (2,)), 1.0)
    state, current, found = neuron.initial_state(params, (1, 2)), jnp.array([[3.0, -3.0]]), []
    for _ in range(3):
        state, out = neuron.step(params, state, current)
        found.append(np.asarray(out)[0])
    return np.stack(found)


def _grouped(neurons):
    """[(neuron, "layers conv1, conv2")] of those that are not equal."""
    layers: dict[Neuron, list[str]] = {}
    for name, neuron in neurons.items():
        layers.setdefault(neuron, []).append(name)
    return [(neuron, f"layer{'s' if len(names) > 1 else ''} {', '.join(names)}") for neuron, names in layers.items()]


def timesteps_of(net: Network, images: Array, timesteps: int | None, default: int | None = None,
                 lengths: Array | None = None) -> int:
    """T: of frames [B, T, H, W, C] their number; of images what was asked for, or the default.

    Raises:
        InputError: input that is not the network's, frames and timesteps that disagree, lengths that are not theirs, or
            images without timesteps where there is no default.
    """
    if timesteps is None and not is_framed(net, images):
        if default is None:
            raise InputError(f"images {images.shape} are the same at every timestep: say at how many, timesteps=T "
                             "(of frames [B, T, H, W, C] they are known)")
        timesteps = default
    return check_input(net, images, timesteps, lengths)


def lasting(net: Network, images: Array, lengths: Array | None) -> tuple[Array, tuple[int, ...] | None]:
    """Frames for as long as the longest example lasts, 0 beyond the end of each; and the lengths as plain numbers."""
    if lengths is None:
        return images, None
    check_input(net, images, None, lengths)
    known = tuple(np.asarray(lengths).tolist())
    longest = max(known)
    return only_valid(images[:, :longest], valid_steps(jnp.array(known), 0, longest)), known


def check_folded(net: Network, variables: Mapping[str, Any]) -> None:
    """Refuse batch norm, of the network or of the variables."""
    if net.batch_norm or any("norm" in layer for layer in variables["params"].values()):
        raise InputError("conversion works on weights without batch norm; call "
                         "ann, variables = dietjax.convert.fold_batch_norm(ann, variables) first")


def check_finite(images: Array) -> None:
    """Refuse images with NaN or infinity: a percentile is taken past a few of them without a word."""
    wrong = np.flatnonzero(~np.asarray(jnp.isfinite(images).all(tuple(range(1, images.ndim)))))
    if len(wrong):
        raise InputError(f"{len(wrong)} of {len(images)} images hold NaN or infinity, the first of them images"
                         f"[{wrong[0]}]: leave them out, and look whether a standard deviation of 0 normalised them")


def measured(program: Callable[[Any, Array], Any], net: Network, steps: int, variables: Any, images: Array) -> Any:
    """What a program ranks of all these images at once, over so many timesteps; where they do not fit, what does."""
    largest = max(math.prod(c.out_shape) for c in net.connections())
    if len(images) * largest > MOST_RANKED:
        raise InputError(f"the conversion ranks the currents of {len(images)} images and {largest:,} neurons at once, "
                         f"and counts them in 32 bits: use at most {MOST_RANKED // largest} images (conversion.images)")
    with naming_shortage(f"the conversion on {len(images)} images at {steps} timesteps",
                         "Use fewer images (conversion.images of an experiment)"
                         f"{' or fewer timesteps (conversion.timesteps)' if steps > 1 else ''}.",
                         partial(largest_block, net, len(images), steps)):
        return jax.block_until_ready(program(variables, images))


def check_percentile(percentile: float) -> None:
    """Refuse a percentile outside (0, 100]."""
    if not 0 < percentile <= 100:
        raise InputError(f"percentile must lie in (0, 100], got {percentile}")


def check_scale(scale: float) -> None:
    """Refuse a factor that would leave a threshold at 0, below it or without bound."""
    if not 0 < scale < math.inf:
        raise InputError(f"the scale of thresholds must be > 0 and finite, got {scale}")
