"""Early exit: stop a batch as soon as the readout has decided about every image in it.

    stop at the first t at which, for all images,  m_best(t) − m_second(t) ≥ margin

m is the readout's membrane as it stands, summed over time and not divided by it: under the softmax that training used,
the left side is the log-odds of the best class against the second, log(p_best / p_second). It grows as evidence comes
in, so that clear images leave early and doubtful ones go on, as in Wald's sequential test between two hypotheses (1945,
"Sequential Tests of Statistical Hypotheses").
"""

import functools
import math
import numbers
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..convert.checks import timesteps_of
from ..core import losses
from ..core.losses.lengths import check_lengths
from ..core.neurons import PSN
from ..data import Dataset, normalise
from ..errors import InputError, naming_shortage
from ..models import Network, largest_block
from ..models.inputs import is_framed
from ..models.inside import only_valid
from ..types import Array


class Exit(NamedTuple):
    """How a batch left the network at one margin."""

    predicted: np.ndarray
    """Classes [B]."""
    timesteps: int
    """Timesteps that the batch took; an example that was over before took as many as it has."""


def predict(net: Network, variables: dict, images: Array, margins: Sequence[float], *, timesteps: int | None = None,
            chunk: int = 1, key: Array | None = None, lengths: Array | None = None) -> list[Exit]:
    """Classify a batch, at most T timesteps of it; one run serves all margins, and ends where the largest is reached.

    The batch leaves as one, when its slowest image is decided; give one image at a time for an exit per image. The
    first synapse of a constant input is computed anew in every chunk, where a whole run computes it once: in a VGG16 on
    32×32 images, 0.5 % of its operations per chunk. Of frames every chunk sees its own, and none after the exit.

    Args:
        net: a spiking network.
        variables: its variables.
        images: [B, H, W, C], normalised, or frames [B, T, H, W, C].
        margins: differences of the readout's membranes, each >= 0; infinity never exits before T.
        timesteps: T; of frames as many as there are, and None will do.
        chunk: timesteps between two looks at the margin, a divisor of T.
        key: for the spikes of a Poisson encoder: the same ones as in `net.apply` over all T.
        lengths: [B], how many of its frames each example has; None: all. An example that is over is decided, by what it
            was then.

    Returns:
        An `Exit` per margin, in their order.

    Raises:
        InputError: no margin, one that is negative or NaN, images without timesteps, frames and timesteps that
            disagree, a chunk that does not divide T, fewer than two classes, or images or variables with NaN.
    """
    _check_margins(margins)
    timesteps = timesteps_of(net, images, timesteps, lengths=lengths)
    if chunk < 1 or timesteps < 1 or timesteps % chunk:
        raise InputError(f"chunk must divide timesteps, both at least 1; got chunk={chunk}, timesteps={timesteps}")
    _check_neurons(net, chunk, timesteps)
    if net.layers[-1].features < 2:
        raise InputError("a margin needs two classes or more; this network has one output")
    exits: dict[int, Exit] = {}
    state: Any = None
    logits = None
    for start in range(0, timesteps, chunk):
        seen = images[:, start:start + chunk] if is_framed(net, images) else images
        left = None if lengths is None else jnp.asarray(lengths) - start
        logits, least, state = _waited_for(net, chunk, variables, seen, state, start, key, left, logits)
        reached = float(least)
        if math.isnan(reached):
            raise InputError(f"at timestep {start + chunk} no class leads, the readout is NaN: these images, or the "
                             "network's weights or thresholds (dietjax.check_params), hold NaN or infinity")
        done = start + chunk
        for i, margin in enumerate(margins):
            if i not in exits and (reached >= margin or done == timesteps):
                exits[i] = Exit(np.asarray(logits).argmax(-1), done)
        if len(exits) == len(margins):
            break
    return [exits[i] for i in range(len(margins))]


