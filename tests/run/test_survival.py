"""Laws of a run that is stopped: wherever SIGKILL, SIGTERM or Ctrl-C hit it, the same command ends in the same bits.

DIETJAX_KILLS=20 pytest tests/run/test_survival.py  stops 20 runs with each of the signals (many minutes).
"""

import json
import os
import random
import signal
import subprocess
import sys
import time

import jax
import narrow
import numpy as np
import pytest
import tiny_run

from dietjax.checkpoint.manager import Checkpoints
from dietjax.cli import main as cli
from dietjax.run import assemble
from dietjax.train.optimizer import make_optimizer
from dietjax.train.state import abstract_state

pytestmark = pytest.mark.usefixtures("narrow_networks")

KILLS = int(os.environ.get("DIETJAX_KILLS", "0"))
TIMEOUT = 240  # seconds, of one run
STATUS = {signal.SIGKILL: (-signal.SIGKILL,), signal.SIGTERM: (128 + signal.SIGTERM, -signal.SIGTERM),
          signal.SIGINT: (128 + signal.SIGINT,)}
"""How a run that is stopped ends; before it begins SIGTERM acts as always."""
SIGNALS = list(STATUS) if KILLS else [signal.SIGTERM, signal.SIGINT]  # test_recipe has SIGKILL, at chosen moments
MEASURED = {"images_per_second", "input_wait_share", "process_memory_bytes", "device_memory_bytes"}

NARROW = narrow.__file__
SAVES = 16  # of all epochs of both phases
LINES = 2 * SAVES + 1

EXPERIMENT = """
from dietjax.config import Conversion, Data, Experiment, Model, Phase

EPOCHS = 8
experiment = Experiment(
    name="tiny", timesteps=2, model=Model("VGG4", (16,)), data=Data(crop_padding=1),
    conversion=Conversion(images=64, timesteps=4, scale=0.4),
    ann=Phase(epochs=EPOCHS, batch_size=96, learning_rate=3e-3),
    snn=Phase(epochs=EPOCHS, batch_size=96, learning_rate=1e-3))
"""


class Place:
    """A folder with the experiment file, and the data."""

    def __init__(self, folder, digits):
        self.folder, self.digits = folder, digits
        (folder / "tiny.py").write_text(EXPERIMENT)

    def command(self, workdir):
        return ["train", str(self.folder / "tiny.py"), "--workdir", str(workdir)]

    def start(self, workdir):
        """`dietjax train`, in the background, with a narrow network."""
        environment = os.environ | {"TFDS_DATA_DIR": str(self.digits), "JAX_PLATFORMS": "cpu",
                                    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
        return subprocess.Popen([sys.executable, NARROW, *self.command(workdir)], env=environment,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def finish(self, workdir):
        """`dietjax train`, to its end, in this process: nothing stops it."""
        with tiny_run.as_in_a_process(self.digits):
            assert cli.main(self.command(workdir)) == 0


@pytest.fixture(scope="module")
def place(tmp_path_factory, digits_folder):
    return Place(tmp_path_factory.mktemp("survival"), digits_folder)


@pytest.fixture(scope="module")
def uninterrupted(place):
    """What a run that was never stopped ended in."""
    place.finish(place.folder / "uninterrupted")
    found = outcome(place.folder / "uninterrupted")
    assert len(found[1]) == LINES
    return found


def outcome(workdir):
    """Everything a run leaves that is the same every time: (states, metrics, summary)."""
    experiment, _, networks = assemble.open_run(workdir)
    states = {}
    for phase, (net, _) in networks.items():
        optimizer = make_optimizer(getattr(experiment, phase), 1)
        with Checkpoints(workdir / "checkpoints" / phase) as checkpoints:
            state, _, step = checkpoints.restore(abstract_state(net, optimizer))
        states[phase] = step, {jax.tree_util.keystr(path): np.asarray(leaf).tobytes()
                               for path, leaf in jax.tree_util.tree_leaves_with_path(state)}
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    metrics = [{key: value for key, value in line.items() if key not in MEASURED} for line in lines]
    summary = json.loads((workdir / "summary.json").read_text())
    for measured in (summary, summary["ann"], summary["snn"]):
        del measured["seconds"]
    del summary["seconds_in_all"], summary["date"]
    return states, metrics, summary


def wait_until(happens, process):
    """Poll until something happens, or the process has ended."""
    end = time.monotonic() + TIMEOUT
    while process.poll() is None and not happens():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.001)


def stop(process, number):
    """Send a signal and wait for the end: what the run said."""
    process.send_signal(number)
    try:
        return process.communicate(timeout=TIMEOUT)[0]
    finally:
        process.kill()


def wait_for_a_random_moment(process, workdir, seed, rng):
    """Of training; every second time, one just after a random save began."""
    log, begun = workdir / "metrics.jsonl", set()

    def progress():
        if seed % 2:
            return log.read_text().count("\n") if log.exists() else 0
        begun.update((path.parent.name, path.name.split(".")[0]) for path in workdir.glob("checkpoints/*/*"))
        return len(begun)

    enough = rng.randrange(LINES) if seed % 2 else 1 + rng.randrange(SAVES)
    wait_until(lambda: progress() >= enough, process)
    time.sleep(rng.choice([0.01, 0.1, 0.3]) * rng.random())


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(KILLS or 1))
@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_stopped_at_a_random_moment_ends_in_the_same_bits(place, uninterrupted, number, seed):
    workdir = place.folder / f"{number.name}{seed}"
    process = place.start(workdir)
    wait_for_a_random_moment(process, workdir, seed, random.Random(f"{number.name} {seed}"))
    output = stop(process, number)
    left = [path.relative_to(workdir / "checkpoints").as_posix() for path in workdir.glob("checkpoints/*/*")]
    print(f"status {process.returncode}, checkpoints {sorted(left)}:", output.splitlines()[-1:])
    assert process.returncode in STATUS[number], output
    if process.returncode > 0:
        assert ("saved at step" in output and "the same command goes on from there" in output) or (
            "nothing is saved yet; the same command begins again" in output)
    place.finish(workdir)
    assert outcome(workdir) == uninterrupted
