"""Laws of neuron and 2×2 average in one kernel: the numbers of one after the other, and no spikes of full size."""

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
from dietjax.core.kernels import Rule, block, pooling
from dietjax.core.pool import average_pool
from dietjax.core.surrogate import Surrogate
from dietjax.core.unroll import unroll, unroll_pooled
from dietjax.errors import InputError

pytestmark = pytest.mark.usefixtures("quick_compile")

GPU = (("cuda", "gpu"), (None, "xla"))
SHAPES = [(3, 2, 2, 8, 128), (2, 3, 4, 8, 64), (4, 1, 4, 2, 256), (2, 2, 2, 4, 512)]  # tiles of 4, 2, 1 pixels, of half


def make(shape, sharing="neuron", dtype=None):
    """(current, leak, threshold)"""
    rng = np.random.default_rng(0)
    shared = {"layer": (), "channel": shape[-1:], "neuron": shape[2:]}[sharing]
    return (jnp.asarray(rng.normal(0.3, 0.7, shape), dtype), jnp.asarray(rng.uniform(0.6, 0.95, shared)),
            jnp.asarray(rng.uniform(0.4, 0.9, shared)))


def weighed(pooled):
    return (jnp.sin(jnp.arange(pooled.size)).reshape(pooled.shape) * pooled).sum()


def gradients(kernels_, rule, *arguments):
    def score(*arguments):
        pooled = block.lif_pooled(kernels_, rule, arguments[0].shape[1], *arguments)
        return weighed(pooled), pooled

    return jax.jit(jax.value_and_grad(score, argnums=(0, 1, 2), has_aux=True))(*arguments)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("neuron", [LIF(sharing="neuron"), LIF(reset="zero", sharing="channel", surrogate="arctan"),
                                    IF(sharing="layer"), PLIF(sharing="channel")])
@pytest.mark.thin(1)
def test_at_once_is_the_scan_and_then_the_pool(x64, neuron, shape):
    current = make(shape)[0]
    params = jax.tree.map(lambda x: x - 0.3, neuron.init(jax.random.key(0), shape[2:], jnp.float64))

    def score(run):
        return jax.jit(jax.value_and_grad(lambda *a: weighed(run(*a)), argnums=(0, 1)))(params, current)

    found = score(lambda p, c: unroll_pooled(neuron, p, c, shape[1], "pallas_interpret"))
    expected = score(lambda p, c: average_pool(unroll(neuron, p, None, c, backend="scan")[1]))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.slow
def test_averages_are_those_of_the_pool_to_the_bit(dtype):
    arguments = make(SHAPES[0], dtype=dtype)
    found, expected = (gradients(((None, name),), Rule("subtract", Surrogate()), *arguments)
                       for name in ("interpret", "xla"))
    assert found[0][1].dtype == dtype
    np.testing.assert_array_equal(found[0][1], expected[0][1])
    for a, b in zip(found[1], expected[1], strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a.astype(jnp.float32), b.astype(jnp.float32), rtol=2e-2, atol=1e-5)


@pytest.mark.parametrize("shape, timesteps, fit", [
    ((2, 5, 8, 8, 64), 5, True), ((2, 5, 8, 12, 64), 5, False), ((2, 5, 8, 4, 64), 5, False),
    ((2, 5, 6, 6, 256), 5, True), ((2, 5, 5, 8, 256), 5, False), ((2, 5, 8, 5, 256), 5, False),
    ((2, 5, 8, 8, 96), 5, False), ((2, 5, 8, 8, 768), 5, True), ((2, 5, 8, 8, 384), 5, False),
    ((2, 16, 8, 8, 64), 16, True), ((2, 17, 8, 8, 64), 17, False), ((2, 1, 8, 8, 64), 5, False),
    ((2, 1, 8, 8, 64), 1, True), ((2, 5, 8, 1, 256), 5, False), ((2, 5, 4096), 5, False), ((0, 5, 8, 8, 64), 5, False),
])
def test_whole_tiles_in_pairs_of_rows_and_columns_fit(shape, timesteps, fit):
    assert pooling.fits(shape, timesteps) == fit


def test_there_is_none_where_the_kernel_does_not_apply():
    current = make((2, 3, 4, 8, 64), "layer", "float32")[0]
    params = LIF().init(jax.random.key(0), (4, 8, 64))
    for backend in ("auto", "xla", "scan"):  # on a CPU
        assert unroll_pooled(LIF(), params, current, 3, backend) is None
    for neuron in (LIF(initial_membrane=0.5), LIF(surrogate="stdb"), LIF(delay=True)):
        assert unroll_pooled(neuron, params, current, 3, "pallas_interpret") is None
    assert unroll_pooled(LIF(), params, current[..., :63], 3, "pallas_interpret") is None
    with pytest.raises(InputError, match="unknown backend 'foo'"):
        unroll_pooled(LIF(), params, current, 3, "foo")

    class Stubborn(LIF):
        def step(self, params, state, current):
            return state, jnp.full_like(current, 7)

    assert unroll_pooled(Stubborn(), params, current, 3, "pallas_interpret") is None


