"""Laws of mesh, and of training over many devices: the same numbers, and no byte sent but the weights'."""

import json
import os
import re
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quadrants as t
from devices import environment
from jax.sharding import AbstractMesh, AxisType, PartitionSpec

from dietjax.config import Parallel, Phase
from dietjax.errors import InputError
from dietjax.models import build
from dietjax.parallel.mesh import AXES, check_batch_size, local, make_mesh, place, replicated, state_shardings
from dietjax.train.optimizer import make_optimizer
from dietjax.train.state import TimeSchedule, abstract_state
from dietjax.train.step import make_train_step

pytestmark = pytest.mark.usefixtures("quick_compile")

TIMEOUT = 400
"""Seconds after which a process that hangs is killed; none takes a tenth of it on an idle machine."""


def abstract(data, fsdp):
    return AbstractMesh((data, fsdp), AXES, axis_types=(AxisType.Auto,) * 2)


# ---- the mesh and what lies on it


@pytest.mark.parametrize("parallel, says", [
    (Parallel(fsdp=2), r"parallel\.fsdp=2 does not divide the 1 devices; use one of 1$"),
    (Parallel(data=4), r"data=4 times parallel\.fsdp=1 is 4, but there are 1 devices; use --parallel\.data 1, or"),
])
def test_a_mesh_that_does_not_fit_the_devices_is_refused(parallel, says):
    with pytest.raises(InputError, match=says):
        make_mesh(parallel, jax.devices()[:1])


@pytest.mark.parametrize("phase, says", [
    (Phase(batch_size=12), r"^ann\.batch_size 12 does not divide over 8 devices; use a multiple of 8$"),
    (Phase(batch_size=24, accumulate=2), r"over 8 devices times ann\.accumulate=2; use a multiple of 16$"),
])
def test_a_batch_that_does_not_divide_is_refused(phase, says):
    with pytest.raises(InputError, match=says):
        check_batch_size("ann", phase, abstract(4, 2))
    check_batch_size("ann", Phase(batch_size=48, accumulate=2), abstract(4, 2))


def test_weights_and_their_moments_are_split_along_their_largest_axis_and_nothing_else_is():
    net = build("VGG4", 10, (8, 8, 3), classifier=(16,), batch_norm=True)
    state = abstract_state(net, make_optimizer(Phase(), 1))
    shardings = state_shardings(abstract(2, 4), state)
    split = {}
    paths = jax.tree_util.tree_leaves_with_path(state)
    for (path, leaf), sharding in zip(paths, jax.tree.leaves(shardings), strict=True):
        if sharding.spec != PartitionSpec():
            assert jax.tree_util.keystr(path).endswith("['kernel']")
            split.setdefault(tuple(leaf.shape), []).append(sharding.spec)
    last = PartitionSpec(None, None, None, "fsdp")
    assert {shape: specs[0] for shape, specs in split.items()} == {
        (3, 3, 3, 64): last, (3, 3, 64, 128): last, (512, 16): PartitionSpec("fsdp"), (16, 10): PartitionSpec("fsdp")}
    assert all(len(specs) == 4 and len(set(specs)) == 1 for specs in split.values())  # itself and amsgrad's three


def test_weights_that_do_not_divide_stay_whole():
    state = {"kernel": jax.ShapeDtypeStruct((3, 5), jnp.float32), "bias": jax.ShapeDtypeStruct((8,), jnp.float32)}
    assert {s.spec for s in jax.tree.leaves(state_shardings(abstract(1, 4), state))} == {PartitionSpec()}
    assert {s.spec for s in jax.tree.leaves(state_shardings(abstract(4, 1), state))} == {PartitionSpec()}


def test_local_is_the_inverse_of_place():
    mesh = make_mesh(devices=jax.devices()[:1])
    tree = {"a": np.arange(6.0, dtype=np.float32).reshape(2, 3), "b": np.array(True)}
    back = local(place(tree, replicated(mesh)), mesh)
    assert all(not leaf.committed for leaf in jax.tree.leaves(back))
    jax.tree.map(np.testing.assert_array_equal, tree, back)


# ---- bf16


