"""Laws of the readouts over time: loops in NumPy, sequences of unequal length, first spikes, snnTorch's formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dietjax as dj
from dietjax import losses

pytestmark = pytest.mark.usefixtures("quick_compile")

LENGTHS = np.array([6, 1, 4])
LABELS = np.array([2, 0, 1])
PLAIN = {  # readout -> its definition for one example, [T, K] -> [K]
    losses.sum_over_time: lambda o: sum(o),
    losses.mean_over_time: lambda o: sum(o) / len(o),
    losses.last_step: lambda o: o[-1],
    losses.max_over_time: lambda o: np.array([max(column) for column in o.T]),
}


def membranes(shape=(3, 6, 4), seed=0):
    return np.random.default_rng(seed).normal(0, 2, shape)


def spike_trains(shape=(3, 6, 4), seed=1, rate=0.4):
    return (np.random.default_rng(seed).random(shape) < rate).astype(float)


def first_spike(train):
    """[T, K] -> [K]; T where a column has none."""
    return np.array([next((t for t, o in enumerate(column) if o), len(column)) for column in train.T], float)


def slope(function, x, step=1e-6):
    """Central differences of a scalar function of an array, one entry after the other."""
    found = np.zeros_like(x)
    for at in np.ndindex(*x.shape):
        change = np.zeros_like(x)
        change[at] = step
        found[at] = (float(function(jnp.asarray(x + change))) - float(function(jnp.asarray(x - change)))) / (2 * step)
    return found


@pytest.mark.parametrize("readout", PLAIN, ids=lambda f: f.__name__)
def test_a_readout_is_its_loop_over_the_timesteps_that_count(x64, readout):
    x = membranes()
    np.testing.assert_allclose(readout(jnp.asarray(x)), [PLAIN[readout](o) for o in x], rtol=1e-14)
    alone = [PLAIN[readout](o[:n]) for o, n in zip(x, LENGTHS, strict=True)]
    np.testing.assert_allclose(readout(jnp.asarray(x), LENGTHS), alone, rtol=1e-14)
    np.testing.assert_allclose(readout(jnp.asarray(x[..., None]), LENGTHS)[..., 0], alone, rtol=1e-14)  # maps too


@pytest.mark.parametrize("readout", PLAIN, ids=lambda f: f.__name__)
@pytest.mark.thin(2)
def test_a_readouts_gradient_is_that_of_finite_differences(x64, readout):
    x = membranes((2, 3, 2))
    loss = jax.jit(lambda x: losses.cross_entropy(readout(x, jnp.array([3, 2])), LABELS[1:] % 2).sum())
    np.testing.assert_allclose(jax.grad(loss)(jnp.asarray(x)), slope(loss, x), atol=1e-8)


OVER_TIME = {
    **{f.__name__: f for f in PLAIN},
    "temporal_efficient": lambda o, n: losses.temporal_efficient(o, LABELS, 0.1, 0.3, lengths=n),
    "spike_count": lambda o, n: losses.spike_count(o, n, classes=2),
    "first_spike_time": losses.first_spike_time,
    "count_mse": lambda o, n: losses.count_mse(losses.spike_count(o, n), LABELS, n, 0.8, 0.1),
}


@pytest.mark.parametrize("padding", [np.nan, np.inf, 1.0], ids=str)
@pytest.mark.parametrize("name", OVER_TIME)
@pytest.mark.thin(8)
def test_a_padded_example_is_what_it_is_alone(x64, name, padding):
    """Values and gradients, under jit; the padding has a gradient of exactly 0."""
    x = spike_trains()  # of 0 and 1, which every one of them takes
    run, lengths = OVER_TIME[name], np.array([6, 3, 3])

    @jax.jit
    def value_and_gradient(x, lengths):
        weights = jnp.arange(1.0, 1 + x.shape[0])
        return run(x, lengths), jax.grad(lambda x: (run(x, lengths).T @ weights).sum())(x)

    padded = np.where(np.arange(6)[:, None] < lengths[:, None, None], x, padding)
    values, gradients = value_and_gradient(jnp.asarray(padded), jnp.asarray(lengths))
    for b, n in enumerate(lengths):
        alone = np.broadcast_to(x[b, :n], (3, n, 4))  # three times, so that labels and weights are its own
        value, gradient = value_and_gradient(jnp.asarray(alone), jnp.full(3, n))
        np.testing.assert_allclose(values[b], value[b], rtol=1e-13)
        np.testing.assert_allclose(gradients[b, :n], gradient[b], rtol=1e-12, atol=1e-15)
        np.testing.assert_array_equal(gradients[b, n:], 0)


def test_what_each_step_adds_and_its_sum_up_to_each_step(x64):
    currents, leak = membranes(), 0.7
    _, sums = dj.unroll(dj.LI(), (), None, jnp.asarray(currents))
    _, leaky = dj.unroll(dj.LI(leak=leak), (), None, jnp.asarray(currents))
    np.testing.assert_allclose(losses.increments(sums), currents, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(losses.increments(leaky, leak), currents, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(losses.last_step(sums, LENGTHS), losses.sum_over_time(jnp.asarray(currents), LENGTHS),
                               rtol=1e-12)


def test_counts_of_a_networks_readout_that_fires_are_the_counts_of_its_spikes(random_variables):
    net = dj.models.Network((dj.models.Layer("hidden", 8, kernel=None), dj.models.Layer("readout", 3, kernel=None)),
                            image_shape=(2, 2, 1), neuron=dj.LIF(threshold=0.3), readout=dj.LIF(threshold=0.2))
    images = jax.random.normal(jax.random.key(0), (4, 2, 2, 1))
    logits, record = jax.jit(lambda variables: net.apply(variables, images, timesteps=5))(random_variables(net))
    spikes = losses.increments(record["logits"])
    assert 0 < spikes.mean() < 1
    np.testing.assert_array_equal(losses.spike_count(spikes), logits)
    np.testing.assert_array_equal(losses.last_step(record["logits"]), logits)


def test_neurons_in_a_row_vote_for_one_class():
    """As in snnTorch's population code: class k has the neurons from N k / K on."""
    spikes = spike_trains((2, 5, 6))
    expected = [[sum(spikes[b, t, i] for t in range(5) for i in range(2 * k, 2 * k + 2)) for k in range(3)]
                for b in range(2)]
    np.testing.assert_array_equal(losses.spike_count(jnp.asarray(spikes), classes=3), expected)


