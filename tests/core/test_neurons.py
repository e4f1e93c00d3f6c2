"""Laws of dietjax.core.neurons, against plain NumPy loops of section 1 and 2 of the method."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dietjax import IF, LI, LIF, PLIF, LIFParams, MembraneState, PLIFParams, ReLU, Surrogate
from dietjax.core.neurons import IFParams, clamp_leaks
from dietjax.core.unroll import unroll

pytestmark = pytest.mark.usefixtures("quick_compile")

N = (3, 2, 4)
SHARED = {"layer": (), "channel": N[-1:], "neuron": N}
RESETS = ("subtract", "zero")


def numpy_lif(current, leak, threshold, reset):
    """[B, T, N] -> (spikes, membranes before firing, membranes after it), step by step."""
    u = np.zeros(current[:, 0].shape)
    spikes, before, after = [], [], []
    for t in range(current.shape[1]):
        v = leak * u + current[:, t]
        o = np.where(v / threshold - 1 > 0, 1.0, 0.0)
        u = v - threshold * o if reset == "subtract" else np.where(o > 0, 0.0, v)
        spikes, before, after = [*spikes, o], [*before, v], [*after, u]
    return (np.stack(x, 1) for x in (spikes, before, after))


def example(seed=0, shape=(2, 7, *N), shared=()):
    rng = np.random.default_rng(seed)
    return rng.normal(0.4, 0.8, shape), rng.uniform(0.5, 1, shared), rng.uniform(0.5, 1.5, shared)


@functools.partial(jax.jit, static_argnums=0)
def loop(neuron, params, current):
    """`step` in a Python loop."""
    state = neuron.initial_state(params, current[:, 0].shape, current.dtype)
    spikes = []
    for t in range(current.shape[1]):
        state, out = neuron.step(params, state, current[:, t])
        spikes.append(out)
    return state, jnp.stack(spikes, 1)


class TestForward:
    @pytest.mark.parametrize("sharing", SHARED)
    @pytest.mark.parametrize("reset", RESETS)
    def test_lif_is_the_numpy_loop(self, x64, sharing, reset):
        current, leak, threshold = example(shared=SHARED[sharing])
        neuron = LIF(sharing=sharing, reset=reset)
        assert jax.tree.map(jnp.shape, neuron.init(jax.random.key(0), N)) == LIFParams(SHARED[sharing], SHARED[sharing])
        state, spikes = loop(neuron, LIFParams(jnp.asarray(leak), jnp.asarray(threshold)), jnp.asarray(current))
        expected, _, after = numpy_lif(current, leak, threshold, reset)
        assert 0.1 < expected.mean() < 0.9
        np.testing.assert_array_equal(spikes, expected)
        np.testing.assert_allclose(state.membrane, after[:, -1], rtol=1e-12, atol=1e-14)

    @pytest.mark.parametrize("reset", RESETS)
    @pytest.mark.slow
    def test_lif_with_leak_one_is_if(self, reset):
        current = jnp.asarray(example()[0], jnp.float32)
        lif, if_ = (kind(threshold=0.7, sharing="channel", reset=reset) for kind in (LIF, IF))
        key = jax.random.key(0)

        def run(neuron, params, current):
            state, spikes = loop(neuron, params, current)
            return (spikes * jnp.arange(7.0)[:, None, None, None]).sum() + state.membrane.sum(), spikes

        run = jax.jit(jax.value_and_grad(run, (1, 2), has_aux=True), static_argnums=0)
        (_, spikes), gradient = run(lif, lif.init(key, N), current)
        (_, same), same_gradient = run(if_, if_.init(key, N), current)
        np.testing.assert_array_equal(spikes, same)
        np.testing.assert_allclose(gradient[0].threshold, same_gradient[0].threshold, rtol=1e-6)
        np.testing.assert_allclose(gradient[1], same_gradient[1], rtol=1e-6)

    def test_soft_reset_conserves_charge(self, x64):
        current, _, threshold = example(shared=SHARED["neuron"])
        state, spikes = loop(LIF(), LIFParams(jnp.asarray(1.0), jnp.asarray(threshold)), jnp.asarray(current))
        assert spikes.sum() > 0
        np.testing.assert_allclose(current.sum(1), threshold * np.asarray(spikes).sum(1) + np.asarray(state.membrane),
                                   rtol=1e-12, atol=1e-12)

    def test_membrane_at_the_threshold_does_not_fire(self):
        params = IFParams(jnp.asarray(0.5))
        state = IF().initial_state(params, (1, 2))
        state, spikes = IF().step(params, state, jnp.asarray([[0.5, 0.5000001]]))
        assert spikes.tolist() == [[0, 1]]

    def test_a_hand_written_scan_of_step_is_unroll(self):
        current = jnp.asarray(example()[0], jnp.float32)
        neuron = LIF(leak=0.8, threshold=0.6)
        params = neuron.init(jax.random.key(0), N)
        state = neuron.initial_state(params, current[:, 0].shape)
        state, spikes = jax.lax.scan(lambda s, c: neuron.step(params, s, c), state, jnp.moveaxis(current, 1, 0))
        same_state, same = unroll(neuron, params, None, current)
        np.testing.assert_array_equal(jnp.moveaxis(spikes, 0, 1), same)
        np.testing.assert_allclose(state.membrane, same_state.membrane, rtol=1e-6, atol=1e-6)

    def test_vmap_over_parameter_sets_is_a_loop_over_them(self):
        current = jnp.asarray(example()[0], jnp.float32)
        sets = LIFParams(jnp.asarray([0.5, 0.9, 1.0]), jnp.asarray([0.4, 1.0, 1.3]))
        run = jax.jit(lambda params: unroll(LIF(), params, None, current)[1])
        spikes = jax.vmap(run)(sets)
        for i in range(3):
            np.testing.assert_array_equal(spikes[i], run(LIFParams(sets.leak[i], sets.threshold[i])))

    def test_relu_is_max_with_zero_and_has_neither_parameters_nor_state(self):
        x = jnp.asarray([[-1.0, 0.0, 2.0]])
        assert ReLU().init(jax.random.key(0), N) == ReLU().initial_state((), (1, 3)) == ()
        assert ReLU().step((), (), x)[1].tolist() == [[0, 0, 2]]


class TestDtype:
    def test_bf16_currents_keep_float32_membranes_and_give_bf16_spikes(self):
        current, leak, threshold = example(shape=(2, 20, 50))
        current = jnp.asarray(current, jnp.bfloat16)
        params = LIFParams(jnp.float32(leak), jnp.float32(threshold))
        state, spikes = loop(LIF(), params, current)
        assert state.membrane.dtype == jnp.float32 and spikes.dtype == jnp.bfloat16
        expected, expected_spikes = loop(LIF(), params, current.astype(jnp.float32))
        np.testing.assert_array_equal(spikes.astype(jnp.float32), expected_spikes)
        np.testing.assert_array_equal(state.membrane, expected.membrane)

    def test_float64_stays_float64(self, x64):
        params = LIF().init(jax.random.key(0), N, jnp.float64)
        state, spikes = loop(LIF(), params, jnp.asarray(example()[0]))
        assert params.leak.dtype == state.membrane.dtype == spikes.dtype == jnp.float64

    @pytest.mark.parametrize("surrogate", ["piecewise_linear", "stdb"])
    def test_a_step_keeps_the_states_structure_and_dtype(self, x64, surrogate):
        neuron = LIF(surrogate=surrogate)
        for dtype in (jnp.bfloat16, jnp.float32, jnp.float64):
            params = neuron.init(jax.random.key(0), N, dtype)
            before = neuron.initial_state(params, (2, *N), dtype)
            after, _ = neuron.step(params, before, jnp.ones((2, *N), dtype))
            assert jax.tree.map(lambda x: x.dtype, after) == jax.tree.map(lambda x: x.dtype, before)


def numpy_gradients(current, leak, threshold, reset, derivative, on_spikes, on_membrane):
    """Reverse recursion of L = Σ on_spikes·o + on_membrane·u(T): the comparison in the reset is a constant, θ is not.

    derivative: [B, T, N], the surrogate at every step.
    """
    spikes, before, after = numpy_lif(current, leak, threshold, reset)
    d_leak, d_threshold = np.zeros(current[:, 0].shape), np.zeros(current[:, 0].shape)
    d_current = np.zeros(current.shape)
    d_u = on_membrane
    for t in reversed(range(current.shape[1])):
        o, v = spikes[:, t], before[:, t]
        d_z = on_spikes[:, t] * derivative[:, t]
        if reset == "subtract":
            d_v, d_threshold = d_u + d_z / threshold, d_threshold - d_u * o
        else:
            d_v = d_u * (1 - o) + d_z / threshold
        d_threshold = d_threshold - d_z * v / threshold**2
        if t > 0:
            d_leak = d_leak + d_v * after[:, t - 1]
        d_current[:, t] = d_v
        d_u = leak * d_v
    return d_leak, d_threshold, d_current


class TestGradient:
    @pytest.mark.parametrize("sharing", SHARED)
    @pytest.mark.parametrize("reset", RESETS)
    @pytest.mark.parametrize("surrogate", ["piecewise_linear", "arctan", "stdb"])
    @pytest.mark.thin(2)
    def test_gradients_are_the_reverse_recursion(self, x64, sharing, reset, surrogate):
        current, leak, threshold = example(1, shared=SHARED[sharing])
        rng = np.random.default_rng(2)
        on_spikes, on_membrane = rng.normal(size=current.shape), rng.normal(size=current[:, 0].shape)
        neuron = LIF(sharing=sharing, reset=reset, surrogate=surrogate)

        @functools.partial(jax.grad, argnums=(0, 1, 2))
        def gradient(leak, threshold, current):
            state, spikes = loop(neuron, LIFParams(leak, threshold), current)
            return (on_spikes * spikes).sum() + (on_membrane * state.membrane).sum()

        found = jax.jit(gradient)(jnp.asarray(leak), jnp.asarray(threshold), jnp.asarray(current))
        spikes, before, _ = numpy_lif(current, leak, threshold, reset)
        z = before / threshold - 1
        derivative = {"piecewise_linear": lambda: 0.3 * np.maximum(0, 1 - np.abs(z)),
                      "arctan": lambda: 1 / (1 + (np.pi * z) ** 2),
                      "stdb": lambda: numpy_stdb(spikes)}[surrogate]()
        d_leak, d_threshold, d_current = numpy_gradients(
            current, leak, threshold, reset, derivative, on_spikes, on_membrane)
        own = {"layer": (0, 1, 2, 3), "channel": (0, 1, 2), "neuron": 0}[sharing]
        np.testing.assert_allclose(found[0], d_leak.sum(own), rtol=1e-11, atol=1e-13)
        np.testing.assert_allclose(found[1], d_threshold.sum(own), rtol=1e-11, atol=1e-13)
        np.testing.assert_allclose(found[2], d_current, rtol=1e-11, atol=1e-13)


def numpy_stdb(spikes):
    """The authors' rule: α·exp(−β·(t − t_last)), t_last of the spike BEFORE t, −1000 where there was none."""
    last = np.full(spikes[:, 0].shape, -1000.0)
    derivative = np.zeros(spikes.shape)
    for t in range(spikes.shape[1]):
        derivative[:, t] = 0.3 * np.exp(-0.01 * (t - last))
        last = np.where(spikes[:, t] > 0, t, last)
    return derivative


