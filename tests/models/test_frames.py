"""Input over time: frames are what images are, one for each timestep; what lies beyond an example's end is nothing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dietjax import LIF, ReLU
from dietjax.core.encode import Poisson
from dietjax.errors import InputError
from dietjax.models import Layer, Network

pytestmark = pytest.mark.usefixtures("quick_compile")
CONV = (Layer("a", 6, pool=True), Layer("b", 6, shortcut="b"), Layer("fc", 3, kernel=None))
DENSE = (Layer("fc1", 8, kernel=None), Layer("fc2", 7, kernel=None, recurrent=True), Layer("fc3", 3, kernel=None))
IMAGE = (4, 4, 2)
B, T = 3, 4
conv = functools.partial(Network, CONV, IMAGE, neuron=LIF(leak=0.9, threshold=0.3), bias=True)
dense = functools.partial(Network, DENSE, (5,), neuron=LIF(leak=0.9, threshold=0.3, reset="zero"))
apply = jax.jit(lambda net, v, x, **options: net.apply(v, x, **options), static_argnums=0,
                static_argnames=("timesteps", "chunk", "record"))


def frames(net, steps=T, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(B, steps, *net.image_shape)), jnp.float32)


@pytest.mark.parametrize("chunk", [None, 2])
@pytest.mark.thin(1)
def test_frames_that_repeat_an_image_are_the_image(random_variables, chunk):
    net = conv()
    variables, image = random_variables(net), frames(net)[:, 0]
    expected = apply(net, variables, image, timesteps=T, chunk=chunk, record=("spikes",))
    found = apply(net, variables, jnp.repeat(image[:, None], T, 1), chunk=chunk, record=("spikes",))
    np.testing.assert_array_equal(found[0], expected[0])
    for name in ("a", "b"):
        np.testing.assert_array_equal(found[1]["spikes"][name], expected[1]["spikes"][name])
        assert found[1]["spike_rate"][name] == expected[1]["spike_rate"][name] > 0


@pytest.mark.parametrize("make", [conv, dense], ids=["conv", "dense"])
@pytest.mark.parametrize("parts", [(1,) * T, (2, 1, 1)], ids=str)
@pytest.mark.thin(1)
def test_a_stream_fed_part_by_part_is_the_whole(x64, random_variables, make, parts):
    net = make()
    variables, x = random_variables(net, dtype=jnp.float64), frames(net).astype(jnp.float64)
    whole, state, seen = apply(net, variables, x)[1], None, []
    for start, count in zip(np.cumsum((0, *parts)), parts, strict=False):
        record = apply(net, variables, x[:, start:start + count], state=state)[1]
        state = record["state"]
        seen.append(record["logits"])
    np.testing.assert_allclose(np.concatenate(seen, 1), whole["logits"], rtol=1e-10)


def test_each_frame_comes_at_its_timestep(x64, random_variables):
    """Without memory in the network the readout adds up what every frame alone would give."""
    net = Network((Layer("a", 4, pool="global"), Layer("fc", 3, kernel=None)), IMAGE, neuron=ReLU())
    variables, x = random_variables(net, dtype=jnp.float64), frames(net).astype(jnp.float64)
    each = jnp.stack([apply(net, variables, x[:, t])[0] for t in range(T)], 1)
    np.testing.assert_allclose(apply(net, variables, x)[1]["logits"], np.cumsum(each, 1), rtol=1e-12)


@pytest.mark.parametrize("make, chunk", [(dense, None), (conv, None), (conv, 2)], ids=["dense", "conv", "chunks"])
@pytest.mark.thin(1)
def test_a_padded_batch_is_its_members_alone(x64, random_variables, make, chunk):
    net, lengths = make(), jnp.array([4, 1, 4])
    variables, x = random_variables(net, dtype=jnp.float64), frames(net).astype(jnp.float64)
    beyond = (jnp.arange(T) >= lengths[:, None]).reshape(B, T, *[1] * len(net.image_shape))
    padded = jnp.where(beyond, jnp.nan, x)

    def loss(variables, x, **options):
        logits, record = net.apply(variables, x, **options)
        return (logits**2).sum(), (logits, record["spike_rate"], record["input_rate"])

    run = jax.jit(jax.value_and_grad(loss, has_aux=True), static_argnames="chunk")
    (_, (logits, rates, seen)), gradient = run(variables, padded, lengths=lengths, chunk=chunk)
    alone = [run(variables, x[i:i + 1, :int(lengths[i])]) for i in range(B)]
    np.testing.assert_allclose(logits, np.concatenate([a[0][1][0] for a in alone]), rtol=1e-10)
    for name, rate in rates.items():
        np.testing.assert_allclose(rate, np.mean([a[0][1][1][name] for a in alone]), rtol=1e-6)
    np.testing.assert_allclose(seen, np.mean([a[0][1][2] for a in alone]), rtol=1e-6)
    summed = jax.tree.map(lambda *g: sum(g), *[a[1] for a in alone])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10), gradient, summed)


@pytest.mark.slow
def test_batch_statistics_are_those_of_the_frames_that_there_are(x64):
    net = Network(CONV, IMAGE, neuron=LIF(threshold=0.3), batch_norm=True)
    x, lengths = frames(net).astype(jnp.float64), jnp.array([4, 1, 4])
    variables = jax.jit(net.init)(jax.random.key(0), x)
    train = jax.jit(lambda x: net.apply(variables, x, lengths=lengths, train=True, mutable=["batch_stats"])[1])
    found = train(x)["batch_stats"]["a"]
    kernel = variables["params"]["a"]["kernel"].astype(jnp.float64)
    current = jax.lax.conv_general_dilated(x.reshape(-1, *IMAGE), kernel, (1, 1), "SAME",
                                           dimension_numbers=("NHWC", "HWIO", "NHWC")).reshape(B, T, -1, 6)
    there = np.concatenate([current[i, :n].reshape(-1, 6) for i, n in enumerate(lengths)])
    np.testing.assert_allclose(found["mean"], 0.1 * there.mean(0), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(found["var"], 0.9 + 0.1 * there.var(0), rtol=1e-6)
    beyond = (jnp.arange(T) >= lengths[:, None]).reshape(B, T, 1, 1, 1)
    changed = train(jnp.where(beyond, jnp.nan, x))["batch_stats"]
    jax.tree.map(np.testing.assert_array_equal, changed, train(x)["batch_stats"])


@pytest.mark.slow
def test_a_poisson_encoder_draws_at_every_frame(random_variables):
    net = conv(encoder=Poisson())
    variables, image = random_variables(net), frames(net)[:, 0]
    rngs = {"encode": jax.random.key(3)}
    expected, record = apply(net, variables, image, timesteps=T, rngs=rngs)
    found, again = apply(net, variables, jnp.repeat(image[:, None], T, 1), rngs=rngs)
    np.testing.assert_array_equal(found, expected)
    assert again["input_rate"] == record["input_rate"] > 0 and again["input_magnitude"] == 1


def test_events_are_counted_where_they_come_in(random_variables):
    net = conv()
    events = np.zeros((B, T, *IMAGE), np.float32)
    events[0, :3, 1, 2, 0], events[1, 3, 0, 0, 1] = 1, -1
    record = apply(net, random_variables(net), jnp.asarray(events))[1]
    np.testing.assert_allclose(record["input_rate"], 4 / (B * 4 * 4 * 2), rtol=1e-6)
    assert record["input_magnitude"] == 1


@pytest.mark.parametrize("shape, options, says", [
    (IMAGE, {}, r"one image of shape \(4, 4, 2\) came without a batch axis; pass images\[None\]"),
    ((B, T, *IMAGE), {"timesteps": 3}, r"timesteps are 3, and there are 4 frames an example.*frames\[:, :3\]"),
    ((B, T, 4, 5, 2), {}, r"this network takes images \[B, ...\] or frames \[B, T, ...\] with \[...\] = \(4, 4, 2\)"),
    ((B, T, *IMAGE), {"lengths": jnp.array([1, 7, 2])}, "a length is 7, .* between 1 and the 4 timesteps"),
    ((B, T, *IMAGE), {"lengths": jnp.array([1, 2])}, "lengths are whole .*, one for each of 3 examples"),
    ((B, T, *IMAGE), {"lengths": jnp.ones(3)}, "lengths are whole numbers of timesteps, .* got float32"),
    ((B, *IMAGE), {"lengths": jnp.array([1, 1, 1])}, "lengths say how many frames .* these are images"),
    ((B, 0, *IMAGE), {}, "there is no example, or no frame"),
])
def test_what_cannot_be_read_is_refused(random_variables, shape, options, says):
    net = conv()
    with pytest.raises(InputError, match=says):
        net.apply(random_variables(net), jnp.zeros(shape), **options)
