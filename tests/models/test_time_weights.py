"""Laws of a weight for each timestep (TEBN)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dietjax import LIF
from dietjax.convert import fold_batch_norm
from dietjax.errors import InputError
from dietjax.models import Layer, Network

pytestmark = pytest.mark.usefixtures("x64", "quick_compile")
T = 4
NET = Network((Layer("a", 4), Layer("b", 4, shortcut="b"), Layer("fc", 3, kernel=None)), (4, 4, 2),
              neuron=LIF(leak=0.9, threshold=0.4), batch_norm=True, time_weights=T)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).normal(size=(3, 4, 4, 2))


@pytest.fixture
def variables(images):
    found = jax.jit(NET.init)(jax.random.key(0), images)
    found = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), found)
    for i, name in enumerate("ab"):
        found["params"][name]["time"] = jnp.array([1.0, 0.4, 1.7, 0.9]) + i / 10
    return found


def without(variables):
    return {**variables, "params": {name: {k: v for k, v in layer.items() if k != "time"}
                                    for name, layer in variables["params"].items()}}


@pytest.mark.parametrize("chunk", [None, 1])
@pytest.mark.thin(1)
def test_each_timesteps_current_is_weighted_and_the_rest_is_as_without(variables, images, chunk):
    apply = jax.jit(lambda net, v: net.apply(v, images, T, chunk=chunk, record=("current", "spikes"))[1],
                    static_argnums=0)
    record = apply(NET, variables)
    plain = NET.clone(time_weights=None)
    norm = variables["params"]["a"]["norm"]
    first = apply(plain, without(variables))["current"]["a"]  # constant
    np.testing.assert_allclose(record["current"]["a"], first * jnp.array([1.0, 0.4, 1.7, 0.9])[:, None, None, None])
    assert norm["scale"].shape == (4,) and record["spikes"]["b"].mean() > 0
    ones = {**variables, "params": {name: {**layer, "time": jnp.ones(T)} if "time" in layer else layer
                                    for name, layer in variables["params"].items()}}
    np.testing.assert_array_equal(apply(NET, ones)["logits"], apply(plain, without(variables))["logits"])


@pytest.mark.slow
def test_it_folds_and_its_weights_stay(variables, images):
    net, folded = fold_batch_norm(NET, variables)
    np.testing.assert_allclose(net.apply(folded, images, T)[0], NET.apply(variables, images, T)[0], rtol=1e-9)
    assert net.time_weights == T and "norm" not in folded["params"]["a"] and "time" in folded["params"]["a"]


@pytest.mark.slow
def test_a_stream_says_where_it_is(variables, images):
    whole = NET.apply(variables, images, T)[1]["logits"]
    first, record = NET.apply(variables, images, 1)
    rest, _ = NET.apply(variables, images, T - 1, state=record["state"], start=1)
    np.testing.assert_allclose(rest, whole[:, -1], rtol=1e-10)
    np.testing.assert_allclose(first, whole[:, 0], rtol=1e-10)


@pytest.mark.slow
def test_beyond_its_timesteps_it_is_refused(variables, images):
    with pytest.raises(InputError, match=r"a weight for each of 4 timesteps .* run up to timestep 5"):
        NET.apply(variables, images, T + 1)
    state = NET.apply(variables, images, 1)[1]["state"]
    with pytest.raises(InputError, match=r"a state came without the number .* pass start too"):
        NET.apply(variables, images, 1, state=state)
    with pytest.raises(InputError, match="run up to timestep 6"):
        NET.apply(variables, images, T, start=2)
    with pytest.raises(InputError, match="'a' has no weights of timesteps, and the network's time_weights are 4"):
        NET.apply(without(variables), images, T)