def numpy_plif(current, decay_logit, threshold, reset):
    """The paper's equations as they stand: u ← u + (I − u)/τ with 1/τ = sigmoid(w); [B, T, N] -> (spikes, last u)."""
    tau = 1 + np.exp(-decay_logit)
    u, spikes = np.zeros(current[:, 0].shape), []
    for t in range(current.shape[1]):
        u = u + (current[:, t] - u) / tau
        o = np.where(u > threshold, 1.0, 0.0)
        u = u - threshold * o if reset == "subtract" else u * (1 - o)
        spikes.append(o)
    return np.stack(spikes, 1), u


class TestPLIF:
    @pytest.mark.parametrize("sharing", SHARED)
    @pytest.mark.parametrize("reset", RESETS)
    @pytest.mark.parametrize("timesteps", [7, 37])
    @pytest.mark.thin(2)
    def test_plif_is_the_papers_loop(self, x64, sharing, reset, timesteps):
        rng = np.random.default_rng(3)
        current, decay_logit = rng.normal(0.6, 1.2, (2, timesteps, *N)), rng.normal(0, 1, SHARED[sharing])
        threshold = rng.uniform(0.3, 0.9, SHARED[sharing])
        expected, membrane = numpy_plif(current, decay_logit, threshold, reset)
        assert 0.1 < expected.mean() < 0.9
        params = PLIFParams(jnp.asarray(decay_logit), jnp.asarray(threshold))
        for backend in ("xla", "scan"):
            state, spikes = jax.jit(unroll, static_argnums=(0, 4, 5))(
                PLIF(sharing=sharing, reset=reset), params, None, jnp.asarray(current), None, backend)
            np.testing.assert_array_equal(spikes, expected)
            np.testing.assert_allclose(state.membrane, membrane, rtol=1e-10, atol=1e-13)

    @pytest.mark.parametrize("tau", [2.0, 1.25, 10.0])
    def test_plif_starts_at_its_time_constant(self, tau):
        params = PLIF(tau=tau, sharing="channel").init(jax.random.key(0), N)
        np.testing.assert_allclose(params.leak, np.full(4, 1 - 1 / tau), rtol=1e-6)
        assert PLIF().init(jax.random.key(0), N) == PLIFParams(0, 1) and PLIF().reset == "zero"  # the paper's

    def test_plif_is_lif_on_currents_scaled_by_what_leaks(self, x64):
        current = jnp.asarray(example()[0])
        state, spikes = loop(PLIF(reset="subtract", tau=1.6), PLIFParams(jnp.asarray(0.5), jnp.asarray(0.2)), current)
        k = 1 / (1 + np.exp(-0.5))
        same_state, same = loop(LIF(), LIFParams(jnp.asarray(1 - k), jnp.asarray(0.2)), k * current)
        np.testing.assert_array_equal(spikes, same)
        np.testing.assert_allclose(state.membrane, same_state.membrane, rtol=1e-12)

    @pytest.mark.slow
    def test_without_a_spike_the_gradient_of_the_decay_is_that_of_the_papers_equation(self, x64):
        """u(2) = k·I₂ + (1−k)·k·I₁, so that ∂u/∂w = k(1−k)·(I₂ + (1 − 2k)·I₁)."""
        def last_membrane(decay_logit):
            params = PLIFParams(decay_logit, jnp.asarray(9.0))
            return unroll(PLIF(), params, None, jnp.asarray([[[0.3], [0.7]]]))[0].membrane.sum()

        k = 1 / (1 + np.exp(-0.4))
        assert jax.grad(last_membrane)(jnp.asarray(0.4)) == pytest.approx(k * (1 - k) * (0.7 + (1 - 2 * k) * 0.3))

    @pytest.mark.parametrize("tau", [1.0, 0.5, float("nan"), float("inf")])
    def test_tau_outside_its_range(self, tau):
        with pytest.raises(ValueError, match=f"tau must be > 1 timestep and finite.*got {tau}"):
            PLIF(tau=tau)