def test_bfloat16_computes_in_it_and_keeps_everything_in_float32():
    net = t.make_net(dtype=jnp.bfloat16)
    mesh = make_mesh(devices=jax.devices()[:1])
    optimizer = make_optimizer(Phase(weight_decay=0.1), 10)

    def fetch(key, images, labels):
        return images, labels

    step = make_train_step(net, optimizer, fetch, mesh, TimeSchedule(2), 0)
    before = abstract_state(net, optimizer)
    batch = jax.ShapeDtypeStruct((4, *t.SHAPE), jnp.float32), jax.ShapeDtypeStruct((4,), jnp.int32)
    traced = step.trace(before, *batch)
    after, metrics = traced.out_info
    kinds = jax.tree.map(lambda x: x.dtype, after)
    assert kinds == jax.tree.map(lambda x: x.dtype, before)
    assert {x.dtype for x in jax.tree.leaves(after)} == {jnp.dtype("float32"), jnp.dtype("int32")}  # int: counters
    assert metrics["loss"].dtype == jnp.float32
    # for an accelerator: a CPU has forms of its own for convolutions, and adds their products up in float32
    products = [line for line in traced.lower(lowering_platforms=("tpu",)).as_text().splitlines()
                if "stablehlo.convolution" in line or "stablehlo.dot_general" in line]
    assert len(products) == 3 * 4 - 1  # forward, and backward to weights and inputs, but not to the image
    assert all(line.rsplit("->", 1)[1].count("bf16") == 1 for line in products)
    _, record = jax.eval_shape(lambda v, x: net.apply(v, x, 2), before.variables, batch[0])
    assert {x.dtype for x in jax.tree.leaves(record["state"])} == {jnp.dtype("float32")}


# ---- processes with several devices


def on_devices(devices, *arguments):
    """helpers/on_devices.py in a process of its own, started."""
    script = os.path.join(os.path.dirname(t.__file__), "on_devices.py")
    return subprocess.Popen([sys.executable, script, *arguments], env=environment(devices), stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


def result(process):
    try:
        out, err = process.communicate(timeout=TIMEOUT)
    finally:
        process.kill()
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1])  # gloo talks before


@pytest.fixture(scope="module")
def one():
    """What one process with eight devices found."""
    return result(on_devices(8, "one"))


