"""Laws of a threshold's gradient, in float32: kernels find it from currents where that is exact, else from spikes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dietjax import LIF, LIFParams
from dietjax.core import kernels
from dietjax.core.unroll import unroll

BACKENDS = [name for name in kernels.BACKENDS if name not in ("auto", "scan", "pallas")]
NEURONS = 128

pytestmark = pytest.mark.usefixtures("quick_compile")


def gradient(neuron, backend, current, leak, of):
    """∂/∂θ at 0.7 of what `of` makes of (membrane, spikes)."""
    def score(threshold):
        state, spikes = unroll(neuron, LIFParams(jnp.asarray(leak, current.dtype), threshold), None, current, None,
                               backend)
        return of(state.membrane, spikes)

    return jax.jit(jax.grad(score))(jnp.full(NEURONS, 0.7, current.dtype))


def currents(mean, deviation, timesteps, seed=0):
    return np.random.default_rng(seed).normal(mean, deviation, (2, timesteps, NEURONS)).astype(np.float32)


@pytest.mark.parametrize("timesteps", [5, 18])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_threshold_without_a_share_in_the_last_membrane_gets_no_gradient_from_it(backend, timesteps):
    silent = LIF(sharing="neuron", surrogate="piecewise_linear")
    found = gradient(silent, backend, jnp.asarray(currents(-2, 0.3, timesteps)), 0.9, lambda u, o: u.sum() + o.sum())
    np.testing.assert_array_equal(found, 0)

    to_zero = LIF(sharing="neuron", reset="zero")
    found = gradient(to_zero, backend, jnp.asarray(currents(0.3, 0.7, timesteps)), 0.9, lambda u, o: u.sum())
    np.testing.assert_array_equal(found, 0)


@pytest.mark.parametrize("last", [False, True], ids=["spikes", "last membrane too"])
@pytest.mark.parametrize("timesteps", [5, 18])
@pytest.mark.parametrize("backend", BACKENDS)
def test_large_currents_leave_it_as_exact_as_the_scan_finds_it(backend, timesteps, last):
    large = currents(0, 70, timesteps)

    def found(dtype, backend):
        weights = jnp.asarray(currents(0, 1, timesteps, seed=1), dtype)
        neuron = LIF(sharing="neuron", surrogate="arctan")
        return gradient(neuron, backend, jnp.asarray(large, dtype), 1.0,
                        lambda u, o: (weights * o).sum() + (u.sum() if last else 0))

    with jax.enable_x64(True):
        exact = np.asarray(found(jnp.float64, "scan"))
    error, of_scan = (np.linalg.norm(found(jnp.float32, name) - exact) for name in (backend, "scan"))
    assert error < 3 * of_scan
