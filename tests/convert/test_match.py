"""Laws of convert.match_activations: a spike is worth its threshold, and the SNN tends to the ANN, clipped."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dietjax import IF, LI, LIF, PLIF, QCFS, LIFParams, QCFSParams, ReLU
from dietjax.convert import fold_batch_norm, match_activations, with_neurons
from dietjax.core.encode import Poisson
from dietjax.models import Layer, Network

pytestmark = pytest.mark.usefixtures("quick_compile")

IMAGE = (8, 8, 2)
VGG_LIKE = (
    Layer("conv1", 6),
    Layer("conv2", 8, pool=True),
    Layer("fc1", 12, kernel=None),
    Layer("fc2", 4, kernel=None),
)
RESNET_LIKE = (  # two identity shortcuts in a chain, then one through a convolution, then another identity
    Layer("stem", 6, pool=True),
    Layer("a1", 6),
    Layer("a2", 6, shortcut="a1"),
    Layer("b1", 6),
    Layer("b2", 6, shortcut="b1"),
    Layer("c1", 8, stride=2),
    Layer("c2", 8, shortcut="c1"),
    Layer("d1", 8),
    Layer("d2", 8, shortcut="d1"),
    Layer("fc", 4, kernel=None),
)
NETWORKS = pytest.mark.parametrize("layers", [VGG_LIKE, RESNET_LIKE], ids=["vgg", "resnet"])


def images(batch=6, seed=5, dtype=jnp.float64):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(batch, *IMAGE)), dtype)


@functools.partial(jax.jit, static_argnums=0, static_argnames=("timesteps", "spikes"))
def apply(net, variables, x, **options):
    return net.apply(variables, x, **options)


def folded_ann(random_variables, layers, seed=0):
    """(ANN of ReLU with biases, its variables in float64), from random weights and batch norm, folded."""
    net = Network(layers, IMAGE, neuron=ReLU(), batch_norm=True)
    return fold_batch_norm(net, random_variables(net, seed, jnp.float64))


def thresholds(variables):
    return {name: layer["neuron"].threshold for name, layer in variables["params"].items() if "neuron" in layer}


class ClipParams(NamedTuple):
    threshold: jax.Array


@dataclasses.dataclass(frozen=True)
class Clip:
    """The ANN's neuron as spikes can follow it: max(0, min(I, level)), a level for each layer."""

    def init(self, key, shape, dtype=jnp.float32):
        return ClipParams(jnp.ones((), dtype))

    def initial_state(self, params, shape, dtype=jnp.float32):
        return ()

    def step(self, params, state, current):
        return (), jnp.minimum(jnp.maximum(current, 0), params.threshold)


def with_levels(variables, levels, kind=ClipParams):
    """An ANN's variables with trained levels."""
    return {"params": {name: {**layer, "neuron": kind(jnp.asarray(levels[name]))} if name in levels else layer
                       for name, layer in variables["params"].items()}}


def percentiles(ann, variables, x, percentile):
    """{layer: its activations' percentile}, by sorting."""
    activations = apply(ann, variables, x, spikes=True)[1]["spikes"]
    ordered = {name: np.sort(np.asarray(a).ravel()) for name, a in activations.items()}
    return {name: a[round(percentile / 100 * (a.size - 1))] for name, a in ordered.items()}


# ---- the limit


@NETWORKS
@pytest.mark.parametrize("scale, percentile", [(1, 100), (1, 99), (0.5, 100)])
@pytest.mark.parametrize("initial_membrane", [0, 0.5])
def test_logits_come_to_the_clipped_anns_like_one_over_t(
        x64, random_variables, layers, scale, percentile, initial_membrane):
    ann, variables = folded_ann(random_variables, layers)
    levels = percentiles(ann, variables, images(), percentile)
    clips = with_levels(variables, {name: scale * level for name, level in levels.items()})
    expected = np.asarray(apply(ann.clone(neuron=Clip()), clips, images())[0])
    unclipped = np.asarray(apply(ann, variables, images())[0])
    assert (scale == 1 and percentile == 100) == np.allclose(expected, unclipped, rtol=1e-12)

    snn = ann.clone(neuron=LIF(initial_membrane=initial_membrane))
    converted = match_activations(snn, variables, images(), percentile=percentile, scale=scale)
    logits = np.asarray(apply(snn, converted, images(), timesteps=1024)[1]["logits"])
    error = {t: np.abs(logits[:, t - 1] / t - expected).max() / np.abs(expected).max() for t in (16, 128, 1024)}
    # 1/T would be 8: the spikes of few timesteps are few, and their number is whole
    assert error[1024] < error[128] / 4 < error[16] / 12, error
    assert error[1024] < (0.01 if initial_membrane else 0.02), error


