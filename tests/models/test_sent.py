"""A layer whose neurons and what follows them are one kernel is the layer: what it gives, its state, its record, their
gradients.
"""

import dataclasses
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dietjax import LIF
from dietjax.core.kernels import pallas, sending
from dietjax.models import Layer, Network, Residual, forward

pytestmark = pytest.mark.usefixtures("quick_compile")


class Elsewhere(NamedTuple):
    """A device on which states at rest are no memory."""

    platform: str = "tpu"


def network(**layer):
    layers = Layer("a", 256, **layer), Layer("fc", 3, kernel=None)
    return Network(layers, (4, 4, 2), neuron=LIF(leak=0.9, threshold=0.05, sharing="channel"), param_dtype=jnp.float64)


@pytest.fixture
def calls(monkeypatch):
    """Of the kernels that send."""
    found, run = [], sending.lif_sent
    monkeypatch.setattr(forward, "made_for", Elsewhere)
    monkeypatch.setattr(sending, "lif_sent", lambda *arguments: found.append(arguments) or run(*arguments))
    return found


def score(net, of_rates, variables, images):
    logits, record = net.apply(variables, images, 3, train=True, rngs={"dropout": jax.random.key(1)})
    score = (logits**2).sum()
    if of_rates:
        score += record["spike_rate"]["a"] ** 2 + record["magnitude"]["a"] + (record["state"]["a"].membrane**2).sum()
    return score, record


@pytest.mark.parametrize("layer", [{"pool": True}, {"dropout": 0.4}, {}, {"dropout": 0.4, "pool": "max"}])
@pytest.mark.parametrize("of_rates", [False, True])
@pytest.mark.slow
def test_logits_state_and_record_with_their_gradients(x64, calls, layer, of_rates):
    net = network(**layer)
    images = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (2, 4, 4, 2)))
    variables, frames = net.init(jax.random.key(0), images), jnp.stack([images, -images, images], axis=1)

    def run(net):
        return jax.jit(jax.value_and_grad(lambda *a: score(net, of_rates, *a), argnums=(0, 1), has_aux=True))(
            variables, frames)

    apart = run(net.clone(backend="xla"))
    assert not calls
    at_once = run(net.clone(backend="pallas_interpret"))
    assert calls and 0 < at_once[0][1]["spike_rate"]["a"] < 3
    assert jax.tree.structure(apart) == jax.tree.structure(at_once)
    for a, b in zip(jax.tree.leaves(at_once), jax.tree.leaves(apart), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("layer, call", [({"dropout": 0.5, "pool": True}, {}), ({}, {"record": ("spikes",)}),
                                         ({}, {"lengths": np.array([2, 3])}), ({}, {"chunk": 1})])
def test_what_stands_between_keeps_them_apart(calls, layer, call):
    net = network(**layer).clone(param_dtype=jnp.float32, backend="pallas_interpret")
    frames = jnp.ones((2, 3, 4, 4, 2))
    variables = jax.eval_shape(net.init, jax.random.key(0), frames[:, 0])
    calls.clear()
    dropped = {"train": True, "rngs": {"dropout": jax.random.key(1)}}
    jax.eval_shape(lambda v: net.apply(v, frames, 3, **dropped, **call)[0], variables)
    assert not calls
    jax.eval_shape(lambda v: net.apply(v, frames, 3)[0], variables)
    assert calls


def test_what_a_residual_combines_are_the_spikes_themselves(calls):
    layers = Layer("a", 3), Layer("b", 3, residual=Residual("b"), dropout=0.4), Layer("fc", 3, kernel=None)
    net = Network(layers, (4, 4, 2), neuron=LIF(leak=0.9, threshold=0.05), backend="pallas_interpret")
    images = jnp.ones((2, 4, 4, 2))
    variables = jax.eval_shape(net.init, jax.random.key(0), images)
    calls.clear()
    jax.eval_shape(lambda v: net.apply(v, images, 3, train=True, rngs={"dropout": jax.random.key(1)})[0], variables)
    assert len(calls) == 1, "layer a"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Halved(LIF):
    """A `run` of its own, for which `run_sent` was not written."""

    def run(self, params, state, current, timesteps, backend="auto"):
        state, spikes = super().run(params, state, current, timesteps, backend)
        return state, spikes / 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked(LIF):
    """Keeps what it is asked to send."""

    def run_sent(self, params, current, timesteps, dropout, pool, backend="auto"):
        ASKED.append((dropout is not None, pool))


ASKED: list = []


def test_a_neuron_is_asked_for_what_it_can_send(calls):
    frames = jnp.ones((2, 3, 4, 4, 2))
    for neuron, layer in ((Halved(), {}), (Asked(), {}), (Asked(), {"dropout": 0.5}), (Asked(), {"pool": True}),
                          (Asked(), {"dropout": 0.5, "pool": True})):
        net = network(**layer).clone(neuron=neuron, param_dtype=jnp.float32, backend="pallas_interpret")
        variables = jax.eval_shape(net.init, jax.random.key(0), frames[:, 0])
        ASKED.clear()
        jax.eval_shape(lambda v, net=net: net.apply(v, frames, 3, train=True, rngs={"dropout": jax.random.key(1)})[0],
                       variables)
        asked = isinstance(neuron, Asked) and layer.keys() != {"dropout", "pool"}
        assert set(ASKED) == ({("dropout" in layer, "pool" in layer)} if asked else set())
    assert not calls


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_record_has_the_dtype_that_it_has_without(x64, calls, dtype):
    frames = jnp.ones((2, 3, 4, 4, 2))
    records = []
    for backend in ("xla", "pallas_interpret"):
        net = network(dropout=0.4).clone(dtype=jnp.dtype(dtype), backend=backend)  # parameters are float64
        variables = jax.eval_shape(net.init, jax.random.key(0), frames[:, 0])
        records.append(jax.eval_shape(lambda v, net=net: net.apply(v, frames, 3, train=True,
                                                                   rngs={"dropout": jax.random.key(1)})[1], variables))
    assert calls and records[0] == records[1]


@pytest.mark.parametrize("layer", [{"pool": True}, {"dropout": 0.4}, {}])
def test_the_gradient_of_a_rate_asks_for_no_spikes(monkeypatch, calls, layer):
    """The kernel that sends has it, so that no other runs backward; that of a state's does."""
    back, run = [], pallas.backward
    monkeypatch.setattr(pallas, "backward", lambda *arguments: back.append(arguments) or run(*arguments))
    net = network(**layer).clone(param_dtype=jnp.float32, backend="pallas_interpret")
    frames = jnp.ones((2, 3, 4, 4, 2))
    variables = jax.eval_shape(net.init, jax.random.key(0), frames[:, 0])

    def score(of_state, variables):
        logits, record = net.apply(variables, frames, 3, train=True, rngs={"dropout": jax.random.key(1)})
        return (logits**2).sum() + record["spike_rate"]["a"] + (record["state"]["a"].membrane.sum() if of_state else 0)

    for of_state in (False, True):
        jax.eval_shape(jax.grad(partial(score, of_state)), variables)
        assert bool(back) == of_state
