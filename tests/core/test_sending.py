"""Laws of the kernels that send: neuron and dropout, or neuron and 2×2 average, at once give the numbers of one after
the other, and the number of spikes, and write no others.
"""

import functools
import os
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from devices import run_script
from jax.experimental.pallas import mosaic_gpu

from dietjax import IF, LIF, PLIF
from dietjax.core import kernels
from dietjax.core.dropout import Dropout
from dietjax.core.kernels import Rule, pallas, pooling, sending
from dietjax.core.pool import average_pool
from dietjax.core.surrogate import Surrogate
from dietjax.core.unroll import unroll, unroll_sent
from dietjax.errors import InputError

pytestmark = pytest.mark.usefixtures("quick_compile")

GPU = (("cuda", "gpu"), (None, "xla"))
POOLED = [(3, 2, 2, 8, 128), (2, 3, 4, 8, 64), (4, 1, 4, 2, 256), (2, 2, 2, 4, 512)]  # tiles of 4, 2, 1 pixels, of half
CASES = [*((shape, True, 0) for shape in POOLED), ((3, 4, 5, 7), False, 0.3), ((2, 2, 16, 4, 32), False, 0),
         ((11, 1, 2, 2, 256), True, 0), ((11, 2, 4, 9), False, 0.5)]  # 11 members of the batch are 11 groups
"""(shape of currents, whether a pool follows, share that is dropped)."""
RULE = Rule("subtract", Surrogate())


def make(case, sharing="neuron", dtype=None):
    """(current, leak, threshold, dropout)"""
    shape, _, share = case
    rng = np.random.default_rng(0)
    shared = {"layer": (), "channel": shape[-1:], "neuron": shape[2:]}[sharing]
    current = jnp.asarray(rng.normal(0.3, 0.7, shape), dtype)
    kept = jnp.asarray(rng.random((shape[0], 1, *shape[2:])) >= share, jnp.int8)
    return (current, jnp.asarray(rng.uniform(0.6, 0.95, shared)), jnp.asarray(rng.uniform(0.4, 0.9, shared)),
            Dropout(kept, 1 / (1 - share)).rounded(current.dtype) if share else None)


def weighed(sent, events=0.0):
    return (jnp.sin(jnp.arange(sent.size)).reshape(sent.shape) * sent).sum() + 0.3 * events


def gradients(kernels_, rule, pool, *arguments, of_events=True):
    """((score, (what is sent, how many spikes)), gradients of current, leak and threshold)."""
    def score(*arguments):
        sent, events = sending.lif_sent(kernels_, pool, rule, arguments[0].shape[1], *arguments)
        return weighed(sent, events if of_events else 0.0), (sent, events)

    return jax.jit(jax.value_and_grad(score, argnums=(0, 1, 2), has_aux=True))(*arguments)


def agree(found, expected, rtol, atol):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(np.asarray(a, float), np.asarray(b, float), rtol=rtol, atol=atol)


@pytest.mark.parametrize("case", [*CASES, ((16, 16, 2100), False, 0.3), ((3, 1, 5, 7), False, 0.3)])
@pytest.mark.parametrize("neuron", [LIF(sharing="neuron"), LIF(reset="zero", sharing="channel", surrogate="arctan"),
                                    IF(sharing="layer"), PLIF(sharing="channel")])
@pytest.mark.parametrize("of_events", [False, True])
@pytest.mark.thin(2)
def test_at_once_is_the_scan_and_what_follows(x64, neuron, case, of_events):
    shape, pool, share = case
    current, _, _, dropout = make(case)
    timesteps = 4 if shape[1] == 1 and not pool else shape[1]  # of one current, which stays
    params = jax.tree.map(lambda x: x - 0.3, neuron.init(jax.random.key(0), shape[2:], jnp.float64))

    def after_scan(params, current):
        spikes = unroll(neuron, params, None, current, timesteps, backend="scan")[1]
        kept = 1 if dropout is None else dropout.kept / (1 - share)
        return average_pool(spikes) if pool else spikes * kept, spikes.sum()

    def score(run):
        def scored(*arguments):
            sent, events = run(*arguments)
            return weighed(sent, events if of_events else 0.0), (sent, events)

        return jax.jit(jax.value_and_grad(scored, argnums=(0, 1), has_aux=True))(params, current)

    found = score(lambda p, c: unroll_sent(neuron, p, c, timesteps, dropout, pool, "pallas_interpret"))
    agree(found, score(after_scan), 1e-11, 1e-12)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("case", [CASES[0], CASES[4]])