def test_counts_are_exact_in_half_precision():
    """bfloat16 has no 257."""
    assert losses.spike_count(jnp.ones((1, 1001, 1), jnp.bfloat16)).tolist() == [[1001]]


# ---- first spikes


def test_first_spikes_are_those_of_a_loop(x64):
    spikes = spike_trains(rate=0.2)
    found = losses.first_spike_time(jnp.asarray(spikes))
    np.testing.assert_array_equal(found, [first_spike(o) for o in spikes])
    assert (found == 6).any() and (found == 0).any()  # silent ones and others


@pytest.mark.slow
def test_the_gradient_of_a_spike_time_is_minus_one_at_the_first_spike_and_of_a_silent_neuron_at_the_last_step():
    spikes = jnp.asarray([[0.0, 0, 1], [1, 0, 0], [1, 0, 1], [0, 0, 0]])[None]  # first spikes: 1, none, 0
    assert losses.first_spike_time(spikes).tolist() == [[1, 4, 0]]
    gradient = jax.grad(lambda o: (losses.first_spike_time(o) * jnp.array([1.0, 10, 100])).sum())(spikes)
    assert gradient[0].tolist() == [[0, 0, -100], [-1, 0, 0], [0, 0, 0], [0, -10, 0]]


def test_learning_by_first_spikes_makes_the_labels_neuron_the_first():
    """A weight from a constant input to each of three neurons: by the sign of the drive, earlier or later."""
    lif = dj.LIF(surrogate=dj.Surrogate("fast_sigmoid", (1.0,)))
    params = lif.init(jax.random.key(0), (3,))

    @jax.jit
    def times(weights):
        _, spikes = dj.unroll(lif, params, None, jnp.broadcast_to(weights, (1, 1, 3)), timesteps=12)
        return losses.first_spike_time(spikes)

    @jax.jit
    def descend(weights):
        return weights - 0.02 * jax.grad(lambda w: losses.cross_entropy(-times(w), jnp.array([1])).sum())(weights)

    weights = jnp.array([0.3, 0.05, 0.22])
    assert times(weights).tolist() == [[3, 12, 4]]  # the label's never fires
    for _ in range(60):
        weights = descend(weights)
    after = times(weights)[0]
    assert after[1] < min(after[0], after[2])


