"""Laws of processes: processes that do not fit together stop before any work; when one dies, so do the others.

Agreement and evaluation over real processes: test_mesh.py, which has them running.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import narrow
import pytest

from dietjax.config import Hosts
from dietjax.errors import InputError
from dietjax.parallel import processes


@pytest.mark.parametrize("settings, says", [
    (Hosts(coordinator="a:1", processes=2), r"^--process missing: .*--coordinator HOST:PORT --processes N --process I"),
    (Hosts(processes=2, process=0), r"^--coordinator missing"),
    (Hosts(process=1), r"^--coordinator, --processes missing"),
    (Hosts(coordinator="a:1", processes=2, process=2), r"--process must be one of 0 \.\.\. 1 \(--processes 2\), got 2"),
    (Hosts(coordinator="a:1", processes=2, process=-1), r"--process must be one of"),
    (Hosts(distributed=True, coordinator="a:1"), r"--distributed takes the processes from the cluster; leave out"),
    (Hosts(coordinator="localhost", processes=2, process=0), r"--coordinator must be HOST:PORT, got 'localhost'"),
    (Hosts(distributed=True, peer_timeout=0), r"--peer-timeout must be at least 1 second, got 0"),
])
def test_settings_that_do_not_go_together_are_refused(settings, says):
    with pytest.raises(InputError, match=says):
        processes.start(settings)


@pytest.mark.parametrize("variable", ["SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"])
def test_many_processes_do_not_run_side_by_side_unasked(monkeypatch, variable):
    monkeypatch.setenv(variable, "1")
    processes.start(Hosts())
    monkeypatch.setenv(variable, "16")
    with pytest.raises(InputError, match=rf"started 16 processes \({variable}\).* add --distributed, or unset"):
        processes.start(Hosts())


def test_one_process_waits_for_nobody():
    processes.start(Hosts())
    assert processes.is_main() and processes.broadcast("mine") == "mine"
    processes.check_agreement({"seed": 0})
    with pytest.raises(InputError, match=r"^mine$"), processes.raise_on_all():
        raise InputError("mine")


# ---- real processes

EXPERIMENT = """
from dietjax.config import Conversion, Experiment, Model, Phase

experiment = Experiment(
    name="tiny", timesteps=2, model=Model("VGG4", (16,)), ann=Phase(epochs=2, batch_size=240, learning_rate=3e-3),
    conversion=Conversion(images=64, timesteps=4, scale=0.4), snn=Phase(epochs=1, batch_size=240, learning_rate=1e-3))
"""
PEER_TIMEOUT, TIMEOUT = 10, 400  # seconds; the second only so that nothing hangs for ever


@pytest.fixture(scope="module")
def workplace(tmp_path_factory, digits_folder):
    """(folder with the experiment, environment of a process with two CPU devices)."""
    folder = tmp_path_factory.mktemp("hosts")
    (folder / "tiny.py").write_text(EXPERIMENT)
    return folder, os.environ | {
        "TFDS_DATA_DIR": str(digits_folder), "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}


@pytest.fixture
def start(workplace):
    """Starts `dietjax train` (narrow) as two processes, with options for each; what is left is killed afterwards."""
    folder, environment = workplace
    started = []

    def run(*options):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            coordinator = f"localhost:{free.getsockname()[1]}"
        command = [sys.executable, narrow.__file__, "train", str(folder / "tiny.py"), "--workdir",
                   str(folder / "run"), "--coordinator", coordinator, "--processes", "2", "--peer-timeout",
                   str(PEER_TIMEOUT)]
        processes = [subprocess.Popen([*command, "--process", str(i), *mine], env=environment, text=True,
                                      stdout=subprocess.PIPE, stderr=subprocess.PIPE) for i, mine in enumerate(options)]
        started.extend(processes)
        return processes

    yield run
    for process in started:
        process.kill()
        if not process.stdout.closed:
            process.communicate()


def finish(process):
    """(exit status, stdout, stderr)."""
    out, err = process.communicate(timeout=TIMEOUT)
    return process.returncode, out, err


@pytest.mark.slow
def test_processes_that_disagree_stop_before_any_work(workplace, start):
    for process in start(["--seed", "0"], ["--seed", "1"]):
        status, _, err = finish(process)
        assert status == 2
        assert "do not agree (seed: process 0 has 0, process 1 has 1); start every one with the same" in err
    assert not (workplace[0] / "run").exists()


@pytest.mark.slow
def test_when_a_process_dies_the_other_stops_naming_it_and_the_same_command_resumes(workplace, start):
    run = workplace[0] / "run"
    first, second = start([], [])
    waited = time.monotonic() + TIMEOUT
    while not list(run.glob("checkpoints/ann/[0-9]*")):  # the first epoch's; under another name until it is whole
        assert time.monotonic() < waited and first.poll() is None and second.poll() is None, finish(first)
        time.sleep(0.05)
    second.send_signal(signal.SIGKILL)
    status, _, err = finish(first)
    assert status != 0
    assert re.search(r"tasks are unhealthy \(stopped sending heartbeats\):\s*1\b", err), err
    assert not (run / "summary.json").exists()

    first, second = start([], [])
    status, out, err = finish(first)
    assert status == 0, err
    assert "report: " in out and (run / "report.html").exists()
    status, out, err = finish(second)
    assert status == 0, err
    assert re.sub(r"\[Gloo\].*\n", "", out) == ""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    tested = [(line["phase"], line["step"]) for line in lines if line["split"] == "test"]
    assert tested == [("ann", 6), ("ann", 12), ("converted", 0), ("snn", 6)]  # each written once
    assert "4 × cpu in 2 processes" in json.loads((run / "summary.json").read_text())["machine"]
