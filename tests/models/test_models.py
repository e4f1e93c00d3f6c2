"""Laws of dietjax.models: one network, whatever the schedule, the neuron, the precision."""

import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from narrow import narrowed

from dietjax import LIF, LIFParams, ReLU
from dietjax.core.encode import Poisson
from dietjax.errors import InputError
from dietjax.models import Layer, Network, build, convolution, parameter_count, resnet, vgg
from dietjax.models.operations import batch_norm, synapse
from dietjax.models.winograd import winograd, winograd_images_at_once
from dietjax.models.wiring import connections

pytestmark = pytest.mark.usefixtures("quick_compile")

# The method, section 4, as it is written there.
VGGS = {
    "VGG4": "64 A 128 A",
    "VGG6": "64 A 128 128 A",
    "VGG9": "64 A 128 256 A 256 512 A 512 A 512",
    "VGG11": "64 A 128 256 A 512 512 A 512 A 512 512",
    "VGG13": "64 64 A 128 128 A 256 256 A 512 512 512 A 512",
    "VGG16": "64 64 A 128 128 A 256 256 256 A 512 512 512 A 512 512 512",
    "VGG19": "64 64 A 128 128 A 256 256 256 256 A 512 512 512 512 A 512 512 512 512",
}
RESNETS = {"ResNet12": (1, 1, 1, 1), "ResNet20": (2, 2, 2, 2), "ResNet34": (3, 4, 6, 3)}

VGG_LIKE = (  # names that sort in another order than they run; maps of 8, 4 and 2
    Layer("zeta", 4, dropout=0.3),
    Layer("alpha", 6, pool=True),
    Layer("conv10", 6, kernel=5, pool=True),
    Layer("conv2", 8, dropout=0.3),
    Layer("mid", 10, kernel=None, dropout=0.5),
    Layer("a_readout", 3, kernel=None),
)
NEURON = LIF(leak=0.9, threshold=0.4)
IMAGE = (8, 8, 2)


def small(**options):
    return Network(VGG_LIKE, IMAGE, **{"neuron": NEURON, **options})


def images(net, batch=2, dtype=jnp.float32, seed=5):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(batch, *net.image_shape)), dtype)


@functools.partial(jax.jit, static_argnums=0, static_argnames=("timesteps", "train", "chunk", "record"))
def apply(net, variables, x, rngs=None, **options):
    return net.apply(variables, x, rngs=rngs, **options)


def shapes_of(net):
    return jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, *net.image_shape)))["params"]


def assert_close(got, want, rtol):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol), got, want)


