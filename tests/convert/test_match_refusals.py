"""What convert.match_activations refuses, each by name and with its remedy."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from alike import IMAGE, VGG_LIKE, images

from dietjax import LIF, PLIF, QCFS, QCFSParams, ReLU
from dietjax.convert import match_activations
from dietjax.models import Layer, Network

pytestmark = pytest.mark.usefixtures("quick_compile")


def refused(random_variables, says, change=None, net=None, **options):
    """That converting an ANN's variables, changed, is an error that says this."""
    variables = random_variables(Network(VGG_LIKE, IMAGE, neuron=ReLU()))
    if change is not None:
        change(variables["params"])
    with pytest.raises(ValueError, match=says):
        match_activations(net or Network(VGG_LIKE, IMAGE), variables, images(dtype=jnp.float32), **options)


def test_silent_layers_are_named(random_variables):
    def silence(params):
        params["conv2"]["kernel"] = -abs(params["conv2"]["kernel"])

    refused(random_variables, "layers conv2, fc1: the 99.9th percentile of their activations is 0, 0.*silent", silence)


def test_layers_without_finite_activations_are_named(random_variables):
    def diverge(params):
        params["conv2"]["kernel"] = params["conv2"]["kernel"] * jnp.inf

    refused(random_variables, "layers conv2, fc1: activations are not finite; the ANN has diverged", diverge)


@pytest.mark.parametrize("level, says", [
    (0.0, "layer 'fc1': a trained level is 0, and a threshold must be > 0"),
    (float("nan"), "layer 'fc1': a trained level is nan"),
    (np.ones((4, 3)), r"layer 'fc1': its trained levels are of shape \(4, 3\), and one a layer or one a channel")])
def test_levels_that_cannot_be_thresholds_are_named(random_variables, level, says):
    def train(params):
        for name in ("conv1", "conv2", "fc1"):
            params[name]["neuron"] = QCFSParams(jnp.asarray(level if name == "fc1" else 1.0))

    refused(random_variables, says, train)


def test_a_silent_layer_with_a_trained_level_is_named(random_variables):
    def train(params):
        for name in ("conv1", "conv2", "fc1"):
            params[name]["neuron"] = QCFSParams(jnp.asarray(1.0))
        params["fc1"]["kernel"] = 0 * params["fc1"]["kernel"]

    refused(random_variables, "layers fc1: the 100th percentile of their activations is 0", train)


def test_levels_in_some_layers_only_are_an_error(random_variables):
    def train(params):
        params["conv2"]["neuron"] = QCFSParams(jnp.asarray(1.0))

    refused(random_variables, "layers conv1, fc1 hold no trained level, others do", train)


def test_a_neuron_with_other_parameters_is_an_error(random_variables):
    class Slope(NamedTuple):
        slope: jax.Array

    def train(params):
        params["conv1"]["neuron"] = Slope(jnp.asarray(0.1))

    refused(random_variables, "layer 'conv1': a neuron with the parameters slope has no threshold", train)


def test_converting_twice_is_an_error(random_variables):
    net = Network(VGG_LIKE, IMAGE)
    once = match_activations(net, random_variables(net.clone(neuron=ReLU())), images(dtype=jnp.float32))
    with pytest.raises(ValueError, match=r"layer 'conv1' holds a spiking neuron's parameters \(LIFParams\).*the ANN"):
        match_activations(net, once, images(dtype=jnp.float32))


@pytest.mark.parametrize("neuron", [ReLU(), QCFS()])
def test_an_ann_is_no_network_to_convert_to(random_variables, neuron):
    refused(random_variables, "has no threshold to set.*clone\\(neuron=", net=Network(VGG_LIKE, IMAGE, neuron=neuron))


def test_what_no_ann_has_is_refused(random_variables):
    refused(random_variables, "conv1, conv2, fc1: PLIF.*without leak", net=Network(VGG_LIKE, IMAGE, neuron=PLIF()))
    refused(random_variables, "the readout .* fires", net=Network(VGG_LIKE, IMAGE, readout=LIF()))
    recurrent = (dataclasses.replace(VGG_LIKE[0], recurrent=True), *VGG_LIKE[1:])
    refused(random_variables, r"recurrent layers \(conv1\)", net=Network(recurrent, IMAGE))


def test_batch_norm_left_in_the_variables_is_refused(random_variables):
    """Without a word it would be left out: the spiking network has none."""
    ann = Network(VGG_LIKE, IMAGE, neuron=ReLU(), batch_norm=True)
    for net in (ann.clone(neuron=LIF()), Network(VGG_LIKE, IMAGE, bias=True)):
        with pytest.raises(ValueError, match="fold_batch_norm"):
            match_activations(net, random_variables(ann), images(dtype=jnp.float32))


@pytest.mark.parametrize("percentile", [0, -1, 100.1, float("nan")])
def test_percentile_out_of_range_is_refused(random_variables, percentile):
    refused(random_variables, rf"percentile must lie in \(0, 100\], got {percentile}", percentile=percentile)


@pytest.mark.parametrize("scale", [0, -0.5, float("nan"), float("inf")])
def test_scale_must_be_positive(random_variables, scale):
    refused(random_variables, f"scale of thresholds must be > 0 and finite, got {scale}", scale=scale)


def test_an_identity_shortcut_into_the_readout_is_refused(random_variables):
    layers = (Layer("fc1", 4, kernel=None), Layer("fc2", 4, kernel=None), Layer("out", 4, kernel=None, shortcut="fc2"))
    ann = Network(layers, IMAGE, neuron=ReLU())
    with pytest.raises(ValueError, match="layer 'out': an identity shortcut into the readout"):
        match_activations(ann.clone(neuron=LIF()), random_variables(ann), images(dtype=jnp.float32))