class TestReadout:
    def test_li_is_a_cumulative_sum(self, x64):
        current = jnp.asarray(example(shape=(2, 6, 5))[0])
        state, out = unroll(LI(), (), None, current)
        np.testing.assert_allclose(out, np.cumsum(current, 1), rtol=1e-13)
        np.testing.assert_array_equal(state.membrane, out[:, -1])

    def test_li_leaks_by_hand(self):
        assert unroll(LI(leak=0.5), (), None, jnp.ones((1, 3, 1)))[1].ravel().tolist() == [1, 1.5, 1.75]


class TestClampLeaks:
    def test_only_leaks_outside_zero_to_one_change(self):
        tree = {
            "conv1": {"kernel": jnp.asarray([2.0, -3.0]), "neuron": LIFParams(jnp.asarray(1.5), jnp.asarray(7.0))},
            "conv2": {"neuron": LIFParams(jnp.asarray([0.3, 1.0, 1.01, -0.2]), jnp.full(4, 2.0))},
            "if": IFParams(jnp.asarray(5.0)), "leak": jnp.asarray(9.0),
            "plif": PLIFParams(jnp.asarray(6.0), jnp.asarray(3.0)),
        }
        clamped = clamp_leaks(tree)
        assert jax.tree.structure(clamped) == jax.tree.structure(tree)
        assert clamped["conv1"]["neuron"].leak == 1
        np.testing.assert_array_equal(clamped["conv2"]["neuron"].leak, jnp.asarray([0.3, 1, 1, 0]))
        clamped["conv1"]["neuron"] = tree["conv1"]["neuron"]
        clamped["conv2"]["neuron"] = tree["conv2"]["neuron"]
        jax.tree.map(np.testing.assert_array_equal, clamped, tree)