class TestShapes:
    @pytest.mark.parametrize("name, image_shape", [
        ("VGG4", (28, 28, 1)), ("VGG6", (28, 28, 1)), *((name, (32, 32, 3)) for name in VGGS),
        ("VGG16", (224, 224, 3))])
    def test_vgg_parameters_are_the_papers(self, name, image_shape):
        net = vgg(name, 10, image_shape)
        plan = VGGS[name].split()
        expected, channels = {}, image_shape[-1]
        for width in (int(x) for x in plan if x != "A"):
            expected[f"conv{len(expected) + 1}"] = (3, 3, channels, width)
            channels = width
        side = image_shape[0] // 2 ** (plan.count("A") + (image_shape[0] == 224))
        widths = [channels * side**2, *((1024,) if name == "VGG4" else (4096, 4096)), 10]
        expected |= {f"fc{i + 1}": pair for i, pair in enumerate(itertools.pairwise(widths))}
        params = shapes_of(net)
        assert {layer: weights["kernel"].shape for layer, weights in params.items()} == expected
        *hidden, last = expected
        for layer in hidden:
            assert set(params[layer]) == {"kernel", "neuron"}
            assert jax.tree.map(lambda x: x.shape, params[layer]["neuron"]) == LIFParams((), ())
        assert set(params[last]) == {"kernel"}
        assert [layer.name for layer in net.layers if layer.pool] == [
            f"conv{sum(x != 'A' for x in plan[:i])}" for i, x in enumerate(plan) if x == "A"] + (
            ["conv13"] if image_shape[0] == 224 else [])

    def test_vgg16_on_large_images_ends_at_seven_by_seven(self):
        params = shapes_of(vgg("VGG16", 1000, (224, 224, 3)))
        assert params["fc1"]["kernel"].shape == (512 * 7 * 7, 4096) and params["fc3"]["kernel"].shape == (4096, 1000)

    @pytest.mark.parametrize("name", RESNETS)
    @pytest.mark.parametrize("side, flat", [(32, 512 * 2 * 2), (224, 512 * 7 * 7)])
    def test_resnet_parameters_are_the_papers(self, name, side, flat):
        expected = {"stem1": (3, 3, 3, 64), "stem2": (3, 3, 64, 64), "stem3": (3, 3, 64, 64)}
        shortcuts, channels = {}, 64
        for stage, (width, blocks) in enumerate(zip((64, 128, 256, 512), RESNETS[name], strict=True), 1):
            for block in range(1, blocks + 1):
                expected[f"stage{stage}_block{block}_conv1"] = (3, 3, channels, width)
                expected[f"stage{stage}_block{block}_conv2"] = (3, 3, width, width)
                if channels != width:
                    shortcuts[f"stage{stage}_block{block}_conv2"] = (1, 1, channels, width)
                channels = width
        params = shapes_of(resnet(name, 100, (side, side, 3)))
        assert {layer: weights["kernel"].shape for layer, weights in params.items()} == {**expected, "fc1": (flat, 100)}
        assert {layer: weights["shortcut"]["kernel"].shape for layer, weights in params.items()
                if "shortcut" in weights} == shortcuts

    def test_ann_has_the_same_parameters_without_neurons(self):
        spiking, ann = shapes_of(vgg("VGG9", 10, (32, 32, 3))), shapes_of(vgg("VGG9", 10, (32, 32, 3), neuron=ReLU()))
        assert ann == {name: {"kernel": layer["kernel"]} for name, layer in spiking.items()}

    @pytest.mark.parametrize("name, image_shape", [
        ("VGG4", (28, 28, 1)), ("VGG16", (32, 32, 3)), ("ResNet20", (32, 32, 3))])
    def test_logits_have_the_batch_and_the_classes(self, name, image_shape):
        net = build(name, 10, image_shape)
        x = jax.ShapeDtypeStruct((4, *image_shape), jnp.float32)

        def run(key, x):
            return net.apply(net.init(key, x), x, timesteps=3)

        logits, record = jax.eval_shape(run, jax.random.key(0), x)
        assert logits.shape == (4, 10) and record["logits"].shape == (4, 3, 10)

    def test_dropout_replaces_nothing_that_is_pooled(self):
        for layer in vgg("VGG16", 10, (32, 32, 3), conv_dropout=0.1, classifier_dropout=0.4).layers[:-1]:
            assert layer.dropout == (0.4 if layer.kernel is None else 0.0 if layer.pool else 0.1)
        dropped = [layer.name for layer in resnet("ResNet12", 10, (32, 32, 3)).layers if layer.dropout]
        assert dropped == ["stem1", "stem2", *(f"stage{s}_block1_conv1" for s in (1, 2, 3, 4))]

    def test_vgg16_multiply_accumulates_are_the_methods(self):
        small_image = [c.macs for c in vgg("VGG16", 10, (32, 32, 3)).connections()]
        assert small_image == [1769472, 37748736, 18874368, 37748736, 18874368, 37748736, 37748736, 18874368, 37748736,
                               37748736, 9437184, 9437184, 9437184, 8388608, 16777216, 40960]
        assert sum(small_image) == 338_403_328
        large = {c.name: c.macs for c in vgg("VGG16", 1000, (224, 224, 3)).connections()}
        assert large["conv1"] == 86_704_128 and sum(large.values()) == 15_470_264_320
        assert sum(macs for name, macs in large.items() if name.startswith("conv")) == 15_346_630_656

    def test_parameter_count_by_hand(self):
        weights = 9 * 64 + 9 * 64 * 128 + 6272 * 1024 + 1024 * 10
        assert parameter_count(vgg("VGG4", 10, (28, 28, 1))) == weights + 2 * 3
        assert parameter_count(vgg("VGG4", 10, (28, 28, 1), neuron=ReLU(), bias=True)) == weights + 64 + 128 + 1024 + 10

    @pytest.mark.parametrize("spelled, name", [("vgg-16", "VGG16"), ("VGG5", "VGG6"), ("resnet_20", "ResNet20")])
    def test_names_are_found_however_spelled(self, spelled, name):
        assert build(spelled, 10, (32, 32, 3)) == build(name, 10, (32, 32, 3))

    @pytest.mark.slow
    def test_initial_weights_have_the_authors_deviation(self):
        params = jax.jit(small().init)(jax.random.key(0), images(small()))["params"]
        conv, fc = params["conv10"]["kernel"], params["mid"]["kernel"]
        assert conv.std() == pytest.approx(np.sqrt(2 / (5 * 5 * 6)), rel=0.1)
        assert fc.std() == pytest.approx(0.01, rel=0.2)


