"""Laws of what cannot be a surrogate: what would get a gradient of 0, or of another shape, is refused by name."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dietjax as dj
from dietjax import Surrogate, spike
from dietjax.errors import InputError

pytestmark = pytest.mark.usefixtures("quick_compile")


def test_traced_parameters_are_refused_by_name():
    def loss(alpha):
        return spike(jnp.ones(3), Surrogate("arctan", (alpha,))).sum()

    for gradient in (jax.grad(loss), jax.jit(jax.grad(loss))):
        with pytest.raises(InputError, match="surrogate 'arctan': alpha must be a plain finite number, got a traced"):
            gradient(2.0)
    with pytest.raises(InputError, match=r"'stdb': beta must be a plain finite number, got Array\(0.5"):
        Surrogate("stdb", (0.3, jnp.asarray(0.5)))


@pytest.mark.parametrize("wrong", [np.nan, np.inf, "2", None, True])
def test_parameters_that_are_no_plain_numbers_are_refused(wrong):
    with pytest.raises(InputError, match="'arctan': alpha must be a plain finite number"):
        Surrogate("arctan", (wrong,))


def test_parameters_of_any_number_type_are_the_same_surrogate():
    assert Surrogate("arctan", (np.float32(3),)) == Surrogate("arctan", (3,)) == Surrogate("arctan", (3.0,))
    assert Surrogate("arctan", (np.float32(3),))(jnp.ones(2, jnp.bfloat16)).dtype == jnp.bfloat16


@pytest.mark.parametrize("name, parameters, says", [
    ("triangular", (0.0,), "width must be > 0, got 0.0"), ("multi_gaussian", (0.1, -1.0), "scale must be > 0"),
    ("rectangular", (-1,), "width must be > 0")])
def test_widths_are_above_zero(name, parameters, says):
    with pytest.raises(InputError, match=says):
        Surrogate(name, parameters)


def own_surrogate(slope):
    def bell(z):
        return jnp.exp(-slope * z**2)
    return bell


@pytest.mark.parametrize("run", [
    lambda surrogate: spike(jnp.ones((2, 3)), surrogate).sum(),
    lambda surrogate: spike(jnp.ones((2, 3)), surrogate, forward_mode=True).sum(),
    *(lambda surrogate, backend=backend: dj.unroll(dj.IF(surrogate=surrogate), dj.IFParams(jnp.float32(0.5)), None,
                                                   jnp.ones((2, 3, 4)), backend=backend)[1].sum()
      for backend in ("scan", "xla", "pallas_interpret"))], ids=["vjp", "jvp", "scan", "xla", "pallas"])
def test_a_function_that_closes_over_a_traced_array_is_refused(run):
    for gradient in (jax.grad, lambda f: jax.jit(jax.grad(f)), jax.jit):
        with pytest.raises(InputError, match="the surrogate bell closes over a traced array"):
            gradient(lambda slope: run(own_surrogate(slope)))(2.0)
    for wrong, returned in ((jnp.sum, r"float32\[\]"), (lambda z: z.astype(int), "int"), (lambda z: z > 0, "bool"),
                            (lambda z: (z, z), r"float32.*, float32")):
        with pytest.raises(InputError, match=rf"the surrogate \S+ returns {returned}.*one floating-point derivative"):
            run(wrong)


def test_a_function_of_plain_numbers_and_constant_arrays_serves():
    z = jnp.asarray([0.0, 0.5, -1.0])
    for slope in (2.0, jnp.float32(2.0)):
        found = jax.jit(jax.grad(lambda z, slope=slope: spike(z, own_surrogate(slope)).sum()))(z)
        np.testing.assert_allclose(found, np.exp(-2 * np.asarray(z) ** 2), rtol=1e-6)


def test_an_argument_of_another_shape_is_refused():
    with pytest.raises(InputError, match=r"argument has shape \(2,\), z has \(3,\)"):
        spike(jnp.ones(3), "stdb", jnp.ones(2))
