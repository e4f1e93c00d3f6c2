"""Every backend is the scan, values and gradients, for every combination that a kernel takes (hypothesis)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from dietjax import IF, LIF, PLIF, IFParams, LIFParams, PLIFParams, unroll
from dietjax.core.kernels import tile
from dietjax.core.surrogate import DERIVATIVES

BATCH, NEURONS = 2, (2, 3)
SHAPES = {"layer": (), "channel": NEURONS[-1:], "neuron": NEURONS}
TOLERANCE = {"float32": 1e-4, "float16": 4e-3, "bfloat16": 3e-2}
"""Of the largest value: a few roundings of the dtype, and in float32 of sums over all neurons and timesteps."""

pytestmark = pytest.mark.usefixtures("quick_compile")


@pytest.fixture(autouse=True, scope="module")
def short_blocks():
    """A few timesteps are several blocks of the Pallas kernels, which take long to compile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tile, "BLOCK", 3)
        yield


def combinations(*backends):
    return given(
        backend=st.sampled_from(backends), kind=st.sampled_from([IF, LIF, PLIF]),
        options=st.fixed_dictionaries({"sharing": st.sampled_from(sorted(SHAPES)),
                                       "reset": st.sampled_from(["subtract", "zero"]),
                                       "surrogate": st.sampled_from(sorted(DERIVATIVES))}),
        dtype=st.sampled_from(sorted(TOLERANCE)), timesteps=st.integers(1, 7), constant=st.booleans(),
        starting=st.booleans(), seed=st.integers(0, 2**16))


def few(count):
    return settings(max_examples=count, deadline=None, derandomize=True, database=None,
                    suppress_health_check=list(HealthCheck))


def parameters(kind, shape, rng):
    threshold = jnp.asarray(rng.uniform(0.4, 0.9, shape), jnp.float32)
    if kind is IF:
        return IFParams(threshold)
    if kind is PLIF:
        return PLIFParams(jnp.asarray(rng.normal(0, 1, shape), jnp.float32), threshold)
    return LIFParams(jnp.asarray(rng.uniform(0.6, 0.95, shape), jnp.float32), threshold)


def distances(neuron, params, membrane, current, timesteps):
    """z at every step by a loop in NumPy's float64."""
    leak = np.asarray(getattr(params, "leak", 1.0), np.float64)
    threshold = np.asarray(params.threshold, np.float64)
    drive = np.asarray(neuron._drive(params, current), np.float64)
    u, found = np.asarray(membrane, np.float64), []
    for t in range(timesteps):
        u = leak * u + drive[:, min(t, drive.shape[1] - 1)]
        found.append(u / threshold - 1)
        u = u - threshold * (u > threshold) if neuron.reset == "subtract" else u * (u <= threshold)
    return np.stack(found)


def check(backend, kind, options, dtype, timesteps, constant, starting, seed):
    rng, neuron, tolerance = np.random.default_rng(seed), kind(**options), TOLERANCE[dtype]
    params = parameters(kind, SHAPES[neuron.sharing], rng)
    current = jnp.asarray(rng.normal(0.5, 0.8, (BATCH, 1 if constant else timesteps, *NEURONS)), dtype)
    membrane = jnp.asarray(starting * rng.normal(0, 0.5, (BATCH, *NEURONS)), jnp.float32)
    z = np.abs(distances(neuron, params, membrane, current, timesteps))
    rounding = tolerance / 4 if kind is PLIF else 1e-4  # its currents are scaled, and rounded, before the block
    assume(z.min() > rounding and np.abs(z - 0.5).min() > rounding)  # 1/2: where `rectangular` ends

    def score(params, membrane, current, name):
        state = neuron.initial_state(params, membrane.shape, current.dtype)
        state = state._replace(membrane=membrane) if starting else state
        state, spikes = unroll(neuron, params, state, current, timesteps, name)
        weights = jnp.sin(jnp.arange(spikes.size)).reshape(spikes.shape)
        final = jnp.cos(jnp.arange(membrane.size)).reshape(membrane.shape)
        return (weights * spikes).sum() + (final * state.membrane).sum(), (spikes, state)

    found, expected = (jax.jit(jax.value_and_grad(score, argnums=(0, 1, 2), has_aux=True), static_argnums=3)(
        params, membrane, current, name) for name in (backend, "scan"))
    np.testing.assert_array_equal(found[0][1][0], expected[0][1][0])
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * max(np.abs(b).max(), 1))


@combinations("xla", "auto")
@few(2)
def test_a_few_of_them(**case):
    check(**case)


@pytest.mark.slow
@combinations("xla", "auto", "pallas_interpret")
@few(60)
def test_every_combination(**case):
    check(**case)
