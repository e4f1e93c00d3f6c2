"""Laws of what neurons refuse: numbers that would be wrong without a word are errors, or NaN that reaches the loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dietjax as dj
from dietjax import IF, LI, LIF, PLIF, IFParams, LIFParams, PLIFParams
from dietjax.models import Recurrent

pytestmark = pytest.mark.usefixtures("quick_compile")

CURRENTS = jnp.ones((2, 3, 4))


@pytest.mark.parametrize("wrong", [0.0, -0.5, np.nan])
@pytest.mark.parametrize("run", [
    lambda neuron, params: dj.unroll(neuron, params, None, CURRENTS),
    lambda neuron, params: neuron.step(params, neuron.initial_state(params, (2, 4)), CURRENTS[:, 0]),
    lambda neuron, params: jax.lax.scan(  # a loop of one's own, its parameters known
        lambda state, current: neuron.step(params, state, current), neuron.initial_state(params, (2, 4)),
        jnp.moveaxis(CURRENTS, 1, 0)),
], ids=["unroll", "step", "scan"])
def test_a_known_threshold_that_is_not_above_zero_is_refused(run, wrong):
    with pytest.raises(ValueError, match=rf"a threshold is {wrong:.6g}, and must be > 0"):
        run(LIF(), LIFParams(jnp.ones(()), jnp.asarray(wrong)))


@pytest.mark.parametrize("wrong", [0.0, -0.5, np.nan])
@pytest.mark.parametrize("backend", ["scan", "xla", "pallas_interpret"])
@pytest.mark.parametrize("neuron", [LIF(), LIF(reset="zero", surrogate="stdb")], ids=["subtract", "zero"])
@pytest.mark.thin(3)
def test_a_threshold_that_is_not_known_makes_every_spike_nan(neuron, backend, wrong):
    @jax.jit
    def spikes(threshold):
        return dj.unroll(neuron, LIFParams(jnp.ones(()), threshold), None, CURRENTS, backend=backend)[1]

    assert np.isnan(spikes(wrong)).all()
    np.testing.assert_array_equal(spikes(0.9), 1)  # each current of 1 fires


@pytest.mark.parametrize("backend", ["scan", "xla", "pallas_interpret"])
def test_a_current_of_nan_reaches_the_spikes_of_its_neuron_alone(backend):
    currents = CURRENTS.at[0, 1, 2].set(jnp.nan)
    _, spikes = dj.unroll(LIF(), LIFParams(jnp.ones(()), jnp.float32(0.9)), None, currents, backend=backend)
    expected = np.zeros((2, 3, 4), bool)
    expected[0, 1:, 2] = True
    np.testing.assert_array_equal(np.isnan(spikes), expected)


def test_check_params_names_each_value_with_its_place():
    dj.check_params({"a": LIFParams(jnp.float32(1), jnp.float32(0.1)), "b": PLIFParams(jnp.float32(-9), jnp.ones(3)),
                     "c": IFParams(jnp.ones(2)), "kernel": jnp.array([-1.0])})
    with pytest.raises(ValueError) as caught:
        dj.check_params({"a": LIFParams(jnp.float32(-0.25), jnp.array([1.0, 0.0])), "b": IFParams(jnp.float32(np.nan)),
                         "c": LIFParams(jnp.array([0.5, 1.5]), jnp.float32(1))})
    assert str(caught.value) == (
        "threshold of ['a'] is 0 (must be > 0); leak of ['a'] is -0.25 (must lie in [0, 1], see clamp_leaks); "
        "threshold of ['b'] is nan (must be > 0); leak of ['c'] is 1.5 (must lie in [0, 1], see clamp_leaks)")


def test_clamped_leaks_lie_between_zero_and_one_and_nothing_else_changes():
    params = {"a": LIFParams(jnp.array([-0.5, 0.0, 0.3, 1.0, 1.5]), jnp.float32(-2)), "kernel": jnp.array([3.0, -3.0])}
    clamped = dj.clamp_leaks(params)
    np.testing.assert_array_equal(clamped["a"].leak, np.float32([0, 0, 0.3, 1, 1]))
    assert clamped["a"].threshold == -2
    np.testing.assert_array_equal(clamped["kernel"], [3, -3])


@pytest.mark.parametrize("neuron", [IF(), LIF(), PLIF(), LI()], ids=lambda neuron: type(neuron).__name__)
@pytest.mark.parametrize("dtype", [jnp.int32, jnp.bool_])
def test_whole_numbers_as_currents_are_refused(neuron, dtype):
    params, currents = neuron.init(jax.random.key(0), (4,)), CURRENTS.astype(dtype)
    with pytest.raises(ValueError, match=rf"currents are {jnp.dtype(dtype)}, .* make them floating point first"):
        dj.unroll(neuron, params, None, currents)
    with pytest.raises(ValueError, match=rf"currents are {jnp.dtype(dtype)}"):
        neuron.step(params, neuron.initial_state(params, (2, 4)), currents[:, 0])


@pytest.mark.parametrize("backend", ["auto", "scan"])
@pytest.mark.parametrize("neuron", [LIF(), LI(), Recurrent(LIF())], ids=["LIF", "LI", "recurrent"])
def test_the_state_of_another_batch_is_refused_on_every_backend(neuron, backend):
    params = neuron.init(jax.random.key(0), (4,))
    for other in ((3, 4), (1, 4), (2, 5)):
        state = neuron.initial_state(params, other)
        with pytest.raises(ValueError, match=rf"the state is of .*\({other[0]}, {other[1]}\), the current of \(2, 4\)"):
            dj.unroll(neuron, params, state, CURRENTS, backend=backend)
