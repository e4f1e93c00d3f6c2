"""Laws of a whole run (ANN, conversion, SNN), its weights split over the devices of two processes: it is the run of
one device, also when a process is killed and the run goes on elsewhere.
"""

import json
import os
import signal
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
import sharded_run as tiny

from dietjax.checkpoint.manager import Checkpoints
from dietjax.train.optimizer import make_optimizer
from dietjax.train.state import abstract_state

pytestmark = pytest.mark.slow

TIMEOUT = 300  # seconds, only so that nothing hangs for ever


@pytest.fixture(scope="module")
def run(tmp_path_factory, digits_folder):
    """Starts the run in a workdir on a mesh (data, fsdp), in one process or two; waits until all have ended."""
    folder = tmp_path_factory.mktemp("sharded")
    script = tiny.__file__

    def start(name, mesh, processes=1, dies=None):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        environment = os.environ | {
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={mesh[0] * mesh[1] // processes}",
            "JAX_PLATFORMS": "cpu"}
        settings = {"workdir": str(folder / name), "data": str(digits_folder), "data_parallel": mesh[0],
                    "fsdp": mesh[1], "processes": processes, "port": port}
        group = []
        for process in range(processes):
            mine = {"process": process, "dies": dies if process == processes - 1 else None}
            group.append(subprocess.Popen([sys.executable, script, json.dumps(settings | mine)], env=environment,
                                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
        try:
            said = group[-1].communicate(timeout=TIMEOUT)[0]  # it dies; what the other does then: test_hosts
            if dies:
                assert group[-1].returncode == -signal.SIGKILL, said
            else:
                assert [process.wait(TIMEOUT) for process in group] == [0] * processes, said
        finally:
            for process in group:
                process.kill()
                process.communicate()
        return folder / name

    return start


@pytest.fixture(scope="module")
def expected(run, outcome):
    """What one device found."""
    return outcome(run("one device", (1, 1)))


@pytest.fixture(scope="module")
def outcome(digits_folder):
    """{(phase, split, step): (loss, accuracy)}, {phase: last state} of a workdir, read by one process."""

    def read(workdir):
        lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
        curve = {(line["phase"], line["split"], line["step"]): (line["loss"], line["accuracy"]) for line in lines}
        assert len(curve) == len(lines) == 2 * (tiny.STEPS + tiny.EPOCHS) + 1
        states = {}
        with jax.enable_x64(True):
            nets = tiny.networks64(tiny.EXPERIMENT, tiny.few_digits(digits_folder))
            for phase, net in zip(("ann", "snn"), nets, strict=True):
                target = abstract_state(net, make_optimizer(getattr(tiny.EXPERIMENT, phase), 1))
                with Checkpoints(workdir / "checkpoints" / phase) as checkpoints:
                    state, _, step = checkpoints.restore(target)
                assert step == tiny.STEPS
                states[phase] = jax.tree.map(np.asarray, state)
        assert states["ann"].variables["params"]["conv1"]["kernel"].dtype == np.float64
        return curve, states

    return read


def assert_same(found, expected):
    assert found[0].keys() == expected[0].keys()
    for key, values in expected[0].items():
        np.testing.assert_allclose(found[0][key], values, rtol=1e-9, err_msg=str(key))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9 * np.abs(b).max()),
                 found[1], expected[1])


def test_the_run_changes_what_it_trains(expected):
    curve, _ = expected
    for phase in ("ann", "snn"):
        losses = [values[0] for (name, split, _), values in curve.items() if (name, split) == (phase, "train")]
        assert len({f"{loss:.6f}" for loss in losses}) == tiny.STEPS
    assert curve["snn", "test", tiny.STEPS][0] < curve["converted", "test", 0][0] - 0.1


@pytest.mark.parametrize("mesh", [(2, 2), (1, 4)], ids=["fsdp in each process", "fsdp over both"])
def test_two_processes_with_split_weights_are_one_device(run, outcome, expected, mesh):
    assert_same(outcome(run(f"fsdp {mesh[1]}", mesh, processes=2)), expected)


def test_killed_in_both_phases_and_moved_to_one_process_it_is_still_one_device(run, outcome, expected):
    run("killed", (1, 4), processes=2, dies="ann")
    workdir = run("killed", (2, 2), processes=2, dies="snn")
    assert not (workdir / "summary.json").exists()
    assert_same(outcome(run("killed", (1, 1))), expected)
