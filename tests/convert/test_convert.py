"""Laws of dietjax.convert: the authors' thresholds, and functions that stay what they were."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from alike import IMAGE, RESNET_LIKE, VGG_LIKE, images

from dietjax import LIF, PLIF, ReLU
from dietjax.convert import (
    balance_thresholds,
    default_scale,
    fold_batch_norm,
    scale_thresholds,
    unit_thresholds,
    with_neurons,
)
from dietjax.convert.select import kth_smallest
from dietjax.core.encode import Direct, Poisson
from dietjax.core.unroll import unroll
from dietjax.interop.torch import from_state_dict
from dietjax.models import Network

pytestmark = pytest.mark.usefixtures("quick_compile")

NETWORKS = pytest.mark.parametrize("layers", [VGG_LIKE, RESNET_LIKE], ids=["vgg", "resnet"])


@functools.partial(jax.jit, static_argnums=0, static_argnames=("timesteps", "record"))
def apply(net, variables, x, **options):
    return net.apply(variables, x, **options)


def neurons(variables):
    return {name: layer["neuron"] for name, layer in variables["params"].items() if "neuron" in layer}


def currents(net, variables, x, timesteps, rngs=None):
    """Layer -> its currents [B, T, ...] in a run of the spiking network."""
    def run(neuron, params, state, current, steps, backend):
        seen = jnp.broadcast_to(current, (current.shape[0], steps, *current.shape[2:]))
        return seen, unroll(neuron, params, state, current, steps)[1]

    _, record = net.clone(run_neuron=run).apply(variables, x, timesteps, rngs=rngs)
    return {layer.name: np.asarray(record["state"][layer.name]) for layer in net.layers[:-1]}


def by_sorting(current, percentile):
    """max over t of the k-th smallest, k = 1 + round(q·(n − 1))."""
    steps = np.sort(np.moveaxis(current, 1, 0).reshape(current.shape[1], -1))
    return steps[:, round(percentile / 100 * (steps.shape[1] - 1))].max()


class TestKthSmallest:
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("kind", ["random", "duplicates", "negative", "special", "one"])
    def test_kth_smallest_is_the_sorted_arrays(self, x64, dtype, kind):
        rng = np.random.default_rng(0)
        limits = np.finfo(dtype)
        x = {"random": lambda: rng.normal(size=1001), "duplicates": lambda: rng.integers(-3, 4, 300),
             "negative": lambda: -rng.random(200), "one": lambda: np.array([-2.5]),
             "special": lambda: np.array([0.0, np.inf, -np.inf, limits.max, limits.min, 1, -1, np.inf, limits.tiny,
                                          -limits.tiny])}[kind]().astype(dtype)
        ordered = np.sort(x)
        find = jax.jit(kth_smallest)
        for k in {1, 2, len(x) // 3, len(x) // 2, len(x) - 1, len(x)} & {*range(1, len(x) + 1)}:
            found = find(jnp.asarray(x), k)
            assert found.dtype == x.dtype and found == ordered[k - 1]

    def test_denormal_numbers_are_ordered_too(self):
        x = np.array([3e-45, 0, -3e-45, 1e-40], np.float32)
        assert [float(kth_smallest(jnp.asarray(x), k)) for k in (1, 2, 3, 4)] == np.sort(x).tolist()


class TestBalance:
    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["VGG4", "VGG9"])
    def test_thresholds_are_the_authors(self, x64, golden, name):
        case = golden[name]
        x = jnp.asarray(case["images"])
        net, variables = from_state_dict(name, case["state_dict"], num_classes=10, image_shape=x.shape[1:])
        balanced = neurons(balance_thresholds(net, variables, x, timesteps=case["percentile_T"]))
        np.testing.assert_allclose([n.threshold for n in balanced.values()], case["percentile_thresholds"], rtol=1e-9)
        assert all(n.leak == 1 for n in balanced.values())

    @pytest.mark.parametrize("layers, percentile, encoder", [
        (VGG_LIKE, 99.7, Direct()), (RESNET_LIKE, 65, Direct()), (VGG_LIKE, 100, Poisson())],
        ids=["vgg", "resnet", "SpikeNorm"])
    @pytest.mark.slow
    def test_threshold_is_the_percentile_of_the_balanced_networks_current(
            self, x64, random_variables, layers, percentile, encoder):
        net = Network(layers, IMAGE, encoder=encoder, neuron=LIF(leak=0.6, threshold=0.77))
        key = jax.random.key(2)
        balanced = balance_thresholds(net, random_variables(net, dtype=jnp.float64), images(), timesteps=5,
                                      percentile=percentile, key=key)
        seen = currents(net, balanced, images(), 5, {"encode": key})
        for name, neuron in neurons(balanced).items():
            assert float(neuron.threshold) == pytest.approx(by_sorting(seen[name], percentile), rel=1e-12)
            assert neuron.leak == 1
            assert neuron.threshold != net.neuron.threshold  # residual blocks too

    @NETWORKS
    @pytest.mark.thin(1)
    def test_converting_twice_changes_nothing(self, x64, random_variables, layers):
        net = Network(layers, IMAGE, neuron=LIF(leak=0.5, threshold=3.0))
        once = balance_thresholds(net, random_variables(net, dtype=jnp.float64), images(), timesteps=5)
        twice = balance_thresholds(net, once, images(), timesteps=5)
        jax.tree.map(np.testing.assert_array_equal, twice, once)

    def test_an_anns_variables_serve_and_stay_untouched(self, x64, random_variables):
        ann, snn = Network(VGG_LIKE, IMAGE, neuron=ReLU()), Network(VGG_LIKE, IMAGE)
        variables = random_variables(ann, dtype=jnp.float64)
        balanced = balance_thresholds(snn, variables, images(), timesteps=5)
        assert not neurons(variables)
        same = balance_thresholds(snn, with_neurons(snn, variables), images(), timesteps=5)
        jax.tree.map(np.testing.assert_array_equal, balanced, same)
        for name, layer in variables["params"].items():
            np.testing.assert_array_equal(balanced["params"][name]["kernel"], layer["kernel"])

    @pytest.mark.parametrize("sharing, shape", [("channel", (8,)), ("neuron", (8, 8, 8))])
    @pytest.mark.slow
    def test_shared_threshold_fills_whatever_shape_the_neuron_has(self, x64, random_variables, sharing, shape):
        one = Network(VGG_LIKE, IMAGE)
        variables = random_variables(one, dtype=jnp.float64)
        many = one.clone(neuron=LIF(sharing=sharing))
        expected = neurons(balance_thresholds(one, variables, images(), timesteps=3))
        found = neurons(balance_thresholds(many, variables, images(), timesteps=3))
        assert found["conv2"].threshold.shape == found["conv2"].leak.shape == shape
        for name, neuron in found.items():
            np.testing.assert_array_equal(neuron.threshold, np.full(neuron.threshold.shape, expected[name].threshold))

    @pytest.mark.slow
    def test_many_timesteps_of_the_snn_are_the_ann(self, x64, random_variables):
        """Rate coding's limit: a layer's rates are its activations over the product of the thresholds so far."""
        ann, snn = Network(VGG_LIKE, IMAGE, neuron=ReLU()), Network(VGG_LIKE, IMAGE)
        variables = random_variables(ann, dtype=jnp.float64)
        x, steps = images(16), 500
        logits = np.asarray(apply(ann, variables, x)[0])
        balanced = balance_thresholds(snn, variables, x, timesteps=50, percentile=100)
        product = math.prod(float(n.threshold) for n in neurons(balanced).values())
        spiking = np.asarray(apply(snn, balanced, x, timesteps=steps)[0]) / steps * product
        assert np.abs(spiking - logits).max() < 0.03 * np.abs(logits).max()
        top = np.sort(logits)
        clear = top[:, -1] - top[:, -2] > 0.06 * np.abs(logits).max()
        assert clear.sum() > 8
        np.testing.assert_array_equal(spiking.argmax(1)[clear], logits.argmax(1)[clear])

    def test_dead_layer_is_named(self, random_variables):
        net = Network(VGG_LIKE, IMAGE)
        variables = random_variables(net)
        variables["params"]["conv2"]["kernel"] = -abs(variables["params"]["conv2"]["kernel"])
        with pytest.raises(ValueError, match=r"layer 'conv2': the 99\.7th percentile of its current is "):
            balance_thresholds(net, variables, images(dtype=jnp.float32), timesteps=3)

    def test_relu_network_is_an_error(self, random_variables):
        net = Network(VGG_LIKE, IMAGE, neuron=ReLU())
        with pytest.raises(ValueError, match=r"ReLU\(\) has no threshold to set.*clone\(neuron="):
            balance_thresholds(net, random_variables(net), images(dtype=jnp.float32))

    def test_plif_has_no_leak_of_one(self, random_variables):
        net, ann = (Network(VGG_LIKE, IMAGE, neuron=neuron) for neuron in (PLIF(), ReLU()))
        with pytest.raises(ValueError, match=r"conv1, conv2, fc1: PLIF\(.*without leak.*; or convert to LIF"):
            balance_thresholds(net, random_variables(ann), images(dtype=jnp.float32))

    def test_batch_norm_is_an_error(self, random_variables):
        net = Network(VGG_LIKE, IMAGE, batch_norm=True)
        with pytest.raises(ValueError, match="fold_batch_norm"):
            balance_thresholds(net, random_variables(net), images(dtype=jnp.float32))

    @pytest.mark.parametrize("percentile", [0, -1, 100.1, float("nan")])
    def test_percentile_out_of_range_is_an_error(self, random_variables, percentile):
        net = Network(VGG_LIKE, IMAGE)
        with pytest.raises(ValueError, match=rf"percentile must lie in \(0, 100\], got {percentile}"):
            balance_thresholds(net, random_variables(net), images(dtype=jnp.float32), percentile=percentile)


class TestScale:
    def test_scale_multiplies_thresholds_and_nothing_else(self, random_variables):
        variables = random_variables(Network(VGG_LIKE, IMAGE, neuron=LIF(leak=0.9, threshold=2.0)))
        scaled = scale_thresholds(variables, 0.25)
        for name, neuron in neurons(scaled).items():
            assert neuron.threshold == 0.5
            assert neuron.leak == variables["params"][name]["neuron"].leak
            np.testing.assert_array_equal(scaled["params"][name]["kernel"], variables["params"][name]["kernel"])
        assert neurons(variables)["conv1"].threshold == 2.0

    @pytest.mark.parametrize("factor", [0, -0.5, float("nan"), float("inf")])
    def test_factor_must_be_positive(self, random_variables, factor):
        with pytest.raises(ValueError, match=f"scale of thresholds must be > 0 and finite, got {factor}"):
            scale_thresholds(random_variables(Network(VGG_LIKE, IMAGE)), factor)

    def test_without_thresholds_is_an_error(self, random_variables):
        with pytest.raises(ValueError, match="hold no thresholds"):
            scale_thresholds(random_variables(Network(VGG_LIKE, IMAGE, neuron=ReLU())), 0.5)

    def test_default_scale_is_the_authors(self):
        assert [default_scale(t) for t in (5, 20, 22, 25)] == [0.2, 0.3, 0.3, 0.3]
        assert all(0.6 <= default_scale(t) <= 0.8 for t in (100, 150, 2500))
        assert default_scale(1) == 0.2
        assert all(default_scale(t) == np.interp(t, (5, 20, 25, 100), (0.2, 0.3, 0.3, 0.7)) for t in range(1, 200))
        factors = [default_scale(t) for t in range(1, 200)]
        assert factors == sorted(factors)


class TestUnitThresholds:
    @NETWORKS
    @pytest.mark.parametrize("sharing", ["layer", "channel", "neuron"])
    @pytest.mark.thin(1)
    def test_no_spike_changes_and_every_threshold_is_one(self, x64, random_variables, layers, sharing):
        net = Network(layers, IMAGE, neuron=LIF(leak=0.9, threshold=0.5, sharing=sharing), bias=True)
        variables = random_variables(net, dtype=jnp.float64)
        for i, layer in enumerate(net.layers[:-1]):  # another one in every layer, each neuron's a little different
            neuron = variables["params"][layer.name]["neuron"]
            spread = 1 + 0.3 * np.random.default_rng(i).random(neuron.threshold.shape)
            variables["params"][layer.name]["neuron"] = neuron._replace(threshold=0.2 * (1 + i % 3) * spread)
        found = unit_thresholds(net, variables)
        run = jax.jit(lambda v: net.apply(v, images(), 4, record=("spikes",)))
        (logits, record), (expected, before) = run(found), run(variables)
        np.testing.assert_allclose(logits, expected, rtol=1e-9)
        for name, spikes in before["spikes"].items():
            assert spikes.mean() > 0
            np.testing.assert_array_equal(record["spikes"][name], spikes)
        kept = {layer.name for layer in net.layers if layer.shortcut
                and f"{layer.name}_shortcut" not in {c.name for c in net.connections()}}
        for layer in net.layers[:-1]:
            largest = np.max(found["params"][layer.name]["neuron"].threshold)
            assert layer.name in kept or largest == pytest.approx(1, rel=1e-12)
            if layer.name in kept:
                jax.tree.map(np.testing.assert_array_equal, found["params"][layer.name],
                             variables["params"][layer.name])

    def test_an_anns_variables_are_refused(self, random_variables):
        ann = Network(VGG_LIKE, IMAGE, neuron=ReLU())
        with pytest.raises(ValueError, match="hold no thresholds"):
            unit_thresholds(ann.clone(neuron=LIF()), random_variables(ann))


class TestFold:
    @NETWORKS
    @pytest.mark.parametrize("neuron, timesteps", [(ReLU(), 1), (LIF(threshold=0.5), 4)], ids=["ann", "snn"])
    @pytest.mark.parametrize("bias", [pytest.param(False, marks=pytest.mark.slow), True])
    @pytest.mark.thin(1)
    def test_folded_network_is_the_same_function(self, x64, random_variables, layers, neuron, timesteps, bias):
        net = Network(layers, IMAGE, neuron=neuron, batch_norm=True, bias=bias)
        variables = random_variables(net, dtype=jnp.float64)
        folded, without = fold_batch_norm(net, variables)
        assert folded.bias and not folded.batch_norm and set(without) == {"params"}
        expected = apply(net, variables, images(), timesteps=timesteps)[0]
        np.testing.assert_allclose(apply(folded, without, images(), timesteps=timesteps)[0], expected, rtol=1e-9)
        shapes = jax.eval_shape(folded.init, jax.random.key(0), images())
        assert jax.tree.map(lambda x: x.shape, without) == jax.tree.map(lambda x: x.shape, shapes)

    def test_nothing_to_fold_is_an_error(self, random_variables):
        net = Network(VGG_LIKE, IMAGE)
        with pytest.raises(ValueError, match="no batch norm to fold"):
            fold_batch_norm(net, random_variables(net))
