"""Laws of optimizer: each schedule's formula at every step, each optimiser's first steps by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dietjax.config import Phase
from dietjax.core.neurons import LIFParams
from dietjax.train.optimizer import learning_rate, make_optimizer

# ---- schedules: 40 steps are 8 epochs of 5


def rates(steps=40, **phase):
    rate = learning_rate(Phase(epochs=8, learning_rate=0.5, **phase), steps)
    return np.asarray(jax.vmap(rate)(jnp.arange(steps + 1)))


def cosine(start, end, share):
    return end + (start - end) * (1 + np.cos(np.pi * share)) / 2


def test_cosine_falls_to_zero():
    np.testing.assert_allclose(rates(), cosine(0.5, 0, np.arange(41) / 40), atol=1e-7)


def test_warmup_rises_in_a_line_and_falls_along_a_cosine():
    rise, fall = 0.5 * np.arange(10) / 10, cosine(0.5, 0, np.arange(31) / 30)
    found = rates(schedule="warmup_cosine", warmup_epochs=2)
    np.testing.assert_allclose(found, np.concatenate([rise, fall]), atol=1e-7)


@pytest.mark.parametrize("epochs, steps", [(2, 10), (2.5, 12), (0.2, 1)])
def test_one_cycle_rises_from_a_25th_and_falls_to_almost_nothing(epochs, steps):
    rise = cosine(0.5 / 25, 0.5, np.arange(steps) / steps)
    fall = cosine(0.5, 0.5 / 250_000, np.arange(41 - steps) / (40 - steps))
    found = rates(schedule="one_cycle", warmup_epochs=epochs)
    np.testing.assert_allclose(found, np.concatenate([rise, fall]), atol=1e-7)


@pytest.mark.parametrize("steps", [3, 8, 67, 71, 100])
@pytest.mark.thin(2)
def test_one_cycle_is_highest_after_its_warm_up_however_long_the_run(steps):
    """Seven of eight epochs: a product of fractions would often be rounded to the step before."""
    found = rates(steps, schedule="one_cycle", warmup_epochs=7)
    assert found.argmax() == 7 * steps // 8


def test_steps_falls_at_the_first_step_of_the_epoch_after_a_milestone():
    found = rates(schedule="steps", milestones=(3, 6.5), step_factor=0.1)
    expected = np.repeat([0.5, 0.05, 0.005], [15, 17, 9])
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_milestones_that_come_to_one_step_count_each():
    np.testing.assert_allclose(rates(8, schedule="steps", milestones=(3, 3.5), step_factor=0.1),
                               np.repeat([0.5, 0.005], [3, 6]), rtol=1e-6)


def test_linear_falls_to_zero_in_a_line():
    np.testing.assert_allclose(rates(schedule="linear"), 0.5 * (1 - np.arange(41) / 40), atol=1e-7)


def test_constant_stays():
    assert learning_rate(Phase(learning_rate=0.5, schedule="constant"), 40)(7) == 0.5


# ---- optimisers


def updates(phase, gradients, params, freeze=()):
    """The changes of a few steps at the same parameters, with a constant rate."""
    optimizer = make_optimizer(phase, 10, freeze)
    state, found = optimizer.init(params), []
    for gradient in gradients:
        changes, state = optimizer.update(gradient, state, params)
        found.append(changes)
    return found


def kernel(*values):
    return {"kernel": jnp.array(values)}


def constant(**settings):
    return Phase(learning_rate=0.5, schedule="constant", **settings)


def test_nesterov_looks_ahead():
    """Momentum 0.9, gradients 1, 2: traces 1 and 2.9; the changes are those of 1 + 0.9 and 2 + 0.9 × 2.9."""
    phase = constant(optimizer="sgd", nesterov=True)
    found = [float(u["kernel"][0]) for u in updates(phase, [kernel(1.0), kernel(2.0)], kernel(0.0))]
    np.testing.assert_allclose(found, [-0.5 * 1.9, -0.5 * 4.61], rtol=1e-6)
    plain = [float(u["kernel"][0]) for u in updates(constant(optimizer="sgd"), [kernel(1.0), kernel(2.0)], kernel(0.0))]
    np.testing.assert_allclose(plain, [-0.5 * 1.0, -0.5 * 2.9], rtol=1e-6)


def test_adamw_takes_weights_off_beside_adams_step():
    """A loop in NumPy over Loshchilov & Hutter's algorithm 2; what is no weight does not decay."""
    start, gradients = np.array([2.0, -1.0]), ([1.0, -3.0], [0.5, 0.25], [-2.0, 1.0])
    params = {"kernel": jnp.asarray(start), "bias": jnp.asarray(start)}
    phase = constant(optimizer="adamw", weight_decay=0.1)
    found = updates(phase, [{"kernel": jnp.array(g), "bias": jnp.array(g)} for g in gradients], params)
    m = v = np.zeros(2)
    for t, (g, changes) in enumerate(zip(np.array(gradients), found, strict=True), 1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        adam = (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        np.testing.assert_allclose(changes["bias"], -0.5 * adam, atol=1e-5)
        np.testing.assert_allclose(changes["kernel"], -0.5 * (adam + 0.1 * start), atol=1e-5)


def test_a_long_gradient_is_shortened_as_a_whole_and_a_short_one_kept():
    """(3, 0) and (0, 4) are 5 long together: at most 2.5 halves both. The penalty is added to what is left."""
    params = {"a": kernel(1.0, 1.0), "b": kernel(1.0, 1.0)}
    long, short = ({"a": kernel(3.0 * s, 0.0), "b": kernel(0.0, 4.0 * s)} for s in (1.0, 0.25))
    phase = constant(optimizer="sgd", momentum=0.0, weight_decay=0.1, clip_norm=2.5)
    found = updates(phase, [long, short], params)
    for changes, scale in zip(found, (0.5, 0.25), strict=True):
        np.testing.assert_allclose(changes["a"]["kernel"], [-0.5 * (3 * scale + 0.1), -0.05], rtol=1e-6)
        np.testing.assert_allclose(changes["b"]["kernel"], [-0.05, -0.5 * (4 * scale + 0.1)], rtol=1e-6)


@pytest.mark.parametrize("freeze, scale", [((), 0.5), (("threshold",), 2.5 / 3)])
def test_the_norm_is_that_of_what_is_trained(freeze, scale):
    params = {"kernel": jnp.array([1.0]), "neuron": LIFParams(jnp.array(1.0), jnp.array(1.0))}
    gradient = {"kernel": jnp.array([3.0]), "neuron": LIFParams(jnp.array(0.0), jnp.array(4.0))}
    changes, = updates(constant(optimizer="sgd", momentum=0.0, clip_norm=2.5), [gradient], params, freeze)
    np.testing.assert_allclose(changes["kernel"], [-0.5 * 3 * scale], rtol=1e-6)
    np.testing.assert_allclose(changes["neuron"].threshold, 0 if freeze else -0.5 * 4 * scale, rtol=1e-6)


def newton_schulz(matrix, iterations=3):
    """Jordan's quintic iteration; it brings singular values of a matrix of norm 1 towards 1."""
    x = matrix / np.linalg.norm(matrix)
    for _ in range(iterations):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x


def test_muon_steps_orthogonally_and_holds_a_kernels_norm():
    """A NumPy loop over two steps: Nesterov's momentum, bias-corrected; then the norm is √out."""
    rng = np.random.default_rng(0)
    start, *gradients = (rng.normal(size=(3, 3, 2, 4)) for _ in range(3))
    params = {"conv": kernel(*start), "head": kernel([1.0, 2.0])}
    phase = constant(optimizer="muon", momentum=0.6, adam_learning_rate=0.25)
    found = updates(phase, [{"conv": kernel(*g), "head": kernel([3.0, -4.0])} for g in gradients], params)
    average = 0.0
    for t, (g, changes) in enumerate(zip(gradients, found, strict=True), 1):
        average = 0.6 * average + 0.4 * g
        ahead = 0.6 * average / (1 - 0.6**(t + 1)) + 0.4 * g / (1 - 0.6**t)
        moved = start - 0.5 * newton_schulz(ahead.reshape(18, 4).T).T.reshape(start.shape)
        expected = moved * (2 / np.linalg.norm(moved)) - start  # √4
        np.testing.assert_allclose(changes["conv"]["kernel"], expected, rtol=1e-4, atol=1e-5)
        # equal gradients: Adam's step is the rate
        np.testing.assert_allclose(changes["head"]["kernel"], [[-0.25, 0.25]], rtol=1e-4)


def test_one_layers_kernel_stays_by_its_name():
    params = {"a": kernel(1.0), "b": kernel(1.0)}
    changes, = updates(constant(optimizer="sgd", weight_decay=0.1), [params], params, ("a/kernel",))
    assert float(changes["a"]["kernel"][0]) == 0 and float(changes["b"]["kernel"][0]) < 0


@pytest.mark.parametrize("phase, expected", [
    (Phase(), ["[0][0].mu", "[0][0].nu", "[0][0].nu_max"]),
    (Phase(weight_decay=0.1), ["[1][0].mu", "[1][0].nu", "[1][0].nu_max"]),
    (Phase(optimizer="sgd"), ["[0][0].trace"]),
    (Phase(optimizer="sgd", weight_decay=0.1), ["[1][0].trace"]),
])
def test_the_moments_lie_where_stored_checkpoints_have_them(phase, expected):
    state = make_optimizer(phase, 10).init(kernel(1.0))
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(state)]
    assert [path for path in paths if "kernel" in path] == [f"{place}['kernel']" for place in expected]
