"""Laws of resets: what a spike takes, whether the gradient passes through the comparison, firing in the next step."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dietjax as dj
from dietjax import ALIF, IF, LIF, PLIF, CuBaLIF, IFParams, LIFParams, PLIFParams, RefractoryLIF
from dietjax.core.scan import defined_with_step
from dietjax.errors import InputError

pytestmark = pytest.mark.usefixtures("quick_compile")

B, T, N = 2, 6, 3
RESETS = ("subtract", "zero", "none")


def example(seed=0):
    """(currents [B, T, N], leaks [N], thresholds [N], weights of spikes [B, T, N], of the last membranes [B, N])."""
    rng = np.random.default_rng(seed)
    return (rng.normal(0.5, 0.8, (B, T, N)), rng.uniform(0.6, 0.95, N), rng.uniform(0.5, 1.2, N),
            rng.normal(size=(B, T, N)), rng.normal(size=(B, N)))


def after_spike(reset, membrane, threshold, spikes):
    return {"subtract": membrane - threshold * spikes, "zero": np.where(spikes > 0, 0, membrane),
            "none": membrane}[reset]


def numpy_loop(current, leak, threshold, reset, delay):
    """The equations of `neurons.spiking` as they stand: (spikes, membranes before each comparison, last membrane)."""
    u, spikes, compared = np.zeros((B, N)), [], []
    for t in range(T):
        if not delay:
            u = leak * u + current[:, t]
        o = (u / threshold - 1 > 0).astype(float)
        spikes, compared = [*spikes, o], [*compared, u]
        u = after_spike(reset, u, threshold, o)
        if delay:
            u = leak * u + current[:, t]
    return np.stack(spikes, 1), np.stack(compared, 1), u


@functools.partial(jax.jit, static_argnums=0)
def run(neuron, params, current, state=None):
    return dj.unroll(neuron, params, state, current)


@functools.partial(jax.jit, static_argnums=0)
def gradients(neuron, params, current, on_spikes, on_membrane):
    def loss(params, current):
        state, spikes = dj.unroll(neuron, params, None, current)
        return (on_spikes * spikes).sum() + (on_membrane * state.membrane).sum()

    return jax.grad(loss, (0, 1))(params, current)


def assert_close(found, expected):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13), found, expected)


@pytest.mark.parametrize("delay", [False, True])
@pytest.mark.parametrize("reset", RESETS)
def test_resets_are_the_numpy_loop(x64, reset, delay):
    current, leak, threshold, *_ = example()
    spikes, _, membrane = numpy_loop(current, leak, threshold, reset, delay)
    assert 0.1 < spikes.mean() < 0.9
    neuron = LIF(reset=reset, delay=delay, sharing="neuron")
    state, found = run(neuron, LIFParams(jnp.asarray(leak), jnp.asarray(threshold)), jnp.asarray(current))
    np.testing.assert_array_equal(found, spikes)
    np.testing.assert_allclose(state.membrane, membrane, rtol=1e-12, atol=1e-14)


def numpy_gradients(example, reset, reset_gradient):
    """Backwards through the equations by hand, with σ'(z) = 1/(1 + (πz)²): (∂L/∂λ, ∂L/∂θ, ∂L/∂I)."""
    current, leak, threshold, on_spikes, on_membrane = example
    spikes, before, _ = numpy_loop(current, leak, threshold, reset, delay=False)
    d_leak, d_threshold, d_current, d_u = 0, 0, np.zeros(current.shape), on_membrane
    for t in reversed(range(T)):
        o, v, d_o = spikes[:, t], before[:, t], on_spikes[:, t]
        if reset_gradient:  # u = v − θ·o, or v·(1 − o)
            d_o = d_o - d_u * (threshold if reset == "subtract" else v)
        d_z = d_o / (1 + (np.pi * (v / threshold - 1)) ** 2)
        d_v = {"subtract": d_u, "zero": d_u * (1 - o), "none": d_u}[reset] + d_z / threshold
        d_threshold = d_threshold - d_z * v / threshold**2 - (d_u * o if reset == "subtract" else 0)
        came = after_spike(reset, before[:, t - 1], threshold, spikes[:, t - 1]) if t else np.zeros((B, N))
        d_leak, d_current[:, t], d_u = d_leak + d_v * came, d_v, leak * d_v
    return d_leak.sum(0), d_threshold.sum(0), d_current


