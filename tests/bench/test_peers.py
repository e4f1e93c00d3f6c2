"""Other SNN libraries given our weights. A library that is not installed skips its tests."""

import dataclasses
import importlib
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dietjax
from dietjax.bench import peers
from dietjax.bench.peers.chain import check_layer, stages_of
from dietjax.core.losses import cross_entropy
from dietjax.core.unroll import unroll
from dietjax.errors import InputError
from dietjax.interop.torch import to_state_dict

pytestmark = pytest.mark.usefixtures("quick_compile")

TIMESTEPS = 10  # enough for a spike to come through a library that delays every layer by one
ARCTAN = dietjax.Surrogate("arctan")
PIECEWISE = dietjax.Surrogate("piecewise_linear", (1.0,))


@pytest.fixture(params=peers.NAMES)
def name(request):
    return _installed(request.param)


def _installed(name):
    with warnings.catch_warnings():  # what a library warns of while it loads is its own matter
        warnings.simplefilter("ignore")
        pytest.importorskip(name, exc_type=ImportError)
        if name != "spyx":
            importlib.import_module("torch")
    return name


def _net(neuron, **options):
    options = {"classifier": (32,), "conv_dropout": 0, "classifier_dropout": 0, "param_dtype": jnp.float64} | options
    return dietjax.models.vgg("VGG6", 5, (8, 8, 3), neuron=neuron, **options)


@pytest.fixture
def problem(x64, random_variables):
    """Neuron -> (net, float64 variables, images, labels)."""
    def make(neuron):
        net = _net(neuron)
        rng = np.random.default_rng(1)
        return net, random_variables(net, dtype=jnp.float64), rng.standard_normal((3, 8, 8, 3)), np.array([0, 4, 2])

    return make


@dataclasses.dataclass(frozen=True, kw_only=True)
class LateReset(dietjax.LIF):
    """snnTorch's Leaky, "subtract": the threshold leaves the membrane one step after the spike."""

    def step(self, params, state, current):
        before = state.membrane
        membrane = params.leak * before + current - params.threshold * (before > params.threshold)
        return state._replace(membrane=membrane), (membrane > params.threshold).astype(current.dtype)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LateSpike(dietjax.LIF):
    """spyx's LIF: the spike, too, is that of the membrane before the step."""

    def step(self, params, state, current):
        spikes = (state.membrane > params.threshold).astype(current.dtype)
        return state._replace(membrane=params.leak * state.membrane + current - params.threshold * spikes), spikes


@pytest.mark.parametrize(("name", "equations"), [
    ("spyx", lambda leak: LateSpike(leak=leak, threshold=0.8)),
    ("spikingjelly", lambda leak: dietjax.LIF(leak=leak, threshold=0.8)),
    ("snntorch", lambda leak: LateReset(leak=leak, threshold=0.8)),
    ("norse", lambda leak: dietjax.LIF(leak=leak, threshold=0.8, reset="zero" if leak == 1 else "subtract")),
])
@pytest.mark.parametrize("leak", [0.9, 1.0])
def test_our_network_with_the_peers_equations_gives_its_logits(problem, name, equations, leak):
    _installed(name)
    net, variables, images, labels = problem(dietjax.LIF(leak=leak, threshold=0.8, surrogate=ARCTAN))
    peer = peers.build(name, net, variables, images, labels, TIMESTEPS, "float64")
    theirs = dataclasses.replace(net, neuron=equations(leak))
    expected, record = theirs.apply(variables, images, timesteps=TIMESTEPS)
    assert min(record["spike_rate"].values()) > 0.1
    np.testing.assert_allclose(peer.logits(images), expected, atol=1e-9)


@pytest.mark.parametrize("leak", [0.9, 1.0])
def test_exact_peers_have_our_logits_and_others_do_not(problem, name, leak):
    net, variables, images, labels = problem(dietjax.LIF(leak=leak, threshold=0.8, surrogate=ARCTAN))
    peer = peers.build(name, net, variables, images, labels, TIMESTEPS, "float64")
    ours, _ = net.apply(variables, images, timesteps=TIMESTEPS)
    assert np.allclose(peer.logits(images), ours, atol=1e-9) == peer.exact
    assert peer.exact == {"spyx": False, "spikingjelly": True, "snntorch": leak == 1, "norse": leak < 1}[name]


