"""Conversion asks the neuron how its threshold is set, and refuses by name whatever does not say."""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from alike import IMAGE, VGG_LIKE, images

from dietjax import IF, LIF, PLIF, LIFParams, QCFSParams, ReLU
from dietjax.convert import (
    balance_thresholds,
    fold_batch_norm,
    match_activations,
    scale_thresholds,
    unit_thresholds,
    with_neurons,
)
from dietjax.convert.checks import check_spiking
from dietjax.core.unroll import unroll
from dietjax.errors import InputError
from dietjax.models import Layer, Network, Residual

pytestmark = pytest.mark.usefixtures("quick_compile")

DENSE = tuple(Layer(f"fc{i}", features, kernel=None) for i, features in ((1, 9), (2, 6), (3, 4)))
CONVERSIONS = pytest.mark.parametrize("convert", [balance_thresholds, match_activations])


class Forgetting(NamedTuple):
    forgets: Any
    threshold: Any


@dataclasses.dataclass(frozen=True)
class Own:
    """LIF in other words: what it forgets a step, where LIF has what it keeps; and a threshold for each neuron."""

    forgets: float = 0.5
    reset: str = "subtract"

    def init(self, key, shape, dtype=jnp.float32):
        return Forgetting(jnp.asarray(self.forgets, dtype), jnp.ones(shape, dtype))

    def initial_state(self, params, shape, dtype=jnp.float32):
        return jnp.zeros(shape, dtype)

    def step(self, params, state, current):
        membrane = (1 - params.forgets) * state + current
        spikes = (membrane / params.threshold - 1 > 0).astype(current.dtype)
        return membrane - params.threshold * spikes, spikes

    def with_threshold(self, params, threshold):
        return Forgetting(jnp.zeros_like(params.forgets), jnp.broadcast_to(threshold, params.threshold.shape))


@dataclasses.dataclass(frozen=True)
class Unsaid(Own):
    def step(self, params, state, current):
        return super().step(params, state, 2 * current)


@dataclasses.dataclass(frozen=True, kw_only=True)
class UnsaidLIF(LIF):
    def step(self, params, state, current):
        return super().step(params, state, 2 * current)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SaidAnew(UnsaidLIF):
    def step(self, params, state, current):
        return LIF.step(self, params, state, current)

    def with_threshold(self, params, threshold):
        return super().with_threshold(params, threshold)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Graded(Own):
    graded: ClassVar[bool] = True


def ann_and(random_variables, neuron, layers=VGG_LIKE):
    """(A network with this neuron, the variables of an ANN of its layers)."""
    ann = Network(layers, IMAGE, neuron=ReLU())
    return ann.clone(neuron=neuron), random_variables(ann)


def converted(convert, net, variables, x=None):
    options = {"timesteps": 5} if convert is balance_thresholds else {}
    return convert(net, variables, images(dtype=jnp.float32) if x is None else x, **options)


@CONVERSIONS
def test_a_neuron_that_says_how_is_converted_as_lif_is(random_variables, convert):
    """Both integrate without leak once converted; a second layer's threshold tells the spikes of the first."""
    net, variables = ann_and(random_variables, Own(), DENSE)
    found, expected = (converted(convert, n, variables)["params"]
                       for n in (net, net.clone(neuron=LIF(leak=0.5, sharing="neuron"))))
    for name in ("fc1", "fc2"):
        np.testing.assert_array_equal(found[name]["kernel"], expected[name]["kernel"])
        np.testing.assert_array_equal(found[name]["neuron"].threshold, expected[name]["neuron"].threshold)
        assert found[name]["neuron"].forgets == 0 and np.all(expected[name]["neuron"].leak == 1)


def test_a_subclass_that_says_it_anew_may_have_a_step_of_its_own():
    check_spiking(Network(VGG_LIKE, IMAGE, neuron=SaidAnew()))


@CONVERSIONS
@pytest.mark.parametrize("neuron", [Unsaid(), UnsaidLIF(), PLIF()])
def test_a_neuron_that_does_not_say_how_is_refused_by_name(random_variables, convert, neuron):
    """A subclass with a step of its own does not inherit the answer: it was given for another step."""
    net, variables = ann_and(random_variables, neuron)
    says = rf"layers conv1, conv2, fc1: {type(neuron).__name__}\(.*without leak.*with_threshold\(params, threshold\)"
    with pytest.raises(InputError, match=says):
        converted(convert, net, variables)


@CONVERSIONS
def test_a_neuron_that_is_never_reset_is_refused(random_variables, convert):
    net, variables = ann_and(random_variables, Own(reset="none"))
    with pytest.raises(InputError, match=r"conv1, conv2, fc1: Own\(.*never reset.*reset='subtract'"):
        converted(convert, net, variables)