def measure(net: Network, variables: dict, dataset: Dataset, margins: Sequence[float], timesteps: int,
            batch_size: int = 1, seed: int = 0, lengths: Array | None = None) -> list[dict[str, float]]:
    """Early exit on the test set: per margin {"margin", "accuracy", "timesteps": mean over the images}.

    Batches of one leave image by image; larger ones wait for their slowest image. See `predict`. lengths: [N], how many
    frames each test example has, None: all; it takes no more timesteps than these.

    Raises:
        InputError: as `predict`, or a batch size below 1.
    """
    _check_margins(margins)
    if not isinstance(batch_size, numbers.Integral) or batch_size < 1:
        raise InputError(f"batch_size must be a whole number of at least 1, got {batch_size!r}; 1 lets every image "
                         "leave on its own")
    count = dataset.test.num_examples
    if lengths is not None:
        check_lengths(lengths, count, timesteps)
    correct, taken = np.zeros(len(margins)), np.zeros(len(margins))
    for start, (images, labels) in zip(range(0, count, batch_size), dataset.test.batches(batch_size), strict=True):
        normalised = normalise(images, dataset.mean, dataset.std, jnp.float32)
        key = jax.random.fold_in(jax.random.key(seed), start)
        own = None if lengths is None else lengths[start:start + batch_size]
        exits = predict(net, variables, normalised, margins, timesteps=timesteps, key=key, lengths=own)
        correct += [(e.predicted == labels).sum() for e in exits]
        at_most = np.full(len(labels), timesteps) if own is None else np.asarray(own)
        taken += [np.minimum(e.timesteps, at_most).sum() for e in exits]
    return [{"margin": float(m), "accuracy": float(c / count), "timesteps": float(t / count)}
            for m, c, t in zip(margins, correct, taken, strict=True)]


def _check_margins(margins):
    if np.ndim(margins) != 1:
        raise InputError(f"margins must be a sequence of numbers, one exit for each, got {margins!r}; "
                         "of a single one, (margin,)")
    if not len(margins) or np.asarray(margins).dtype.kind not in "fiu" or not all(margin >= 0 for margin in margins):
        raise InputError(f"margins must be one or more numbers >= 0, got {list(margins)}")


def _check_neurons(net, chunk, timesteps):
    """Refuse neurons that have no output before their last timestep."""
    whole = [layer for layer, neuron in net.neurons().items() if isinstance(neuron, PSN)]
    if whole and chunk < timesteps:
        raise InputError(f"early exit stops between timesteps, and the neurons of {', '.join(whole)} take all "
                         f"{timesteps} of them at once (PSN): evaluate this network without it (without --margin), or "
                         "train one with SlidingPSN (neuron.kind sliding_psn)")


def _waited_for(net, chunk, variables, images, *arguments):
    with naming_shortage(f"early exit on {len(images)} images at once, {chunk} timesteps at a time",
                         "Give fewer images at once (--batch-size of dietjax evaluate), or a smaller chunk.",
                         functools.partial(largest_block, net, len(images), chunk)):
        return jax.block_until_ready(_run_chunk(net, chunk, variables, images, *arguments))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _run_chunk(net, chunk, variables, images, state, start, key, left, before):
    """(logits [B, K], the batch's least margin, NaN where images are not finite, state) after `chunk` more timesteps.

    left: how many timesteps each example still has, and before: its logits; None: all last to the end.
    """
    rngs, lengths = None if key is None else {"encode": key}, None
    if left is not None:
        images = only_valid(images, jnp.arange(chunk) < left[:, None])
        lengths = jnp.clip(left, 1, chunk)
    logits, record = net.apply(variables, images, chunk, state=state, start=start, rngs=rngs, lengths=lengths)
    margins = losses.margin(logits)
    if left is not None:
        logits = logits if before is None else jnp.where(left[:, None] > 0, logits, before)
        margins = jnp.where(left > chunk, margins, jnp.inf)
    return logits, jnp.where(jnp.isfinite(images).all(), margins.min(), jnp.nan), record["state"]