@pytest.mark.parametrize("surrogate", [ARCTAN, PIECEWISE, dietjax.Surrogate("sigmoid")], ids=lambda s: s.name)
def test_exact_gradients_are_ours(problem, name, surrogate):
    net, variables, images, labels = problem(dietjax.LIF(leak=1.0, threshold=0.8, surrogate=surrogate))
    peer = peers.build(name, net, variables, images, labels, TIMESTEPS, "float64")

    def loss(variables):
        return cross_entropy(net.apply(variables, images, timesteps=TIMESTEPS)[0], labels).mean()

    expected, gradients = jax.value_and_grad(loss)(variables)
    value, found = peer.training_step()
    assert np.isfinite(value)
    assert len(found) == len(net.layers)
    if peer.exact_gradients:
        assert value == pytest.approx(float(expected), rel=1e-9)
        wanted = [w for key, w in to_state_dict(net, gradients).items() if key.endswith(".weight")]
        for ours, theirs in zip(wanted, found, strict=True):  # snnTorch's spikes and their gradients are float32
            np.testing.assert_allclose(theirs, ours, atol=1e-6 * np.abs(ours).max())


def test_surrogates_shared_with_us(problem):
    shared = {"spikingjelly": {"arctan", "sigmoid", "piecewise_linear"}, "snntorch": {"arctan", "sigmoid"}}
    for name, surrogates in shared.items():
        _installed(name)
        for surrogate in dietjax.surrogate.DERIVATIVES:
            parameters = (1.0,) if surrogate == "piecewise_linear" else ()
            problem_ = problem(dietjax.LIF(leak=1.0, surrogate=dietjax.Surrogate(surrogate, parameters)))
            assert peers.build(name, *problem_, 2, "float64").exact_gradients == (surrogate in surrogates)