@pytest.mark.slow
def test_what_is_sent_is_what_xla_sends_to_the_bit(dtype, case):
    arguments = make(case, dtype=dtype)
    found, expected = (gradients(((None, name),), RULE, case[1], *arguments)
                       for name in ("interpret", "xla"))
    assert found[0][1][0].dtype == dtype
    for a, b in zip(found[0][1], expected[0][1], strict=True):
        np.testing.assert_array_equal(a, b)
    agree(found[1], expected[1], *((1e-5, 1e-5) if dtype == "float32" else (2e-2, 2e-2)))  # XLA rounds cotangents


@pytest.mark.parametrize("dtype, share", [("bfloat16", 0.3), ("float16", 0.7)])
def test_cotangents_are_multiplied_by_what_spikes_were(dtype, share):
    """By the factor as it is in 16 bits, which is what the spikes that are sent are worth."""
    current, *_, dropout = make(((3, 4, 2, 128), False, share), dtype=dtype)
    params = LIF().init(jax.random.key(0), (2, 128))

    def score(factor):
        exact = Dropout(dropout.kept, factor)
        return jax.vjp(lambda p: unroll_sent(LIF(), p, current, 4, exact, backend="pallas_interpret")[0], params)

    sent, back = score(1 / (1 - share))
    assert 1 / (1 - share) != dropout.factor and set(np.unique(np.asarray(sent, float))) == {0, dropout.factor}
    ones = jnp.ones_like(sent)
    undropped = jax.vjp(lambda p: unroll_sent(LIF(), p, current, 4, Dropout(dropout.kept, 1.0),
                                              backend="pallas_interpret")[0], params)[1](ones)[0]
    np.testing.assert_allclose(back(ones)[0].threshold, dropout.factor * undropped.threshold, rtol=1e-5)


@pytest.mark.parametrize("shape, timesteps, dtype", [((2, 5, 7), 3, "float32"), ((2, 5, 7), 7, "float32"),
                                                     ((0, 5, 7), 5, "float32"), ((2, 5, 7), 5, "int32")])
def test_a_block_that_cannot_be_unrolled_cannot_be_sent(shape, timesteps, dtype):
    params = LIF().init(jax.random.key(0), (7,))
    for run in (lambda c: unroll(LIF(), params, None, c, timesteps),
                lambda c: LIF().run_sent(params, c, timesteps, None, False),
                lambda c: unroll_sent(LIF(), params, c, timesteps, backend="pallas_interpret")):
        with pytest.raises(InputError, match="current"):
            run(jnp.ones(shape, dtype))


def test_a_nan_that_is_dropped_is_zero_and_still_counts():
    case = CASES[4]
    current, *shared, dropout = make(case, dtype="float32")
    dropped = tuple(np.argwhere(np.asarray(dropout.kept) == 0)[0])
    current = current.at[dropped].set(jnp.nan)
    sent, events = sending.lif_sent(((None, "interpret"),), False, RULE, 4, current, *shared, dropout)
    assert jnp.isfinite(sent).all() and jnp.isnan(events)