@NETWORKS
def test_trained_levels_are_the_clip(x64, random_variables, layers):
    """A level for each layer, none of them an activation's percentile; the images do not matter then."""
    ann, variables = folded_ann(random_variables, layers)
    rng = np.random.default_rng(1)
    levels = {layer.name: rng.uniform(0.5, 1.5) for layer in layers[:-1]}
    trained = with_levels(variables, levels)
    expected = np.asarray(apply(ann.clone(neuron=Clip()), trained, images())[0])
    snn = ann.clone(neuron=IF(initial_membrane=0.5))
    converted = match_activations(snn, trained, images(), scale=1.0)
    logits = np.asarray(apply(snn, converted, images(), timesteps=1024)[0]) / 1024
    assert np.abs(logits - expected).max() < 0.01 * np.abs(expected).max()
    jax.tree.map(np.testing.assert_array_equal, converted,
                 match_activations(snn, trained, images(seed=9), percentile=50))


def test_a_level_for_each_channel_is_a_threshold_for_each_channel(x64, random_variables):
    """Through a pool, into a fully connected layer, and past identity and projection shortcuts."""
    ann, variables = folded_ann(random_variables, RESNET_LIKE)
    rng = np.random.default_rng(2)
    levels = {layer.name: rng.uniform(0.5, 1.5, layer.features) for layer in RESNET_LIKE[:-1]}
    trained = with_levels(variables, levels, QCFSParams)
    expected = np.asarray(apply(ann.clone(neuron=QCFS(levels=10**6, sharing="channel")), trained, images())[0])
    snn = ann.clone(neuron=LIF(sharing="channel", initial_membrane=0.5))
    converted = match_activations(snn, trained, images())
    logits = np.asarray(apply(snn, converted, images(), timesteps=1024)[0]) / 1024
    assert np.abs(logits - expected).max() < 0.01 * np.abs(expected).max()
    with pytest.raises(ValueError, match=r"layer 'stem': the ANN has a level for each channel.*sharing='channel'"):
        match_activations(ann.clone(neuron=LIF()), trained, images())


@pytest.mark.parametrize("levels", [1, 4, 8])
@pytest.mark.parametrize("pool", [False, True])
def test_one_hidden_layer_of_as_many_levels_as_timesteps_is_exact(x64, random_variables, levels, pool):
    layers = (Layer("conv", 6, pool=pool), Layer("fc", 4, kernel=None))
    ann = Network(layers, IMAGE, neuron=QCFS(levels=levels, threshold=1.3), bias=True)
    variables = random_variables(ann, dtype=jnp.float64)
    expected = np.asarray(apply(ann, variables, images())[0])
    snn = ann.clone(neuron=LIF(initial_membrane=0.5))
    logits = apply(snn, match_activations(snn, variables, images()), images(), timesteps=levels)[0]
    np.testing.assert_allclose(logits, levels * expected, rtol=1e-12, atol=1e-12)
    assert len(np.unique(np.round(np.asarray(logits), 9))) > 4


# ---- the map


def test_weights_and_thresholds_by_hand(x64):
    """Levels 4, 6, 10 and s = 1/2: spikes of conv, mid, sum are worth 2, 3, 5, and sum counts in conv's."""
    layers = (Layer("conv", 2, kernel=1, pool=True), Layer("mid", 2, kernel=1),
              Layer("sum", 2, kernel=1, shortcut="mid"), Layer("out", 2, kernel=None))
    net = Network(layers, (2, 2, 1), neuron=LIF(leak=0.7), bias=True)
    kernels = {"conv": [[[[1.0, 2.0]]]], "mid": [[[[1.0, 0], [0, 1]]]], "sum": [[[[3.0, 0], [0, 3]]]],
               "out": [[1.0, -1], [2, 2]]}
    variables = {"params": {name: {"kernel": jnp.asarray(kernel), "bias": jnp.asarray([1.0, -8])}
                            for name, kernel in kernels.items()}}
    trained = with_levels(variables, {"conv": 4.0, "mid": 6.0, "sum": 10.0})
    found = match_activations(net, trained, jnp.full((1, 2, 2, 1), 9.0), scale=0.5)["params"]
    for name, factor, bias, threshold in (("conv", 1, [1, -8], 2), ("mid", 2, [1, -8], 3),
                                          ("sum", 3 / 2, [1 / 2, -4], 5 / 2), ("out", 5, [1, -8], None)):
        np.testing.assert_allclose(found[name]["kernel"], factor * np.asarray(kernels[name]), rtol=1e-15)
        np.testing.assert_allclose(found[name]["bias"], bias, rtol=1e-15)
        assert found[name].get("neuron") == (threshold and LIFParams(1, threshold))


