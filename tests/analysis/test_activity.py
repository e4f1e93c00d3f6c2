"""Layers that do nothing are found, and nothing is said of those that do something."""

import math
import subprocess
import sys

import pytest

from dietjax.analysis import activity

NAN = math.nan


def kinds(*arguments):
    return [(finding.kind, finding.layers) for finding in activity.find(*arguments)]


@pytest.mark.parametrize("rates, timesteps, zero_gradient, expected", [
    ({}, 1, {}, []),  # an ANN's
    ({"conv1": 1e-9, "conv2": 4.99}, 5, {"conv1": 0.0, "conv2": 0.99}, []),
    ({"conv1": 0.5, "conv2": 0.0, "fc1": 0.0}, 5, None, [("silent", ("conv2", "fc1"))]),
    ({"conv1": 5.0, "conv2": 1.0}, 5, None, [("saturated", ("conv1",))]),
    ({"conv1": 5 - 5e-7, "conv2": 1.0}, 5, None, [("saturated", ("conv1",))]),  # a mean of float32
    ({"conv1": 1.0, "conv2": 0.0}, 1, None, [("silent", ("conv2",)), ("saturated", ("conv1",))]),
    ({"conv1": NAN, "conv2": 0.0, "conv3": -0.2, "fc1": math.inf}, 5, None,
     [("impossible", ("conv1", "conv3", "fc1")), ("silent", ("conv2",))]),
    ({"conv1": 7.0}, None, None, []),  # of how many timesteps, nobody knows
    ({}, 1, {"conv1": 1.0, "fc1": 0.5}, [("no gradient", ("conv1",))]),
    ({"conv1": 0.0}, 2, {"conv1": 0.0, "output": 1.0}, [("silent", ("conv1",)), ("no gradient", ("output",))]),
])
def test_rates_of_zero_and_of_every_step_and_gradients_of_zero_are_found(rates, timesteps, zero_gradient, expected):
    assert kinds(rates, timesteps, zero_gradient) == expected


@pytest.mark.parametrize("rates, zero_gradient, says", [
    ({"conv1": 0.0}, {}, ["conv1 fired at no image", "0 spikes per neuron", "conversion.scale", "snn.learning_rate"]),
    ({"conv1": NAN, "fc1": -0.5}, {}, ["rate of conv1, fc1 is nan, -0.5", "finite and >= 0", "look for NaN"]),
    ({"conv1": 3.0}, {}, ["conv1 fired at every timestep", "3 spikes per neuron", "raise the thresholds"]),
    ({"conv1": 1.0}, {"fc1": 1.0}, ["weights of fc1 was exactly 0", "neuron.surrogate", "snn.learning_rate"]),
    ({}, {"fc1": 1.0}, ["weights of fc1 was exactly 0", "lower ann.learning_rate, or set model.batch_norm"]),
])
def test_a_sentence_names_layer_rate_and_remedy(rates, zero_gradient, says):
    finding, = activity.find(rates, 3, zero_gradient)
    assert all(words in finding.sentence for words in says) and "\n" not in finding.sentence


def test_the_report_can_ask_without_jax():
    code = "import sys; import dietjax.analysis.activity; print('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
