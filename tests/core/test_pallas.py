"""What only the Pallas kernels can get wrong: other machines than this one, sharded batches, tiles that do not fit.

Their numbers are held to the scan's in test_kernels. No GPU or TPU is needed: kernels are lowered for them, and run by
JAX's interpreters.
"""

import os
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from devices import run_script
from jax.experimental.pallas import mosaic_gpu

from dietjax.core.kernels import Rule, block, pallas
from dietjax.core.surrogate import DERIVATIVES, Surrogate
from dietjax.models import Layer, Network

RULE = Rule("subtract", Surrogate())


def score(run, timesteps, current, leak, threshold, membrane):
    membrane, _, spikes = run(RULE, current, leak, threshold, membrane, None, timesteps)
    weights = jnp.sin(jnp.arange(spikes.size)).reshape(spikes.shape)
    return (weights * spikes).sum() + membrane.sum()


def gradients(run, timesteps, *arguments):
    return jax.jit(jax.value_and_grad(lambda *a: score(run, timesteps, *a), argnums=(0, 1, 2, 3)))(*arguments)


def on(kernel):
    return lambda rule, *arguments: block.lif(((None, kernel),), rule, arguments[-1], *arguments[:-1])


def make_arguments(batch, timesteps, neurons, dtype=jnp.float32):
    rng = np.random.default_rng(0)
    current, membrane = rng.normal(0.3, 0.7, (batch, timesteps, neurons)), rng.normal(0, 1, (batch, neurons))
    return jnp.asarray(current, dtype), jnp.full((neurons,), 0.9), jnp.full((), 0.7), jnp.asarray(membrane, jnp.float32)


def assert_same(found, expected):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("timesteps, dtype", [(4, jnp.bfloat16), (20, jnp.float32)])
@pytest.mark.parametrize("platform, target, call", [("tpu", "tpu", "tpu_custom_call"), ("gpu", "cuda", "mosaic_gpu")])
@pytest.mark.thin(1)
def test_forward_and_backward_lower_to_one_kernel_each(platform, target, call, timesteps, dtype):
    """What JAX can say of TPU and GPU without having one."""
    arguments = make_arguments(4, timesteps, 300, dtype)
    step = jax.value_and_grad(lambda *a: score(on(platform), timesteps, *a), argnums=(0, 1, 2, 3))
    traced = jax.jit(step).trace(*arguments)
    assert traced.lower(lowering_platforms=(target,)).as_text().count(f"@{call}") == 2


@pytest.mark.parametrize("timesteps", [4, 20])
@pytest.mark.parametrize("kernel", ["xla", "interpret"])
@pytest.mark.thin(2)
def test_from_rest_is_from_membranes_of_zero(kernel, timesteps):
    current, leak, threshold, membrane = make_arguments(4, timesteps, 300)

    def run(current, leak, threshold, membrane):
        return score(on(kernel), timesteps, current, leak, threshold, membrane)

    found, expected = (jax.jit(jax.value_and_grad(run, argnums=(0, 1, 2)))(current, leak, threshold, start)
                       for start in (None, jnp.zeros_like(membrane)))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("platform, target, call", [("tpu", "tpu", "tpu_custom_call"), ("gpu", "cuda", "mosaic_gpu")])
@pytest.mark.thin(1)
def test_from_rest_no_kernel_reads_or_writes_a_membrane(platform, target, call):
    current, leak, threshold, membrane = make_arguments(3, 4, 300, jnp.bfloat16)

    def step(current, leak, threshold, membrane):
        return (on(platform)(RULE, current, leak, threshold, membrane, None, 4)[2] ** 2).sum()

    def membranes(start):
        traced = jax.jit(jax.grad(step, argnums=(0, 1, 2))).trace(current, leak, threshold, start)
        text = traced.lower(lowering_platforms=(target,)).as_text()
        calls = [line for line in text.splitlines() if f"@{call}" in line]
        return sorted(len(re.findall(r"tensor<3x\d+x128xf32>", line)) for line in calls)

    assert membranes(None) == [0, 0, 1]  # the last kernel gives the state after the block; nobody asks, so XLA drops it
    assert membranes(membrane) == [2, 2]  # before the block and after it; before it and the gradient of that


