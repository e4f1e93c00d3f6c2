"""A layer whose neurons and pool are one kernel is the layer: what it gives, its state, its record, their gradients."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dietjax import LIF
from dietjax.core.kernels import block
from dietjax.models import Layer, Network, forward

pytestmark = pytest.mark.usefixtures("quick_compile")


class Elsewhere(NamedTuple):
    """A device on which states at rest are no memory."""

    platform: str = "tpu"


def network(**layer):
    layers = Layer("a", 256, pool=True, **layer), Layer("fc", 3, kernel=None)
    return Network(layers, (4, 4, 2), neuron=LIF(leak=0.9, threshold=0.05, sharing="channel"), param_dtype=jnp.float64)


@pytest.fixture
def calls(monkeypatch):
    """Of the kernel that pools."""
    found, run = [], block.lif_pooled
    monkeypatch.setattr(forward, "made_for", Elsewhere)
    monkeypatch.setattr(block, "lif_pooled", lambda *arguments: found.append(arguments) or run(*arguments))
    return found


def score(net, variables, images):
    logits, record = net.apply(variables, images, 3, train=True)
    state = record["state"]["a"].membrane
    return (logits**2).sum() + record["spike_rate"]["a"] ** 2 + record["magnitude"]["a"] + (state**2).sum(), record


@pytest.mark.slow
def test_logits_state_and_record_with_their_gradients(x64, calls):
    net = network()
    images = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (2, 4, 4, 2)))
    variables, frames = net.init(jax.random.key(0), images), jnp.stack([images, -images, images], axis=1)

    def run(net):
        return jax.jit(jax.value_and_grad(lambda *a: score(net, *a), argnums=(0, 1), has_aux=True))(variables, frames)

    apart = run(net.clone(backend="xla"))
    assert not calls
    at_once = run(net.clone(backend="pallas_interpret"))
    assert calls and 0 < at_once[0][1]["spike_rate"]["a"] < 3
    assert jax.tree.structure(apart) == jax.tree.structure(at_once)
    for a, b in zip(jax.tree.leaves(at_once), jax.tree.leaves(apart), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("layer, call", [({"dropout": 0.5}, {"rngs": {"dropout": jax.random.key(1)}}),
                                         ({}, {"record": ("spikes",)}), ({}, {"lengths": np.array([2, 3])}),
                                         ({}, {"chunk": 1})])
def test_what_stands_between_neuron_and_pool_keeps_them_apart(calls, layer, call):
    net = network(**layer).clone(param_dtype=jnp.float32, backend="pallas_interpret")
    frames = jnp.ones((2, 3, 4, 4, 2))
    variables = jax.eval_shape(net.init, jax.random.key(0), frames[:, 0])
    calls.clear()
    jax.eval_shape(lambda v: net.apply(v, frames, 3, train=True, **call)[0], variables)
    assert not calls
    jax.eval_shape(lambda v: net.apply(v, frames, 3)[0], variables)
    assert calls
