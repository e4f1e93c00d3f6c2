"""Laws of dietjax.analysis.energy: section 6 of the method, and hand arithmetic."""

import dataclasses
import json
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dietjax import LIF, ReLU
from dietjax.analysis.energy import AC_JOULES, MAC_JOULES, estimate
from dietjax.core.encode import Poisson
from dietjax.errors import InputError
from dietjax.models import Layer, Network, Residual, vgg

pytestmark = pytest.mark.usefixtures("quick_compile")

TINY = (
    Layer("conv1", 3),
    Layer("conv2", 5, stride=2),
    Layer("conv3", 5, kernel=1, shortcut="conv2"),
    Layer("fc1", 2, kernel=None),
)
IMAGE = (4, 4, 2)
MACS = {  # pixels out · kernel · in · out
    "conv1": 16 * 9 * 2 * 3,
    "conv2": 4 * 9 * 3 * 5,
    "conv3": 4 * 1 * 5 * 5,
    "conv3_shortcut": 4 * 1 * 3 * 5,  # from conv1's map, 4×4×3, to 2×2×5
    "fc1": 20 * 2,
}
RATES = {"conv1": 0.5, "conv2": 2.0, "conv3": 1.5}


def uniform(net, rate):
    return {"spike_rate": {layer.name: rate for layer in net.layers[:-1]}}


def test_constants_are_horowitz():
    assert (MAC_JOULES, AC_JOULES) == (4.6e-12, 0.9e-12)


@pytest.mark.parametrize("side, classes, first, total, rate, sheet", [
    (32, 10, 1_769_472, 338_403_328, 1.65, 3.07),
    (32, 10, 1_769_472, 338_403_328, 1.62, 3.12),
    (224, 1000, 86_704_128, 15_470_264_320, 1.62, 3.11),
])
def test_vgg16_ratios_are_the_papers(side, classes, first, total, rate, sheet):
    net = vgg("VGG16", classes, (side, side, 3))
    energy = estimate(net, uniform(net, rate))
    f = first / total
    assert energy.ratio == pytest.approx(4.6 / (4.6 * f + 0.9 * rate * (1 - f)), rel=1e-12)
    assert energy.ratio == pytest.approx(sheet, abs=0.01)  # their f has three decimals
    assert energy.ann_joules == pytest.approx(total * 4.6e-12, rel=1e-12)


def test_tiny_residual_network_by_hand():
    energy = estimate(Network(TINY, IMAGE), {"spike_rate": RATES})
    assert {row.name: row.macs for row in energy.layers} == MACS
    rates = {"conv1": None, "conv2": 0.5, "conv3": 2.0, "conv3_shortcut": 0.5, "fc1": 1.5}
    assert {row.name: row.rate for row in energy.layers} == rates
    expected = {name: (4.6e-12 if rates[name] is None else 0.9e-12 * rates[name]) * MACS[name] for name in MACS}
    for row in energy.layers:
        assert row.snn_joules == pytest.approx(expected[row.name], rel=1e-12)
        assert row.ann_joules == pytest.approx(4.6e-12 * MACS[row.name], rel=1e-12)
    assert energy.snn_joules == pytest.approx(sum(expected.values()), rel=1e-12)
    assert energy.ratio == pytest.approx(4.6e-12 * sum(MACS.values()) / sum(expected.values()), rel=1e-12)


def test_shortcut_from_the_analog_image_is_counted_in_macs():
    layers = (Layer("conv1", 4), Layer("conv2", 4, shortcut="conv1"), Layer("fc1", 2, kernel=None))
    rows = {row.name: row for row in estimate(Network(layers, IMAGE), uniform(Network(layers, IMAGE), 1.0)).layers}
    assert rows["conv2_shortcut"].snn_joules == pytest.approx(4.6e-12 * 16 * 2 * 4, rel=1e-12)


def test_poisson_input_is_counted_as_accumulates():
    energy = estimate(Network(TINY, IMAGE, encoder=Poisson()), {"spike_rate": RATES, "input_rate": 2.5})
    assert energy.layers[0].rate == 2.5
    assert energy.layers[0].snn_joules == pytest.approx(0.9e-12 * 2.5 * MACS["conv1"], rel=1e-12)


