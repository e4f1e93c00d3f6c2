"""Laws of dietjax.checkpoint and preemption on several devices and processes, none of which holds everything."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

TIMEOUT = 240  # seconds, of one group of processes

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
def save(directory, shape):
    mesh = make_mesh(shape)
    with Checkpoints(directory) as checkpoints:
        for step in (1, 2):
            state = place(values(step), mesh)
            assert arguments["processes"] == 1 or not state["rows"].is_fully_addressable
            checkpoints.save(step, state, {"seen": step}, metric=1 / step)
            jax.block_until_ready(jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)(state))
        return checkpoints.latest_step()
"""

RESTORE = """
def restore(directory, shapes, expected):
    with Checkpoints(directory) as checkpoints, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for mesh in map(make_mesh, shapes):
            state, metadata, step = checkpoints.restore(place(values(9), mesh))
            assert (step, metadata["seen"]) == (expected, expected)
            assert_same(state, values(step), mesh)
        assert any("step 2" in str(w.message) and "is damaged" in str(w.message) for w in caught) == (step == 1), caught
        checkpoints.save(3, state, {"seen": 3})
        assert checkpoints.restore(place(values(9), mesh))[2] == 3
    return step
"""

STOPS = """
import signal, time
from dietjax.parallel.preemption import Preemption

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # however pytest was started

def stops(directory, shape, name):
    mesh = make_mesh(shape)
    state = {"w": jax.device_put(jnp.zeros(8), NamedSharding(mesh, P(("data", "fsdp"))))}
    together = jax.jit(lambda s: jax.tree.map(lambda x: x + 1 + 0 * x.sum(), s), donate_argnums=0)
    step, end = 0, time.monotonic() + 60
    with Checkpoints(directory) as checkpoints, Preemption() as preemption:
        while not preemption.reached():
            assert time.monotonic() < end, "never stopped"
            state, step = together(state), step + 1
            jax.block_until_ready(state)
            if step == 5 and arguments["process"] == 1:
                os.kill(os.getpid(), getattr(signal, name))
            time.sleep(0.01)
        checkpoints.save(step, state, {})
        restored, _, saved = checkpoints.restore(state)
    assert saved == step and all((np.asarray(x.data) == step).all() for x in restored["w"].addressable_shards)
    assert preemption.signal == (signal.SIGTERM if arguments["process"] == 0 else getattr(signal, name))
    return step
"""

CALLS = """
found = {}
for name, function, *rest in arguments["calls"]:
    print(name, flush=True)  # the last one named has failed, where one has
    found[name] = globals()[function](*rest)
print("\\n" + json.dumps(found))
"""


def run(devices, calls, processes=1):
    """{name: what came out in each process} of calls (name, function of above, its arguments), made in this order by a
    group of processes that have so many devices together: starting them takes longer than what they do.
    """
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    environment = {name: value for name, value in os.environ.items()
                   if not name.startswith(("JAX_", "XLA_")) or "CACHE" in name} | {
        "JAX_PLATFORMS": "cpu", "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices // processes}",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2] / "src"), os.environ.get("PYTHONPATH", "")])}
    arguments = {"calls": calls, "processes": processes, "port": port}
    script = PROLOGUE + SAVE + RESTORE + STOPS + CALLS
    group = [subprocess.Popen([sys.executable, "-c", script, json.dumps(arguments | {"process": process})],
                              env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
             for process in range(processes)]
    try:
        outputs = [process.communicate(timeout=TIMEOUT)[0] for process in group]
    finally:
        for process in group:
            process.kill()
    failed = [output for process, output in zip(group, outputs, strict=True) if process.returncode]
    assert not failed, "\n".join(failed)
    found = [json.loads(output.splitlines()[-1]) for output in outputs]
    return {name: [mine[name] for mine in found] for name, *_ in calls}


def stopped_by(name, folder):
    return name, "stops", str(folder / name), (1, 4), name


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("sharded")


@pytest.fixture(scope="module")
def first_two(folder):
    """What two processes of two devices each do together: they save steps 1 and 2, and are stopped.

    A group is stopped at its end, and once: jax notes the first signal for as long as the process lives.
    """
    return run(4, [("save", "save", str(folder / "of two"), (2, 2)), stopped_by("SIGTERM", folder)], processes=2)


def copy_of(saved, name):
    return Path(shutil.copytree(saved, saved.parent / name))


@pytest.fixture(scope="module")
def saved(first_two, folder):
    """Steps 1 and 2, each written by two processes."""
    assert first_two["save"] == [2, 2]
    return folder / "of two"


@pytest.fixture(scope="module")
def one(saved, folder):
    """What one process of four devices does: it restores what two wrote, and writes itself."""
    return run(4, [("restore", "restore", str(copy_of(saved, "for one")), [(1, 4), (2, 1), (1, 1)], 2),
                   ("save", "save", str(folder / "of one"), (1, 2))])


@pytest.fixture(scope="module")
def last_two(saved, one, folder):
    """What two processes restore: what one wrote, and two that are damaged; they are stopped too."""
    flipped, lost = (copy_of(saved, name) for name in ("flipped", "lost"))
    written = flipped / "2" / "state" / "ocdbt.process_1"
    file = max((path for path in written.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)
    shutil.rmtree(lost / "2" / "state" / "ocdbt.process_1")
    return run(4, [("of one", "restore", str(folder / "of one"), [(4, 1)], 2),
                   ("a byte of one shard", "restore", str(flipped), [(2, 2)], 1),
                   ("the files that one process wrote", "restore", str(lost), [(2, 2)], 1),
                   stopped_by("SIGINT", folder)], processes=2)


def test_saved_by_two_processes_comes_back_bit_for_bit_in_one_on_any_number_of_devices(one):
    assert one["restore"] == [2]


def test_saved_by_one_process_comes_back_bit_for_bit_in_two(one, last_two):
    assert one["save"] == [2]
    assert last_two["of one"] == [2, 2]


@pytest.mark.parametrize("damage", ["a byte of one shard", "the files that one process wrote"])
def test_damage_that_one_process_meets_sends_all_to_the_checkpoint_before(last_two, damage):
    assert last_two[damage] == [1, 1]


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_to_one_process_stops_all_after_the_same_step(request, folder, name):
    group = {"SIGTERM": "first_two", "SIGINT": "last_two"}.get(name)
    found = request.getfixturevalue(group) if group else run(4, [stopped_by(name, folder)], processes=2)
    first, second = found[name]
    assert first == second >= 5