@pytest.mark.parametrize("shape, timesteps, fit", [
    ((2, 5, 8, 8, 64), 5, True), ((2, 5, 8, 12, 64), 5, False), ((2, 5, 8, 4, 64), 5, False),
    ((2, 5, 6, 6, 256), 5, True), ((2, 5, 5, 8, 256), 5, False), ((2, 5, 8, 5, 256), 5, False),
    ((2, 5, 8, 8, 96), 5, False), ((2, 5, 8, 8, 768), 5, True), ((2, 5, 8, 8, 384), 5, False),
    ((2, 16, 8, 8, 64), 16, True), ((2, 17, 8, 8, 64), 17, False), ((2, 1, 8, 8, 64), 5, False),
    ((2, 1, 8, 8, 64), 1, True), ((2, 5, 8, 1, 256), 5, False), ((2, 5, 4096), 5, False), ((0, 5, 8, 8, 64), 5, False),
])
def test_whole_tiles_in_pairs_of_rows_and_columns_are_pooled(shape, timesteps, fit):
    assert pooling.fits(shape, timesteps) == fit


def test_there_is_none_where_no_kernel_applies():
    current, *_, dropout = make(((2, 3, 4, 8, 64), True, 0.5), "layer", "float32")
    params = LIF().init(jax.random.key(0), (4, 8, 64))

    def sent(neuron, current, backend, **what):
        return unroll_sent(neuron, params, current, current.shape[1], backend=backend, **what)

    for what in ({"pool": True}, {"dropout": dropout}, {}):
        for backend in ("auto", "xla", "scan"):  # on a CPU
            assert sent(LIF(), current, backend, **what) is None
        for neuron in (LIF(initial_membrane=0.5), LIF(surrogate="stdb"), LIF(delay=True)):
            assert sent(neuron, current, "pallas_interpret", **what) is None
        assert sent(LIF(), jnp.tile(current, (1, 6, 1, 1, 1))[:, :17], "pallas_interpret", **what) is None
    assert sent(LIF(), current[..., :63], "pallas_interpret", pool=True) is None
    assert sent(LIF(), current, "pallas_interpret", pool=True, dropout=dropout) is None
    with pytest.raises(InputError, match="unknown backend 'foo'"):
        sent(LIF(), current, "foo")

    class Stubborn(LIF):
        def step(self, params, state, current):
            return state, jnp.full_like(current, 7)

    assert sent(Stubborn(), current, "pallas_interpret") is None


@pytest.mark.parametrize("platform, kernels_there", [("cuda", 2), ("cpu", 0)])
@pytest.mark.parametrize("case", [CASES[1], ((2, 3, 4, 8, 64), False, 0.3)])
def test_a_program_for_cuda_has_two_kernels_that_read_and_write_what_they_must(platform, kernels_there, case):
    *arguments, dropout = make(case, "channel", "float32")

    def score(*arguments):
        sent, _ = sending.lif_sent(GPU, case[1], RULE, 3, *arguments, dropout)
        return (sent ** 2).sum()

    traced = jax.jit(jax.grad(score, argnums=(0, 1, 2))).trace(*arguments)
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    calls = [line for line in text.splitlines() if "@mosaic_gpu" in line]
    sizes = [[functools.reduce(lambda n, d: n * int(d), re.findall(r"\d+(?=x)", x), 1) for x in
              re.findall(r"tensor<([\dx]+)f32>", line)] for line in calls]
    size, sent = arguments[0].size, arguments[0].size // (4 if case[1] else 1)
    currents = [found.count(size) + (found.count(sent) if sent != size else 0) for found in sizes]
    assert currents == [2, 3][:kernels_there]  # current and what is sent; current, its gradient and that of what is
    if sent != size:
        assert [found.count(size) for found in sizes] == [1, 2][:kernels_there]


@pytest.mark.parametrize("case", [((2, 3, 2, 2, 256), True, 0), CASES[4]])
@pytest.mark.slow
def test_second_derivatives_are_those_of_one_after_the_other(x64, case):
    *arguments, dropout = make(case, "channel")

    def second(name):
        def steepness(*arguments):
            return sum((x**2).sum() for x in gradients(((None, name),), Rule("subtract", Surrogate("arctan")), case[1],
                                                       *arguments, dropout)[1])

        return jax.grad(steepness, argnums=(0, 1, 2))(*arguments)

    agree(second("interpret"), second("xla"), 1e-9, 1e-12)