@pytest.mark.parametrize("field, value, says", [
    ("pool", "max", "layer 'conv3': .*max pool.*balance_thresholds"),
    ("residual", Residual("conv3"), "layer 'conv3': a spike-element-wise residual.*balance_thresholds")])
def test_layers_behind_which_a_spike_has_no_worth_are_refused_where_it_is_folded(random_variables, field, value, says):
    layers = (Layer("conv1", 6), Layer("conv3", 6, **{field: value}), Layer("fc1", 4, kernel=None))
    net, variables = ann_and(random_variables, LIF(), layers)
    with pytest.raises(InputError, match=says):
        match_activations(net, variables, images(dtype=jnp.float32))


@CONVERSIONS
def test_weights_of_timesteps_have_no_counterpart_in_an_ann(random_variables, convert):
    net, variables = ann_and(random_variables, LIF())
    with pytest.raises(InputError, match=r"weights of timesteps \(time_weights\) have no counterpart"):
        converted(convert, net.clone(time_weights=5), variables)


def test_one_layer_s_own_neuron_is_asked_for_itself(random_variables):
    layers = (DENSE[0], dataclasses.replace(DENSE[1], neuron=PLIF()), DENSE[2])
    net, variables = ann_and(random_variables, LIF(), DENSE)
    with pytest.raises(InputError, match=r"^layer fc2: PLIF\("):
        balance_thresholds(net.clone(layers=layers), variables, images(dtype=jnp.float32))
    own = (DENSE[0], dataclasses.replace(DENSE[1], neuron=Own(forgets=0.9)), DENSE[2])
    found = match_activations(net.clone(layers=own), variables, images(dtype=jnp.float32))["params"]
    assert isinstance(found["fc1"]["neuron"], LIFParams) and isinstance(found["fc2"]["neuron"], Forgetting)
    expected = match_activations(net, variables, images(dtype=jnp.float32))["params"]
    np.testing.assert_array_equal(found["fc2"]["neuron"].threshold, np.full(6, expected["fc2"]["neuron"].threshold))


def test_in_groups_a_weight_takes_the_spikes_of_its_own_group():
    """Levels 2, 3, 5, 7 of four channels; two groups of two; each output's two weights see those of its group."""
    layers = (Layer("conv1", 4, kernel=1), Layer("conv2", 2, kernel=1, groups=2), Layer("fc1", 3, kernel=None))
    net = Network(layers, (2, 2, 1), neuron=LIF(sharing="channel"))
    levels = {"conv1": [2.0, 3, 5, 7], "conv2": [1.0, 1]}
    kernels = {"conv1": np.ones((1, 1, 1, 4)), "conv2": np.array([[[[1.0, 10], [2, 20]]]]), "fc1": np.ones((8, 3))}
    params = {name: {"kernel": jnp.asarray(kernel, jnp.float32)} for name, kernel in kernels.items()}
    for name, level in levels.items():
        params[name]["neuron"] = QCFSParams(jnp.asarray(level))
    found = match_activations(net, {"params": params}, jnp.ones((1, 2, 2, 1)))["params"]
    np.testing.assert_array_equal(found["conv2"]["kernel"], [[[[1.0 * 2, 10 * 5], [2 * 3, 20 * 7]]]])


# ---- a residual's projection, whose neurons have thresholds of their own

SEW = (Layer("conv1", 4, pool=True), Layer("conv2", 6, residual=Residual("conv2")), Layer("fc1", 4, kernel=None))


@pytest.mark.slow
def test_the_neurons_of_a_residuals_projection_are_balanced_scaled_and_put_in_units_too(x64, random_variables):
    ann = Network(SEW, IMAGE, neuron=ReLU())
    net = ann.clone(neuron=LIF())
    balanced = balance_thresholds(net, random_variables(ann, dtype=jnp.float64), images(), timesteps=3, percentile=95)

    def kept(neuron, params, state, current, steps, backend):
        return current, unroll(neuron, params, state, current, steps)[1]

    seen = jax.jit(lambda v: net.clone(run_neuron=kept).apply(v, images(), 3)[1]["state"])(balanced)
    steps = np.sort(np.moveaxis(np.asarray(seen["conv2_shortcut"]), 1, 0).reshape(3, -1))
    found = balanced["params"]["conv2"]["shortcut"]["neuron"]
    assert float(found.threshold) == pytest.approx(steps[:, round(0.95 * (steps.shape[1] - 1))].max(), rel=1e-12)
    assert found.threshold != balanced["params"]["conv2"]["neuron"].threshold
    halved = scale_thresholds(balanced, 0.5)["params"]["conv2"]
    assert (halved["shortcut"]["neuron"].threshold, found.threshold) == (0.5 * found.threshold, found.threshold)

    in_units = unit_thresholds(net, balanced)
    run = jax.jit(lambda v: net.apply(v, images(), 3, record=("spikes",)))
    (logits, record), (expected, before) = run(in_units), run(balanced)
    jax.tree.map(np.testing.assert_array_equal, record["spikes"], before["spikes"])
    np.testing.assert_allclose(logits, expected, rtol=1e-9)
    assert float(in_units["params"]["conv2"]["shortcut"]["neuron"].threshold) == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.slow
