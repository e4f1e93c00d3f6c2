"""Laws of unroll: the schedule over time changes neither values nor gradients, unless it truncates them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dietjax import LIF, LIFParams, MembraneState, ReLU
from dietjax.core.unroll import over_chunks, unroll

pytestmark = pytest.mark.usefixtures("quick_compile")

T = 6
NEURON = LIF(sharing="channel")


def parameters():
    return LIFParams(jnp.full(5, 0.8), jnp.linspace(0.4, 0.8, 5))


def currents(timesteps=T):
    return jnp.asarray(np.random.default_rng(0).normal(0.4, 0.8, (3, timesteps, 5)))


class TestUnroll:
    @pytest.mark.parametrize("timesteps", [1, 5, 19])  # up to and beyond the length that is unrolled
    def test_constant_current_is_the_repeated_current(self, x64, timesteps):
        @jax.jit
        def both(constant):
            repeated = jnp.repeat(constant, timesteps, 1)
            return [unroll(NEURON, parameters(), None, c, timesteps) for c in (constant, repeated)]

        (state, spikes), (same_state, same) = both(currents(1))
        assert spikes.shape == (3, timesteps, 5)
        np.testing.assert_array_equal(spikes, same)
        np.testing.assert_allclose(state.membrane, same_state.membrane, rtol=1e-12)

    def test_constant_current_has_the_summed_gradient_of_the_repeated_one(self, x64):
        timesteps = 5

        def loss(params, current):
            return score(*unroll(NEURON, params, None, current, timesteps))[0]

        gradient = jax.jit(jax.grad(loss, (0, 1)))
        constant = gradient(parameters(), currents(1))
        repeated = gradient(parameters(), jnp.repeat(currents(1), timesteps, 1))
        assert_close(constant, (repeated[0], repeated[1].sum(1, keepdims=True)))

    def test_state_passed_on_continues(self, x64):
        current = currents()
        run = jax.jit(lambda state, current: unroll(NEURON, parameters(), state, current))
        state, whole = run(None, current)
        half, first = run(None, current[:, :2])
        same, second = run(half, current[:, 2:])
        np.testing.assert_array_equal(jnp.concatenate([first, second], 1), whole)
        np.testing.assert_allclose(same.membrane, state.membrane, rtol=1e-13)

    def test_without_memory_the_block_is_one_step(self):
        current = currents()
        state, out = unroll(ReLU(), (), None, current)
        assert state == ()
        np.testing.assert_array_equal(out, np.maximum(current, 0))
        assert "scan" not in str(jax.make_jaxpr(lambda c: unroll(ReLU(), (), None, c))(current))

    def test_timesteps_that_do_not_match_the_current_are_an_error(self):
        with pytest.raises(ValueError, match=r"current has shape .3, 6, 5., asked for 4 timesteps"):
            unroll(NEURON, parameters(), None, currents(), 4)


def block_of(params, current, chunk, coupling):
    """The neuron over a block; `coupling` feeds back what the last block left, so the chunk is part of the function."""

    def block(state, start):
        here = jax.lax.dynamic_slice_in_dim(current, start, chunk, 1)
        return unroll(NEURON, params, state, here + coupling * jnp.sin(state.membrane)[:, None])

    return block


def score(state, spikes):
    weights = np.random.default_rng(1).normal(size=spikes.shape)
    return (weights * spikes).sum() + (state.membrane**2).sum(), spikes


def loss(params, current, chunk, coupling=0.0, **schedule):
    state = MembraneState(jnp.zeros((3, 5)))
    state, spikes = over_chunks(block_of(params, current, chunk, coupling), state, T, chunk, **schedule)
    return score(state, jnp.moveaxis(spikes, 0, 1).reshape(3, T, 5))


def explicit_loss(params, current, chunk, coupling=0.0, truncate=False):
    """`loss` with a Python loop over the blocks."""
    state, spikes = MembraneState(jnp.zeros((3, 5))), []
    for start in range(0, T, chunk):
        if truncate:
            state = MembraneState(jax.lax.stop_gradient(state.membrane))
        state, out = block_of(params, current, chunk, coupling)(state, start)
        spikes.append(out)
    return score(state, jnp.concatenate(spikes, 1))


def run(function, *args, **options):
    """((loss, spikes), gradients of the parameters and the current)."""
    gradient = jax.value_and_grad(lambda p, c: function(p, c, *args, **options), (0, 1), has_aux=True)
    return jax.jit(gradient)(parameters(), currents())


def assert_close(got, want):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12), got, want)


class TestOverBlocks:
    @pytest.mark.parametrize("chunk", [1, 2, 3, 6])
    @pytest.mark.parametrize("remat", [False, True])
    @pytest.mark.thin(3)
    def test_any_chunk_gives_the_same_values_and_gradients(self, x64, chunk, remat):
        def at_once(params, current):
            return score(*unroll(NEURON, params, None, current))

        assert_close(run(loss, chunk, remat=remat), run(at_once))

    @pytest.mark.parametrize("chunk", [1, 2, 3])
    @pytest.mark.parametrize("remat", [False, True])
    @pytest.mark.thin(2)
    def test_blocks_run_in_order_and_pass_on_their_state(self, x64, chunk, remat):
        assert_close(run(loss, chunk, coupling=0.3, remat=remat), run(explicit_loss, chunk, coupling=0.3))

    @pytest.mark.parametrize("chunk", [1, 2, 3])
    @pytest.mark.parametrize("remat", [False, True])
    @pytest.mark.thin(1)
    def test_truncate_cuts_the_gradient_between_blocks_and_nothing_else(self, x64, chunk, remat):
        got = run(loss, chunk, coupling=0.3, truncate=True, remat=remat)
        assert_close(got, run(explicit_loss, chunk, coupling=0.3, truncate=True))
        full = run(explicit_loss, chunk, coupling=0.3)
        assert_close(got[0], full[0])
        assert np.abs(full[1][1] - got[1][1]).max() > 1e-3  # there was something to cut

    def test_blocks_learn_their_first_timestep(self):
        for chunk in (1, 2, 6):
            starts = over_chunks(lambda state, start: (state, jnp.asarray(start)), jnp.zeros(()), T, chunk)[1]
            assert starts.tolist() == list(range(0, T, chunk))

    @pytest.mark.parametrize("timesteps, chunk", [(6, 4), (6, 0), (6, 7), (6, -1), (0, None), (0, 1)])
    def test_chunks_that_do_not_divide_are_an_error(self, timesteps, chunk):
        with pytest.raises(ValueError, match=f"chunk must divide timesteps.*timesteps={timesteps}"):
            over_chunks(lambda state, start: (state, ()), (), timesteps, chunk)
