"""Laws of dietjax.interop.torch: the authors' own figures, in float64, and their files both ways."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dietjax import IF, LIF, PLIF, ReLU
from dietjax.core.losses import cross_entropy
from dietjax.interop.torch import from_state_dict, to_state_dict
from dietjax.models import build


def assert_relative(got, want, limit=1e-9):
    """Relative to the largest of the figures."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape
    assert np.abs(got - want).max() <= limit * np.abs(want).max()


def load(case):
    return from_state_dict(case["name"], case["state_dict"], num_classes=10, image_shape=case["images"].shape[1:])


def drawn(net):
    """Variables of the network with random numbers in them."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, *net.image_shape)))
    return jax.tree.map(lambda x: rng.random(x.shape, np.float32), shapes)


def small(name="VGG4", image_shape=(8, 8, 3), **options):
    """(net, a state_dict of it): the classifier narrow, so that it is quick."""
    options = {"num_classes": 5, "image_shape": image_shape, "classifier": (6,), **options}
    net = build(name, **options)
    return net, to_state_dict(net, drawn(net)), options


@pytest.mark.slow
@pytest.mark.parametrize("name", ["VGG4", "VGG9", "resnet12"])
def test_float64_equals_the_authors_figures(x64, golden, name):
    case = golden[name]
    net, variables = load(case)
    images, labels = jnp.asarray(case["images"]), jnp.asarray(case["label"])

    @jax.jit
    def run(variables):
        def loss(variables):
            logits, record = net.apply(variables, images, timesteps=case["T"])
            return cross_entropy(logits, labels).mean(), (logits, record["state"])

        return jax.value_and_grad(loss, has_aux=True)(variables)

    (loss, (logits, state)), gradient = run(variables)
    gradient = to_state_dict(net, gradient)
    keys = case["threshold_keys"]
    assert logits.dtype == jnp.float64
    assert_relative(logits, case["logits"])
    assert_relative(loss, case["loss"])
    assert_relative([gradient[f"threshold.{key}"] for key in keys], case["grad_threshold"])
    assert_relative([gradient[f"leak.l{key[1:]}"] for key in keys], case["grad_leak"])
    for weight, shape in case["params"]:
        assert gradient[weight].shape == tuple(shape)
        assert_relative(np.linalg.norm(gradient[weight]), case["grad_norm"][weight])
        assert_relative(gradient[weight].ravel()[:8], case["grad_head"][weight])
        magnitude = np.abs(gradient[weight]).sum()  # a sum of both signs can be small by chance
        assert abs(gradient[weight].sum() - case["grad_sum"][weight]) <= 1e-9 * magnitude
    membranes = [state[layer.name].membrane.sum() for layer in net.layers]
    assert len(case["mem_sum"]) == len(membranes)
    np.testing.assert_allclose(membranes, list(case["mem_sum"].values()), rtol=1e-9)


@pytest.mark.parametrize("name", ["VGG4", "VGG9", "resnet12"])
@pytest.mark.thin(1)
def test_round_trip_is_exact_bit_for_bit(x64, golden, name):
    case = golden[name]
    back = to_state_dict(*load(case))
    assert set(back) == set(case["state_dict"])
    for key, value in case["state_dict"].items():
        assert back[key].dtype == value.dtype and back[key].tobytes() == value.tobytes()


@pytest.mark.parametrize("name", ["VGG6", "ResNet20"])
@pytest.mark.parametrize("options", [{}, {"bias": True}, {"neuron": ReLU()}], ids=["snn", "bias", "ann"])
@pytest.mark.thin(2)
def test_round_trip_starting_from_a_network(name, options):
    net, state_dict, options = small(name, **options)
    again, variables = from_state_dict(name, state_dict, **options)
    assert again == net
    back = to_state_dict(again, variables)
    assert list(back) == list(state_dict)
    for key, value in state_dict.items():
        np.testing.assert_array_equal(back[key], value)


def test_resnet20_entries_are_the_authors():
    entries = set(small("ResNet20", image_shape=(16, 16, 3), classifier=None)[1])
    weights = {f"pre_process.{i}.weight" for i in (0, 3, 6)} | {"classifier.0.weight"}
    weights |= {f"layer{s}.{b}.residual.{i}.weight" for s in (1, 2, 3, 4) for b in (0, 1) for i in (0, 3)}
    weights |= {f"layer{s}.0.identity.0.weight" for s in (2, 3, 4)}
    indices = [0, 3, 6, *range(9, 25)]
    assert entries == weights | {f"threshold.t{i}" for i in indices} | {f"leak.l{i}" for i in indices}


def test_module_prefix_is_taken_off():
    net, state_dict, options = small()
    parallel = {f"module.{key}": value for key, value in state_dict.items()}
    again, variables = from_state_dict("VGG4", parallel, **options)
    assert again == net
    jax.tree.map(np.testing.assert_array_equal, variables, from_state_dict("VGG4", state_dict, **options)[1])


def test_ann_state_dict_gives_a_relu_network():
    _, state_dict, options = small()
    weights = {key: value for key, value in state_dict.items() if key.endswith(".weight")}
    net, variables = from_state_dict("VGG4", weights, **options)
    assert net.neuron == ReLU()
    assert all("neuron" not in layer for layer in variables["params"].values())
    assert small()[0].neuron == LIF()


def test_thresholds_of_shape_one_become_scalars():
    _, state_dict, options = small()
    as_stored = {k: v.reshape(1) if v.ndim == 0 else v for k, v in state_dict.items()}
    variables = from_state_dict("VGG4", as_stored, **options)[1]
    assert variables["params"]["conv1"]["neuron"].leak.shape == ()


def test_everything_that_does_not_fit_is_named():
    _, state_dict, options = small()
    del state_dict["features.3.weight"], state_dict["leak.l3"]
    state_dict["features.9.weight"] = state_dict["threshold.t99"] = np.zeros(())
    state_dict["classifier.3.weight"] = np.zeros((7, 6))
    state_dict["threshold.t0"] = np.zeros(3)
    with pytest.raises(ValueError) as error:
        from_state_dict("VGG4", state_dict, **options)
    for complaint in ("does not fit VGG4", "missing features.3.weight, leak.l3",
                      "not part of it features.9.weight, threshold.t99",
                      "classifier.3.weight has shape (7, 6), should have (5, 6)",
                      "threshold.t0 has shape (3,), should have ()"):
        assert complaint in str(error.value)


def test_classifier_rows_follow_the_chw_flatten(x64):
    _, state_dict, options = small(image_shape=(12, 8, 3))  # ends at 3×2: neither side may stand for the other
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(6, 128 * 3 * 2))
    state_dict["classifier.0.weight"] = weight
    variables = from_state_dict("VGG4", {k: np.float64(v) for k, v in state_dict.items()}, **options)[1]
    chw = rng.normal(size=(128, 3, 2))
    expected = np.einsum("ochw,chw->o", weight.reshape(6, 128, 3, 2), chw)
    np.testing.assert_allclose(chw.transpose(1, 2, 0).ravel() @ variables["params"]["fc1"]["kernel"], expected,
                               rtol=1e-12)


def test_convolution_kernels_are_oihw():
    _, state_dict, options = small()
    variables = from_state_dict("VGG4", state_dict, **options)[1]
    np.testing.assert_array_equal(variables["params"]["conv2"]["kernel"][2, 1, 30, 100],
                                  state_dict["features.3.weight"][100, 30, 2, 1])


def test_a_parameter_per_channel_cannot_be_exported():
    net, *_ = small()
    net = net.clone(neuron=LIF(sharing="channel"))
    with pytest.raises(ValueError, match=r"conv1: .*one threshold per layer, this network \(64,\).*sharing='layer'"):
        to_state_dict(net, drawn(net))


def test_batch_norm_cannot_be_exported():
    net = small()[0].clone(batch_norm=True)
    with pytest.raises(ValueError, match="no batch norm; fold it first"):
        to_state_dict(net, drawn(net))


@pytest.mark.parametrize("neuron", [IF(), PLIF()])
def test_a_neuron_that_is_not_theirs_is_not_dropped_silently(neuron):
    net = small()[0].clone(neuron=neuron)
    with pytest.raises(ValueError, match=r"a leak beside every threshold.*is another neuron; use LIF"):
        to_state_dict(net, drawn(net))
    with pytest.raises(ValueError, match=r"is another neuron; use LIF"):
        from_state_dict("VGG4", {}, num_classes=10, image_shape=(28, 28, 1), neuron=neuron)


def test_float64_without_x64_warns():
    _, state_dict, options = small()
    with pytest.warns(UserWarning, match="float64 arrays become float32"):
        from_state_dict("VGG4", {k: np.float64(v) for k, v in state_dict.items()}, **options)
