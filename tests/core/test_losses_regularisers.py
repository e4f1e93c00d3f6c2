"""Laws of the regularisers of activity: their equations in NumPy, their gradients, what they do to a network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dietjax as dj
from dietjax import losses

pytestmark = pytest.mark.usefixtures("quick_compile")

EQUATIONS = {
    "rate_above": lambda r: np.maximum(0, r - 1.5) ** 2,
    "rate_below": lambda r: np.maximum(0, 1.5 - r) ** 2,
    "activity_l1": abs,
    "activity_l2": lambda r: r**2,
}


def rates():
    rng = np.random.default_rng(0)
    return {"conv1": rng.uniform(0, 3, (4, 2, 2, 3)), "dense": rng.uniform(0, 3, (4, 5)), "mean": np.array(2.0)}


def penalty(name, found):
    return getattr(losses, name)(found, 1.5) if name.startswith("rate") else getattr(losses, name)(found)


@pytest.mark.parametrize("name", EQUATIONS)
def test_it_is_the_mean_over_a_layer_and_the_sum_over_layers(x64, name):
    expected = sum(np.mean([EQUATIONS[name](r) for r in layer.ravel()]) for layer in rates().values())
    np.testing.assert_allclose(penalty(name, rates()), expected, rtol=1e-13)


@pytest.mark.parametrize("name", EQUATIONS)
def test_its_gradient_is_that_of_finite_differences(x64, name):
    at, step = rates()["dense"], 1e-6

    def expected(r):
        return (penalty(name, r + step) - penalty(name, r - step)) / (2 * step)

    found = jax.jit(jax.grad(lambda r: penalty(name, r)))(jnp.asarray(at))
    np.testing.assert_allclose(found, np.vectorize(expected)(at) / at.size, atol=1e-8)


def test_the_bounds_of_cramer_et_al(x64):
    """Their two terms, for spikes S [B, T, N]: of the population's mean from above, of each neuron from below."""
    spikes = (np.random.default_rng(2).random((3, 7, 5)) < 0.4).astype(float)
    upper = np.mean([max(0, sum(spikes[b].sum(0)) / 5 - 2.5) ** 2 for b in range(3)])
    lower = np.mean([max(0, 2.5 - spikes[b, :, i].sum()) ** 2 for b in range(3) for i in range(5)])
    counts = losses.sum_over_time(jnp.asarray(spikes))
    np.testing.assert_allclose(losses.rate_above({"layer": counts.mean(-1)}, 2.5), upper, rtol=1e-13)
    np.testing.assert_allclose(losses.rate_below({"layer": counts}, 2.5), lower, rtol=1e-13)
    assert upper > 0 and lower > 0


@pytest.mark.parametrize("name, sign", [("rate_above", 1), ("rate_below", -1), ("activity_l1", 1)])
@pytest.mark.thin(1)
def test_descending_it_moves_a_networks_rates_the_right_way(random_variables, name, sign):
    net = dj.models.Network((dj.models.Layer("hidden", 16, kernel=None), dj.models.Layer("readout", 3, kernel=None)),
                            image_shape=(2, 2, 1), neuron=dj.LIF(threshold=0.5))
    images = jax.random.normal(jax.random.key(0), (8, 2, 2, 1))

    @jax.jit
    def rate_and_gradient(variables):
        def loss(variables):
            found = net.apply(variables, images, timesteps=8)[1]["spike_rate"]
            bound = {"rate_above": 0.5, "rate_below": 6.0}.get(name)
            return getattr(losses, name)(found) if bound is None else getattr(losses, name)(found, bound), found

        (_, found), gradient = jax.value_and_grad(loss, has_aux=True)(variables)
        return found["hidden"], gradient

    variables = random_variables(net)
    before, _ = rate_and_gradient(variables)
    assert 0.5 < before < 6
    for _ in range(20):
        variables = jax.tree.map(lambda v, g: v - 0.02 * g, variables, rate_and_gradient(variables)[1])
    assert sign * (before - rate_and_gradient(variables)[0]) > 0.1
