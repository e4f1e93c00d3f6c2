"""spyx (Heckel & Nowotny 2024), the whole network scanned over time by its `run` and compiled by XLA.

Its LIF fires on the membrane of the step before: o = [u > θ], u ← β·u + I − θ·o. Every layer thus delays by one
timestep, a network with as many layers of neurons as timesteps has no output, and logits are not ours. Its
surrogate can be any function, so it is given ours; its reset carries a gradient. Its leaks are always trained, its
thresholds never.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import spyx
from flax import nnx

from ...core.losses import cross_entropy
from ...errors import InputError
from ..amortise import in_one_program
from .peer import Peer, PeerLayer

MODE = "scanned step by step, jit"


def build(net, stages, variables, images, labels, timesteps, dtype):
    """See `dietjax.bench.peers.build`."""
    _check(dtype)
    others = [_neuron(stages[0].neuron, stages[0].connection.out_shape)]
    for stage in stages[1:]:
        others += [partial(nnx.avg_pool, window_shape=(2, 2), strides=(2, 2))] if stage.pool else []
        others += [spyx.nn.Flatten()] if stage.flatten else []
        others.append(_synapse(stage.kernel, stage.connection.stride, dtype))
        others += [_neuron(stage.neuron, stage.connection.out_shape)] if stage.neuron else []
    first, *_ = stages
    network = _Network(_synapse(first.kernel, first.connection.stride, dtype), spyx.nn.Sequential(*others))

    def logits(network, images):
        current = network.synapse(images)
        currents = jnp.broadcast_to(current, (timesteps, *current.shape))
        outputs, _ = spyx.nn.run(network.over_time, currents)
        return outputs.sum(0, dtype=jnp.promote_types(outputs.dtype, jnp.float32))

    batch, labels = jnp.asarray(images, dtype), jnp.asarray(labels)
    logits_of, params = _pure(logits, network)
    forward = jax.jit(logits_of)

    return Peer(name="spyx", mode=MODE, exact=False, exact_gradients=False,
                inference=in_one_program(lambda: forward(params, batch), logits_of, params, batch),
                logits=lambda images: np.asarray(forward(params, jnp.asarray(images, dtype))),
                training_step=_training_step(
                    lambda params, batch: cross_entropy(logits_of(params, batch), labels).mean(), params, batch))


def layer(lif, inputs, kernel, dtype):
    """See `dietjax.bench.peers.layer`; the synapse runs once over [T, B, in]."""
    _check(dtype)
    network = _Network(_synapse(kernel, 1, dtype), _neuron(lif, kernel.shape[1:]))

    def loss(network, inputs):
        return spyx.nn.run(network.over_time, network.synapse(inputs))[0].sum()

    loss_of, params = _pure(loss, network)
    return PeerLayer(name="spyx", mode=MODE, exact=False, exact_gradients=False,
                     training_step=_training_step(loss_of, params, jnp.asarray(inputs, dtype)))


class _Network(nnx.Module):
    """The first synapse, which runs outside the loop over time, and what runs inside."""

    def __init__(self, synapse, over_time):
        self.synapse, self.over_time = synapse, over_time


def _pure(function, network):
    """A function of (network, x) as one of (params, x), and the params: jit then has no module to look through."""
    graph, params = nnx.split(network)
    return lambda params, x: function(nnx.merge(graph, params), x), params


def _training_step(loss, params, x):
    loss_and_gradients = jax.jit(jax.value_and_grad(loss))

    def step():
        value, gradients = jax.block_until_ready(loss_and_gradients(params, x))
        return float(value), [g for g in jax.tree.leaves(gradients) if g.ndim > 1]  # the scalars are leaks

    return in_one_program(step, jax.value_and_grad(loss), params, x)



def _synapse(kernel, stride, dtype):
    options = {"use_bias": False, "dtype": dtype, "param_dtype": dtype, "rngs": nnx.Rngs(0),
               "kernel_init": lambda key, shape, dtype: jnp.asarray(kernel, dtype)}
    if kernel.ndim == 2:
        return nnx.Linear(*kernel.shape, **options)
    side, _, channels, features = kernel.shape
    return nnx.Conv(channels, features, (side, side), stride, padding=[(side // 2, side // 2)] * 2, **options)


def _neuron(lif, shape):
    surrogate, threshold = lif.surrogate, lif.threshold  # its argument is u − θ, ours u/θ − 1
    if getattr(surrogate, "name", None) == "stdb":
        raise InputError("spyx knows surrogates of the membrane only, stdb depends on the time since the last spike; "
                         "use another surrogate")
    spike = spyx.axn.custom(lambda x: surrogate(x / threshold) / threshold)
    return spyx.nn.LIF(tuple(shape), beta=lif.leak, threshold=threshold, activation=spike, rngs=nnx.Rngs(0))


def _check(dtype):
    if dtype == "float64" and not jax.config.jax_enable_x64:
        raise InputError("dtype='float64' needs jax_enable_x64")