class TestSchedule:
    @pytest.mark.slow
    @pytest.mark.parametrize("network", ["VGG", "ResNet12"])
    def test_layerwise_equals_stepwise_equals_chunked(self, x64, random_variables, network):
        net = small() if network == "VGG" else narrowed(resnet("ResNet12", 3, (8, 8, 2), neuron=NEURON))
        variables = random_variables(net, dtype=jnp.float64)
        x = images(net, dtype=jnp.float64)

        @functools.partial(jax.jit, static_argnums=1)
        def run(variables, chunk):
            def loss(variables):
                rngs = {"dropout": jax.random.key(1)}
                logits, record = net.apply(variables, x, 4, train=True, chunk=chunk, rngs=rngs)
                return (jax.nn.log_softmax(logits)[:, 0]).sum(), (logits, record)

            return jax.value_and_grad(loss, has_aux=True)(variables)

        want = run(variables, None)
        rates = want[0][1][1]["spike_rate"]
        assert len(rates) == len(net.layers) - 1 and all(0 < rate < 4 for rate in rates.values())
        for chunk in (2, 1) if network == "VGG" else (1,):
            assert_close(run(variables, chunk), want, 1e-9)

    @pytest.mark.parametrize("chunk", [1, 2])
    @pytest.mark.slow
    def test_poisson_spikes_do_not_depend_on_the_chunk(self, x64, random_variables, chunk):
        net = small(encoder=Poisson())
        variables, x = random_variables(net, dtype=jnp.float64), images(net, dtype=jnp.float64)
        rngs = {"encode": jax.random.key(1)}
        assert_close(apply(net, variables, x, rngs, timesteps=4, chunk=chunk),
                     apply(net, variables, x, rngs, timesteps=4), 1e-10)

    @pytest.mark.slow
    def test_state_passed_on_continues(self, x64, random_variables):
        net = small()
        variables, x = random_variables(net, dtype=jnp.float64), images(net, dtype=jnp.float64)
        logits, whole = apply(net, variables, x, timesteps=5)
        _, first = apply(net, variables, x, timesteps=2)
        same, second = apply(net, variables, x, timesteps=3, state=first["state"])
        assert_close((same, second["state"]), (logits, whole["state"]), 1e-10)
        assert_close(jnp.concatenate([first["logits"], second["logits"]], 1), whole["logits"], 1e-10)
        for name, rate in whole["spike_rate"].items():
            assert rate == pytest.approx(float(first["spike_rate"][name] + second["spike_rate"][name]), rel=1e-12)

    @pytest.mark.slow
    def test_logits_at_t_are_those_of_a_run_that_long(self, x64, random_variables):
        net = small()
        variables, x = random_variables(net, dtype=jnp.float64), images(net, dtype=jnp.float64)
        every = apply(net, variables, x, timesteps=4)[1]["logits"]
        for t in range(4):
            np.testing.assert_allclose(every[:, t], apply(net, variables, x, timesteps=t + 1)[0], rtol=1e-10)


def convolutions(jaxpr, in_loop=False):
    """(batch, whether inside a loop) of every convolution, in order, through all nested programs, as a CPU runs it."""
    found = []
    for equation in jaxpr.eqns:
        if equation.primitive.name == "conv_general_dilated":
            found.append((equation.invars[0].aval.shape[0], in_loop))
        parts = dict(equation.params)
        if "branches_platforms" in parts:  # the first is a CPU's
            parts["branches"] = parts["branches"][:1]
        for value in jax.tree.leaves(list(parts.values()), is_leaf=lambda x: hasattr(x, "eqns")):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                found += convolutions(inner, in_loop or equation.primitive.name in ("scan", "while"))
    return found


