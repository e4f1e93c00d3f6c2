"""Neurons of other libraries beside ours, value and gradient. A library that is not installed skips its tests.

Where a peer's equation is ours in other units or one timestep later, the test converts. Where one term of it is another
(`Subtracted`), the test writes that term alone, and compares values with ours, gradients with what then is left of it.
"""

import dataclasses
import importlib
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dietjax
from dietjax import ALIF, PLIF, PSN, SRM, CuBaLIF, SlidingPSN

pytestmark = pytest.mark.usefixtures("quick_compile")

B, T, N = 3, 12, 5
ARCTAN = dietjax.Surrogate("arctan")


def installed(module):
    with warnings.catch_warnings():  # what a library warns of while it loads is its own matter
        warnings.simplefilter("ignore")
        pytest.importorskip(module.partition(".")[0], exc_type=ImportError)
        return importlib.import_module(module)


def example(mean=0.3):
    rng = np.random.default_rng(7)
    return rng.normal(mean, 0.6, (B, T, N)), rng.normal(size=(B, T, N))


def ours(neuron, params, currents, weights):
    """(spikes [B, T, N], gradient of their weighted sum by (parameters, currents))."""
    def loss(params, currents):
        spikes = dietjax.unroll(neuron, params, None, currents)[1]
        return (weights * spikes).sum(), spikes

    gradient, spikes = jax.jit(jax.grad(loss, (0, 1), has_aux=True))(params, currents)
    assert 0.05 < spikes.mean() < 0.95
    return np.asarray(spikes), gradient


def theirs(run, currents, weights):
    """The same of a torch function from currents [T, B, N] to spikes, as long; the gradient by currents alone."""
    torch = importlib.import_module("torch")
    currents = torch.tensor(np.moveaxis(currents, 1, 0), dtype=torch.float64, requires_grad=True)
    spikes = run(currents)
    spikes = spikes if torch.is_tensor(spikes) else torch.stack(spikes)
    (spikes * torch.tensor(np.moveaxis(weights, 1, 0))).sum().backward()
    return tuple(np.moveaxis(x.detach().numpy(), 0, 1) for x in (spikes, currents.grad))


def test_synaptic_of_snntorch_is_cuba_without_a_leak(x64):
    """It resets one step later, which at a leak of 1 is the same. Its spikes and their gradients are float32."""
    snntorch, torch = installed("snntorch"), installed("torch")
    atan = importlib.import_module("snntorch.surrogate").atan
    currents, weights = example(0.1)
    neuron = CuBaLIF(synaptic_leak=0.7, threshold=0.8, surrogate=ARCTAN)
    params = neuron.init(jax.random.key(0), (N,), jnp.float64)
    spikes, (of_params, gradient) = ours(neuron, params, currents, weights)
    alpha = torch.tensor(0.7, dtype=torch.float64)
    peer = snntorch.Synaptic(alpha, torch.tensor(1.0, dtype=torch.float64), torch.tensor(0.8, dtype=torch.float64),
                             spike_grad=atan(2.0 / 0.8), learn_alpha=True)

    def run(currents):
        synaptic = membrane = torch.zeros((B, N), dtype=torch.float64)
        outputs = []
        for current in currents:
            spike, synaptic, membrane = peer(current, synaptic, membrane)
            outputs.append(spike)
        return outputs

    same, same_gradient = theirs(run, currents, weights)
    np.testing.assert_array_equal(spikes, same)
    np.testing.assert_allclose(gradient, same_gradient, atol=1e-5 * np.abs(gradient).max())
    np.testing.assert_allclose(of_params.synaptic_leak, peer.alpha.grad, rtol=1e-5)


def test_alpha_of_snntorch_comes_to_the_alpha_kernel_where_its_two_decays_meet(x64):
    """exp(−n/τ₁) − exp(−n/τ₂), normalised as there, goes to our kernel over e as τ₁ goes to τ₂. Without any reset."""
    snntorch, torch = installed("snntorch"), installed("torch")
    atan = importlib.import_module("snntorch.surrogate").atan
    currents, weights = example(0.2)
    threshold, leak = 0.9, np.exp(-1 / 3)
    neuron = SRM(tau=3.0, threshold=threshold, refractoriness=0, surrogate=ARCTAN)
    spikes, (_, gradient) = ours(neuron, neuron.init(jax.random.key(0), (N,), jnp.float64), currents, weights)

    def scalar(value):
        return torch.tensor(value, dtype=torch.float64)

    peer = snntorch.Alpha(scalar(leak * (1 + 1e-6)), scalar(leak), scalar(threshold / np.e),
                          spike_grad=atan(2.0 / threshold * np.e), reset_mechanism="none")

    def run(currents):
        state = (torch.zeros((B, N), dtype=torch.float64),) * 3
        outputs = []
        for current in currents:
            spike, *state = peer(current, *state)
            outputs.append(spike)
        return outputs

    same, same_gradient = theirs(run, currents, weights)
    np.testing.assert_array_equal(spikes, same)
    np.testing.assert_allclose(gradient, same_gradient, atol=1e-4 * np.abs(gradient).max())


