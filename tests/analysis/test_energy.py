"""Laws of dietjax.analysis.energy: section 6 of the method, and hand arithmetic."""

import jax
import jax.numpy as jnp
import pytest

from dietjax import LIF, ReLU
from dietjax.analysis.energy import AC_JOULES, MAC_JOULES, estimate
from dietjax.core.encode import Poisson
from dietjax.models import Layer, Network, vgg

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