class TestCost:
    LAYERS = (Layer("conv1", 4), Layer("conv2", 4), Layer("fc1", 3, kernel=None))

    @pytest.mark.parametrize("chunk, expected", [
        (None, [(2, False), (2 * 6, False)]), (3, [(2, False), (2 * 3, True)]), (1, [(2, False), (2, True)])])
    def test_direct_encoding_runs_the_first_synapse_once(self, random_variables, chunk, expected):
        net = Network(self.LAYERS, IMAGE)
        run = jax.make_jaxpr(lambda v, x: net.apply(v, x, timesteps=6, chunk=chunk)[0])
        assert convolutions(run(random_variables(net), images(net)).jaxpr) == expected

    def test_poisson_encoding_runs_the_first_synapse_at_every_step(self, random_variables):
        net = Network(self.LAYERS, IMAGE, encoder=Poisson())
        run = jax.make_jaxpr(lambda v, x: net.apply(v, x, timesteps=6, rngs={"encode": jax.random.key(0)})[0])
        assert convolutions(run(random_variables(net), images(net)).jaxpr) == [(12, False), (12, False)]

    def test_equal_networks_do_not_recompile(self, random_variables):
        traces = []

        @functools.partial(jax.jit, static_argnums=0)
        def run(net, variables, x):
            traces.append(net)
            return net.apply(variables, x, timesteps=2)[0]

        variables = random_variables(small())
        for seed in range(3):  # a network built anew, other weights and other images
            net = Network(tuple(VGG_LIKE), IMAGE, neuron=LIF(leak=0.9, threshold=0.4))
            run(net, variables, images(net, seed=seed))
            variables = jax.tree.map(lambda x: 1.1 * x, variables)
        assert len(traces) == 1
        run(small(neuron=LIF(leak=0.8)), variables, images(small()))
        assert len(traces) == 2


class TestDropout:
    LAYERS = (Layer("fc1", 400, kernel=None, dropout=0.25), Layer("fc2", 400, kernel=None))

    def masks(self, train, chunk=None):
        """[B, T, 400]: every neuron fires at every step and has an output of its own, which shows its mask."""
        net = Network(self.LAYERS, (20, 20, 1), neuron=LIF())
        variables = {"params": {"fc1": {"kernel": jnp.eye(400), "neuron": net.neuron.init(None, ())},
                                "fc2": {"kernel": jnp.eye(400)}}}
        _, record = apply(net, variables, jnp.full((3, 20, 20, 1), 2.0), {"dropout": jax.random.key(7)},
                          timesteps=4, train=train, chunk=chunk)
        return np.diff(np.asarray(record["logits"]), axis=1, prepend=0)

    @pytest.mark.parametrize("chunk", [None, 1])
    def test_masks_are_constant_over_time(self, chunk):
        masks = self.masks(train=True, chunk=chunk)
        for t in (1, 2, 3):
            np.testing.assert_allclose(masks[:, t], masks[:, 0], rtol=1e-6)

    def test_masks_differ_between_images_and_keep_the_mean(self):
        mask = self.masks(train=True)[:, 0]
        kept = mask > 0
        np.testing.assert_allclose(mask[kept], 1 / 0.75, rtol=1e-6)
        assert abs(kept.mean() - 0.75) < 5 * np.sqrt(0.25 * 0.75 / kept.size)
        assert (kept[0] != kept[1]).any() and (kept[1] != kept[2]).any()

    def test_evaluation_drops_nothing(self):
        assert (self.masks(train=False) == 1).all()


