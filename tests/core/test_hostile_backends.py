"""Hostile cases of backends: asked for where they cannot run, or misspelt; each answer has all of those that can."""


from typing import NamedTuple

import commands
import jax
import jax.numpy as jnp
import pytest
from hostile import Case, check

from dietjax import (
    ALIF,
    LI,
    LIF,
    PLIF,
    PSN,
    SRM,
    CuBaLIF,
    LIFParams,
    MembraneState,
    RefractoryLIF,
    ReLU,
    SigmaDelta,
    unroll,
)
from dietjax.config import Experiment, Parallel
from dietjax.config import check as check_settings
from dietjax.core.kernels import BACKENDS
from dietjax.models import Layer, Network


class Device(NamedTuple):
    """As jax.devices() gives them."""

    platform: str
    compute_capability: str
    device_kind: str = "a card"


T = 3
ALL, SCANNED = "auto, scan, xla, pallas, pallas_interpret", "can: auto, scan."
HERE = "can: auto, scan, xla, pallas_interpret."


def block(neuron=None, backend="pallas", dtype="float32", shape=(2, T, 4), timesteps=None, state=None):
    """The dtype of what a neuron makes of a block of currents."""
    neuron = LIF() if neuron is None else neuron
    params = neuron.init(jax.random.key(0), shape[2:])
    return unroll(neuron, params, state, jnp.ones(shape, dtype), timesteps, backend)[1].dtype


def asked(*arguments, **options):
    return lambda _: block(*arguments, **options)


def wide(backend):
    def attempt(_):
        with jax.enable_x64(True):
            return block(backend=backend, dtype="float64")

    return attempt


def on(device, attempt):
    """The same on a machine whose first device is this one."""
    def run(folder):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(jax, "devices", lambda *_: [device])
            return attempt(folder)

    return run


def mapped(backend):
    params = LIFParams(jnp.ones(()), jnp.ones(()))
    return lambda _: jax.vmap(lambda x: unroll(LIF(), params, None, x, None, backend)[1])(jnp.ones((2, 2, T, 4)))


def exported(target, dtype="float32"):
    """That a program for another machine can be made here."""
    def attempt(_):
        run = jax.jit(lambda x: unroll(LIF(), LIFParams(jnp.ones(()), jnp.ones(())), None, x, None, "pallas")[1])
        run.trace(jax.ShapeDtypeStruct((2, T, 4), dtype)).lower(lowering_platforms=(target,))
        return target

    return attempt


def network(backend, **layer):
    def attempt(_):
        net = Network((Layer("hidden", 4, kernel=None, **layer), Layer("out", 2, kernel=None)), (4,), backend=backend)
        variables = jax.eval_shape(net.clone(backend="auto").init, jax.random.key(0), jnp.zeros((1, 4)))
        return jax.eval_shape(lambda v, x: net.apply(v, x, T)[0], variables, jnp.zeros((2, 4))).shape

    return attempt


def as_a_kernel(dtype):
    """A neuron's `run` called with the backend that is its steps."""
    def attempt(_):
        with jax.enable_x64(True):
            params = LIFParams(jnp.ones((), dtype), jnp.ones((), dtype))
            return LIF().run(params, MembraneState(jnp.zeros((2, 4), dtype)), jnp.ones((2, T, 4), dtype), T, "scan")

    return attempt


def several(steps):
    """How many steps a program may do at most, where the settings allow it."""
    def attempt(_):
        check_settings(Experiment("mine", parallel=Parallel(steps_at_once=steps)))
        return steps

    return attempt