@pytest.mark.parametrize("forward_mode", [False, True])
@pytest.mark.parametrize("reset, reset_gradient", [("none", False), ("subtract", True), ("zero", True)])
@pytest.mark.thin(2)
def test_gradients_are_those_of_the_equations_by_hand(x64, reset, reset_gradient, forward_mode):
    current, leak, threshold, *weights = example()
    neuron = LIF(reset=reset, reset_gradient=reset_gradient, sharing="neuron", surrogate="arctan",
                 forward_mode=forward_mode)
    params = LIFParams(jnp.asarray(leak), jnp.asarray(threshold))
    found = gradients(neuron, params, jnp.asarray(current), *weights)
    expected = numpy_gradients(example(), reset, reset_gradient)
    assert_close((*found[0], found[1]), expected)


def test_two_steps_through_the_comparison_of_the_reset_by_hand(x64):
    """u₁ = I₁ = 1.5 fires, with ∂o₁/∂u₁ = 0.3·(1 − 1/2) = 0.15; u₂ = λ·(u₁ − o₁) + I₂ = −1, where σ' is 0."""
    def last(current, reset_gradient):
        neuron = LIF(reset_gradient=reset_gradient)
        return run(neuron, LIFParams(jnp.asarray(0.8), jnp.asarray(1.0)), current)[0].membrane.sum()

    current = jnp.asarray([1.5, -1.4]).reshape(1, 2, 1)
    for reset_gradient, slope in ((False, 0.8), (True, 0.8 * (1 - 0.15))):
        assert jax.grad(last)(current, reset_gradient).ravel() == pytest.approx([slope, 1])


@pytest.mark.parametrize("neuron", [
    LIF(sharing="channel"), LIF(reset="zero", initial_membrane=0.6), IF(reset="none", surrogate="arctan"),
    PLIF(threshold=0.4, reset="subtract"), LIF(surrogate="stdb", leak=0.8), LIF(reset_gradient=True),
    ALIF(leak=0.9, surrogate="arctan"), CuBaLIF(leak=0.9, synaptic_leak=0.4, threshold=0.8, reset="zero"),
    RefractoryLIF(leak=0.9, period=2, threshold=0.4, reset_gradient=True)], ids=repr)
@pytest.mark.thin(2)
def test_with_delay_the_same_spikes_and_gradients_come_one_timestep_later(x64, neuron):
    current, _, _, weights, _ = example()
    params = neuron.init(jax.random.key(0), (N,), jnp.float64)
    delayed = type(neuron)(**{**vars(neuron), "delay": True})
    _, spikes = run(neuron, params, jnp.asarray(current))
    _, later = run(delayed, params, jnp.asarray(current))
    assert 0 < spikes[:, :-1].mean() < 1
    np.testing.assert_array_equal(later[:, 0], 0)
    np.testing.assert_array_equal(later[:, 1:], spikes[:, :-1])
    if neuron.surrogate.name == "stdb":  # its clock has ticked once more
        return
    before = np.concatenate([weights[:, 1:], np.zeros((B, 1, N))], 1)
    assert_close(gradients(delayed, params, jnp.asarray(current), weights, 0.0),
                 gradients(neuron, params, jnp.asarray(current), before, 0.0))


@pytest.mark.parametrize("neuron", [LIF(leak=0.9, delay=True, initial_membrane=0.5), LIF(reset="none"),
                                    LIF(reset="zero", delay=True, surrogate="stdb"), LIF(reset_gradient=True)],
                         ids=repr)
