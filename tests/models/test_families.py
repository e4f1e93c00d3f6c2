"""Networks that people train on CIFAR: any width, ResNet-18 and ResNet-19, an average over the last map."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dietjax import LIF, ReLU, convert, energy
from dietjax.errors import InputError
from dietjax.models import Layer, Network, build, parameter_count

pytestmark = pytest.mark.usefixtures("quick_compile")

CIFAR = (32, 32, 3)


def kernels(net):
    """{synapse: shape of its kernel}."""
    return {c.name: c.kernel for c in net.connections()}


def images(shape, count=3):
    return jnp.asarray(np.random.default_rng(5).normal(size=(count, *shape)))


@functools.partial(jax.jit, static_argnums=(0, 3), static_argnames=("chunk", "record"))
def apply(net, variables, x, timesteps=1, **options):
    return net.apply(variables, x, timesteps, **options)


# ---- ResNet-18 and ResNet-19


def test_resnet18_has_the_parameters_that_its_public_implementation_has():
    """kuangliu/pytorch-cifar, models/resnet.py: 11,173,962, ten of which are the output's bias."""
    net = build("resnet-18", 10, CIFAR, neuron=ReLU(), batch_norm=True)
    assert parameter_count(net) + 10 == 11_173_962


def test_resnet18_ends_in_an_average_of_four_by_four():
    net = build("ResNet18", 100, CIFAR)
    wiring = {c.name: c for c in net.connections()}
    assert wiring["stem1"].kernel == (3, 3, 3, 64) and wiring["stem1"].out_shape == (32, 32, 64)
    assert wiring["stage4_block2_conv2"].out_shape == (4, 4, 512)
    assert wiring["fc1"].kernel == (512, 100) and wiring["fc1"].macs == 51_200
    assert [name for name in wiring if name.endswith("_shortcut")] == [
        f"stage{stage}_block1_conv2_shortcut" for stage in (2, 3, 4)]


def test_resnet19_is_zhengs():
    """Zheng et al., AAAI 2021: 3×3 of 128; [128]×3, [256]×3, [512]×2 blocks; average; 256; classes."""
    expected, channels = {"stem1": (3, 3, 3, 128)}, 128
    for stage, (width, blocks) in enumerate(((128, 3), (256, 3), (512, 2)), 1):
        for block in range(1, blocks + 1):
            name = f"stage{stage}_block{block}"
            expected |= {f"{name}_conv1": (3, 3, channels, width), f"{name}_conv2": (3, 3, width, width)}
            if channels != width:
                expected[f"{name}_conv2_shortcut"] = (1, 1, channels, width)
            channels = width
    expected |= {"fc1": (512, 256), "fc2": (256, 10)}
    net = build("ResNet19", 10, CIFAR)
    assert kernels(net) == expected
    assert sum(not name.endswith("_shortcut") for name in expected) == 19
    assert [c.out_shape[0] for c in net.connections() if c.name.endswith("conv2")] == [32] * 3 + [16] * 3 + [8] * 2


@pytest.mark.parametrize("name", ["ResNet18", "ResNet19"])
def test_they_take_images_of_any_side(name):
    assert build(name, 10, (27, 31, 1)).connections()[-1].kernel[1] == 10


def plain_resnet18(params, x):
    """The ANN in plain steps, NCHW."""
    def conv(x, kernel, stride=1):
        pad = kernel.shape[0] // 2
        return jax.lax.conv_general_dilated(x, kernel.transpose(3, 2, 0, 1), (stride, stride), [(pad, pad)] * 2)

    x = jax.nn.relu(conv(x.transpose(0, 3, 1, 2), params["stem1"]["kernel"]))
    for stage in (1, 2, 3, 4):
        for block in (1, 2):
            first, second = (params[f"stage{stage}_block{block}_conv{i}"] for i in (1, 2))
            stride = 2 if stage > 1 and block == 1 else 1
            residual = conv(jax.nn.relu(conv(x, first["kernel"], stride)), second["kernel"])
            x = jax.nn.relu(residual + (conv(x, second["shortcut"]["kernel"], stride) if "shortcut" in second else x))
    return x.mean((2, 3)) @ params["fc1"]["kernel"]


@pytest.mark.slow
def test_its_ann_is_the_plain_one(x64, random_variables):
    net = build("ResNet18", 3, (16, 16, 2), neuron=ReLU(), width=1 / 16)
    variables = random_variables(net, dtype=jnp.float64)
    expected = jax.jit(plain_resnet18)(variables["params"], images(net.image_shape))
    found, _ = apply(net, variables, images(net.image_shape))
    np.testing.assert_allclose(found, expected, rtol=1e-10)


# ---- the average over the whole map

AVERAGED = (Layer("conv1", 4), Layer("conv2", 6, pool="global"), Layer("fc1", 3, kernel=None))