@pytest.mark.parametrize("case", [((2, 3, 2, 2, 256), True, 0), CASES[4]])
@pytest.mark.slow
def test_what_auto_chose_can_be_mapped_and_a_kernel_asked_for_cannot(x64, case):
    current, *rest = make(case, "channel")
    both = jnp.stack([current, 2 * current])

    def run(chosen):
        return jax.grad(lambda c: weighed(*sending.lif_sent(chosen, case[1], RULE, case[0][1], c, *rest)))

    for chosen in (GPU, (("cpu", "interpret"), (None, "xla"))):
        mapped = jax.vmap(run(chosen))(both)
        np.testing.assert_allclose(mapped, [run(((None, "xla"),))(c) for c in both], rtol=1e-12)
    with pytest.raises(InputError, match=r"'pallas_interpret' cannot run a block inside jax.vmap"):
        jax.vmap(run(((None, "interpret"),)))(both)


@pytest.mark.skipif(not hasattr(mosaic_gpu, "force_gpu_interpret_mode"), reason="jax < 0.12 does not export it")
@pytest.mark.parametrize("case", CASES)
def test_the_kernel_of_the_gpu(monkeypatch, case):
    for room in (pallas, pooling):  # the interpreter calls back, which cannot be cut
        monkeypatch.setattr(room, "_call", room._call.fun)
    arguments, rule = make(case, "channel", "float32"), Rule("zero", Surrogate())
    with mosaic_gpu.force_gpu_interpret_mode():
        found = gradients(((None, "gpu"),), rule, case[1], *arguments)
    agree(found, gradients(((None, "xla"),), rule, case[1], *arguments), 1e-5, 1e-4)


SHARDED = """
import sys, jax, jax.numpy as jnp, numpy as np
from devices import largest_float32_sum
from jax.sharding import AxisType, NamedSharding, PartitionSpec
sys.path.append(sys.argv[1])
from test_sending import RULE, agree, gradients, make

mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
for case in (((8, 2, 2, 8, 64), True, 0), ((8, 2, 2, 8, 64), False, 0.3)):
    whole = make(case, "layer", "float32")
    cut = jax.tree.map(lambda x: jax.device_put(x, NamedSharding(mesh, PartitionSpec(*["data"] * (x.ndim > 0)))), whole)
    step = jax.jit(lambda *a: gradients(((None, "interpret"),), RULE, case[1], *a))
    compiled = step.lower(*cut).compile()
    assert largest_float32_sum(compiled.as_text()) < 64, "a number for every neuron"
    found = compiled(*cut)
    assert found[1][0].sharding.spec[0] == found[0][1][0].sharding.spec[0] == "data"
    agree(found, gradients(((None, "xla"),), RULE, case[1], *whole), 1e-5, 1e-4)
"""


@pytest.mark.slow
def test_a_sharded_batch_stays_sharded():
    run_script(4, SHARDED, os.path.dirname(__file__), timeout=300)


def test_the_layer_decides_by_the_table_of_the_neuron(monkeypatch):
    """For an H100 `auto` takes it where it takes Pallas for the neuron: of half precision and at least that size."""
    asked = []
    monkeypatch.setattr(kernels, "cuda_generation", lambda: 9)
    monkeypatch.setattr(sending, "lif_sent", lambda chosen, *_: asked.append(chosen))
    shared = jnp.float32(0.9), jnp.float32(0.7)
    for batch, dtype in ((64, "bfloat16"), (63, "bfloat16"), (64, "float32")):
        current = jax.ShapeDtypeStruct((batch, 5, 32, 32, 64), dtype)
        kernels.lif_sent(RULE, current, *shared, 5, pool=True)
    assert asked == [GPU]
