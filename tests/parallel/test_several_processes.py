"""Laws of dietjax.checkpoint and preemption on several devices and processes, none of which holds everything."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

TIMEOUT = 120  # seconds, of one group of processes

PROLOGUE = """
import json, os, sys, warnings
import jax
arguments = json.loads(sys.argv[1])
if arguments["processes"] > 1:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"localhost:{arguments['port']}", arguments["processes"], arguments["process"])
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from dietjax.checkpoint import CheckpointError, Checkpoints

def make_mesh(shape):
    devices = jax.devices()[:np.prod(shape)]
    return jax.make_mesh(tuple(shape), ("data", "fsdp"), devices=devices, axis_types=(AxisType.Auto,) * 2)

def values(seed):
    rng = np.random.default_rng(seed)
    # random bytes do not compress, and of this size they lie in a file of their own as they are
    return {"rows": rng.integers(0, 256, (8, 600)).astype(np.uint8),
            "columns": rng.normal(size=(3, 8)).astype(np.float32), "step": np.int32(seed),
            "halves": np.array(jnp.asarray(rng.normal(size=(4, 4)), jnp.bfloat16)),
            "whole": rng.normal(size=(5,)).astype(np.float32), "key": np.arange(2, dtype=np.uint32) + seed}

SPECS = {"rows": P(("data", "fsdp")), "columns": P(None, ("data", "fsdp")), "halves": P("data", "fsdp")}

def place(tree, mesh):
    return {name: jax.make_array_from_callback(x.shape, NamedSharding(mesh, SPECS.get(name, P())), lambda i, x=x: x[i])
            for name, x in tree.items()}

def assert_same(state, tree, mesh):
    for name, x in tree.items():
        assert state[name].dtype == x.dtype and state[name].sharding == NamedSharding(mesh, SPECS.get(name, P()))
        for shard in state[name].addressable_shards:
            assert np.asarray(shard.data).tobytes() == x[shard.index].tobytes(), name
"""

SAVE = """
mesh = make_mesh(arguments["meshes"][0])
with Checkpoints(arguments["directory"]) as checkpoints:
    for step in (1, 2):
        state = place(values(step), mesh)
        assert arguments["processes"] == 1 or not state["rows"].is_fully_addressable
        checkpoints.save(step, state, {"seen": step}, metric=1 / step)
        jax.block_until_ready(jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)(state))
    assert checkpoints.latest_step() == 2
"""

RESTORE = """
with Checkpoints(arguments["directory"]) as checkpoints, warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for mesh in map(make_mesh, arguments["meshes"]):
        state, metadata, step = checkpoints.restore(place(values(9), mesh))
        assert (step, metadata["seen"]) == (arguments["expected"], arguments["expected"])
        assert_same(state, values(step), mesh)
    assert any("step 2" in str(w.message) and "is damaged" in str(w.message) for w in caught) == (step == 1), caught
    checkpoints.save(3, state, {"seen": 3})
    assert checkpoints.restore(place(values(9), mesh))[2] == 3
"""

STOPS = """
import signal, time
from dietjax.parallel.preemption import Preemption

mesh = make_mesh(arguments["meshes"][0])
state = {"w": jax.device_put(jnp.zeros(8), NamedSharding(mesh, P(("data", "fsdp"))))}
together = jax.jit(lambda s: jax.tree.map(lambda x: x + 1 + 0 * x.sum(), s), donate_argnums=0)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # however pytest was started
step, end = 0, time.monotonic() + 60
with Checkpoints(arguments["directory"]) as checkpoints, Preemption() as preemption:
    while not preemption.reached():
        assert time.monotonic() < end, "never stopped"
        state, step = together(state), step + 1
        jax.block_until_ready(state)
        if step == 5 and arguments["process"] == 1:
            os.kill(os.getpid(), getattr(signal, arguments["signal"]))
        time.sleep(0.01)
    checkpoints.save(step, state, {})
    restored, _, saved = checkpoints.restore(state)
assert saved == step and all((np.asarray(x.data) == step).all() for x in restored["w"].addressable_shards)
assert preemption.signal == (signal.SIGTERM if arguments["process"] == 0 else getattr(signal, arguments["signal"]))
"""


def run(script, directory, *meshes, processes=1, **arguments):
    """Every process of a group to its end; each sees its share of the largest mesh's devices."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    devices = max(data * fsdp for data, fsdp in meshes) // processes
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_"))} | {
        "JAX_PLATFORMS": "cpu", "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2] / "src"), os.environ.get("PYTHONPATH", "")])}
    arguments |= {"directory": str(directory), "meshes": meshes, "processes": processes, "port": port}
    group = [subprocess.Popen([sys.executable, "-c", PROLOGUE + script, json.dumps(arguments | {"process": process})],
                              env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
             for process in range(processes)]
    try:
        outputs = [process.communicate(timeout=TIMEOUT)[0] for process in group]
    finally:
        for process in group:
            process.kill()
    failed = [output for process, output in zip(group, outputs, strict=True) if process.returncode]
    assert not failed, "\n".join(failed)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Steps 1 and 2, each written by two processes of two devices."""
    directory = tmp_path_factory.mktemp("sharded") / "checkpoints"
    run(SAVE, directory, (2, 2), processes=2)
    return directory


@pytest.fixture
def copy(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.mark.slow
def test_saved_by_two_processes_comes_back_bit_for_bit_in_one_on_any_number_of_devices(copy):
    run(RESTORE, copy, (1, 4), (2, 1), (1, 1), expected=2)


@pytest.mark.slow
def test_saved_by_one_process_comes_back_bit_for_bit_in_two(tmp_path):
    run(SAVE, tmp_path / "run", (1, 2))
    run(RESTORE, tmp_path / "run", (4, 1), processes=2, expected=2)


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["a byte of one shard", "the files that one process wrote"])
def test_damage_that_one_process_meets_sends_all_to_the_checkpoint_before(copy, damage):
    written = copy / "2" / "state" / "ocdbt.process_1"
    if damage == "a byte of one shard":
        file = max((path for path in written.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 4
        file.write_bytes(content)
    else:
        shutil.rmtree(written)
    run(RESTORE, copy, (2, 2), processes=2, expected=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_to_one_process_stops_all_after_the_same_step(tmp_path, name):
    run(STOPS, tmp_path / "run", (1, 2), processes=2, signal=name)