@pytest.mark.slow
def test_record_of_a_run_serves(random_variables):
    net = Network(TINY, IMAGE, neuron=LIF(threshold=0.5), encoder=Poisson())
    images = jnp.ones((2, *IMAGE))  # |x| = 1: a spike at every pixel and step
    record = net.apply(random_variables(net), images, 6, rngs={"encode": jax.random.key(0)})[1]
    energy = estimate(net, record)
    assert energy.layers[0].rate == 6
    assert energy.layers[-1].rate == float(record["spike_rate"]["conv3"]) > 0


def test_rates_that_are_missing_are_named():
    with pytest.raises(ValueError, match="no spike rate for conv2, conv3; run the spiking network"):
        estimate(Network(TINY, IMAGE), {"spike_rate": {"conv1": 1.0}})


def test_an_ann_has_no_rates(random_variables):
    net = Network(TINY, IMAGE, neuron=ReLU())
    record = net.apply(random_variables(net), jnp.ones((1, *IMAGE)))[1]
    with pytest.raises(ValueError, match="no spike rate for conv1, conv2, conv3"):
        estimate(net, record)


def test_poisson_without_its_input_rate_is_an_error():
    with pytest.raises(ValueError, match="needs an 'input_rate'"):
        estimate(Network(TINY, IMAGE, encoder=Poisson()), {"spike_rate": RATES})


# ---- what an event costs

MAC, AC = 4.6e-12, 0.9e-12


@dataclasses.dataclass(frozen=True, kw_only=True)
class SaysGraded(LIF):
    graded: ClassVar[bool] = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class SaysBinary(LIF):
    graded: ClassVar[bool] = False


def spent(net, record, **options):
    """{synapse: (ANN, SNN) joules}."""
    return {row.name: (row.ann_joules, row.snn_joules) for row in estimate(net, record, **options).layers}


def near(joules):
    return pytest.approx(joules, rel=1e-12)


@pytest.mark.parametrize("neuron, magnitudes, prices", [
    (LIF(), {}, (AC, AC, AC)),  # a record that says nothing is of spikes of 1
    (LIF(), {"conv1": 1.0, "conv2": 1 - 5e-7, "conv3": 1 + 5e-7}, (AC, AC, AC)),  # means of float32
    (LIF(), {"conv1": 0.5, "conv2": 1.0, "conv3": 1.001}, (MAC, AC, MAC)),  # conv1 spikes at +0.5 and -0.5
    (SaysGraded(), {"conv1": 1.0, "conv2": 1.0, "conv3": 0.5}, (MAC, MAC, MAC)),
    (SaysBinary(), {"conv1": 0.5, "conv2": 0.5, "conv3": 2.0}, (AC, AC, AC)),
])
def test_a_graded_event_costs_a_mac_and_a_spike_an_accumulate(neuron, magnitudes, prices):
    found = estimate(Network(TINY, IMAGE, neuron=neuron), {"spike_rate": RATES, "magnitude": magnitudes})
    price = dict(zip(RATES, prices, strict=True))
    sources = {"conv2": "conv1", "conv3": "conv2", "conv3_shortcut": "conv1", "fc1": "conv3"}
    for row in found.layers[1:]:
        source = sources[row.name]
        assert row.rate == RATES[source] and row.graded == (price[source] == MAC)
        assert row.snn_joules == near(price[source] * RATES[source] * MACS[row.name])
    assert found.layers[0].snn_joules == near(MAC * MACS["conv1"])


@pytest.mark.parametrize("share, price", [(1.0, AC), (1 - 5e-7, AC), (0.5, MAC)])
def test_events_whose_sizes_only_average_one_are_graded(share, price):
    found = estimate(Network(TINY, IMAGE), {"spike_rate": RATES, "magnitude": dict.fromkeys(RATES, 1.0),
                                            "unit_share": {"conv1": 1.0, "conv2": share, "conv3": 1.0}})
    assert found.layers[2].snn_joules == near(price * 2.0 * MACS["conv3"])
    assert found.layers[1].snn_joules == near(AC * 0.5 * MACS["conv2"])