def test_lif_of_norse_is_cuba_that_resets_to_zero(x64):
    """Its membrane is ours times 1 − λ, so with thresholds times 1 − λ, and SuperSpike of their difference."""
    norse, torch = installed("norse.torch.functional.lif"), installed("torch")
    currents, weights = example()
    leak, decay, threshold = 0.8, 0.6, 1.5
    scale = (1 - leak) * threshold
    neuron = CuBaLIF(leak=leak, synaptic_leak=decay, threshold=threshold, reset="zero",
                     surrogate=lambda z: scale / (1 + scale * jnp.abs(z)) ** 2)
    spikes, (_, gradient) = ours(neuron, neuron.init(jax.random.key(0), (N,), jnp.float64), currents, weights)
    zeros, identity = torch.zeros((B, N), dtype=torch.float64), torch.eye(N, dtype=torch.float64)
    parameters = norse.LIFParameters(*(torch.tensor(x, dtype=torch.float64)
                                       for x in (1 - decay, 1 - leak, 0.0, scale, 0.0)))

    def run(currents):
        state, outputs = norse.LIFState(zeros, zeros, zeros), []
        for current in currents:
            spike, state = norse.lif_step(current, state, identity, 0 * identity, parameters, dt=1.0)
            outputs.append(spike)
        return outputs

    same, same_gradient = theirs(run, currents, weights)
    np.testing.assert_array_equal(spikes, same)
    np.testing.assert_allclose(gradient, same_gradient, atol=1e-10 * np.abs(gradient).max())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subtracted(ALIF):
    """ALIF with the surrogate at u − A, as Norse and spyx have it, where ours is at u/A − 1: with an A that moves, no
    surrogate of the one is a surrogate of the other. The spikes are the same.
    """

    scale: float = 1.0
    """Of the peer's membrane against ours."""

    def _fire(self, membrane, threshold, elapsed=None):
        spikes = dietjax.spike(self.scale * (membrane - threshold), self.surrogate)
        return spikes, jax.lax.stop_gradient(spikes)


def super_spike(x):
    """Norse's, whose slope is 1 whatever its parameters say."""
    return 1 / (1 + jnp.abs(x)) ** 2


def test_lsnn_of_norse_is_alif_one_timestep_later_but_for_where_its_surrogate_is(x64):
    """The current waits a step in its synapse, here one without memory; a spike's rise of the threshold decays at once,
    by ρ. The gradient passes through reset and adaptation. (Its recurrent step lets it through neither.)
    """
    norse, torch = installed("norse.torch.functional.lsnn"), installed("torch")
    currents, weights = example(0.5)
    leak, rho, threshold, beta = 0.8, 0.7, 1.0, 0.5
    scale = 1 - leak
    options = {"leak": leak, "threshold": threshold, "adaptation": beta, "adaptation_leak": rho, "reset": "zero",
               "reset_gradient": True, "surrogate": super_spike}
    params = ALIF(**options).init(jax.random.key(0), (N,), jnp.float64)
    shifted = np.concatenate([weights[:, 1:], np.zeros((B, 1, N))], 1)
    spikes, (_, gradient) = ours(Subtracted(scale=scale, **options), params, currents, shifted)
    parameters = norse.LSNNParameters(*(torch.tensor(x, dtype=torch.float64) for x in (
        1.0, scale, 1 - rho, 0.0, scale * threshold, 0.0, scale * beta / rho)))

    def run(currents):
        zeros = torch.zeros((B, N), dtype=torch.float64)
        state, outputs = norse.LSNNFeedForwardState(zeros, zeros, zeros + parameters.v_th), []
        for current in currents:
            spike, state = norse.lsnn_feed_forward_step(current, state, parameters, dt=1.0)
            outputs.append(spike)
        return outputs

    same, same_gradient = theirs(run, currents, weights)
    np.testing.assert_array_equal(same[:, 1:], spikes[:, :-1])
    np.testing.assert_array_equal(spikes, ours(ALIF(**options), params, currents, shifted)[0])
    np.testing.assert_allclose(gradient, same_gradient, atol=1e-10 * np.abs(gradient).max())


def of_spyx(peer, state, currents, weights):
    """A neuron of spyx: (spikes [B, T, N], gradient of their weighted sum by (its parameters, currents))."""
    nnx = importlib.import_module("flax.nnx")
    graph, trained = nnx.split(peer)

    def loss(trained, currents):
        neuron, carried, outputs = nnx.merge(graph, trained), state, []
        for t in range(T):
            spikes, carried = neuron(currents[:, t], carried)
            outputs.append(spikes)
        spikes = jnp.stack(outputs, 1)
        return (weights * spikes).sum(), spikes

    gradient, spikes = jax.jit(jax.grad(loss, (0, 1), has_aux=True))(trained, jnp.asarray(currents))
    return np.asarray(spikes), gradient