def test_batch_norm_of_a_residuals_projection_folds_into_its_own_weights(x64, random_variables, bias):
    net = Network(SEW, IMAGE, neuron=LIF(threshold=0.5), batch_norm=True, bias=bias)
    variables = random_variables(net, dtype=jnp.float64)
    folded, without = fold_batch_norm(net, variables)
    shapes = jax.eval_shape(folded.init, jax.random.key(0), images())
    assert jax.tree.map(lambda x: x.shape, without) == jax.tree.map(lambda x: x.shape, shapes)
    run = jax.jit(lambda net, v: net.apply(v, images(), 3, record=("spikes",)), static_argnums=0)
    (logits, record), (expected, before) = run(folded, without), run(net, variables)
    jax.tree.map(np.testing.assert_array_equal, record["spikes"], before["spikes"])
    assert record["sent_rate"]["conv2"] > record["spike_rate"]["conv2"] > 0
    np.testing.assert_allclose(logits, expected, rtol=1e-9)


def test_graded_events_are_not_worth_a_threshold(random_variables):
    net, variables = ann_and(random_variables, Graded())
    with pytest.raises(InputError, match=r"conv1, conv2, fc1: the events of Graded\(.*are graded"):
        match_activations(net, variables, images(dtype=jnp.float32))
    check_spiking(net)  # all that balancing asks: it goes by the network's own currents, whatever its events are


def test_the_variables_of_a_network_with_the_same_neurons_are_no_anns(random_variables):
    """Their parameters hold a threshold too, as trained levels do."""
    net, variables = ann_and(random_variables, Own())
    once = with_neurons(net, variables)
    with pytest.raises(InputError, match=r"layer 'conv1' holds a spiking neuron's parameters \(Forgetting\)"):
        converted(match_activations, net, once)


@CONVERSIONS
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_images_that_are_not_finite_are_named(random_variables, convert, value):
    """One pixel in six images: a percentile would be taken past it."""
    net, variables = ann_and(random_variables, LIF())
    x = images(dtype=jnp.float32).at[4, 3, 2, 1].set(value)
    with pytest.raises(InputError, match=r"1 of 6 images hold NaN or infinity, the first of them images\[4\]"):
        converted(convert, net, variables, x)


def test_frames_are_images_to_an_ann(random_variables):
    """Its activations know no time: [B, T, ...] measures as [B·T, ...]."""
    net, variables = ann_and(random_variables, LIF(), DENSE)
    frames = images(12, dtype=jnp.float32).reshape(4, 3, *IMAGE)
    found, expected = (match_activations(net, variables, x) for x in (frames, frames.reshape(12, *IMAGE)))
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_frames_and_timesteps_that_disagree_are_named(random_variables):
    net, variables = ann_and(random_variables, LIF())
    frames = images(12, dtype=jnp.float32).reshape(4, 3, *IMAGE)
    with pytest.raises(InputError, match="timesteps are 5, and there are 3 frames an example"):
        balance_thresholds(net, variables, frames, timesteps=5)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BothSigns(IF):
    """Fires 1 above the threshold and −1 below its negative, and says how a threshold is set."""

    def step(self, params, state, current):
        membrane = state.membrane + current
        out = jnp.sign(membrane) * (jnp.abs(membrane) > params.threshold)
        return state._replace(membrane=membrane - params.threshold * out), out.astype(current.dtype)

    def with_threshold(self, params, threshold):
        return super().with_threshold(params, threshold)


def test_spikes_that_are_not_one_are_not_taken_for_it(random_variables):
    layers = (Layer("conv1", 3), Layer("fc1", 2, kernel=None))
    variables = random_variables(Network(layers, (4, 4, 2), neuron=ReLU()))
    with pytest.raises(InputError, match=r"answers a current of 3 thresholds with \[1.0.* one of -3 with \[-1.0"):
        match_activations(Network(layers, (4, 4, 2), neuron=BothSigns()), variables, jnp.ones((2, 4, 4, 2)))