def test_inference_and_training_in_turn_change_nothing(problem, name):
    net, variables, images, labels = problem(dietjax.LIF(leak=0.9, surrogate=ARCTAN))
    peer = peers.build(name, net, variables, images, labels, TIMESTEPS, "float64")
    first, gradients = peer.training_step()
    gradients = [np.asarray(g).copy() for g in gradients]
    peer.inference()
    peer.logits(images[:2])
    again, gradients_again = peer.training_step()
    assert again == first
    for one, other in zip(gradients, gradients_again, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("dtype", peers.DTYPES)
def test_every_dtype_runs(problem, name, dtype):
    net, variables, images, labels = problem(dietjax.LIF(leak=0.9, surrogate=ARCTAN))
    peer = peers.build(name, net, variables, images, labels, 3, dtype)
    assert np.isfinite(peer.training_step()[0])
    assert peer.logits(images).dtype == ("float64" if dtype == "float64" else "float32")
    assert peer.name in peers.NAMES
    assert peer.version


def test_spikingjelly_memory_level_changes_neither_logits_nor_gradients(problem):
    _installed("spikingjelly")
    net, variables, images, labels = problem(dietjax.LIF(leak=0.9, surrogate=ARCTAN))
    plain, saving = (peers.build("spikingjelly", net, variables, images, labels, TIMESTEPS, memory_level=level)
                     for level in (0, 1))
    np.testing.assert_array_equal(saving.logits(images), plain.logits(images))
    (loss, gradients), (loss_saving, gradients_saving) = plain.training_step(), saving.training_step()
    assert loss_saving == loss
    for one, other in zip(gradients, gradients_saving, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-7)
    with pytest.raises(InputError, match="use 0 or 1 on the CPU"):
        peers.build("spikingjelly", net, variables, images, labels, TIMESTEPS, memory_level=2)


@pytest.mark.parametrize("leak", [0.9, 1.0])
def test_layer_spikes_as_ours_where_exact(x64, name, leak):
    rng = np.random.default_rng(0)
    inputs, kernel = rng.standard_normal((2, 20, 6)), rng.standard_normal((6, 4))
    neuron = dietjax.LIF(leak=leak, threshold=0.8, surrogate=ARCTAN)
    peer = peers.layer(name, neuron, inputs, kernel, "float64")
    params = neuron.init(jax.random.key(0), (4,), jnp.float64)

    def count(kernel):
        return unroll(neuron, params, None, inputs @ kernel)[1].sum()

    expected, gradient = jax.value_and_grad(count)(jnp.asarray(kernel))
    value, (found,) = peer.training_step()
    assert expected > 20
    assert (value == expected) == peer.exact
    if peer.exact_gradients:
        np.testing.assert_allclose(found, gradient.T, atol=1e-6 * np.abs(gradient).max())


def test_missing_library_is_named_with_its_pip_command(problem, monkeypatch):
    net, variables, images, labels = problem(dietjax.LIF(leak=0.9))

    def missing(module, *args):
        raise ModuleNotFoundError(f"No module named {module!r}")

    monkeypatch.setattr(peers.importlib, "import_module", missing)
    with pytest.raises(InputError, match=r"No module named 'norse'.*`pip install norse torch`.*\[peers\]"):
        peers.build("norse", net, variables, images, labels, 2)
    with pytest.raises(InputError, match="`pip install spyx`"):
        peers.layer("spyx", net.neuron, images, images)


def test_unknown_names_have_a_nearest_match(problem):
    net, variables, images, labels = problem(dietjax.LIF(leak=0.9))
    with pytest.raises(InputError, match="unknown peer 'snnTorch'; did you mean 'snntorch'"):
        peers.build("snnTorch", net, variables, images, labels, 2)
    with pytest.raises(InputError, match="unknown dtype 'float23'; did you mean 'float32'"):
        peers.build("spyx", net, variables, images, labels, 2, "float23")


@pytest.mark.parametrize(("change", "message"), [
    ({"conv_dropout": 0.1}, "conv2 has dropout 0.1"),
    ({"bias": True}, "bias=True"),
    ({"batch_norm": True}, "batch_norm=True"),
    ({"encoder": dietjax.encode.Poisson()}, "encodes with Poisson"),
    ({"readout": dietjax.LI(leak=0.5)}, "reads out with LI"),
    ({"neuron": dietjax.IF()}, r"LIF\(leak=1\) is IF"),
    ({"neuron": dietjax.LIF(reset="zero")}, "use reset='subtract'"),
    ({"neuron": dietjax.LIF(sharing="channel")}, r"one leak per layer, this network's has shape \(64,\)"),
])
def test_what_no_peer_can_run_is_named(change, message, random_variables):
    net = _net(**{"neuron": dietjax.LIF(), "param_dtype": jnp.float32} | change)
    with pytest.raises(InputError, match=message):
        stages_of(net, random_variables(net))


def test_resnet_is_refused_by_its_shortcuts(random_variables):
    net = dietjax.models.resnet("ResNet20", 5, (8, 8, 3))
    with pytest.raises(InputError, match="has a shortcut"):
        stages_of(net, random_variables(net))


def test_an_average_over_the_whole_map_is_refused(random_variables):
    layers = (dietjax.models.Layer("conv1", 2, pool="global"), dietjax.models.Layer("fc1", 3, kernel=None))
    net = dietjax.models.Network(layers, (4, 4, 1))
    with pytest.raises(InputError, match="conv1 is averaged over its whole map"):
        stages_of(net, random_variables(net))


def test_layer_checks_shapes():
    with pytest.raises(InputError, match=r"to be \[B, T, in\] and \[in, out\]"):
        check_layer(dietjax.LIF(), np.zeros((2, 3, 4)), np.zeros((5, 6)))


def test_a_library_refuses_what_its_neuron_cannot(problem):
    _installed("spikingjelly")
    _installed("spyx")
    for name, neuron, message in (("spikingjelly", dietjax.LIF(leak=0.0), "cannot be 0"),
                                  ("spyx", dietjax.LIF(surrogate="stdb"), "stdb depends on the time")):
        with pytest.raises(InputError, match=message):
            peers.build(name, *problem(neuron), 2, "float64")
    with pytest.raises(InputError, match="memory_level=1 is SpikingJelly's, spyx has none"):
        peers.build("spyx", *problem(dietjax.LIF()), 2, memory_level=1)
