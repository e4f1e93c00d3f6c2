"""Laws of what the neurons beside IF, LIF and PLIF refuse, and of the ranges that their parameters keep."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dietjax as dj
from dietjax import ALIF, PSN, SRM, ALIFParams, Binary, CuBaLIF, PSNParams, RefractoryLIF, SigmaDelta, SlidingPSN
from dietjax.core.unroll import over_chunks
from dietjax.errors import InputError
from dietjax.models import Recurrent

pytestmark = pytest.mark.usefixtures("quick_compile")

CURRENTS = jnp.ones((2, 4, 3))
KINDS = [ALIF(), CuBaLIF(), RefractoryLIF(), SRM(), SigmaDelta(), Binary(), PSN(timesteps=4), SlidingPSN(order=2)]


def named(neuron):
    return type(neuron).__name__


def params_of(neuron):
    return neuron.init(jax.random.key(0), (3,))


@pytest.mark.parametrize(("kind", "field", "value", "message"), [
    (ALIF, "leak", 1.1, r"leak must lie in \[0, 1\] .*got 1.1"),
    (ALIF, "adaptation_leak", -0.1, r"adaptation_leak must lie in \[0, 1\]"),
    (ALIF, "adaptation", -0.1, "adaptation must be at least 0, got -0.1"),
    (ALIF, "reset", "none at all", "unknown reset 'none at all'"),
    (CuBaLIF, "delay", 1, "delay must be True or False, got 1"),
    (SRM, "reset_gradient", "yes", "reset_gradient must be True or False, got 'yes'"),
    (CuBaLIF, "synaptic_leak", np.nan, r"synaptic_leak must lie in \[0, 1\]"),
    (RefractoryLIF, "period", 1.5, "period must be a whole number of timesteps, at least 0, got 1.5"),
    (RefractoryLIF, "period", -1, "period must be a whole number"),
    (SRM, "tau", 0.0, "tau must be > 0 timesteps and finite, got 0.0"),
    (SRM, "tau_refractory", np.inf, "tau_refractory must be > 0 timesteps and finite"),
    (SRM, "refractoriness", -1.0, "refractoriness must be at least 0"),
    (SigmaDelta, "inputs", "value", "unknown inputs 'value'; did you mean 'values'"),
    (PSN, "timesteps", 0, "timesteps must be a whole number of at least 1, got 0"),
    (SlidingPSN, "order", True, "order must be a whole number of at least 1, got True"),
    (Binary, "sharing", "chanel", "unknown sharing 'chanel'; did you mean 'channel'"),
])
def test_a_field_out_of_its_range_is_named(kind, field, value, message):
    with pytest.raises(InputError, match=message):
        kind(**{field: value})


@pytest.mark.parametrize("neuron", KINDS, ids=named)
def test_thresholds_and_surrogates_that_none_can_have(neuron):
    size = {PSN: {"timesteps": 4}, SlidingPSN: {"order": 2}}.get(type(neuron), {})
    with pytest.raises(InputError, match="threshold must be > 0, got 0"):
        type(neuron)(threshold=0, **size)
    with pytest.raises(InputError, match=f"stdb depends on .* which {named(neuron)} does not count"):
        type(neuron)(surrogate="stdb", **size)
    assert neuron == type(neuron)(surrogate="piecewise_linear", **size) and hash(neuron)


@pytest.mark.parametrize("neuron", KINDS, ids=named)
def test_a_threshold_that_is_not_above_zero_is_refused_or_nan(neuron):
    wrong = params_of(neuron)._replace(threshold=params_of(neuron).threshold * 0)
    with pytest.raises(InputError, match="a threshold is 0, and must be > 0"):
        dj.unroll(neuron, wrong, None, CURRENTS)
    spikes = jax.jit(lambda params: dj.unroll(neuron, params, None, CURRENTS)[1])(wrong)
    assert np.isnan(spikes[:, 0]).all()


def test_an_adaptation_that_takes_the_threshold_to_zero_is_refused_or_nan():
    wrong = params_of(ALIF())._replace(adaptation=jnp.float32(-1))  # the first spike does
    run = jax.jit(lambda params: dj.unroll(ALIF(), params, None, CURRENTS * 1.5)[1])
    np.testing.assert_array_equal(np.isnan(run(wrong)[0, :, 0]), [False, True, True, True])
    state = ALIF().initial_state(wrong, (2, 3))._replace(adaptation=jnp.ones((2, 3)))
    with pytest.raises(InputError, match="a threshold is 0, and must be > 0"):
        ALIF().step(wrong, state, CURRENTS[:, 0])


@pytest.mark.parametrize("neuron", KINDS, ids=named)
def test_whole_numbers_as_currents_are_refused(neuron):
    with pytest.raises(InputError, match=r"currents are int32, .* make them floating point first"):
        dj.unroll(neuron, params_of(neuron), None, CURRENTS.astype(jnp.int32))


@pytest.mark.parametrize("neuron", [n for n in KINDS if not isinstance(n, Binary)], ids=named)
def test_the_state_of_another_batch_is_refused(neuron):
    params = params_of(neuron)
    with pytest.raises(InputError, match=r"the state is of shape \(5.*, the current of \(2"):
        dj.unroll(neuron, params, neuron.initial_state(params, (5, 3)), CURRENTS)


@pytest.mark.parametrize("neuron", [n for n in KINDS if not isinstance(n, PSN)], ids=named)
def test_parameters_of_other_channels_are_named(neuron):
    params = params_of(neuron)
    for name in params._fields:
        with pytest.raises(InputError, match=rf"{name} has shape \(7,\)"):
            dj.unroll(neuron, params._replace(**{name: jnp.ones(7)}), None, CURRENTS)


class TestWholeBlock:
    """What a PSN, which has no single timestep, cannot do."""

    @pytest.mark.parametrize("run", [
        lambda psn, params: psn.step(params, psn.initial_state(params, (2, 3)), CURRENTS[:, 0]),
        lambda psn, params: dj.unroll(psn, params, None, CURRENTS, backend="scan"),
        lambda psn, params: dj.unroll(Recurrent(psn), Recurrent(psn).init(jax.random.key(0), (3,)), None, CURRENTS),
        lambda psn, params: dj.unroll(dj.SpikeCount(psn), params, None, CURRENTS),
    ], ids=["step", "scan", "recurrent", "counted"])
    def test_steps(self, run):
        with pytest.raises(InputError, match=r"PSN\(timesteps=4\) has no single timestep.*SlidingPSN"):
            run(PSN(timesteps=4), params_of(PSN(timesteps=4)))

    def test_chunks_and_other_lengths(self):
        psn = PSN(timesteps=4)
        params = params_of(psn)
        state = psn.initial_state(params, (2, 3))
        with pytest.raises(InputError, match=r"PSN\(timesteps=4\) takes all its timesteps at once, got 2"):
            over_chunks(lambda s, t: dj.unroll(psn, params, s, CURRENTS[:, :2]), state, 4, 2)
        with pytest.raises(InputError, match=r"weight has shape \(3, 3\), PSN\(timesteps=4\) takes \(4, 4\)"):
            dj.unroll(psn, PSNParams(jnp.ones((3, 3)), jnp.ones(4)), None, CURRENTS)
        with pytest.raises(InputError, match=r"threshold has shape \(\), PSN\(timesteps=4\) takes \(4,\)"):
            dj.unroll(psn, PSNParams(jnp.ones((4, 4)), jnp.float32(1)), None, CURRENTS)

    def test_a_second_block_behind_the_first(self):
        psn = PSN(timesteps=4)
        params = params_of(psn)
        state, _ = dj.unroll(psn, params, None, CURRENTS)
        with pytest.raises(InputError, match=r"PSN\(timesteps=4\) has run its timesteps"):
            dj.unroll(psn, params, state, CURRENTS)
        assert np.isnan(jax.jit(lambda state: dj.unroll(psn, params, state, CURRENTS)[1])(state)).all()


def test_a_constant_current_is_one_at_every_timestep():
    for neuron in (PSN(timesteps=4, threshold=0.05), SlidingPSN(order=3)):
        params = params_of(neuron)
        run = jax.jit(lambda current, neuron=neuron, params=params: dj.unroll(neuron, params, None, current, 4)[1])
        np.testing.assert_array_equal(run(CURRENTS[:, :1] * 0.6), run(CURRENTS * 0.6))


class Mine(NamedTuple):
    """A user's own neuron's."""

    leak: jax.Array
    inner: ALIFParams
    weight: jax.Array


def test_leaks_and_strengths_are_clamped_by_their_names_wherever_they_are():
    inner = ALIFParams(jnp.float32(1.5), jnp.float32(-3), jnp.array([-0.5, 2.0]), jnp.float32(-0.1))
    tree = {"leak": jnp.float32(7), "a": [Mine(jnp.array([-1.0, 0.5]), inner, jnp.float32(9))]}
    found = dj.clamp_leaks(tree)
    mine = found["a"][0]
    assert found["leak"] == 7 and mine.weight == 9  # a dict's key says nothing, nor does another name
    np.testing.assert_array_equal(mine.leak, [0, 0.5])
    assert (mine.inner.leak, mine.inner.threshold, mine.inner.adaptation_leak) == (1, -3, 0)
    np.testing.assert_array_equal(mine.inner.adaptation, [0, 2])
    for neuron in KINDS:
        assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), dj.clamp_leaks(params_of(neuron)),
                                         params_of(neuron)))


def test_what_is_out_of_range_is_named_with_its_place():
    dj.check_params([params_of(neuron) for neuron in KINDS])
    inner = ALIFParams(jnp.float32(1.5), jnp.float32(-3), jnp.float32(-0.5), jnp.float32(0.5))
    with pytest.raises(InputError) as caught:
        dj.check_params({"a": Mine(jnp.float32(1), inner, jnp.float32(9)),
                         "b": params_of(SRM())._replace(decay_logit=jnp.float32(np.nan))})
    assert str(caught.value) == (
        "threshold of ['a'].inner is -3 (must be > 0); leak of ['a'].inner is 1.5 (must lie in [0, 1], see "
        "clamp_leaks); adaptation of ['a'].inner is -0.5 (must be at least 0, see clamp_leaks); "
        "decay_logit of ['b'] is nan (must be finite)")