class TestRecord:
    @pytest.mark.slow
    def test_spike_rate_runs_from_input_to_output_also_after_jit(self, random_variables):
        net = small()
        order = [layer.name for layer in VGG_LIKE[:-1]]
        variables, x = random_variables(net), images(net)
        for timesteps in (1, 3):
            record = apply(net, variables, x, timesteps=timesteps, record=("spikes",))[1]
            assert list(record["spike_rate"]) == list(record["spikes"]) == order != sorted(order)

    @pytest.mark.parametrize("chunk", [None, 2])
    @pytest.mark.thin(1)
    def test_spike_rate_is_the_mean_over_the_spikes(self, random_variables, chunk):
        net = small()
        record = apply(net, random_variables(net), images(net), timesteps=4, record=("spikes",), chunk=chunk)[1]
        for name, spikes in record["spikes"].items():
            spikes = np.asarray(spikes)
            assert spikes.shape[:2] == (2, 4) and set(np.unique(spikes)) == {0, 1}
            assert float(record["spike_rate"][name]) == pytest.approx(spikes.sum(1).mean(), rel=1e-6)

    @pytest.mark.parametrize("chunk", [None, 2])
    @pytest.mark.slow
    def test_input_rate_counts_the_poisson_spikes(self, random_variables, chunk):
        net = small(encoder=Poisson())
        x = jnp.broadcast_to(jnp.asarray([1.0, 0.0]), (2, *IMAGE))  # one channel always fires, the other never
        record = apply(net, random_variables(net), x, {"encode": jax.random.key(0)}, timesteps=4, chunk=chunk)[1]
        assert record["input_rate"] == 2


