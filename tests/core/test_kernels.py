"""Laws of dietjax.core.kernels: every backend gives the plain scan's values and gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dietjax import IF, LI, LIF, PLIF, IFParams, LIFParams, MembraneState, PLIFParams
from dietjax.core import kernels
from dietjax.core.kernels import tile, xla
from dietjax.core.surrogate import DERIVATIVES
from dietjax.core.unroll import unroll
from dietjax.errors import InputError

BATCH, NEURONS = 2, (3, 4)
BACKENDS = [name for name in kernels.BACKENDS if name not in ("auto", "scan", "pallas")]
PALLAS = "pallas_interpret"
SHAPES = {"layer": (), "channel": NEURONS[-1:], "neuron": NEURONS}

pytestmark = pytest.mark.usefixtures("quick_compile")


@pytest.fixture(autouse=True)
def short_blocks(monkeypatch):
    """A few timesteps are several blocks of the Pallas kernels, which take long to compile."""
    monkeypatch.setattr(tile, "BLOCK", 4)


slow = functools.partial(pytest.param, marks=pytest.mark.slow)


def on_backends(cases, few, quick=None):
    """(backend, case): all cases, but few of them on the backend that takes seconds for each.

    Those that are not quick (all are, if that is not said) are left to `make test-all`.
    """
    return [(pytest.param if quick is None or case in quick else slow)(backend, case)
            for backend in BACKENDS for case in (few if backend == PALLAS else cases)]


def make_params(neuron, seed=0, dtype=None):
    rng = np.random.default_rng(seed)
    shape = SHAPES[neuron.sharing]
    threshold = jnp.asarray(rng.uniform(0.4, 0.9, shape), dtype)
    if isinstance(neuron, PLIF):
        return PLIFParams(jnp.asarray(rng.normal(0, 1, shape), dtype), threshold)
    return LIFParams(jnp.asarray(rng.uniform(0.6, 0.95, shape), dtype), threshold) if isinstance(neuron, LIF) \
        else IFParams(threshold)


def make_currents(timesteps, dtype=None, seed=1):
    return jnp.asarray(np.random.default_rng(seed).normal(0.3, 0.7, (BATCH, timesteps, *NEURONS)), dtype)


def run(neuron, backend, timesteps, params, membrane, current):
    """(score of everything that comes out, what came out)."""
    state = neuron.initial_state(params, membrane.shape, current.dtype)._replace(membrane=membrane)
    state, spikes = unroll(neuron, params, state, current, timesteps, backend)
    weights = jnp.sin(jnp.arange(spikes.size)).reshape(spikes.shape)  # so that every spike counts differently
    final = jnp.cos(jnp.arange(membrane.size)).reshape(membrane.shape)
    return (weights * spikes).sum() + (final * state.membrane).sum(), (state, spikes)


def both(neuron, backend, timesteps, params, membrane, current):
    value = jax.value_and_grad(run, argnums=(3, 4, 5), has_aux=True)
    return jax.jit(value, static_argnums=(0, 1, 2))(neuron, backend, timesteps, params, membrane, current)


def assert_same(found, expected, tolerance):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


NEURON_KINDS = [LIF(), IF(reset="zero"), LIF(sharing="channel", reset="zero"), LIF(sharing="neuron", surrogate="stdb"),
                IF(sharing="neuron", surrogate="arctan"), PLIF(sharing="channel"),
                PLIF(sharing="neuron", reset="subtract")]


@pytest.mark.parametrize("backend, case", on_backends(
    [(neuron, timesteps) for neuron in NEURON_KINDS for timesteps in (1, 4, 16, 37)],  # a block, several and a rest
    list(zip(NEURON_KINDS, (1, 4, 8, 10, 3, 5, 6), strict=True)),
    [*((neuron, timesteps) for neuron in NEURON_KINDS for timesteps in (1, 4)), (IF(reset="zero"), 16),
     (IF(reset="zero"), 37), (LIF(sharing="channel", reset="zero"), 8), (PLIF(sharing="channel"), 5)]),
    ids=repr)
@pytest.mark.thin(3)
def test_values_and_gradients_are_those_of_the_scan(x64, backend, case):
    neuron, timesteps = case
    membrane = make_currents(1, seed=2)[:, 0]
    arguments = make_params(neuron), membrane, make_currents(timesteps)
    found, expected = (both(neuron, name, timesteps, *arguments) for name in (backend, "scan"))
    _, spikes = expected[0][1]
    assert 0 < spikes.mean() < 1
    assert all(np.abs(g).max() > 0 for g in jax.tree.leaves(expected[1]))
    assert_same(found, expected, 1e-11)


@pytest.mark.parametrize("backend, timesteps", on_backends((5, 37), (10,), quick=(5, 10)))
@pytest.mark.thin(1)
def test_a_constant_current_stands_for_its_repetition(x64, backend, timesteps):
    neuron = LIF(sharing="channel")
    membrane, current = make_currents(1, seed=2)[:, 0], make_currents(1)
    found = both(neuron, backend, timesteps, make_params(neuron), membrane, current)
    assert_same(found, both(neuron, "scan", timesteps, make_params(neuron), membrane, current), 1e-11)


@pytest.mark.parametrize("timesteps, constant, sharing", [
    (5, False, "neuron"), (3, True, "channel"), (4, False, "layer"), slow(37, False, "neuron"),
    slow(37, True, "channel"), slow(37, False, "layer")])
def test_a_backward_pass_of_some_images_at_a_time_is_that_of_all(x64, monkeypatch, timesteps, constant, sharing):
    """37 steps: several blocks, whose states lie in another order, and a rest."""
    neuron = LIF(sharing=sharing, surrogate="stdb")
    membrane, current = make_currents(1, seed=2)[:, 0], make_currents(1 if constant else timesteps)
    arguments = timesteps, make_params(neuron), *(jnp.concatenate([x, -x[::-1]]) for x in (membrane, current))
    expected, sizes, plain = both(neuron, "scan", *arguments), set(), xla._backward

    def backward(*given):
        sizes.add(len(given[-1]))
        return plain(*given)

    monkeypatch.setattr(xla, "_backward", backward)
    monkeypatch.setattr(xla, "PART_BYTES", 2 * 8 * timesteps * 12)  # two of four images, of 12 neurons each
    assert_same(both(neuron, "xla", *arguments), expected, 1e-11)
    assert 2 in sizes


@pytest.mark.parametrize("backend, surrogate", on_backends(
    (*DERIVATIVES, jnp.cos), ("sigmoid", jnp.cos)))
@pytest.mark.thin(1)
def test_every_surrogate(x64, backend, surrogate):
    neuron = LIF(surrogate=surrogate)
    arguments = 4, make_params(neuron), make_currents(1, seed=2)[:, 0], make_currents(4)
    assert_same(both(neuron, backend, *arguments), both(neuron, "scan", *arguments), 1e-11)


@pytest.mark.parametrize("backend, dtype", on_backends(("bfloat16", "float16", "float32"), ("bfloat16",),
                                                        quick=("bfloat16",)))
@pytest.mark.parametrize("neuron", [LIF(sharing="channel"), PLIF(sharing="channel")], ids=repr)
@pytest.mark.slow
def test_membranes_are_float32_whatever_the_currents(backend, dtype, neuron):
    """Spikes and currents' gradients come in the currents' dtype, the rest in float32."""
    params, membrane = make_params(neuron, dtype=jnp.float32), make_currents(1, jnp.float32, 2)[:, 0]
    arguments = 6, params, membrane, make_currents(6, dtype)
    ((_, (state, spikes)), (params, membrane, current)) = found = both(neuron, backend, *arguments)
    assert spikes.dtype == current.dtype == dtype
    assert {x.dtype for x in jax.tree.leaves((state, params, membrane))} == {jnp.dtype("float32")}
    expected = both(neuron, "scan", *arguments)
    np.testing.assert_array_equal(spikes, expected[0][1][1])
    assert_same(found, expected, 1e-2 if dtype == "bfloat16" else 2e-3 if dtype == "float16" else 1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.slow
def test_only_the_currents_are_saved_for_the_backward_pass(backend):
    """Of arrays with a time axis, `jax.vjp` keeps the currents alone; the scan keeps membranes and spikes as well."""
    neuron = LIF(sharing="channel")
    timesteps = 8
    params, membrane, current = make_params(neuron), make_currents(1, seed=2)[:, 0], make_currents(timesteps)

    def kept(name):
        _, pull = jax.vjp(lambda *a: run(neuron, name, timesteps, *a)[1][1], params, membrane, current)
        return sum(timesteps in x.shape for x in jax.tree.leaves(pull))

    assert kept(backend) == 1 < kept("scan")


@pytest.mark.parametrize("backend", [slow("scan"), "xla", slow(PALLAS)])
@pytest.mark.parametrize("threshold", [1e-4, 300.0])  # whose square float16 takes for 0, and for infinity
@pytest.mark.slow
def test_gradients_of_half_precision_parameters_are_those_of_wide_ones_rounded(backend, threshold):
    neuron = LIF(leak=0.9, threshold=threshold)
    currents = threshold * make_currents(20, jnp.float32)

    def gradient(dtype):
        params = neuron.init(jax.random.key(0), NEURONS, dtype)
        exact = jax.tree.map(lambda p: jnp.asarray(p, jnp.float32).astype(jnp.float16).astype(dtype), params)
        score = jax.grad(lambda p: threshold * unroll(neuron, p, None, currents, backend=backend)[1].sum())
        return jax.jit(score)(exact)

    for half, wide in zip(gradient(jnp.float16), gradient(jnp.float32), strict=True):
        assert half.dtype == jnp.float16 and wide != 0
        np.testing.assert_allclose(np.asarray(half, np.float32), wide, rtol=2e-3)


@pytest.mark.parametrize("neuron", [LIF(), LI()])
def test_a_block_that_does_not_fit_is_refused_by_the_neuron_itself(neuron):
    currents = make_currents(5)
    params = neuron.init(jax.random.key(0), NEURONS)
    state = neuron.initial_state(params, (BATCH, *NEURONS))
    for timesteps in (0, 2, 7, 20):
        with pytest.raises(InputError, match=rf"timesteps are 0|has shape .*, asked for {timesteps} timesteps"):
            neuron.run(params, state, currents, timesteps)
    other = neuron.initial_state(params, (1, *NEURONS))
    with pytest.raises(InputError, match=r"the state is of shape \(1, 3, 4\), the current of \(2, 3, 4\)"):
        unroll(neuron, params, other, currents)


@pytest.mark.parametrize("backend, says", [
    ("foo", "unknown backend 'foo'"), ("scan", "Those that can: auto, xla, pallas_interpret")])
def test_a_kernel_falls_back_on_nothing(backend, says):
    neuron = LIF()
    params = neuron.init(jax.random.key(0), NEURONS)
    with pytest.raises(InputError, match=says):
        neuron.run(params, neuron.initial_state(params, (BATCH, *NEURONS)), make_currents(5), 5, backend)


@pytest.mark.parametrize("timesteps", [5, 20])
@pytest.mark.slow
def test_inside_shard_map_gradients_are_those_outside(timesteps):
    mesh = jax.make_mesh((1,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    neuron, currents = LIF(leak=0.9, threshold=0.5), make_currents(timesteps)
    params = neuron.init(jax.random.key(0), NEURONS)

    def score(params, currents):
        return unroll(neuron, params, None, currents)[1].sum()[None]

    whole, spec = jax.sharding.PartitionSpec(), jax.sharding.PartitionSpec("d")
    shared = jax.shard_map(score, mesh=mesh, in_specs=(whole, spec), out_specs=spec, check_vma=False)
    for form in (shared, score):
        found = jax.jit(jax.grad(lambda p, form=form: form(p, currents).sum()))(params)
        np.testing.assert_allclose(found, jax.grad(lambda p: score(p, currents).sum())(params), rtol=1e-5)


def test_a_subclass_with_its_own_step_is_run_by_that_step():
    class Stubborn(LIF):
        def step(self, params, state, current):
            return state, jnp.full_like(current, 7)

    neuron = Stubborn()
    _, out = unroll(neuron, make_params(neuron), None, make_currents(3))
    np.testing.assert_array_equal(out, 7)
    with pytest.raises(InputError, match=r"'xla' cannot run Stubborn: it has no kernel of its own.*can: auto, scan\."):
        unroll(neuron, make_params(neuron), None, make_currents(3), backend="xla")


def test_unknown_backends_and_empty_blocks_are_named():
    neuron = LIF()
    state = MembraneState(jnp.zeros((BATCH, *NEURONS)))
    with pytest.raises(InputError, match=r"'xlaa'.*xla"):
        unroll(neuron, make_params(neuron), state, make_currents(3), backend="xlaa")
    for timesteps, current in ((0, make_currents(1)), (3, make_currents(3)[:0])):
        with pytest.raises(InputError, match=r"nothing to run"):
            unroll(neuron, make_params(neuron), state, current, timesteps)


def integral(leak, backend, timesteps, membrane, current):
    state, membranes = unroll(LI(leak), (), MembraneState(membrane), current, timesteps, backend)
    weights = jnp.sin(jnp.arange(membranes.size)).reshape(membranes.shape)
    return (weights * membranes).sum() + 3 * state.membrane.sum(), (state, membranes)


@pytest.mark.parametrize("timesteps", [1, slow(16), 17, slow(300)])  # up to and beyond what is unrolled
@pytest.mark.parametrize("leak", [0.0, 0.9, 1.0])
@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.thin(3)
def test_the_leaky_integral_is_the_scan(x64, timesteps, leak, constant):
    run_both = jax.jit(jax.value_and_grad(integral, argnums=(3, 4), has_aux=True), static_argnums=(0, 1, 2))
    arguments = leak, timesteps, make_currents(1, seed=2)[:, 0], make_currents(1 if constant else timesteps)
    found, expected = (run_both(arguments[0], name, *arguments[1:]) for name in ("auto", "scan"))
    assert_same(found, expected, 1e-11)
    assert found[0][1][1].shape == (BATCH, timesteps, *NEURONS)


def test_long_integrals_do_not_wait_for_each_timestep():
    """No loop in the program, and passes that grow with log T."""
    def passes(timesteps):
        program = jax.make_jaxpr(lambda c: unroll(LI(0.9), (), None, c)[1])(make_currents(timesteps))
        assert not any(word in str(program) for word in ("scan[", "while["))
        return len(program.jaxpr.eqns)

    assert passes(1024) - passes(512) == passes(2048) - passes(1024) < 50


@pytest.mark.slow
def test_the_readout_of_bfloat16_currents_is_float32():
    state, membranes = unroll(LI(0.9), (), None, make_currents(40, jnp.bfloat16))
    assert membranes.dtype == state.membrane.dtype == jnp.float32
    expected = unroll(LI(0.9), (), None, make_currents(40, jnp.bfloat16).astype(jnp.float32))[1]
    np.testing.assert_array_equal(membranes, expected)
