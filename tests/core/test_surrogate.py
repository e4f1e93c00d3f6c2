"""Laws of dietjax.core.surrogate: a step forward, one of the published derivatives backward."""

import functools
import math

import hypothesis
import hypothesis.extra.numpy
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dietjax.core.surrogate import DERIVATIVES, Surrogate, spike
from dietjax.errors import InputError

pytestmark = pytest.mark.usefixtures("quick_compile")

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
    (Surrogate("triangular"), [-2, -0.5, 0, 0.25], [0, 0.5, 1, 0.75]),
    (Surrogate("triangular", (2.0,)), [-3, -1, 0, 1.5], [0, 0.25, 0.5, 0.125]),
    (Surrogate("erf"), [0, 0.5, -1], [2 / math.sqrt(math.pi) * x for x in (1, E1, E1**4)]),
    (Surrogate("erf", (1.0,)), [1], [E1 / math.sqrt(math.pi)]),
    (Surrogate("multi_gaussian", (0.0,)), [0, 1], [math.sqrt(2 / math.pi) * x for x in (1, E1**2)]),  # N(0, 1/2) alone
    (Surrogate("multi_gaussian", (1.0, 1.0, 1.0)), [0], [2 * (1 - math.sqrt(E1)) / math.sqrt(2 * math.pi)]),
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
    ("erf", lambda z: jax.scipy.special.erfc(-2.0 * z) / 2),
])
def test_smooth_surrogate_is_the_derivative_of_its_function(x64, name, smooth):
    z = jnp.linspace(-2, 2, 40)
    np.testing.assert_allclose(Surrogate(name)(z), jax.vmap(jax.grad(smooth))(z), rtol=1e-12)


def normal(z, centre, deviation):
    return np.exp(-((z - centre) / deviation) ** 2 / 2) / np.sqrt(2 * np.pi) / deviation


FORMULAS = {  # of the papers, in NumPy, at the default parameters
    "piecewise_linear": lambda z: np.where(abs(z) < 1, 0.3 - 0.3 * abs(z), 0),
    "stdb": lambda elapsed: 0.3 / np.exp(elapsed / 100),
    "rectangular": lambda z: np.where(abs(z) < 0.5, 1.0, 0.0),
    "triangular": lambda z: np.clip(np.where(z > 0, 1 - z, 1 + z), 0, None),
    "arctan": lambda z: 1 / (1 + np.pi**2 * z**2),
    "fast_sigmoid": lambda z: (1 + 10 * abs(z)) ** -2.0,
    "sigmoid": lambda z: 1 / np.cosh(2 * z) ** 2,
    "erf": lambda z: 2 / np.sqrt(np.pi) * np.exp(-4 * z**2),
    "multi_gaussian": lambda z: 1.15 * normal(z, 0, 0.5) - 0.15 * (normal(z, 0.5, 3) + normal(z, -0.5, 3)),
}


@pytest.mark.parametrize("forward_mode", [False, True])
def test_the_derivative_through_a_spike_is_the_formula_at_ten_thousand_points(x64, forward_mode):
    assert set(FORMULAS) == set(DERIVATIVES)
    rng = np.random.default_rng(0)
    z = np.concatenate([rng.normal(0, 1, 5000), rng.uniform(-5, 5, 4990), [-1, -0.5, -0.0, 0, 0.5, 1, 4, -20, 20, 30]])

    @jax.jit
    def through_spikes(z):
        def one(name):
            elapsed = abs(z) if name == "stdb" else None
            spikes = jax.grad(lambda z: spike(z, name, elapsed, forward_mode=forward_mode).sum())
            return spikes(z)
        return {name: one(name) for name in FORMULAS}

    for name, found in through_spikes(z).items():
        expected = FORMULAS[name](abs(z) if name == "stdb" else z)
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-300, err_msg=name)


def test_a_triangle_of_width_one_is_the_papers_and_every_triangle_has_the_area_one(x64):
    z = jnp.linspace(-4, 4, 8001)
    np.testing.assert_allclose(Surrogate("triangular")(z), Surrogate("piecewise_linear", (1.0,))(z), atol=1e-15)
    for width in (0.25, 1.0, 3.0):
        assert np.trapezoid(Surrogate("triangular", (width,))(z), z) == pytest.approx(1, rel=1e-9)


def test_the_valleys_of_the_multi_gaussian_are_negative_and_its_area_one_less_its_height(x64):
    z = np.linspace(-40, 40, 80001)
    found = np.asarray(Surrogate("multi_gaussian", (0.2,))(jnp.asarray(z)))
    assert found.max() == found[z.size // 2] > 0 > found.min()
    assert np.trapezoid(found, z) == pytest.approx(1 + 0.2 - 2 * 0.2, rel=1e-9)


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
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
@pytest.mark.thin(2)
def test_spikes_and_gradients_keep_the_dtype(x64, name, dtype):
    z = jnp.asarray([-0.25, 0.125, 0.5], dtype)
    spikes, vjp = jax.vjp(lambda z: spike(z, Surrogate(name), z), z)
    assert spikes.dtype == Surrogate(name)(z).dtype == vjp(jnp.ones_like(z))[0].dtype == z.dtype
    exact = Surrogate(name)(jnp.asarray(z, "float64"))
    np.testing.assert_allclose(np.asarray(vjp(jnp.ones_like(z))[0], "float64"), exact,
                               rtol={"bfloat16": 3e-2, "float16": 3e-3, "float32": 1e-6, "float64": 1e-15}[dtype])


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


CASES = [(name, forward_mode) for name in DERIVATIVES for forward_mode in (False, True)]


@functools.partial(jax.jit, static_argnums=1)
def all_derivatives(z, dtype):
    """[case, order, z]: first and second derivative of a spike at z, both ways that it is differentiated."""
    z = z.astype(dtype)

    def both(name, forward_mode):
        def first(z):  # stdb counts timesteps: they are not below 0
            argument = jnp.abs(z) if name == "stdb" else z
            return jax.vjp(lambda u: spike(u, name, argument, forward_mode=forward_mode), z)[1](jnp.ones_like(z))[0]

        return jnp.stack([first(z), jax.jvp(first, (z,), (jnp.ones_like(z),))[1]])

    return jnp.stack([both(*case) for case in CASES])


SIXTEEN = hypothesis.extra.numpy.arrays(np.uint16, 64)  # bits: every exponent is as likely as any other
THIRTY_TWO = hypothesis.extra.numpy.arrays(np.uint32, 64)


@hypothesis.settings(max_examples=40, deadline=None, derandomize=True, database=None)
@hypothesis.given(halves=SIXTEEN, bits=THIRTY_TWO)
@hypothesis.example(halves=np.full(64, 0x7BFF, np.uint16), bits=np.full(64, 0x7F7FFFFF, np.uint32))  # the largest
@hypothesis.example(halves=np.full(64, 0xFF7F, np.uint16), bits=np.full(64, 0x80000001, np.uint32))  # and the smallest
@pytest.mark.slow
def test_no_finite_input_has_a_derivative_that_is_not_finite(halves, bits):
    for dtype, x in (("float16", halves.view(np.float16)), ("bfloat16", halves.view(jnp.bfloat16)),
                     ("float32", bits.view(np.float32))):
        z = np.where(np.isfinite(x), x, np.ones_like(x))
        found = np.asarray(all_derivatives(z, dtype).astype(jnp.float32))
        wrong = [(CASES[case], order + 1, dtype, z[i]) for case, order, i in np.argwhere(~np.isfinite(found))]
        assert not wrong