class FlaxVGG(nn.Module):
    """VGG_LIKE written anew, in flax."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(4, (3, 3), name="zeta")(x))
        x = nn.avg_pool(nn.relu(nn.Conv(6, (3, 3), name="alpha")(x)), (2, 2), (2, 2))
        x = nn.avg_pool(nn.relu(nn.Conv(6, (5, 5), name="conv10")(x)), (2, 2), (2, 2))
        x = nn.relu(nn.Conv(8, (3, 3), name="conv2")(x))
        x = nn.relu(nn.Dense(10, name="mid")(x.reshape(x.shape[0], -1)))
        return nn.Dense(3, name="a_readout")(x)


def plain_resnet12(params, x):
    """The ANN ResNet12 in plain steps, NCHW."""

    def conv(x, kernel, stride=1):
        pad = kernel.shape[0] // 2
        return jax.lax.conv_general_dilated(x, kernel.transpose(3, 2, 0, 1), (stride, stride), [(pad, pad)] * 2)

    x = x.transpose(0, 3, 1, 2)
    for name in ("stem1", "stem2", "stem3"):
        x = jax.nn.relu(conv(x, params[name]["kernel"]))
    n, c, h, w = x.shape
    x = x.reshape(n, c, h // 2, 2, w // 2, 2).mean((3, 5))
    for stage in (1, 2, 3, 4):
        first, second = (params[f"stage{stage}_block1_conv{i}"] for i in (1, 2))
        stride = 1 if stage == 1 else 2
        residual = conv(jax.nn.relu(conv(x, first["kernel"], stride)), second["kernel"])
        x = jax.nn.relu(residual + (x if stage == 1 else conv(x, second["shortcut"]["kernel"], stride)))
    return x.transpose(0, 2, 3, 1).reshape(n, -1) @ params["fc1"]["kernel"]


class TestANN:
    def test_relu_network_is_the_flax_network_of_the_same_weights(self, x64, random_variables):
        net = small(neuron=ReLU(), bias=True)
        variables, x = random_variables(net, dtype=jnp.float64), images(net, dtype=jnp.float64)
        np.testing.assert_allclose(apply(net, variables, x)[0], FlaxVGG().apply(variables, x), rtol=1e-10)

    @pytest.mark.slow
    def test_relu_resnet_is_the_plain_one(self, x64, random_variables):
        net = resnet("ResNet12", 3, (16, 16, 2), neuron=ReLU())
        variables, x = random_variables(net, dtype=jnp.float64), images(net, dtype=jnp.float64)
        expected = jax.jit(plain_resnet12)(variables["params"], x)
        np.testing.assert_allclose(apply(net, variables, x)[0], expected, rtol=1e-10)

    def test_more_timesteps_of_an_ann_add_up(self, random_variables):
        net = small(neuron=ReLU())
        variables, x = random_variables(net), images(net)
        one = apply(net, variables, x)[0]
        np.testing.assert_allclose(apply(net, variables, x, timesteps=3)[1]["logits"],
                                   one[:, None] * np.arange(1, 4)[:, None], rtol=1e-5)


class FlaxNorm(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        x = nn.Conv(4, (3, 3), name="conv1", use_bias=False)(x)
        x = nn.relu(nn.BatchNorm(not train, momentum=0.9, epsilon=1e-5, name="norm1")(x))
        x = nn.Conv(4, (3, 3), name="conv2", use_bias=False)(x)
        x = nn.relu(nn.BatchNorm(not train, momentum=0.9, epsilon=1e-5, name="norm2")(x))
        return nn.Dense(3, name="fc1", use_bias=False)(x.reshape(x.shape[0], -1))


class TestBatchNorm:
    @pytest.mark.parametrize("train", [True, False])
    @pytest.mark.slow
    def test_batch_norm_is_flaxs(self, x64, random_variables, train):
        net = Network(TestCost.LAYERS, IMAGE, neuron=ReLU(), batch_norm=True)
        variables, x = random_variables(net, dtype=jnp.float64), images(net, 5, jnp.float64)
        params, stats = variables["params"], variables["batch_stats"]
        theirs = {"params": {name: {"kernel": layer["kernel"]} for name, layer in params.items()}
                  | {f"norm{i}": params[f"conv{i}"]["norm"] for i in (1, 2)},
                  "batch_stats": {f"norm{i}": stats[f"conv{i}"] for i in (1, 2)}}
        mutable = ["batch_stats"] if train else []
        (got, _), updates = net.apply(variables, x, train=train, mutable=mutable)
        want, expected = FlaxNorm().apply(theirs, x, train, mutable=mutable)
        np.testing.assert_allclose(got, want, rtol=1e-10)
        if train:
            for i in (1, 2):
                assert_close(dict(updates["batch_stats"][f"conv{i}"]), dict(expected["batch_stats"][f"norm{i}"]), 1e-10)

    def test_statistics_are_over_batch_time_and_map(self, x64):
        rng = np.random.default_rng(0)
        x = rng.normal(1, 2, (3, 4, 5, 6, 7))
        params = {"scale": rng.normal(size=7), "bias": rng.normal(size=7)}
        stats = {"mean": rng.normal(size=7), "var": rng.random(7)}
        out, updated = batch_norm(jax.tree.map(jnp.asarray, params), stats, jnp.asarray(x), True)
        mean, var = x.mean((0, 1, 2, 3)), x.var((0, 1, 2, 3))
        np.testing.assert_allclose(out, (x - mean) / np.sqrt(var + 1e-5) * params["scale"] + params["bias"], rtol=1e-9,
                                   atol=1e-12)
        np.testing.assert_allclose(updated["mean"], 0.9 * stats["mean"] + 0.1 * mean, rtol=1e-12)
        np.testing.assert_allclose(updated["var"], 0.9 * stats["var"] + 0.1 * var, rtol=1e-12)

    def test_training_in_chunks_is_an_error(self, random_variables):
        net = small(batch_norm=True)
        with pytest.raises(ValueError, match=r"batch norm in training needs every timestep at once.*fold_batch_norm"):
            net.apply(random_variables(net), images(net), 4, train=True, chunk=2, mutable=["batch_stats"],
                      rngs={"dropout": jax.random.key(0)})

    @pytest.mark.slow
    def test_evaluation_in_chunks_is_not(self, x64, random_variables):
        net = small(batch_norm=True)
        variables, x = random_variables(net, dtype=jnp.float64), images(net, dtype=jnp.float64)
        assert_close(apply(net, variables, x, timesteps=2, chunk=1), apply(net, variables, x, timesteps=2), 1e-10)


class TestPrecision:
    def test_bf16_network_is_close_to_float32(self, random_variables):
        ann = small(neuron=ReLU())
        variables, x = random_variables(ann), images(ann, 16)
        exact, rounded = (np.asarray(apply(net, variables, x)[0]) for net in (ann, ann.clone(dtype=jnp.bfloat16)))
        assert rounded.dtype == np.float32
        assert 0 < np.abs(rounded - exact).max() < 0.03 * np.abs(exact).max()

    @pytest.mark.slow
    def test_bf16_spikes_keep_float32_membranes_and_logits(self, random_variables):
        net = small(dtype=jnp.bfloat16)
        variables, x = random_variables(net), images(net, 16)
        logits, record = apply(net, variables, x, timesteps=4, record=("spikes",))
        assert logits.dtype == jnp.float32
        assert {s.membrane.dtype for s in record["state"].values()} == {jnp.dtype("float32")}
        assert {s.dtype for s in record["spikes"].values()} == {jnp.dtype("bfloat16")}
        exact = apply(small(), variables, x, timesteps=4)[1]["spike_rate"]
        for name, rate in record["spike_rate"].items():
            assert float(rate) == pytest.approx(float(exact[name]), rel=0.1)

    def test_float64_stays_float64(self, x64, random_variables):
        net = small()
        variables, x = random_variables(net, dtype=jnp.float64), images(net, dtype=jnp.float64)
        logits, record = apply(net, variables, x, timesteps=2, record=("spikes",))
        assert {leaf.dtype for leaf in jax.tree.leaves((logits, record))} == {jnp.dtype("float64")}

    @pytest.mark.slow
    def test_vmap_over_seeds_is_a_loop_over_them(self):
        net = small()
        x = images(net)
        keys = jax.random.split(jax.random.key(0), 3)

        @jax.jit
        def run(key):
            variables = net.init(key, x)
            strong = {"params": {name: {**layer, "kernel": 30 * layer["kernel"]}
                                 for name, layer in variables["params"].items()}}
            return variables, net.apply(strong, x, timesteps=3)[0]

        variables, logits = jax.vmap(run)(keys)
        assert len({float(row.sum()) for row in logits}) == 3
        for i in range(3):
            assert_close((jax.tree.map(lambda leaf: leaf[i], variables), logits[i]), run(keys[i]), 1e-5)  # noqa: B023


def numpy_convolution(x, kernel, stride=1):
    """Zero-padded, one output pixel at a time."""
    pad = kernel.shape[0] // 2
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    rows = [[np.einsum("bijc,ijco->bo", padded[:, i:i + kernel.shape[0], j:j + kernel.shape[0]], kernel)
             for j in range(0, x.shape[2], stride)] for i in range(0, x.shape[1], stride)]
    return np.stack([np.stack(row, 1) for row in rows], 1)


class TestSynapse:
    @pytest.mark.parametrize("side", [(1, 1), (2, 2), (1, 2), (3, 3), (5, 4)])
    @pytest.mark.parametrize("kernel_side", [1, 3, 5])
    @pytest.mark.parametrize("stride", [1, 2])
    def test_synapse_is_the_numpy_convolution(self, x64, side, kernel_side, stride):
        rng = np.random.default_rng(0)
        x, kernel = rng.normal(size=(2, 3, *side, 4)), rng.normal(size=(kernel_side, kernel_side, 4, 5))
        expected = numpy_convolution(x.reshape(6, *side, 4), kernel, stride)
        found = synapse(jnp.asarray(kernel), jnp.asarray(x), (stride, stride))
        np.testing.assert_allclose(found, expected.reshape(2, 3, *expected.shape[1:]), rtol=1e-10, atol=1e-12)

    @pytest.mark.parametrize("side", [(1, 1), (5, 4), (2, 2), (4, 6), (7, 7)])
    @pytest.mark.slow
    def test_winograd_equals_the_convolution_in_values_and_gradients(self, x64, side):
        rng = np.random.default_rng(0)
        x, kernel = jnp.asarray(rng.normal(size=(6, *side, 32))), jnp.asarray(rng.normal(size=(3, 3, 32, 33)))
        cotangent = jnp.asarray(rng.normal(size=(6, *side, 33)))

        def convolution(x, kernel):
            return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

        def chosen(x, kernel):
            return synapse(kernel, x[:, None])[:, 0]

        assert " convolution(" not in jax.jit(chosen).lower(x, kernel).compile().as_text()
        want, vjp = jax.vjp(convolution, x, kernel)
        for form in (chosen, winograd):
            got, same_vjp = jax.vjp(form, x, kernel)
            assert_close((got, same_vjp(cotangent)), (want, vjp(cotangent)), 1e-11)

    @pytest.mark.slow
    def test_winograd_of_a_few_images_at_a_time_is_that_of_all(self, x64, monkeypatch):
        rng = np.random.default_rng(0)
        x, kernel, cotangent = (jnp.asarray(rng.normal(size=shape)) for shape in ((6, 4, 4, 32), (3, 3, 32, 40),
                                                                                  (6, 4, 4, 40)))
        monkeypatch.setattr("dietjax.models.winograd.PART_BYTES", 5 * 4 * 16 * 4 * 32)  # five images': three divide six
        assert winograd_images_at_once(x.shape) == 3
        want, vjp = jax.vjp(winograd, x, kernel)
        got, same_vjp = jax.vjp(convolution.convolve, x, kernel)
        assert_close((got, same_vjp(cotangent)), (want, vjp(cotangent)), 1e-11)

    def test_winograd_of_halves_rounds_once(self):
        """Spikes and weights in bfloat16 give what float32 gives, rounded: the transforms' sums lose nothing."""
        rng = np.random.default_rng(0)
        x = jnp.asarray(rng.random((2, 8, 8, 32)) < 0.3, jnp.bfloat16)
        kernel = jnp.asarray(rng.normal(size=(3, 3, 32, 32)), jnp.bfloat16)
        exact = numpy_convolution(np.asarray(x, np.float64), np.asarray(kernel, np.float64), 1)
        np.testing.assert_allclose(np.asarray(winograd(x, kernel), np.float64), exact, rtol=2**-8, atol=1e-4)


