"""Laws of `dietjax bench collectives`: bytes by hand, on a mesh that is not there and on eight simulated devices."""

import importlib.util
import json

import jax
import pytest
from devices import run_script
from jax.sharding import AbstractMesh, AxisType

from dietjax.bench import collectives as bench
from dietjax.bench.compiled import Collectives
from dietjax.bench.options import Of, typed
from dietjax.config import Phase
from dietjax.models import build
from dietjax.parallel.collectives import Collective
from dietjax.parallel.mesh import AXES, state_shardings
from dietjax.train.optimizer import make_optimizer
from dietjax.train.state import abstract_state

KERNELS = 4 * (9 * 3 * 64 + 9 * 64 * 128 + 512 * 16 + 16 * 10)
"""Bytes of a VGG4 on 8×8×3 with a classifier of 16."""
CUDA = importlib.util.find_spec("jax_plugins") and importlib.util.find_spec("jax_plugins.xla_cuda12")
REST = 4 * 3 * 2
"""Three leaks and thresholds."""


def state_on(data, fsdp):
    """(train state with its shardings, mesh)."""
    mesh = AbstractMesh((data, fsdp), AXES, axis_types=(AxisType.Auto,) * 2)
    state = abstract_state(build("VGG4", 10, (8, 8, 3), classifier=(16,)), make_optimizer(Phase(), 1))
    return jax.tree.map(lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), state,
                        state_shardings(mesh, state)), mesh


@pytest.mark.parametrize("data, fsdp, needed", [
    (1, 1, {}), (8, 1, {("all-reduce", 8): KERNELS + REST}),
    (1, 8, {("all-reduce", 8): REST, ("all-gather", 8): KERNELS, ("reduce-scatter", 8): KERNELS}),
    (2, 4, {("all-reduce", 8): REST, ("all-gather", 4): KERNELS, ("reduce-scatter", 4): KERNELS,
            ("all-reduce", 2): KERNELS // 4}),
])
def test_what_a_step_has_to_send(data, fsdp, needed):
    assert bench.by_hand(*state_on(data, fsdp)) == needed


def test_split_weights_and_their_moments_are_an_nth_of_the_whole():
    """Four copies of each parameter, and counters: the step's, and the optimiser's."""
    counters = bench.held(state_on(8, 1)[0]) - 4 * (KERNELS + REST)
    assert 4 <= counters < 40
    for count in (2, 8):  # 10 classes divide by 2 alone; their kernel is then split along its 16 rows
        assert bench.held(state_on(1, count)[0]) == 4 * (KERNELS // count + REST) + counters


def test_rows_have_what_is_found_and_what_is_needed():
    found = [Collective("all-reduce", "a", (("f32", 8_000_000),), 8, 1),
             Collective("all-reduce", "b", (("bf16", 2_000_000), ("f32", 1_000_000)), 8, 2),
             Collective("collective-permute", "c", (("bf16", 1_000_000),), 8, 3)]
    rows = bench.rows_of(found, {("all-gather", 4): 4_000_000, ("all-reduce", 8): 8_000_000})
    assert [(row["kind"], row["group"], row["number"]) for row in rows] == [
        ("all-gather", 4, 0), ("all-reduce", 8, 3), ("collective-permute", 8, 3), ("all", None, 6)]
    assert [row["MB"] for row in rows] == [0, 8 + 2 * 3, 3, 17]
    assert [row["types"] for row in rows] == ["", "f32 10, bf16 4", "bf16 3", "f32 10, bf16 7"]
    assert [row["sent MB"] for row in rows] == pytest.approx([0, 14 / 8 * 14, 3, 14 / 8 * 14 + 3])
    assert [row["ring MB"] for row in rows] == pytest.approx([3, 14, 0, 17])


def test_the_command_as_typed():
    command = Collectives(Of("VGG16"), target=("h100:8", "v5e:4x4"), fsdp=(1, 8), batch_norm=True)
    assert typed(command) == ("dietjax bench collectives --model VGG16 --batch 8 --target h100:8 v5e:4x4 --fsdp 1 8 "
                              "--batch-norm")


# ---- compiled

NETWORK = ["--model", "VGG4", "--image-shape", "8", "8", "3", "--classifier", "16", "--timesteps", "2"]
CHILD = """
import sys
import jax
from dietjax.cli import main as cli
jax.config.update("jax_disable_most_optimizations", True)
sys.exit(cli.main(sys.argv[1:]))
"""


def compiled(*options, devices=8):
    """{(fsdp, kind, group): row} of the command in a process with so many devices."""
    found = run_script(devices, CHILD, "bench", "collectives", *NETWORK, "--json", *options)
    return {(row["fsdp"], row["kind"], row["group"]): row for row in json.loads(found)["rows"]}


@pytest.mark.slow
def test_eight_simulated_devices_send_what_hand_arithmetic_says():
    """Gradients, and sums for rates and metrics of less than 200 bytes; a CPU reduces where others scatter."""
    found = compiled("--fsdp", "1", "8", "4", "--dtype", "float32")
    reduced = found[1, "all-reduce", 8]
    assert KERNELS + REST <= 1e6 * reduced["MB"] <= KERNELS + REST + 200 and reduced["number"] <= 3
    assert {key for key in found if key[0] == 1} == {(1, "all-reduce", 8), (1, "all", None)}
    for fsdp in (8, 4):
        assert 1e6 * found[fsdp, "all-gather", fsdp]["MB"] == KERNELS
        assert found[fsdp, "all", None]["state MB"] == pytest.approx(4 * KERNELS / fsdp / 1e6, abs=2e-4)
        kinds = {kind for over, kind, _ in found if over == fsdp}
        assert kinds <= {"all", "all-gather", "all-reduce", "reduce-scatter"}
        assert sum(found[fsdp, "all", None][name] for name in ("sent MB",)) < 1.6 * found[fsdp, "all", None]["ring MB"]
    assert bench.RING["all-reduce"](8) * reduced["MB"] == pytest.approx(reduced["sent MB"])


GATHERED = """
import jax, re
from dietjax.bench.collectives import lowered_step
from dietjax.bench.options import Of
from dietjax.config import Parallel
from dietjax.parallel.mesh import make_mesh
subject = Of("VGG4", (8, 8, 3), classifier=(16,), batch=1).subject()
for fsdp in (1, 8):
    for dtype in ("bfloat16", "float32"):
        text = lowered_step(subject.networks(dtype)[1], make_mesh(Parallel(fsdp=fsdp)), subject, 2)[0].as_text()
        print(len(re.findall(r"sdy.sharding_constraint .*bf16>\\n.* = stablehlo.optimization_barrier", text)))
"""


@pytest.mark.slow
def test_split_weights_are_gathered_in_the_dtype_that_computes():
    """In the program as it is handed to XLA: a CPU's compiler makes float32 of it again. Four kernels."""
    assert run_script(8, GATHERED).split() == ["0", "0", "4", "0"]


@pytest.mark.slow
@pytest.mark.skipif(not CUDA, reason="needs XLA's compiler for CUDA, see dietjax.parallel.targets")
def test_h100s_send_two_bytes_for_a_weight():
    """Gathered once, gradients scattered; data parallel an all-reduce of the gradients."""
    found = compiled("--target", "h100:8", "--dtype", "bfloat16", devices=1)
    half = KERNELS / 2e6
    assert found[8, "all-gather", 8]["MB"] == found[8, "reduce-scatter", 8]["MB"] == half
    assert found[1, "all-reduce", 8]["MB"] == pytest.approx(half, abs=2e-4)
    assert found[8, "all-reduce", 8]["MB"] < 2e-4
