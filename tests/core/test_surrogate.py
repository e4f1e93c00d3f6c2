"""Laws of dietjax.core.surrogate: a step forward, one of the published derivatives backward."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dietjax.core.surrogate import DERIVATIVES, Surrogate, spike
from dietjax.errors import InputError

E1 = math.exp(-1)
L3 = math.log(3) / 4
BY_HAND = [  # surrogate, argument, derivative: each worked out from the formula of its paper
    (Surrogate("piecewise_linear"), [-2, -1, -0.5, 0, 0.25, 1, 3], [0, 0, 0.15, 0.3, 0.225, 0, 0]),
    (Surrogate("piecewise_linear", (0.5,)), [-0.5, 0.25], [0.25, 0.375]),
    (Surrogate("stdb"), [0, 100, 200], [0.3, 0.3 * E1, 0.3 * E1 * E1]),
    (Surrogate("stdb", (0.5, 0.1)), [0, 10], [0.5, 0.5 * E1]),
    (Surrogate("rectangular"), [-0.75, -0.5, -0.25, 0, 0.25, 0.5, 2], [0, 0, 1, 1, 1, 0, 0]),
    (Surrogate("rectangular", (2.0,)), [-0.75, 0.75, 1], [0.5, 0.5, 0]),
    (Surrogate("arctan"), [-2 / math.pi, 0, 1 / math.pi], [0.2, 1, 0.5]),
    (Surrogate("arctan", (3.0,)), [0, 2 / (3 * math.pi)], [1.5, 0.75]),
    (Surrogate("fast_sigmoid"), [-0.4, 0, 0.1], [1 / 25, 1, 1 / 4]),
    (Surrogate("fast_sigmoid", (1.0,)), [-1, 3], [1 / 4, 1 / 16]),
    (Surrogate("sigmoid"), [-L3, 0, L3], [0.75, 1, 0.75]),
    (Surrogate("sigmoid", (1.0,)), [0, 4 * L3], [0.25, 3 / 16]),
]


@pytest.mark.parametrize("surrogate, argument, derivative", BY_HAND, ids=lambda x: str(getattr(x, "name", "")))
def test_derivative_is_its_formula(surrogate, argument, derivative):
    np.testing.assert_allclose(surrogate(jnp.asarray(argument, jnp.float32)), derivative, rtol=2e-6, atol=1e-7)


def test_every_derivative_is_checked_by_hand():
    assert {case[0].name for case in BY_HAND} == set(DERIVATIVES)


@pytest.mark.parametrize("name, smooth", [
    ("sigmoid", lambda z: jax.nn.sigmoid(4.0 * z)),
    ("arctan", lambda z: jnp.arctan(math.pi / 2 * 2.0 * z) / math.pi + 0.5),
    ("fast_sigmoid", lambda z: z / (1 + 10.0 * jnp.abs(z))),
])
def test_smooth_surrogate_is_the_derivative_of_its_function(x64, name, smooth):
    z = jnp.linspace(-2, 2, 40)
    np.testing.assert_allclose(Surrogate(name)(z), jax.vmap(jax.grad(smooth))(z), rtol=1e-12)


def test_equal_surrogates_are_equal_and_hash_equal():
    assert Surrogate("arctan", (3.0,)) == Surrogate("arctan", (3.0,))
    assert hash(Surrogate("arctan", (3.0,))) == hash(Surrogate("arctan", (3.0,)))
    assert len({Surrogate(), Surrogate("piecewise_linear"), Surrogate("sigmoid"), Surrogate("sigmoid", (1.0,))}) == 3


def test_equal_surrogates_do_not_recompile():
    f = jax.jit(lambda z, surrogate: spike(z, surrogate), static_argnums=1)
    for parameter in (3.0, 3.0, 4.0):
        f(jnp.zeros(2), Surrogate("arctan", (parameter,)))
    assert f._cache_size() == 2


def test_unknown_name_gives_the_nearest_match():
    with pytest.raises(ValueError, match=r"unknown surrogate 'arctn'; did you mean 'arctan'\?"):
        Surrogate("arctn")


def test_too_many_parameters_are_an_error():
    with pytest.raises(ValueError, match=r"'arctan' has 1 shape parameters, got \(1\.0, 2\.0\)"):
        Surrogate("arctan", (1.0, 2.0))
    assert Surrogate("stdb", (1.0, 2.0)).parameters == (1.0, 2.0)


def test_spike_is_strictly_greater():
    tiny = np.float32(1e-30)
    z = jnp.asarray([-np.inf, -1, -tiny, -0.0, 0, tiny, 1, np.inf])
    assert spike(z).tolist() == [0, 0, 0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("name", DERIVATIVES)
def test_vjp_is_derivative_times_cotangent(x64, name):
    rng = np.random.default_rng(0)
    z, cotangent = jnp.asarray(rng.normal(size=(5, 7))), jnp.asarray(rng.normal(size=(5, 7)))
    spikes, vjp = jax.vjp(lambda z: spike(z, Surrogate(name), z), z)
    np.testing.assert_array_equal(spikes, np.asarray(z) > 0)
    np.testing.assert_allclose(vjp(cotangent)[0], np.asarray(cotangent) * np.asarray(DERIVATIVES[name](z)), rtol=1e-14)


def test_own_function_serves_as_surrogate():
    gradient = jax.grad(lambda z: spike(z, jnp.cos).sum())(jnp.asarray([0.0, 1.0]))
    np.testing.assert_allclose(gradient, np.cos([0.0, 1.0]), rtol=1e-6)


def test_stdb_depends_on_elapsed_time_only():
    elapsed = jnp.asarray([1.0, 5.0, 1000.0])
    for z in (jnp.asarray([-3.0, 0.0, 0.1]), jnp.asarray([2.0, -0.5, -9.0])):
        gradient = jax.grad(lambda z: spike(z, Surrogate("stdb"), elapsed).sum())(z)
        np.testing.assert_allclose(gradient, 0.3 * np.exp(-0.01 * np.asarray(elapsed, np.float64)), rtol=1e-5)


def test_argument_of_the_surrogate_gets_no_gradient():
    gradient = jax.grad(lambda e: spike(jnp.ones(3), Surrogate("stdb"), e).sum())(jnp.arange(3.0))
    assert gradient.tolist() == [0, 0, 0]


@pytest.mark.parametrize("name", DERIVATIVES)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
@pytest.mark.thin(4)
def test_spikes_and_gradients_keep_the_dtype(x64, name, dtype):
    z = jnp.asarray([-0.25, 0.125, 0.5], dtype)
    spikes, vjp = jax.vjp(lambda z: spike(z, Surrogate(name), z), z)
    assert spikes.dtype == Surrogate(name)(z).dtype == vjp(jnp.ones_like(z))[0].dtype == z.dtype
    exact = Surrogate(name)(jnp.asarray(z, "float64"))
    np.testing.assert_allclose(np.asarray(vjp(jnp.ones_like(z))[0], "float64"), exact,
                               rtol={"bfloat16": 3e-2, "float32": 1e-6, "float64": 1e-15}[dtype])


def test_jit_and_vmap_change_nothing():
    z = jnp.asarray(np.random.default_rng(0).normal(size=(4, 6)), jnp.float32)
    gradient = jax.grad(lambda z: (spike(z, Surrogate("sigmoid")) * z).sum())
    np.testing.assert_allclose(jax.jit(gradient)(z), gradient(z), rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(gradient)(z), gradient(z), rtol=1e-6)
    np.testing.assert_array_equal(jax.vmap(jax.jit(spike))(z), spike(z))


def test_equal_functions_are_equal_however_they_are_written():
    assert Surrogate("arctan") == Surrogate("arctan", (2.0,)) == Surrogate("arctan", [2.0])
    assert len({Surrogate("stdb"), Surrogate("stdb", (0.3,)), Surrogate("stdb", (0.3, 0.01))}) == 1


def test_stdb_without_its_argument_is_an_error():
    with pytest.raises(InputError, match="timesteps since the last spike"):
        spike(jnp.zeros(3), "stdb")


def test_sigmoid_keeps_both_tails():
    """1 − σ is 0 in float32 from 4z = 17 on, where the derivative is not."""
    z = np.linspace(-20, 20, 401)
    expected = 4 * np.exp(-4 * abs(z)) / (1 + np.exp(-4 * abs(z))) ** 2  # symmetric; in float64
    found = np.asarray(Surrogate("sigmoid")(jnp.asarray(z, jnp.float32)))
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    np.testing.assert_allclose(found, found[::-1], rtol=1e-6)


def test_a_spike_of_nan_is_nan_and_of_infinity_is_one():
    for forward_mode in (False, True):
        found = spike(jnp.array([jnp.nan, jnp.inf, -jnp.inf, 0.0]), forward_mode=forward_mode)
        np.testing.assert_array_equal(found, [np.nan, 1, 0, 0])
