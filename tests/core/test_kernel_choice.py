"""Which kernel runs a neuron, and what JAX may do with a hand-written one: second derivatives, vmap, refusals."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dietjax import LIF, MembraneState
from dietjax.core import kernels
from dietjax.core.kernels import block
from dietjax.core.unroll import unroll
from dietjax.errors import InputError

pytestmark = pytest.mark.usefixtures("quick_compile")


def make_params(neuron, dtype=None):
    return jax.tree.map(lambda x: x - 0.2, neuron.init(jax.random.key(0), (3, 4), dtype or jnp.float64))


def make_currents(timesteps, dtype=None, seed=1):
    return jnp.asarray(np.random.default_rng(seed).normal(0.3, 0.7, (2, timesteps, 3, 4)), dtype)


class Device(NamedTuple):
    """As jax.devices() gives them."""

    platform: str
    compute_capability: str
    device_kind: str = "a card"


HOPPER, AMPERE = Device("gpu", "9.0"), Device("gpu", "8.0")


@pytest.mark.parametrize("device, dtype, timesteps, batch, kernel", [
    (HOPPER, "float16", 4, 64, "gpu"), (HOPPER, "bfloat16", 32, 64, "gpu"), (HOPPER, "float32", 32, 64, None),
    (HOPPER, "bfloat16", 3, 64, None), (HOPPER, "bfloat16", 32, 63, None), (AMPERE, "bfloat16", 32, 64, None),
    (Device("gpu", "gfx942"), "bfloat16", 32, 64, None), (Device("tpu", ""), "bfloat16", 32, 64, None),
])
def test_auto_takes_the_kernel_that_was_measured_faster_there(monkeypatch, device, dtype, timesteps, batch, kernel):
    monkeypatch.setattr(jax, "devices", lambda: [device])
    current, membrane = (jax.ShapeDtypeStruct((batch, *shape), dtype) for shape, dtype in
                         (((timesteps, 65_536), jnp.dtype(dtype)), ((65_536,), jnp.dtype("float32"))))
    expected = ((None, "xla"),) if kernel is None else (("cuda", kernel), (None, "xla"))
    assert kernels._fastest(current, membrane, timesteps) == expected


def test_pallas_is_refused_where_it_cannot_run(monkeypatch, x64):
    neuron, currents = LIF(), make_currents(3, jnp.float32)
    params = make_params(neuron, jnp.float32)

    def run(currents):
        return unroll(neuron, params, None, currents, backend="pallas")[1]

    for attempt in (run, jax.jit(run), jax.grad(lambda currents: run(currents).sum())):
        with pytest.raises(InputError, match=r"a program for cpu: .*can: auto, scan, xla, pallas_interpret\."):
            attempt(currents)
    with pytest.raises(InputError, match=r"membranes of float64: .*can: auto, scan, xla, pallas_interpret"):
        run(make_currents(3))
    monkeypatch.setattr(jax, "devices", lambda: [AMPERE])
    with pytest.raises(InputError, match=r"on gpu \(a card\): it needs a TPU or a Hopper GPU"):
        run(currents)


@pytest.mark.slow
def test_second_derivatives_of_hand_written_kernels_are_those_of_the_scan(x64):
    neuron, current = LIF(sharing="channel", surrogate="arctan"), make_currents(6)
    params, membrane = make_params(neuron), make_currents(1, seed=2)[:, 0]
    weights = jnp.sin(jnp.arange(current.size)).reshape(current.shape)

    def second(backend):
        def score(params, current):
            return (weights * unroll(neuron, params, MembraneState(membrane), current, backend=backend)[1]).sum()

        def steepness(params):
            first = jax.grad(score, argnums=(0, 1))(params, current)
            return sum((x**2).sum() for x in jax.tree.leaves(first))

        return jax.jit(jax.grad(steepness))(params)

    for found, expected in zip(*map(jax.tree.leaves, (second("pallas_interpret"), second("scan"))), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.slow
def test_what_auto_chose_can_be_mapped_and_a_kernel_asked_for_cannot(x64):
    neuron, currents = LIF(sharing="channel"), jnp.stack([make_currents(5, seed=s) for s in (1, 2)])
    params, membrane = make_params(neuron), make_currents(1, seed=2)[:, 0]
    arguments = params.leak, params.threshold, membrane, None

    def gradient(chosen):
        def score(current):
            return (block.lif(chosen, kernels.Rule("subtract", neuron.surrogate), 5, current, *arguments)[2] ** 2).sum()

        return jax.value_and_grad(score)

    mapped = jax.vmap(gradient((("cuda", "interpret"), (None, "xla"))))(currents)
    np.testing.assert_allclose(mapped[1], [gradient(((None, "xla"),))(c)[1] for c in currents], rtol=1e-12)
    mapped = jax.vmap(gradient((("cpu", "interpret"), (None, "xla"))))(currents)  # XLA's in the kernel's place
    np.testing.assert_allclose(mapped[1], [gradient(((None, "xla"),))(c)[1] for c in currents], rtol=1e-12)
    with pytest.raises(InputError, match=r"inside jax.vmap: .* batch .*can: auto, scan, xla\."):
        jax.vmap(gradient(((None, "interpret"),)))(currents)


def test_a_program_is_made_for_the_default_device(monkeypatch):
    """As `bench traffic --target h100` names one that is not there."""
    assert kernels.made_for() == jax.devices()[0]
    monkeypatch.setattr(jax, "devices", lambda: [AMPERE])
    assert kernels.made_for() is AMPERE
    here = jax.local_devices()[0]
    with jax.default_device(here):
        assert kernels.made_for() is here