def test_what_a_projection_brings_may_be_graded_too():
    layers = (Layer("conv1", 3), Layer("conv2", 5, residual=Residual("conv2")), Layer("fc1", 2, kernel=None))
    record = {"spike_rate": {"conv1": 0.5, "conv2": 0.5, "conv2_shortcut": 0.4}, "sent_rate": {"conv2": 0.7},
              "sent_size": {"conv2": 0.9}}
    assert spent(Network(layers, IMAGE), record)["fc1"][1] == near(AC * 0.9 * 80 * 2)
    record["magnitude"] = {"conv2_shortcut": 0.8}
    assert spent(Network(layers, IMAGE), record)["fc1"][1] == near(MAC * 0.7 * 80 * 2)
    record["magnitude"] = {"conv2": 0.0, "conv2_shortcut": 0.5}  # the layer's own are silent; two events of 0.5
    record["sent_size"] = {"conv2": 0.7 * 0.5}
    assert spent(Network(layers, IMAGE, neuron=SaysBinary()), record)["fc1"][1] == near(AC * 0.7 * 80 * 2)


def test_a_silent_layer_costs_nothing_whatever_its_events_would_be():
    silent = {"spike_rate": dict.fromkeys(RATES, 0.0), "magnitude": dict.fromkeys(RATES, 0.0)}
    found = estimate(Network(TINY, IMAGE), silent)
    assert [row.snn_joules for row in found.layers[1:]] == [0] * 4 and not any(row.graded for row in found.layers)
    nothing = estimate(Network(TINY, IMAGE, encoder=Poisson()), silent | {"input_rate": 0.0})
    assert (nothing.snn_joules, nothing.ratio) == (0, math.inf)
    assert json.loads(json.dumps(nothing.as_dict()))["ratio"] == math.inf


def test_what_leaves_a_layer_is_what_the_next_synapse_costs_and_its_own_recurrence_comes_before():
    """conv1 puts 0.5 spikes a neuron out; with what a residual adds, or after a max pool, 1.25 leave it."""
    layers = (Layer("conv1", 3, recurrent=True), Layer("conv2", 5), Layer("fc1", 2, kernel=None))
    found = spent(Network(layers, IMAGE), {"spike_rate": {"conv1": 0.5, "conv2": 2.0}, "sent_rate": {"conv1": 1.25},
                                           "magnitude": {"conv1": 1.0, "conv2": 1.0}})
    assert found["conv1_recurrent"][1] == near(AC * 0.5 * 16 * 9 * 3 * 3)
    assert found["conv2"][1] == near(AC * 1.25 * 16 * 9 * 3 * 5)
    assert found["fc1"][1] == near(AC * 2.0 * 80 * 2)


@pytest.mark.parametrize("neuron, size, price", [(LIF(), 1.0, AC), (LIF(), 0.5, MAC), (SaysBinary(), 0.5, AC)])
def test_what_leaves_a_layer_is_counted_in_events_of_its_size(neuron, size, price):
    """2.4 events of 0.5 that leave add up to 1.2."""
    layers = (Layer("conv1", 3, pool="max"), Layer("fc1", 2, kernel=None))
    found = estimate(Network(layers, IMAGE, neuron=neuron), {
        "spike_rate": {"conv1": 1.0}, "magnitude": {"conv1": size}, "sent_rate": {"conv1": 2.4},
        "sent_size": {"conv1": 2.4 * size}}).layers[1]
    assert found.rate == near(2.4) and found.snn_joules == near(price * 2.4 * 12 * 2)


def test_a_sum_of_two_spikes_is_two_accumulates_and_of_graded_events_one_multiplication():
    layers = (Layer("conv1", 3), Layer("conv2", 3, residual=Residual("conv2")), Layer("fc1", 2, kernel=None))
    record = {"spike_rate": {"conv1": 0.5, "conv2": 0.5}, "magnitude": {"conv1": 1.0, "conv2": 1.0},
              "sent_rate": {"conv2": 0.7}, "sent_size": {"conv2": 1.0}}
    assert spent(Network(layers, IMAGE), record)["fc1"][1] == near(AC * 1.0 * 48 * 2)
    record["magnitude"]["conv1"] = 0.3  # what the residual brings
    assert spent(Network(layers, IMAGE), record)["fc1"][1] == near(MAC * 0.7 * 48 * 2)
    analog = (dataclasses.replace(layers[0], residual=Residual("conv1")), layers[2])
    record = {"spike_rate": {"conv1": 0.5}, "sent_rate": {"conv1": 0.9}, "sent_size": {"conv1": 4.0}}
    assert spent(Network(analog, (4, 4, 3)), record)["fc1"][1] == near(MAC * 0.9 * 48 * 2)