def averaged(neuron, **options):
    return Network(AVERAGED, (5, 7, 2), neuron=neuron, **options)


@pytest.mark.slow
def test_what_comes_in_is_the_mean_of_the_spikes_of_each_channel(x64, random_variables):
    net = averaged(LIF(leak=0.9, threshold=0.3))
    variables = random_variables(net, dtype=jnp.float64)
    logits, record = apply(net, variables, images(net.image_shape), 4, record=("spikes",))
    spikes = np.asarray(record["spikes"]["conv2"])
    assert spikes.shape == (3, 4, 5, 7, 6) and 0 < spikes.mean() < 1
    expected = spikes.sum((1, 2, 3)) / 35 @ np.asarray(variables["params"]["fc1"]["kernel"])
    np.testing.assert_allclose(logits, expected, rtol=1e-12)
    for chunk in (1, 2):
        chunked, _ = apply(net, variables, images(net.image_shape), 4, chunk=chunk)
        np.testing.assert_allclose(chunked, logits, rtol=1e-12)


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.slow
def test_a_converted_network_tends_to_its_ann(x64, random_variables, batch_norm):
    """The readout's mean current over T is the ANN's logits up to 1/T."""
    ann = averaged(ReLU(), batch_norm=batch_norm)
    variables, x = random_variables(ann, dtype=jnp.float64), images(ann.image_shape)
    expected = apply(ann, variables, x)[0]
    if batch_norm:
        ann, variables = convert.fold_batch_norm(ann, variables)
    snn = ann.clone(neuron=LIF(threshold=1.0))
    converted = convert.match_activations(snn, variables, x, percentile=100)
    errors = [float(jnp.abs(apply(snn, converted, x, timesteps)[0] / timesteps - expected).max()
                    / jnp.abs(expected).max()) for timesteps in (20, 200)]
    assert errors[1] < 0.03 and errors[1] < errors[0] / 4


def test_thresholds_are_balanced_and_energy_counts_the_small_classifier(x64, random_variables):
    net = averaged(LIF())
    variables, x = random_variables(net, dtype=jnp.float64), images(net.image_shape)
    balanced = convert.balance_thresholds(net, variables, x, timesteps=5, percentile=100)
    first = jax.lax.conv_general_dilated(x, balanced["params"]["conv1"]["kernel"], (1, 1), "SAME",
                                         dimension_numbers=("NHWC", "HWIO", "NHWC"))
    np.testing.assert_allclose(balanced["params"]["conv1"]["neuron"].threshold, first.max(), rtol=1e-12)
    spent = energy.estimate(net, {"spike_rate": {"conv1": 0.5, "conv2": 2.0}})
    macs = [35 * 9 * 2 * 4, 35 * 9 * 4 * 6, 6 * 3]
    assert [layer.macs for layer in spent.layers] == macs
    assert spent.snn_joules == pytest.approx(4.6e-12 * macs[0] + 0.9e-12 * (0.5 * macs[1] + 2.0 * macs[2]), rel=1e-12)


# ---- width, and classifiers


@pytest.mark.parametrize("name", ["VGG16", "ResNet12", "ResNet19"])
def test_width_multiplies_the_features_of_all_but_the_readout(name):
    whole, half = build(name, 10, CIFAR), build(name, 10, CIFAR, width=0.5)
    for layer, narrow in zip(whole.layers[:-1], half.layers[:-1], strict=True):
        assert (narrow.name, narrow.features, narrow.pool) == (layer.name, layer.features // 2, layer.pool)
    assert half.layers[-1] == whole.layers[-1]
    assert build(name, 10, CIFAR, width=1).layers == whole.layers


def test_odd_widths_are_rounded_and_never_nothing():
    features = [layer.features for layer in build("VGG6", 10, CIFAR, width=0.3, classifier=(1,)).layers]
    assert features == [19, 38, 38, 1, 10]  # 19.2, 38.4, 38.4, 0.3


@pytest.mark.parametrize("width", [0, -1.0, math.inf, math.nan])
def test_a_width_that_is_none_is_refused(width):
    with pytest.raises(InputError, match=r"width must be > 0, got .*; 0.5 halves the features"):
        build("VGG16", 10, CIFAR, width=width)


def test_a_vgg_without_hidden_layers_has_the_field_s_parameters():
    """VGG16 of 13 convolutions and one linear layer: 14,710,464 weights of convolutions, as torchvision's features."""
    net = build("VGG16", 10, CIFAR, classifier=())
    assert [layer.name for layer in net.layers if layer.kernel is None] == ["fc1"]
    assert kernels(net)["fc1"] == (512 * 2 * 2, 10)
    convolutions = sum(math.prod(kernel) for kernel in kernels(net).values() if len(kernel) == 4)
    assert convolutions == 14_710_464  # 14,714,688 with torchvision's 4,224 biases