@pytest.mark.parametrize("platform, at_once", [("cuda", 2), ("cpu", 0)])
def test_a_program_for_cuda_has_two_kernels_and_no_spikes_of_full_size(platform, at_once):
    arguments = make((2, 3, 4, 8, 64), "channel", "float32")

    def score(*arguments):
        return (block.lif_pooled(GPU, Rule("subtract", Surrogate()), 3, *arguments) ** 2).sum()

    traced = jax.jit(jax.grad(score, argnums=(0, 1, 2))).trace(*arguments)
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    calls = [line for line in text.splitlines() if "@mosaic_gpu" in line]
    sizes = [[functools.reduce(lambda n, d: n * int(d), re.findall(r"\d+(?=x)", x), 1) for x in
              re.findall(r"tensor<([\dx]+)f32>", line)] for line in calls]
    size = arguments[0].size
    assert [found.count(size) for found in sizes] == [1, 2][:at_once]  # the current; the current and its gradient
    assert [found.count(size // 4) for found in sizes] == [1, 1][:at_once]


@pytest.mark.slow
def test_second_derivatives_are_those_of_neuron_and_pool(x64):
    arguments = make((2, 3, 2, 2, 256), "channel")

    def second(name):
        def steepness(*arguments):
            return sum((x**2).sum() for x in gradients(((None, name),), Rule("subtract", Surrogate("arctan")),
                                                       *arguments)[1])

        return jax.grad(steepness, argnums=(0, 1, 2))(*arguments)

    for found, expected in zip(second("interpret"), second("xla"), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_what_auto_chose_can_be_mapped_and_a_kernel_asked_for_cannot(x64):
    current, *shared = make((2, 3, 2, 2, 256), "channel")
    both, rule = jnp.stack([current, 2 * current]), Rule("subtract", Surrogate())

    def run(chosen):
        return jax.grad(lambda c: weighed(block.lif_pooled(chosen, rule, 3, c, *shared)))

    for chosen in (GPU, (("cpu", "interpret"), (None, "xla"))):
        mapped = jax.vmap(run(chosen))(both)
        np.testing.assert_allclose(mapped, [run(((None, "xla"),))(c) for c in both], rtol=1e-12)
    with pytest.raises(InputError, match=r"'pallas_interpret' cannot run a block inside jax.vmap"):
        jax.vmap(run(((None, "interpret"),)))(both)


@pytest.mark.skipif(not hasattr(mosaic_gpu, "force_gpu_interpret_mode"), reason="jax < 0.12 does not export it")
@pytest.mark.parametrize("shape", SHAPES)
def test_the_kernel_of_the_gpu(monkeypatch, shape):
    monkeypatch.setattr(pooling, "_call", pooling._call.fun)  # the interpreter calls back, which cannot be cut
    arguments, rule = make(shape, "channel", "float32"), Rule("zero", Surrogate())
    with mosaic_gpu.force_gpu_interpret_mode():
        found = gradients(((None, "gpu"),), rule, *arguments)
    expected = gradients(((None, "xla"),), rule, *arguments)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4)


SHARDED = """
import sys, jax, jax.numpy as jnp, numpy as np
from devices import largest_float32_sum
from jax.sharding import AxisType, NamedSharding, PartitionSpec
sys.path.append(sys.argv[1])
from test_pooling import Rule, Surrogate, gradients, make

mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
whole = make((8, 2, 2, 8, 64), "layer", "float32")
cut = [jax.device_put(x, NamedSharding(mesh, PartitionSpec(*["data"] * (x.ndim > 0)))) for x in whole]
step = jax.jit(lambda *a: gradients(((None, "interpret"),), Rule("subtract", Surrogate()), *a))
compiled = step.lower(*cut).compile()
assert largest_float32_sum(compiled.as_text()) < 64, "a number for every neuron"
found = compiled(*cut)
assert found[1][0].sharding.spec[0] == found[0][1].sharding.spec[0] == "data"
expected = gradients(((None, "xla"),), Rule("subtract", Surrogate()), *whole)
for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4)
"""


@pytest.mark.slow
def test_a_sharded_batch_stays_sharded():
    run_script(4, SHARDED, os.path.dirname(__file__), timeout=300)


def test_the_layer_decides_by_the_table_of_the_neuron(monkeypatch):
    """For an H100 `auto` takes it where it takes Pallas for the neuron: of half precision and at least that size."""
    asked = []
    monkeypatch.setattr(kernels, "cuda_generation", lambda: 9)
    monkeypatch.setattr(block, "lif_pooled", lambda chosen, *_: asked.append(chosen))
    shared = jnp.float32(0.9), jnp.float32(0.7)
    for batch, dtype in ((64, "bfloat16"), (63, "bfloat16"), (64, "float32")):
        current = jax.ShapeDtypeStruct((batch, 5, 32, 32, 64), dtype)
        kernels.lif_pooled(Rule("subtract", Surrogate()), current, *shared, 5)
    assert asked == [GPU]