@pytest.fixture(scope="module")
def two():
    """What two processes with two devices each found."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    first, second = (on_devices(2, "two", port, str(i)) for i in range(2))
    try:
        return [result(first), result(second)]
    finally:
        second.kill()


def assert_same_curve(found, expected):
    assert len(expected["losses"]) == 20 and expected["losses"][0] > 1.05 * expected["losses"][-1]
    np.testing.assert_allclose(found["losses"], expected["losses"], rtol=1e-9)
    np.testing.assert_allclose(found["leaves"], expected["leaves"], rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("found, expected", [("snn 4", "snn 1"), ("ann 8", "ann 1"),
                                             ("today 4", "today 1")])
def test_many_devices_are_one_device(one, found, expected):
    """float64, with dropout, augmentation, batch norm (the ANN), and weights split over two (the SNN); and the SNN with
    what training of today adds: an average, a teacher, cutout, microbatches.
    """
    assert_same_curve(one["curves"][found], one["curves"][expected])


@pytest.mark.slow
def test_two_processes_are_one(one, two):
    """And their weights are split over the devices of each."""
    for process in two:
        assert_same_curve(process["curve"], one["curves"]["snn 1"])


@pytest.mark.slow
def test_a_run_moved_from_four_devices_to_two_to_one_goes_on(one):
    assert_same_curve(one["curves"]["moved"], one["curves"]["snn 1"])


@pytest.mark.slow
def test_a_batch_in_parts_is_the_whole_batch(one):
    assert_same_curve(one["curves"]["plain in 2 parts"], one["curves"]["plain 1"])


@pytest.mark.slow
def test_evaluation_is_the_same_on_any_number_of_devices_and_processes(one, two):
    predicted, accuracy, rates = one["evaluation"]["1"]
    assert len(predicted) == 23
    for found in (one["evaluation"]["8"], *(process["evaluation"] for process in two)):
        assert found[:2] == [predicted, accuracy]
        assert found[2] == pytest.approx(rates, rel=1e-6)


@pytest.mark.slow
def test_a_process_reads_only_what_its_devices_evaluate(two):
    """Of 16 + 7 examples half of the 16; the 7, which do not divide over the devices, all take."""
    for found, half in zip(two, (range(8), range(8, 16)), strict=True):
        metrics, read = found["streamed"]
        assert metrics == found["evaluation"]
        assert read == [*half, *range(16, 23)]


@pytest.mark.slow
def test_processes_agree_and_refuse_together(two):
    for process, found in enumerate(two):
        assert found["from first"] == "said by 0"
        assert re.search("it does not see in .* what process 0 writes there; --workdir must be", found["own folder"])
        assert "seed: process 0 has 0, process 1 has 1" in found["differs"] and "other" not in found["differs"]
        assert "flip: process 0 has 1, process 1 has 'nothing'" in found["lacks"]
        assert found["together"] == ("process 1: " if process == 0 else "") + "no such data"


@pytest.mark.slow
def test_axes_may_be_explicit_or_auto():
    """Explicit is what jax.make_mesh makes."""
    found = result(on_devices(8, "axes"))
    for name in ("Explicit", "Auto", "Explicit, set", "Auto, set"):
        for a, b in zip(found[name], found["one"], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


# ---- what is sent

WEIGHTS = 4 * (3 * 3 * 4 + 3 * 3 * 4 * 8 + 32 * 8 + 8 * 4)
"""Bytes of make_net's kernels."""
SCALARS = 4 * (3 + 3 * 3 * 2 + 3)
"""Bytes for loss, accuracy, finite images, and three sums for leak and threshold in each of three layers and two
timesteps."""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ann", "weak 8"])
def test_data_parallel_step_reduces_gradients_and_gathers_nothing(one, name):
    sent = one["sent"][name]
    assert {c["kind"] for c in sent} == {"all-reduce"}
    assert {c["group"] for c in sent} == {8}
    assert sum(c["bytes"] for c in sent) >= WEIGHTS


@pytest.mark.slow
def test_bytes_sent_are_a_ring_s_for_the_weights_whatever_the_batch(one):
    """Two images a device on 1, 2, 4, 8 devices, and six on 8."""
    assert sum(c["sent"] for c in one["sent"]["weak 1"]) == 0
    reduced = {n: sum(c["bytes"] for c in one["sent"][f"weak {n}"]) for n in (2, 4, 8)}
    assert len(set(reduced.values())) == 1
    assert WEIGHTS <= reduced[8] <= WEIGHTS + SCALARS
    for n in (2, 4, 8):
        sent = one["sent"][f"weak {n}"]
        assert {(c["kind"], c["group"]) for c in sent} == {("all-reduce", n)}
        assert sum(c["sent"] for c in sent) == 2 * (n - 1) / n * reduced[n]
    assert sum(c["sent"] for c in one["sent"]["batch"]) == 2 * 7 / 8 * reduced[8]


@pytest.mark.slow
def test_fsdp_gathers_every_weight_once_and_no_activation(one):
    sent = one["sent"]["fsdp"]
    gathered = [c for c in sent if c["kind"] == "all-gather"]
    assert {c["group"] for c in gathered} == {4}
    assert sum(c["bytes"] for c in gathered) == WEIGHTS
    assert {c["kind"] for c in sent} <= {"all-gather", "all-reduce", "reduce-scatter"}
    reduced = sum(c["bytes"] for c in sent if c["kind"] != "all-gather")
    assert reduced <= WEIGHTS * (1 + 1 / 4) + SCALARS + 12  # over fsdp whole, over data a quarter; 12 flags of health


@pytest.mark.slow
def test_parts_of_a_batch_each_reduce_their_gradients(one):
    """XLA leaves the reduction inside the loop."""
    assert {(c["kind"], c["group"], c["times"]) for c in one["sent"]["parts"]} == {("all-reduce", 4, 2)}


@pytest.mark.slow
def test_the_imagenet_step_exports_for_tpu_and_cuda(one):
    assert one["export"]["platforms"] == ["tpu", "cuda"] and one["export"]["devices"] == 8
    assert one["export"]["kernel"] == "float32[25088,4096]"