@pytest.mark.thin(1)
def test_a_state_that_is_carried_on_is_the_whole_run(x64, neuron):
    current = jnp.asarray(example()[0])
    params = neuron.init(jax.random.key(0), (N,), jnp.float64)
    state, whole = run(neuron, params, current)
    half, first = run(neuron, params, current[:, :2])
    same, second = run(neuron, params, current[:, 2:], half)
    np.testing.assert_array_equal(jnp.concatenate([first, second], 1), whole)
    assert_close(same, state)
    constant = jnp.repeat(current[:, :1], T, 1)
    _, expected = run(neuron, params, constant)
    np.testing.assert_array_equal(dj.unroll(neuron, params, None, constant[:, :1], T)[1], expected)


def test_what_no_kernel_runs_is_refused_by_name():
    currents = jnp.ones((B, T, N))
    for option, name in (({"reset": "none"}, "reset='none'"), ({"reset_gradient": True}, "reset_gradient"),
                         ({"delay": True}, "delay"), ({"forward_mode": True}, "forward_mode")):
        for backend in ("xla", "pallas_interpret"):
            with pytest.raises(InputError, match=f"backend '{backend}' cannot run LIF with {name}: .*can: auto, scan"):
                dj.unroll(LIF(**option), LIFParams(jnp.ones(()), jnp.ones(())), None, currents, backend=backend)
    with pytest.raises(InputError, match="reset='none' has nothing for a gradient to pass through"):
        LIF(reset="none", reset_gradient=True)
    with pytest.raises(InputError, match="delay must be True or False, got 1"):
        IF(delay=1)
    with pytest.raises(InputError, match="unknown reset 'nome'; did you mean 'none'"):
        PLIF(reset="nome")


# ---- with_threshold


@pytest.mark.parametrize("sharing, threshold", [("layer", 0.7), ("channel", 0.7), ("channel", [0.3, 0.7, 1.1])])
@pytest.mark.parametrize("kind", [IF, LIF])
def test_with_its_threshold_a_neuron_integrates_without_leak(x64, kind, sharing, threshold):
    """Charge is conserved: what came in is what the spikes took and what is left."""
    neuron = kind(sharing=sharing)
    params = neuron.init(jax.random.key(0), (N,), jnp.float64)
    params = params._replace(leak=0.5 * params.leak) if kind is LIF else params
    found = neuron.with_threshold(params, jnp.asarray(threshold))
    assert jax.tree.map(lambda x: (x.shape, x.dtype), found) == jax.tree.map(lambda x: (x.shape, x.dtype), params)
    np.testing.assert_array_equal(found.threshold, np.broadcast_to(threshold, params.threshold.shape))
    current = example()[0]
    state, spikes = run(neuron, found, jnp.asarray(current))
    np.testing.assert_allclose(current.sum(1), threshold * np.asarray(spikes).sum(1) + state.membrane, rtol=1e-12)


@pytest.mark.parametrize("wrong, says", [
    (np.ones(2), r"shape \(2,\), the neuron's \(3,\)"), (np.ones((1, 3)), "the neuron's"), (0.0, "must be > 0"),
    (np.array([1.0, -1.0, 1.0]), "threshold is -1, and must be > 0")])
def test_a_threshold_that_does_not_fit_is_refused(wrong, says):
    with pytest.raises(InputError, match=says):
        IF(sharing="channel").with_threshold(IFParams(jnp.ones(3)), wrong)


def test_an_optional_method_belongs_to_the_step_that_it_was_written_for():
    class Other(LIF):
        def step(self, params, state, current):
            return state, current

    class Both(Other):
        def step(self, params, state, current):
            return state, current

        def with_threshold(self, params, threshold):
            return params

    class Renamed(LIF):
        pass

    for neuron in (IF(), LIF(), Renamed(), Both()):
        assert defined_with_step(neuron, "with_threshold")
    for neuron in (PLIF(), Other(), dj.ReLU(), dj.QCFS(), dj.LI()):
        assert not defined_with_step(neuron, "with_threshold")
    assert defined_with_step(PLIF(), "run") and not defined_with_step(Both(), "run")
    assert PLIF().with_threshold is None  # under a constant current it would not even integrate
    assert PLIF().init(jax.random.key(0), (N,)) == PLIFParams(0, 1)