def test_alif_of_spyx_is_ours_with_delay_but_for_where_its_surrogate_is(x64):
    """It fires for the membrane before the step, and resets then, which at a leak of 1 is ours with `delay`; both
    resets and the adaptation carry the gradient. Its γ is our ρ, and 1 − γ our β.
    """
    spyx, nnx = installed("spyx.nn"), importlib.import_module("flax.nnx")
    currents, weights = example()
    rho = 0.8
    options = {"leak": 1.0, "threshold": 0.9, "adaptation": 1 - rho, "adaptation_leak": rho, "surrogate": ARCTAN,
               "delay": True, "reset_gradient": True}
    params = ALIF(**options).init(jax.random.key(0), (N,), jnp.float64)
    spikes, (of_params, gradient) = ours(Subtracted(**options), params, currents, weights)
    peer = spyx.ALIF((N,), beta=1.0, gamma=rho, threshold=0.9, activation=axon(), rngs=nnx.Rngs(0))
    same, (of_peer, same_gradient) = of_spyx(peer, jnp.zeros((B, 2 * N)), currents, weights)
    np.testing.assert_array_equal(same, spikes)
    np.testing.assert_array_equal(spikes, ours(ALIF(**options), params, currents, weights)[0])
    np.testing.assert_allclose(gradient, same_gradient, atol=1e-10 * np.abs(gradient).max())
    np.testing.assert_allclose(of_params.adaptation_leak - of_params.adaptation, of_peer["gamma"][...], rtol=1e-9)


def test_lif_of_spyx_is_ours_with_delay(x64):
    """As ALIF, with a threshold that stays: value and gradient. What networks of it do is in test_peers."""
    spyx, nnx = installed("spyx.nn"), importlib.import_module("flax.nnx")
    currents, weights = example()
    threshold = 0.9
    neuron = dietjax.LIF(leak=1.0, threshold=threshold, delay=True, reset_gradient=True,
                         surrogate=lambda z: threshold * ARCTAN(threshold * z))
    params = neuron.init(jax.random.key(0), (N,), jnp.float64)
    spikes, (_, gradient) = ours(neuron, params, currents, weights)
    peer = spyx.LIF((N,), beta=1.0, threshold=threshold, activation=axon(), rngs=nnx.Rngs(0))
    same, (_, same_gradient) = of_spyx(peer, jnp.zeros((B, N)), currents, weights)
    np.testing.assert_array_equal(same, spikes)
    np.testing.assert_allclose(gradient, same_gradient, atol=1e-10 * np.abs(gradient).max())


def axon():
    """Our arctan as spyx takes a surrogate."""
    return installed("spyx.axn").custom(bwd=ARCTAN)


def test_parametric_lif_of_spikingjelly_is_plif(x64):
    jelly, torch = installed("spikingjelly.activation_based.neuron"), installed("torch")
    surrogate = importlib.import_module("spikingjelly.activation_based.surrogate")
    currents, weights = example(1.0)
    neuron = PLIF(tau=1.7, surrogate=ARCTAN)
    spikes, (of_params, gradient) = ours(neuron, neuron.init(jax.random.key(0), (N,), jnp.float64), currents, weights)
    peer = jelly.ParametricLIFNode(init_tau=1.7, detach_reset=True, surrogate_function=surrogate.ATan(2.0)).double()
    peer.w.data = torch.tensor(float(-np.log(0.7)), dtype=torch.float64)  # there it was made in float32
    same, same_gradient = theirs(lambda currents: [peer(current) for current in currents], currents, weights)
    np.testing.assert_array_equal(spikes, same)
    np.testing.assert_allclose(gradient, same_gradient, atol=1e-10 * np.abs(gradient).max())
    np.testing.assert_allclose(of_params.decay_logit, peer.w.grad, rtol=1e-10)


@pytest.mark.parametrize("sliding", [False, True])
def test_parallel_neurons_of_spikingjelly_are_ours_at_a_threshold_of_one(x64, sliding):
    jelly, torch = installed("spikingjelly.activation_based.neuron"), installed("torch")
    surrogate = importlib.import_module("spikingjelly.activation_based.surrogate")
    currents, weights = example(0.4)
    neuron = SlidingPSN(order=4, surrogate=ARCTAN) if sliding else PSN(timesteps=T, surrogate=ARCTAN)
    params = neuron.init(jax.random.key(0), (N,), jnp.float64)
    params = params._replace(weight=params.weight if sliding else 3 * params.weight)
    spikes, (of_params, gradient) = ours(neuron, params, currents, weights)
    atan = surrogate.ATan(2.0)
    peer = (jelly.SlidingPSN(4, surrogate_function=atan, step_mode="m") if sliding else
            jelly.PSN(T, surrogate_function=atan)).double()
    if sliding:
        np.testing.assert_array_equal(peer.weight.detach().numpy(), params.weight)  # where both begin
    peer.weight.data = torch.tensor(np.asarray(params.weight))
    same, same_gradient = theirs(peer, currents, weights)
    np.testing.assert_array_equal(spikes, same)
    np.testing.assert_allclose(gradient, same_gradient, atol=1e-10 * np.abs(gradient).max())
    np.testing.assert_allclose(of_params.weight, peer.weight.grad, atol=1e-10 * np.abs(of_params.weight).max())
