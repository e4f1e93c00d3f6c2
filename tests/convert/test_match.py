"""Laws of convert.match_activations: a spike is worth its threshold, and the SNN tends to the ANN, clipped."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from alike import IMAGE, RESNET_LIKE, VGG_LIKE, images

from dietjax import IF, LI, LIF, QCFS, LIFParams, QCFSParams, ReLU
from dietjax.convert import fold_batch_norm, match_activations, with_neurons
from dietjax.core.encode import Poisson
from dietjax.models import Layer, Network

pytestmark = pytest.mark.usefixtures("quick_compile")

NETWORKS = pytest.mark.parametrize("layers", [VGG_LIKE, RESNET_LIKE], ids=["vgg", "resnet"])


@functools.partial(jax.jit, static_argnums=0, static_argnames=("timesteps", "record"))
def apply(net, variables, x, **options):
    return net.apply(variables, x, **options)


def folded_ann(random_variables, layers, seed=0):
    """(ANN of ReLU with biases, its variables in float64), from random weights and batch norm, folded."""
    net = Network(layers, IMAGE, neuron=ReLU(), batch_norm=True)
    return fold_batch_norm(net, random_variables(net, seed, jnp.float64))


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
    activations = apply(ann, variables, x, record=("spikes",))[1]["spikes"]
    ordered = {name: np.sort(np.asarray(a).ravel()) for name, a in activations.items()}
    return {name: a[round(percentile / 100 * (a.size - 1))] for name, a in ordered.items()}


# ---- the limit


@NETWORKS
@pytest.mark.parametrize("scale, percentile", [(1, 100), (0.5, 100), (1, 99)])
@pytest.mark.parametrize("initial_membrane", [0, 0.5])
@pytest.mark.slow
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
@pytest.mark.slow
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


@pytest.mark.slow
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
@pytest.mark.thin(2)
def test_one_hidden_layer_of_as_many_levels_as_timesteps_is_exact(x64, random_variables, levels, pool):
    layers = (Layer("conv", 6, pool=pool), Layer("fc", 4, kernel=None))
    ann = Network(layers, IMAGE, neuron=QCFS(levels=levels, threshold=1.3), bias=True)
    variables = random_variables(ann, dtype=jnp.float64)
    expected = np.asarray(apply(ann, variables, images())[0])
    snn = ann.clone(neuron=LIF(initial_membrane=0.5))
    logits = apply(snn, match_activations(snn, variables, images()), images(), timesteps=levels)[0]
    np.testing.assert_allclose(logits, levels * expected, rtol=1e-12, atol=1e-12)
    assert len(np.unique(np.round(np.asarray(logits), 9))) > 4


@pytest.mark.slow
def test_an_identity_shortcut_from_the_image_adds_the_image(x64, random_variables):
    layers = (Layer("conv1", 2), Layer("conv2", 2, shortcut="conv1"), Layer("out", 4, kernel=None))
    ann = Network(layers, IMAGE, neuron=ReLU(), bias=True, readout=LI())
    variables = random_variables(ann, dtype=jnp.float64)
    expected = np.asarray(apply(ann, variables, images())[0])
    snn = ann.clone(neuron=LIF(initial_membrane=0.5))
    converted = match_activations(snn, variables, images(), percentile=100)
    logits = np.asarray(apply(snn, converted, images(), timesteps=1024)[0]) / 1024
    assert np.abs(logits - expected).max() < 0.01 * np.abs(expected).max()


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
@pytest.mark.slow
def test_a_layer_in_another_unit_fires_the_same_spikes(x64, random_variables, layers):
    """Kernels, bias and threshold divided by one number: what makes all choices of units one conversion. A layer that
    an identity shortcut enters has no choice: what is added is 1."""
    snn = Network(layers, IMAGE, neuron=LIF(leak=0.8, threshold=0.6, initial_membrane=0.25), bias=True)
    variables = random_variables(snn, dtype=jnp.float64)
    expected = apply(snn, variables, images(), timesteps=12, record=("spikes",))[1]
    assert all(rate > 0.1 for rate in expected["spike_rate"].values())
    synapses = {c.name for c in snn.connections()}
    free = [layer for layer in layers[:-1] if layer.shortcut is None or f"{layer.name}_shortcut" in synapses]
    for i, layer in enumerate(free):
        weights = variables["params"][layer.name]
        neuron = weights["neuron"]._replace(threshold=weights["neuron"].threshold / (3 + i))
        weights = jax.tree.map(lambda w, i=i: w / (3 + i), {k: w for k, w in weights.items() if k != "neuron"})
        variables["params"][layer.name] = {**weights, "neuron": neuron}
    found = apply(snn, variables, images(), timesteps=12, record=("spikes",))[1]
    jax.tree.map(np.testing.assert_array_equal, found["spikes"], expected["spikes"])
    np.testing.assert_allclose(found["logits"], expected["logits"], rtol=1e-12)


@pytest.mark.slow
def test_without_biases_it_is_plain_weights_with_thresholds_over_what_arrives(x64, random_variables):
    """The paper's conversion, in other units, with levels for balanced thresholds: θ_l = λ_l / λ_(l−1)."""
    ann = Network(VGG_LIKE, IMAGE, neuron=ReLU())
    variables, snn = random_variables(ann, dtype=jnp.float64), ann.clone(neuron=LIF())
    levels = percentiles(ann, variables, images(), 99)
    plain, arriving = with_neurons(snn, variables), 1.0
    for name, level in levels.items():
        plain["params"][name]["neuron"] = LIFParams(jnp.asarray(1.0), jnp.asarray(level / arriving))
        arriving = level
    expected = apply(snn, plain, images(), timesteps=20, record=("spikes",))[1]
    converted = match_activations(snn, variables, images(), percentile=99)
    found = apply(snn, converted, images(), timesteps=20, record=("spikes",))[1]
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