@NETWORKS
def test_a_layer_in_another_unit_fires_the_same_spikes(x64, random_variables, layers):
    """Kernels, bias and threshold divided by one number: what makes all choices of units one conversion."""
    snn = Network(layers, IMAGE, neuron=LIF(leak=0.8, threshold=0.6, initial_membrane=0.25), bias=True)
    variables = random_variables(snn, dtype=jnp.float64)
    expected = apply(snn, variables, images(), timesteps=12, spikes=True)[1]
    assert all(rate > 0.1 for rate in expected["spike_rate"].values())
    for i, layer in enumerate(layers[:-1]):
        weights = variables["params"][layer.name]
        neuron = weights["neuron"]._replace(threshold=weights["neuron"].threshold / (3 + i))
        weights = jax.tree.map(lambda w, i=i: w / (3 + i), {k: w for k, w in weights.items() if k != "neuron"})
        variables["params"][layer.name] = {**weights, "neuron": neuron}
    found = apply(snn, variables, images(), timesteps=12, spikes=True)[1]
    jax.tree.map(np.testing.assert_array_equal, found["spikes"], expected["spikes"])
    np.testing.assert_allclose(found["logits"], expected["logits"], rtol=1e-12)


def test_without_biases_it_is_plain_weights_with_thresholds_over_what_arrives(x64, random_variables):
    """The paper's conversion, in other units, with levels for balanced thresholds: θ_l = λ_l / λ_(l−1)."""
    ann = Network(VGG_LIKE, IMAGE, neuron=ReLU())
    variables, snn = random_variables(ann, dtype=jnp.float64), ann.clone(neuron=LIF())
    levels = percentiles(ann, variables, images(), 99)
    plain, arriving = with_neurons(snn, variables), 1.0
    for name, level in levels.items():
        plain["params"][name]["neuron"] = LIFParams(jnp.asarray(1.0), jnp.asarray(level / arriving))
        arriving = level
    expected = apply(snn, plain, images(), timesteps=20, spikes=True)[1]
    converted = match_activations(snn, variables, images(), percentile=99)
    found = apply(snn, converted, images(), timesteps=20, spikes=True)[1]
    jax.tree.map(np.testing.assert_array_equal, found["spikes"], expected["spikes"])
    np.testing.assert_allclose(found["logits"], arriving * expected["logits"], rtol=1e-9)


@pytest.mark.parametrize("sharing, shape", [("layer", ()), ("channel", (8,)), ("neuron", (8, 8, 8))])
def test_a_threshold_fills_whatever_shape_the_neuron_has(random_variables, sharing, shape):
    ann = Network(VGG_LIKE, IMAGE, neuron=ReLU())
    variables = random_variables(ann)
    levels = percentiles(ann, variables, images(dtype=jnp.float32), 99.9)
    snn = ann.clone(neuron=LIF(leak=0.4, sharing=sharing))
    neuron = match_activations(snn, variables, images(dtype=jnp.float32))["params"]["conv2"]["neuron"]
    assert neuron.threshold.dtype == neuron.leak.dtype == jnp.float32
    np.testing.assert_array_equal(neuron.threshold, np.full(shape, levels["conv2"]))
    np.testing.assert_array_equal(neuron.leak, np.ones(shape))


def test_the_encoder_and_what_runs_the_neurons_do_not_matter(random_variables):
    """Levels are the ANN's, which sees the image itself; the ANN's variables stay as they are."""
    ann = Network(VGG_LIKE, IMAGE, neuron=ReLU(), bias=True)
    variables = random_variables(ann)
    before = jax.tree.map(np.array, variables)
    nets = ann.clone(neuron=LIF()), ann.clone(neuron=LIF(), encoder=Poisson(), backend="pallas")
    jax.tree.map(np.testing.assert_array_equal,
                 *(match_activations(net, variables, images(dtype=jnp.float32)) for net in nets))
    jax.tree.map(np.testing.assert_array_equal, variables, before)


# ---- what cannot be


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
    refused(random_variables, "leak of 1, where PLIF", net=Network(VGG_LIKE, IMAGE, neuron=PLIF()))
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


def test_an_identity_shortcut_from_the_image_adds_the_image(x64, random_variables):
    layers = (Layer("conv1", 2), Layer("conv2", 2, shortcut="conv1"), Layer("out", 4, kernel=None))
    ann = Network(layers, IMAGE, neuron=ReLU(), bias=True, readout=LI())
    variables = random_variables(ann, dtype=jnp.float64)
    expected = np.asarray(apply(ann, variables, images())[0])
    snn = ann.clone(neuron=LIF(initial_membrane=0.5))
    converted = match_activations(snn, variables, images(), percentile=100)
    logits = np.asarray(apply(snn, converted, images(), timesteps=1024)[0]) / 1024
    assert np.abs(logits - expected).max() < 0.01 * np.abs(expected).max()