@pytest.mark.parametrize("target, call", [("tpu", "tpu_custom_call"), ("cuda", "mosaic_gpu")])
@pytest.mark.thin(1)
def test_a_network_exported_from_here_holds_the_kernels_of_its_platform(target, call):
    """The program of a training step, for a machine that this one is not."""
    net = Network((Layer("a", 4), Layer("b", 4), Layer("fc", 3, kernel=None)), (4, 4, 2), backend="pallas")
    variables = jax.eval_shape(net.clone(backend="xla").init, jax.random.key(0), jnp.zeros((2, 4, 4, 2)))
    step = jax.jit(jax.grad(lambda v, x: net.apply(v, x, 3)[0].sum()))
    exported = jax.export.export(step, platforms=[target], disabled_checks=[
        jax.export.DisabledSafetyCheck.custom_call(call)])(variables, jax.ShapeDtypeStruct((2, 4, 4, 2), jnp.float32))
    assert exported.mlir_module().count(f"@{call}") >= 4  # two layers that fire, forwards and backwards


@pytest.mark.parametrize("surrogate", DERIVATIVES)
@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("reset", ["subtract", "zero"])
@pytest.mark.slow
def test_every_surrogate_and_reset_lowers_for_both(surrogate, dtype, reset):
    current, leak, threshold, membrane = make_arguments(2, 5, 300, dtype)
    elapsed = jnp.zeros_like(membrane) if surrogate == "stdb" else None

    def run(*arguments):
        lif = block.lif((("cuda", "gpu"), ("tpu", "tpu"), (None, "none")), Rule(reset, Surrogate(surrogate)), 5,
                        *arguments, elapsed)
        return (lif[2].astype(jnp.float32) ** 2).sum() + lif[0].sum()

    traced = jax.jit(jax.grad(run, argnums=(0, 1, 2, 3))).trace(current, leak, threshold, membrane)
    for target, call in (("tpu", "tpu_custom_call"), ("cuda", "mosaic_gpu")):
        assert traced.lower(lowering_platforms=(target,)).as_text().count(f"@{call}") == 2


@pytest.mark.slow
def test_several_tiles_groups_of_the_batch_and_kernels_in_time(monkeypatch):
    monkeypatch.setattr(pallas, "LONGEST", 8)
    arguments = make_arguments(4, 10, 40_000)  # 8 and 2 timesteps; 320 rows in tiles of 256
    assert_same(gradients(on("interpret"), 10, *arguments), gradients(on("xla"), 10, *arguments))


@pytest.mark.skipif(not hasattr(mosaic_gpu, "force_gpu_interpret_mode"), reason="jax < 0.12 does not export it")
def test_the_kernel_of_the_gpu(monkeypatch):
    monkeypatch.setattr(pallas, "_call", pallas._call.fun)  # the interpreter calls back, which cannot be cut
    arguments = make_arguments(2, 3, 300)  # two tiles
    with mosaic_gpu.force_gpu_interpret_mode():
        found = gradients(on("gpu"), 3, *arguments)
    assert_same(found, gradients(on("xla"), 3, *arguments))


SHARDED = """
import sys, jax, jax.numpy as jnp, numpy as np
from devices import largest_float32_sum
from jax.sharding import AxisType, NamedSharding, PartitionSpec
sys.path.append(sys.argv[1])
from test_pallas import assert_same, gradients, make_arguments, on, score

mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
whole = make_arguments(8, 3, 20)
cut = [jax.device_put(x, NamedSharding(mesh, PartitionSpec("data" if x.ndim and x.shape[0] == 8 else None)
                                       if x.ndim else PartitionSpec())) for x in whole]
step = jax.jit(jax.value_and_grad(lambda *a: score(on("interpret"), 3, *a), argnums=(0, 1, 2, 3)))
compiled = step.lower(*cut).compile()
assert largest_float32_sum(compiled.as_text()) < 64, "a number for every neuron"
value, grads = compiled(*cut)
assert grads[0].sharding.spec == PartitionSpec("data"), grads[0].sharding
assert_same((value, grads), gradients(on("xla"), 3, *whole))
"""


@pytest.mark.slow
def test_a_sharded_batch_stays_sharded():
    run_script(4, SHARDED, os.path.dirname(__file__), timeout=300)
