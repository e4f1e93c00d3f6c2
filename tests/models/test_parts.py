"""Parts of a layer: neurons of its own, max pools, groups, kernels of any sides, signals, residuals of spikes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dietjax import IF, LIF, ReLU, unroll
from dietjax.errors import InputError
from dietjax.models import Layer, Network, Residual, resnet, vgg

pytestmark = pytest.mark.usefixtures("x64", "quick_compile")

B, T = 2, 3
FC = Layer("fc", 3, kernel=None)


def run(net, variables, x, timesteps=T):
    return jax.jit(lambda v, x: net.apply(v, x, timesteps, record=("spikes", "current")))(variables, x)


def inputs(net, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(B, *net.image_shape)))


def convolution(x, kernel, stride=(1, 1), groups=1):
    """[N, H, W, C] by its definition: a loop over outputs and groups."""
    n, height, width, _ = x.shape
    h, w, inside, features = kernel.shape
    padded = np.pad(x, ((0, 0), (h // 2, h // 2), (w // 2, w // 2), (0, 0)))
    out = np.zeros((n, -(-height // stride[0]), -(-width // stride[1]), features))
    for i, j in np.ndindex(out.shape[1:3]):
        patch = padded[:, i * stride[0]:i * stride[0] + h, j * stride[1]:j * stride[1] + w]
        for f in range(features):
            first = f // (features // groups) * inside
            out[:, i, j, f] = (patch[..., first:first + inside] * kernel[..., f]).sum((1, 2, 3))
    return out


# ---- synapses


@pytest.mark.parametrize("kernel, stride, groups", [((3, 1), 1, 1), ((1, 5), (2, 1), 1), (3, (1, 2), 2), (3, 1, 4)],
                         ids=str)
@pytest.mark.thin(2)
def test_a_kernel_of_any_sides_stride_and_groups(random_variables, kernel, stride, groups):
    net = Network((Layer("a", 8, kernel, stride, groups=groups), FC), (5, 6, 4), neuron=IF())
    variables, x = random_variables(net, dtype=jnp.float64), inputs(net)
    weights = np.asarray(variables["params"]["a"]["kernel"])
    pair = stride if isinstance(stride, tuple) else (stride, stride)
    expected = convolution(np.asarray(x), weights, pair, groups)
    found = run(net, variables, x)[1]["current"]["a"]
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-10, atol=1e-12)
    connection = net.connections()[0]
    assert connection.out_shape == expected.shape[1:]
    assert connection.macs == np.prod(expected.shape[1:]) * np.prod(weights.shape[:3])


def test_a_signal_is_a_map_one_pixel_wide(random_variables):
    """Operations by hand: 12 places, kernels of 5 and 3 along them, halved once."""
    signal = Network((Layer("a", 6, 5, pool=True), Layer("b", 4, 3, stride=2), FC), (12, 2), neuron=LIF(threshold=0.2))
    tall = Network((Layer("a", 6, (5, 1), pool=True), Layer("b", 4, (3, 1), stride=(2, 1)), FC), (12, 1, 2),
                   neuron=LIF(threshold=0.2))
    assert [c.macs for c in signal.connections()] == [12 * 5 * 2 * 6, 3 * 3 * 6 * 4, 3 * 4 * 3]
    assert signal.connections()[1].in_shape == (6, 1, 6)
    variables, x = random_variables(signal, dtype=jnp.float64), inputs(signal)
    logits, record = run(signal, variables, x)
    np.testing.assert_array_equal(logits, run(tall, variables, x[:, :, None])[0])
    frames = jnp.repeat(x[:, None], T, 1)  # [B, T, L, C]
    np.testing.assert_array_equal(run(signal, variables, frames, None)[0], logits)
    assert record["spikes"]["a"].shape == (B, T, 12, 1, 6)


@pytest.mark.parametrize("layers, image, says", [
    ((Layer("a", 4, groups=3), FC), (4, 4, 3), "3 groups, and 4 channels go out"),
    ((Layer("a", 4, groups=2), FC), (4, 4, 3), "2 groups, and 3 channels come in"),
    ((Layer("a", 4), FC), (5,), r"'a' is a convolution, and what comes in is \(5,\), which is no map"),
    ((Layer("a", 4, kernel=None), Layer("b", 4), FC), (4, 4, 3), r"'b' is a convolution, and what comes in is \(4,\)"),
    ((Layer("a", 4, pool=True), FC), (5, 2), "image of 5 does not fit: layer 'a' cannot pool a map of 5×1 by 2"),
    ((Layer("a", 4, pool_current=True), FC), (6, 2), "pools its current over 2×2, and its map is 6×1"),
    ((Layer("a", 4), FC), (4, 4, 4, 1), "image_shape is .* must be"),
    ((Layer("a", 4), Layer("b", 3, kernel=None, residual=Residual("a"))), (4, 4, 3), "'b' is the readout, and a resid"),
    ((Layer("a", 4, residual=Residual("z")), FC), (4, 4, 3), "residual of layer 'a'.*'z'"),
])
def test_what_fits_nowhere_is_refused(layers, image, says):
    with pytest.raises(InputError, match=says):
        Network(layers, image).connections()


# ---- pools


def test_a_max_pool_takes_the_largest_and_says_what_leaves(random_variables):
    net = Network((Layer("a", 5, pool="max"), FC), (4, 6, 2), neuron=LIF(threshold=0.4))
    variables, x = random_variables(net, dtype=jnp.float64), inputs(net)
    logits, record = run(net, variables, x)
    spikes = np.asarray(record["spikes"]["a"])
    pooled = spikes.reshape(B, T, 2, 2, 3, 2, 5).max((3, 5))
    np.testing.assert_allclose(logits, (pooled.reshape(B, T, -1) @ variables["params"]["fc"]["kernel"]).sum(1),
                               rtol=1e-10)
    np.testing.assert_allclose(record["spike_rate"]["a"], spikes.sum(1).mean(), rtol=1e-6)
    np.testing.assert_allclose(record["sent_rate"]["a"], pooled.sum(1).mean(), rtol=1e-6)
    assert record["sent_rate"]["a"] > record["spike_rate"]["a"]


# ---- neurons of a layer's own


def test_a_layer_may_have_a_neuron_of_its_own(random_variables):
    own = LIF(leak=0.5, threshold=0.2, reset="zero")
    net = Network((Layer("a", 4), Layer("b", 4, neuron=own), FC), (4, 4, 2), neuron=IF(threshold=0.3))
    assert net.neurons() == {"a": IF(threshold=0.3), "b": own}
    variables, x = random_variables(net, dtype=jnp.float64), inputs(net)
    params = variables["params"]
    assert [type(params[name]["neuron"]).__name__ for name in "ab"] == ["IFParams", "LIFParams"]
    record = run(net, variables, x)[1]
    for name in "ab":
        expected = unroll(net.neurons()[name], params[name]["neuron"], None, record["current"][name])[1]
        np.testing.assert_array_equal(record["spikes"][name], expected)
        assert 0 < expected.mean() < 1


# ---- residuals on spikes


def by_hand(combine, a, s):
    return {"add": a + s, "and": a * s, "iand": (1 - a) * s}[combine]


@pytest.mark.parametrize("combine", ["add", "and", "iand"])
@pytest.mark.thin(1)
def test_a_residual_combines_spikes_element_by_element(random_variables, combine):
    net = Network((Layer("a", 4), Layer("b", 4), Layer("c", 4, residual=Residual("b", combine)), FC), (4, 4, 2),
                  neuron=LIF(threshold=0.4))
    variables, x = random_variables(net, dtype=jnp.float64), inputs(net)
    logits, record = run(net, variables, x)
    seen = record["spikes"]
    out = by_hand(combine, np.asarray(seen["c"]), np.asarray(seen["a"]))
    np.testing.assert_allclose(logits, (out.reshape(B, T, -1) @ variables["params"]["fc"]["kernel"]).sum(1), rtol=1e-10)
    np.testing.assert_allclose(record["sent_size"]["c"], out.sum(1).mean(), rtol=1e-6)
    np.testing.assert_allclose(record["sent_rate"]["c"], (out > 0).sum(1).mean(), rtol=1e-6)
    np.testing.assert_allclose(record["spike_rate"]["c"], seen["c"].sum(1).mean(), rtol=1e-6)


@pytest.mark.slow
def test_where_the_shape_changes_a_residual_has_a_synapse_and_neurons_of_its_own(random_variables):
    net = Network((Layer("a", 4), Layer("b", 6, stride=2, residual=Residual("b"), neuron=LIF(leak=0.7, threshold=0.5)),
                   FC), (4, 4, 2), neuron=LIF(threshold=0.4))
    variables, x = random_variables(net, dtype=jnp.float64), inputs(net)
    params = variables["params"]["b"]
    assert params["shortcut"]["kernel"].shape == (1, 1, 4, 6)
    logits, record = run(net, variables, x)
    before = record["spikes"]["a"][:, :, ::2, ::2] @ params["shortcut"]["kernel"][0, 0]
    brought = unroll(net.neurons()["b"], params["shortcut"]["neuron"], None, before)[1]
    out = record["spikes"]["b"] + brought
    np.testing.assert_allclose(logits, (out.reshape(B, T, -1) @ variables["params"]["fc"]["kernel"]).sum(1), rtol=1e-10)
    assert brought.mean() > 0
    np.testing.assert_array_equal(record["spikes"]["b_shortcut"], brought)
    step = [run(net, variables, x, 1)]
    for _ in range(T - 1):
        step.append(jax.jit(lambda s: net.apply(variables, x, 1, state=s, record=("spikes",)))(step[-1][1]["state"]))
    np.testing.assert_allclose(step[-1][0], logits, rtol=1e-10)


@dataclasses.dataclass(frozen=True)
class Soft:
    """A smooth stand-in for a spiking neuron: its gradient is its own."""

    def init(self, key, shape, dtype=jnp.float32):
        return ()

    def initial_state(self, params, shape, dtype=jnp.float32):
        return jnp.zeros(shape, dtype)

    def step(self, params, state, current):
        state = 0.8 * state + current
        return state, jax.nn.sigmoid(3 * state - 1)


@pytest.mark.parametrize("layers", [
    (Layer("a", 4), Layer("b", 4, residual=Residual("b", "iand")), Layer("c", 6, stride=2, residual=Residual("b")), FC),
    (Layer("a", 4, pool="max"), Layer("b", 4, pool="max"), FC),
    (Layer("a", 4, groups=2), Layer("b", 6, (1, 3), (2, 1), residual=Residual("a", "and")), FC),
], ids=["SEW", "max pools", "groups"])
@pytest.mark.slow
def test_gradients_are_those_of_finite_differences(random_variables, layers):
    net = Network(layers, (4, 4, 2), neuron=Soft())
    variables, x = random_variables(net, dtype=jnp.float64), inputs(net)
    loss = jax.jit(lambda v: (net.apply(v, x, T)[0]**2).sum())
    direction = random_variables(net, seed=7, dtype=jnp.float64)
    slope = sum(jax.tree.leaves(jax.tree.map(lambda g, d: (g * d).sum(), jax.grad(loss)(variables), direction)))
    ahead, behind = (loss(jax.tree.map(lambda v, d, s=s: v + s * 1e-5 * d, variables, direction)) for s in (1, -1))
    np.testing.assert_allclose(slope, (ahead - behind) / 2e-5, rtol=1e-6)


def test_families_with_residuals_of_spikes_and_max_pools():
    plain, sew = (resnet("ResNet18", 10, (8, 8, 3), width=1 / 16, sew=sew) for sew in (None, "add"))
    assert [c.name for c in sew.connections()] == [c.name for c in plain.connections()]
    for before, after in zip(plain.layers, sew.layers, strict=True):
        residual = before.shortcut and Residual(before.shortcut, "add")
        assert after == dataclasses.replace(before, shortcut=None, residual=residual)
    pools = [layer.pool for layer in vgg("VGG9", 10, (32, 32, 3), max_pool=True).layers]
    assert pools == ["max" if layer.pool else False for layer in vgg("VGG9", 10, (32, 32, 3)).layers]


def test_an_ann_of_residuals_and_max_pools_has_no_rates(random_variables):
    net = Network((Layer("a", 4, pool="max"), Layer("b", 4, residual=Residual("b")), FC), (4, 4, 2), neuron=ReLU())
    record = run(net, random_variables(net, dtype=jnp.float64), inputs(net), 1)[1]
    assert not record["spike_rate"] and not record["magnitude"]