AMPERE, HOPPER, ROCM = Device("gpu", "8.0"), Device("gpu", "9.0"), Device("gpu", "gfx942")
CASES = [
    # ---- misspelt
    *(Case(f"backend {name!r}", asked(backend=name), ("error", f"unknown backend '{name}'", hint, ALL))
      for name, hint in (("palas", "did you mean 'pallas'"), ("XLA", "did you mean 'xla'"), ("", "Known:"),
                         ("cuda", "Known:"), (None, "Known:"), (3, "Known:"))),
    Case("a network's backend, misspelt", network("palllas"), ("error", "unknown backend", "'pallas'?", ALL)),
    Case("bench neuron --backend nonsense", lambda _: commands.run("bench", "neuron", "--backend", "nonsense"),
         ("error", "unknown backend 'nonsense'", ALL)),
    Case("bench step --backend palas", lambda _: commands.run("bench", "step", "--backend", "palas"),
         ("error", "unknown backend 'palas'; did you mean 'pallas'", ALL)),
    Case("bench layer --backend Scan", lambda _: commands.run("bench", "layer", "--backend", "Scan"),
         ("error", "unknown backend 'Scan'; did you mean 'scan'", ALL)),
    # ---- this machine, or another
    Case("pallas on a CPU", asked(), ("error", "cannot run a program for cpu", HERE)),
    Case("pallas for ROCm from here", exported("rocm"), ("error", "cannot run a program for rocm", HERE)),
    Case("pallas on a GPU before Hopper", on(AMPERE, asked()), ("error", "on gpu (a card)", "capability 9", HERE)),
    Case("pallas on a GPU that is not CUDA's", on(ROCM, asked()), ("error", "on gpu (a card)", HERE)),
    Case("pallas for CUDA from here", exported("cuda"), ("taken", "cuda")),
    Case("pallas for a TPU from here, float16", exported("tpu", "float16"), ("taken", "tpu")),
    # ---- dtypes
    Case("pallas, float64", wide("pallas"), ("error", "membranes of float64", "float32", HERE)),
    Case("pallas, float64, on Hopper", on(HOPPER, wide("pallas")), ("error", "membranes of float64", HERE)),
    Case("pallas, float64, on a TPU", on(Device("tpu", ""), wide("pallas")), ("error", "membranes of float64", HERE)),
    Case("xla, float64", wide("xla"), ("taken", "float64")),
    *(Case(f"{backend}, 8-bit floats", asked(backend=backend, dtype="float8_e4m3fn"),
           ("error", "float8_e4m3fn, which no backend can run", "bfloat16")) for backend in BACKENDS),
    *(Case(f"{backend}, whole numbers", asked(backend=backend, dtype="int32"),
           ("error", "int32", "gradients would all be 0")) for backend in ("pallas", "xla")),
    # ---- neurons and what they do
    *(Case(f"{backend} with {type(neuron).__name__}", asked(neuron, backend),
           ("error", f"backend '{backend}' cannot run {type(neuron).__name__}: it has no kernel", SCANNED))
      for backend, neuron in (("pallas", ALIF()), ("xla", ALIF()), ("pallas", CuBaLIF()), ("pallas_interpret", SRM()),
                              ("pallas", RefractoryLIF()), ("xla", SigmaDelta()))),
    *(Case(f"{backend} with {name} {option}", asked(neuron(**option), backend),
           ("error", f"'{backend}' cannot run {name} with ", SCANNED))
      for backend, name, neuron, option in (
          ("pallas", "LIF", LIF, {"reset": "none"}), ("xla", "LIF", LIF, {"delay": True}),
          ("pallas_interpret", "PLIF", PLIF, {"reset_gradient": True}),
          ("pallas", "LIF", LIF, {"forward_mode": True}))),
    Case("pallas with recurrent weights", network("pallas", recurrent=True), ("error", "Recurrent", SCANNED)),
    Case("xla with recurrent weights", network("xla", recurrent=True), ("error", "Recurrent", SCANNED)),
    *(Case(f"{backend} inside jax.vmap", mapped(backend), ("error", "inside jax.vmap", "can: auto, scan, xla."))
      for backend in ("pallas", "pallas_interpret")),
    *(Case(f"{name}, which every backend runs, pallas", asked(neuron), ("taken", "float32"))
      for name, neuron in (("LI", LI()), ("ReLU", ReLU()), ("PSN", PSN(timesteps=T)))),
    Case("a kernel called with scan", as_a_kernel("float32"), ("error", "'scan'", "can: auto, xla, pallas_interpret.")),
    Case("a kernel called with scan, on Hopper", on(HOPPER, as_a_kernel("float32")),
         ("error", "'scan'", "can: auto, xla, pallas, pallas_interpret.")),
    Case("a kernel called with scan, on Hopper, float64", on(HOPPER, as_a_kernel("float64")),
         ("error", "'scan'", "can: auto, xla, pallas_interpret.")),
    # ---- nothing to run
    *(Case(f"{backend} at T=0", asked(backend=backend, shape=(2, 0, 4)), ("error", "nothing to run"))
      for backend in BACKENDS),
    Case("pallas at T=0 of a constant current", asked(shape=(2, 1, 4), timesteps=0), ("error", "nothing to run")),
    Case("pallas on no neuron", asked(shape=(2, T, 0)), ("error", "nothing to run")),
    # ---- steps in one program
    *(Case(f"steps_at_once {steps!r}", several(steps), expected) for steps, expected in (
        (0, ("error", "parallel.steps_at_once must be > 0, got 0")),
        (-4, ("error", "parallel.steps_at_once must be > 0, got -4")),
        (2.5, ("error", "parallel.steps_at_once must be int or None, got 2.5")),
        (True, ("error", "parallel.steps_at_once must be int or None, got True")),
        ("all", ("error", "parallel.steps_at_once must be int or None, got 'all'")),
        (10**6, ("taken", "1000000")))),
]


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.usefixtures("quick_compile")
def test_what_can_run_is_said(case, tmp_path):
    check(case, tmp_path)