class TestErrors:
    @pytest.mark.parametrize("call, message", [
        (lambda: vgg("VGG15", 10, (32, 32, 3)), r"unknown network 'VGG15'; did you mean 'VGG1\d'"),
        (lambda: vgg("VGG4", 10, (0, 8, 1)).connections(), r"image_shape is \(0, 8, 1\), and .* at least 1"),
        (lambda: vgg("VGG4", 0, (8, 8, 1)).connections(), r"layer 'fc2': features must be .* at least 1, got 0"),
        (lambda: resnet("ResNet21", 10, (32, 32, 3)), r"unknown network 'ResNet21'; did you mean 'ResNet20'"),
        (lambda: build("resnet17", 10, (32, 32, 3)), r"unknown network 'resnet17'; did you mean 'ResNet\d\d'"),
        (lambda: vgg("VGG9", 10, (32, 32, 3), neurn=LIF()), "unknown network option 'neurn'; did you mean 'neuron'"),
        (lambda: vgg("VGG9", 10, (8, 8, 3)), r"image of 8×8 does not fit: layer 'conv6' cannot pool a map of 1×1 by 2; "
                                             "use a height and width divisible by 16"),
    ])
    def test_networks_that_cannot_be(self, call, message):
        with pytest.raises(ValueError, match=message):
            call()

    @pytest.mark.parametrize("x, timesteps, message", [
        (np.zeros((2, 8, 9, 2), np.float32), 1, r"images have shape \(2, 8, 9, 2\).*\(8, 8, 2\)"),
        (np.zeros((8, 8, 2), np.float32), 1, r"one image of shape \(8, 8, 2\) came without a batch axis"),
        (np.zeros((2, *IMAGE), np.uint8), 1, r"images are uint8; make them floating point"),
        (np.zeros((2, *IMAGE), np.float32), 0, "timesteps must be a whole number of at least 1, got 0"),
        (np.zeros((2, *IMAGE), np.float32), 2.0, r"timesteps must be a whole number of at least 1, got 2\.0"),
    ])
    def test_runs_that_cannot_be(self, random_variables, x, timesteps, message):
        with pytest.raises(ValueError, match=message):
            small().apply(random_variables(small()), x, timesteps)

    def test_chunk_that_does_not_divide(self, random_variables):
        with pytest.raises(ValueError, match="chunk=3, timesteps=4"):
            small().apply(random_variables(small()), images(small()), 4, chunk=3)


@pytest.mark.parametrize("layers, says", [
    ((Layer("a", 4), Layer("a", 2, kernel=None)), "two layers are called 'a'"),
    ((Layer("conv1", 4), Layer("b", 4, shortcut="conv2"), Layer("c", 2, kernel=None)), "did you mean 'conv1'"),
])
def test_layers_that_make_no_network_are_named(layers, says):
    with pytest.raises(InputError, match=says):
        connections(layers, (8, 8, 1))


@pytest.mark.parametrize("platform, product", [("cpu", True), ("tpu", False), ("cuda", False)])
def test_the_form_of_a_convolution_follows_the_platform_compiled_for(platform, product):
    kernel, x = jnp.zeros((3, 3, 32, 32)), jnp.zeros((2, 1, 2, 2, 32))
    program = jax.jit(jax.grad(lambda k: synapse(k, x).sum())).trace(kernel).lower(lowering_platforms=(platform,))
    assert ("stablehlo.convolution" in program.as_text()) is not product
    assert ("stablehlo.dot_general" in program.as_text()) is product