def test_a_silent_layer_may_still_send_what_its_residual_brings():
    layers = (Layer("conv1", 3), Layer("conv2", 3, residual=Residual("conv2")), Layer("fc1", 2, kernel=None))
    found = spent(Network(layers, IMAGE), {"spike_rate": {"conv1": 0.5, "conv2": 0.0}, "sent_rate": {"conv2": 0.5},
                                           "magnitude": {"conv1": 1.0, "conv2": 0.0}})
    assert found["fc1"][1] == near(AC * 0.5 * 48 * 2)


# ---- frames

FRAMES = {"spike_rate": RATES, "input_rate": 2.5, "input_magnitude": 1.0, "logits": np.zeros((6, 8, 2))}


def test_frames_of_events_cost_accumulates_at_their_rate_and_the_ann_sees_every_frame():
    found = spent(Network(TINY, IMAGE), FRAMES)
    assert found["conv1"] == (near(8 * MAC * MACS["conv1"]), near(AC * 2.5 * MACS["conv1"]))
    assert found["conv2"] == (near(8 * MAC * MACS["conv2"]), near(AC * 0.5 * MACS["conv2"]))
    assert found["conv3_shortcut"] == (near(8 * MAC * MACS["conv3_shortcut"]), near(AC * 0.5 * MACS["conv3_shortcut"]))


@pytest.mark.parametrize("options, steps", [
    ({}, 8), ({"timesteps": 5.5}, 5.5), ({"lengths": np.array([3, 8])}, 5.5)])  # the mean of unequal lengths
def test_analog_frames_cost_the_first_layer_once_each(options, steps):
    record = FRAMES | {"input_magnitude": 0.8, **{k: v for k, v in options.items() if k == "lengths"}}
    energy = estimate(Network(TINY, IMAGE), record, timesteps=options.get("timesteps"))
    first, second = energy.layers[:2]
    assert (first.rate, first.ann_joules, first.snn_joules) == (None, *[near(steps * MAC * MACS["conv1"])] * 2)
    assert (second.ann_joules, second.snn_joules) == (near(steps * MAC * MACS["conv2"]), near(AC * 0.5 * MACS["conv2"]))
    assert energy.ann_joules == near(steps * MAC * sum(MACS.values()))


def test_whatever_synapse_frames_feed_costs_the_same():
    layers = (Layer("conv1", 4), Layer("conv2", 4, shortcut="conv1"), Layer("fc1", 2, kernel=None))
    record = FRAMES | {"spike_rate": {"conv1": 1.0, "conv2": 1.0}}
    assert spent(Network(layers, IMAGE), record)["conv2_shortcut"][1] == near(AC * 2.5 * 16 * 2 * 4)
    analog = record | {"input_magnitude": 0.8}
    assert spent(Network(layers, IMAGE), analog)["conv2_shortcut"][1] == near(8 * MAC * 16 * 2 * 4)


def test_an_encoder_of_graded_events_costs_macs_at_its_rate_and_the_ann_one_pass():
    record = {"spike_rate": RATES, "input_rate": 2.5, "input_magnitude": 0.3}
    assert spent(Network(TINY, IMAGE, encoder=Poisson()), record)["conv1"] == (
        near(MAC * MACS["conv1"]), near(MAC * 2.5 * MACS["conv1"]))


@pytest.mark.parametrize("steps", [None, 0, -1, float("nan"), float("inf")])
def test_frames_without_their_number_are_an_error(steps):
    record = {k: v for k, v in FRAMES.items() if k != "logits"}
    with pytest.raises(InputError, match=rf"record is of frames, and timesteps are {steps}: .*timesteps=T"):
        estimate(Network(TINY, IMAGE), record, timesteps=steps)


# ---- what cannot be a rate


@pytest.mark.parametrize("key", ["spike_rate", "magnitude", "sent_rate", "input_rate", "input_magnitude"])
@pytest.mark.parametrize("value", [-0.23, float("nan"), float("inf")])
def test_what_is_no_rate_is_refused_by_name(key, value):
    of_input = key.startswith("input")
    record = FRAMES | {key: value if of_input else RATES | {"conv2": value}}
    says = f"{'the input' if of_input else 'layer .conv2.'}: its '{key}' is {value:g}, .*finite number >= 0"
    with pytest.raises(InputError, match=says):
        estimate(Network(TINY, IMAGE), record)