class TestValue:
    def test_equal_neurons_are_equal_and_hash_equal(self):
        assert LIF(leak=0.9, surrogate="arctan") == LIF(leak=0.9, surrogate=Surrogate("arctan"))
        assert hash(LIF(leak=0.9, surrogate="arctan")) == hash(LIF(leak=0.9, surrogate=Surrogate("arctan")))
        different = [LIF(), LIF(leak=0.9), LIF(reset="zero"), LIF(sharing="channel"), LIF(threshold=2), IF(),
                     LI(), ReLU()]
        assert len({*different, *different}) == len(different)

    def test_elapsed_time_is_carried_for_stdb_alone(self):
        params = LIF().init(jax.random.key(0), N)
        assert LIF().initial_state(params, (1, *N)).elapsed is None
        assert LIF(surrogate="stdb").initial_state(params, (1, *N)).elapsed.shape == (1, *N)


class TestErrors:
    @pytest.mark.parametrize("kind", [LIF, LI])
    @pytest.mark.parametrize("leak", [-0.1, 1.1, float("nan")])
    def test_leak_outside_zero_to_one(self, kind, leak):
        with pytest.raises(ValueError, match=rf"leak must lie in \[0, 1\].*got {leak}"):
            kind(leak=leak)

    @pytest.mark.parametrize("kind", [LIF, IF])
    @pytest.mark.parametrize("threshold", [0, -1.0, float("nan")])
    def test_threshold_not_positive(self, kind, threshold):
        with pytest.raises(ValueError, match=f"threshold must be > 0, got {threshold}"):
            kind(threshold=threshold)

    @pytest.mark.parametrize("field, given, nearest", [
        ("sharing", "chanel", "channel"), ("reset", "substract", "subtract"), ("surrogate", "arctn", "arctan")])
    def test_unknown_word_gives_the_nearest(self, field, given, nearest):
        with pytest.raises(ValueError, match=f"unknown {field} '{given}'; did you mean '{nearest}'"):
            LIF(**{field: given})

    @pytest.mark.parametrize("name, params", [
        ("threshold", LIFParams(jnp.asarray(1.0), jnp.ones(64))), ("leak", LIFParams(jnp.ones(64), jnp.asarray(1.0)))])
    def test_parameters_of_other_channels_name_both_shapes(self, name, params):
        state = MembraneState(jnp.zeros((2, 8, 8, 128)))
        with pytest.raises(ValueError, match=rf"{name} has shape \(64,\), .* ends in \(128,\).*sharing='layer'"):
            LIF().step(params, state, jnp.zeros((2, 8, 8, 128)))

    def test_one_channel_parameter_does_not_broadcast_by_accident(self):
        with pytest.raises(ValueError, match=r"shape \(1,\)"):
            LIF().step(LIFParams(jnp.asarray(1.0), jnp.ones(1)), MembraneState(jnp.zeros((2, 4))), jnp.zeros((2, 4)))