# ---- snnTorch's formulas, over spikes [T, B, K]


def torch_cross_entropy(scores):
    return np.mean([np.log(np.exp(s).sum()) - s[y] for s, y in zip(scores, LABELS, strict=True)])


@pytest.mark.parametrize("name", ["ce_count", "ce_rate", "ce_max_membrane", "ce_temporal", "mse_count"])
def test_snntorchs_losses_are_these(x64, name):
    spikes = spike_trains()
    spikes[:, -1] = 1  # everyone fires: snnTorch gives silent neurons another time
    by_time, mine = spikes.transpose(1, 0, 2), jnp.asarray(spikes)
    if name == "ce_count":
        expected, found = torch_cross_entropy(by_time.sum(0)), losses.cross_entropy(losses.spike_count(mine), LABELS)
    elif name == "ce_rate":
        expected = np.mean([torch_cross_entropy(step) for step in by_time])
        found = losses.temporal_efficient(mine, LABELS)
    elif name == "ce_max_membrane":
        u = membranes()
        expected = torch_cross_entropy(u.transpose(1, 0, 2).max(0))
        found = losses.cross_entropy(losses.max_over_time(jnp.asarray(u)), LABELS)
    elif name == "ce_temporal":
        expected = torch_cross_entropy(-np.stack([first_spike(o) for o in spikes]))
        found = losses.cross_entropy(-losses.first_spike_time(mine), LABELS)
    else:
        wanted = np.full((3, 4), int(6 * 0.5))
        wanted[range(3), LABELS] = int(6 * 1.0)
        expected = ((by_time.sum(0) - wanted) ** 2).mean() / 6
        found = losses.count_mse(losses.spike_count(mine), LABELS, 6, 1.0, 0.5)
    np.testing.assert_allclose(found.mean(), expected, rtol=1e-13)


def test_count_mse_by_hand():
    """Of 4 timesteps the label's neuron fires 3 times for 0.9·4, the other once for 0.1·4: (0.36 + 0.36) / 2 / 4."""
    found = losses.count_mse(jnp.asarray([[1.0, 3.0]]), jnp.asarray([1]), 4, 0.9, 0.1)
    np.testing.assert_allclose(found, [0.09], rtol=1e-5)


def test_the_gradient_of_count_mse_is_that_of_finite_differences(x64):
    counts = spike_trains().sum(1)

    def loss(counts):
        return losses.count_mse(counts, LABELS, jnp.asarray(LENGTHS), 0.7, 0.2).sum()

    np.testing.assert_allclose(jax.grad(loss)(jnp.asarray(counts)), slope(loss, counts, 1e-5), rtol=1e-8, atol=1e-9)


def test_a_label_for_each_timestep(x64):
    x, labels = jnp.asarray(membranes((2, 3, 4))), np.array([[0, 1, 2], [3, 3, 0]])
    for b, t in np.ndindex(2, 3):
        alone = losses.cross_entropy(x[b:b + 1, t], labels[b, t:t + 1])
        np.testing.assert_allclose(losses.cross_entropy(x, labels)[b, t], alone[0], rtol=1e-14)
