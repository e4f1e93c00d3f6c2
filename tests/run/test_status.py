"""Laws of status: it says what a run's files say, at any moment, and neither loads jax nor changes anything."""

import dataclasses
import json
import os
import subprocess
import sys
import time

import pytest

from dietjax.config import Experiment, Phase
from dietjax.errors import InputError
from dietjax.run import lock, status
from dietjax.run.lock import Lock

IMAGES, BATCH = 1000, 64  # 15.625 steps an epoch
EXPERIMENT = Experiment("tiny", ann=Phase(epochs=10, batch_size=BATCH), snn=Phase(epochs=4, batch_size=BATCH))


class Run:
    """A run's folder, written by hand."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "config.json").write_text(json.dumps(dataclasses.asdict(EXPERIMENT)))

    def train(self, phase, step, speed=BATCH * 2.0, **values):
        self.line({"phase": phase, "split": "train", "step": step, "epoch": step * BATCH / IMAGES, "loss": 0.5,
                   "accuracy": 0.75, "images_per_second": speed, **values})

    def test(self, phase, step, accuracy):
        self.line({"phase": phase, "split": "test", "step": step, "loss": 1.0, "accuracy": accuracy})

    def line(self, values):
        with open(self.folder / "metrics.jsonl", "a") as file:
            file.write(json.dumps(values) + "\n")

    def checkpoint(self, phase, name):
        (self.folder / "checkpoints" / phase / name).mkdir(parents=True)

    def age(self, seconds):
        """As if nothing had happened for so long."""
        for path in [self.folder, *self.folder.rglob("*")]:
            os.utime(path, (time.time() - seconds,) * 2)

    def read(self):
        return status.read(self.folder)


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path)


def test_a_run_that_has_just_begun(run):
    found = run.read()
    assert (found["phase"], found["step"], found["total_steps"], found["loss"]) == ("ann", 0, None, None)
    assert (found["state"], found["checkpoint"]) == ("running", None)
    assert "no checkpoint yet" in status.describe(found)


def test_a_run_in_its_first_phase(run):
    run.train("ann", 16)
    run.test("ann", 16, accuracy=0.125)
    run.train("ann", 32, loss=0.25)
    run.checkpoint("ann", "16")
    run.checkpoint("ann", "32.orbax-checkpoint-tmp")  # being written
    found = run.read()
    assert (found["phase"], found["step"], found["total_steps"]) == ("ann", 32, 157)  # ceil(10 · 15.625)
    assert (found["epoch"], found["epochs"], found["loss"], found["test_accuracy"]) == (2.048, 10, 0.25, 0.125)
    assert found["seconds_left"] == pytest.approx((157 - 32) / 2)  # two steps a second
    assert (found["checkpoint"]["phase"], found["checkpoint"]["step"]) == ("ann", 16)
    text = status.describe(found)
    for said in ("ANN, step 32 of 157, epoch 2.0 of 10", "loss 0.2500, accuracy 75.00%, test accuracy 12.50%",
                 "128 images/s, 62 s left", "last checkpoint: ANN step 16", "running, as it seems"):
        assert said in text


@pytest.mark.parametrize("epochs, step, total", [(10, 157, 157), (4, 1, 63), (4, 62, 63)])
def test_the_total_is_exact_wherever_the_line_is(run, epochs, step, total):
    settings = dataclasses.replace(EXPERIMENT, ann=Phase(epochs=epochs, batch_size=BATCH))
    (run.folder / "config.json").write_text(json.dumps(dataclasses.asdict(settings)))
    run.train("ann", step)
    assert run.read()["total_steps"] == total


def test_after_the_conversion_the_phase_is_the_snn(run):
    run.train("ann", 157)
    run.checkpoint("ann", "157")
    run.test("converted", 0, accuracy=0.5)
    found = run.read()
    assert (found["phase"], found["step"], found["loss"]) == ("snn", 0, None)
    assert (found["checkpoint"]["phase"], found["checkpoint"]["step"]) == ("ann", 157)
    run.train("snn", 16)
    run.checkpoint("snn", "9")
    run.checkpoint("snn", "16")
    found = run.read()
    assert (found["step"], found["total_steps"], found["checkpoint"]["step"]) == (16, 63, 16)


def test_without_an_ann_the_phase_is_the_snn_from_the_start(run):
    settings = dataclasses.replace(EXPERIMENT, ann=Phase(epochs=0))
    (run.folder / "config.json").write_text(json.dumps(dataclasses.asdict(settings)))
    found = run.read()
    assert (found["phase"], found["step"], found["epochs"], found["checkpoint"]) == ("snn", 0, 4, None)
    run.train("snn", 16)
    run.checkpoint("snn", "16")
    found = run.read()
    assert (found["step"], found["total_steps"], found["checkpoint"]["phase"]) == (16, 63, "snn")


def test_a_line_that_is_being_written_is_not_read(run):
    run.train("ann", 16)
    with open(run.folder / "metrics.jsonl", "a") as file:
        file.write('{"phase": "ann", "spl')
    assert run.read()["step"] == 16


@pytest.mark.parametrize("speed, age, state", [
    (BATCH * 2.0, 60, "running"), (BATCH * 2.0, 150, "silent"),
    (BATCH * 0.1, 150, "running"),  # ten seconds a step, 160 between two lines
    (BATCH * 0.1, 900, "silent"),
])
def test_silence_is_measured_by_the_pace_of_the_run(run, speed, age, state):
    run.train("ann", 16, speed)
    run.train("ann", 32, speed)
    run.age(age)
    found = run.read()
    assert found["state"] == state and found["seconds_since_sign"] == pytest.approx(age, abs=30)
    assert ("no sign of life for" in status.describe(found)) == (state == "silent")


def test_a_finished_run_is_finished_however_old(run):
    run.train("snn", 63)
    (run.folder / "summary.json").write_text("{}")
    run.age(10_000)
    assert run.read()["state"] == "finished"
    assert status.describe(run.read()).endswith("finished")


def test_a_folder_without_a_run_and_damaged_metrics_are_named(run, tmp_path):
    with pytest.raises(InputError, match="holds no run"):
        status.read(tmp_path / "none")
    (tmp_path / "metrics.jsonl").write_text("x\n")
    with pytest.raises(InputError, match=r"metrics\.jsonl line 1 is damaged"):
        run.read()


ASKS = """
import sys
from dietjax.cli import main as cli

for options in ([], ["--json"]):
    assert cli.main(["status", sys.argv[1], *options]) == 0
assert not {"jax", "orbax", "flax", "tensorflow_datasets"} & set(sys.modules)
"""


def test_the_command_loads_no_jax_and_changes_nothing(run):
    run.train("ann", 16)
    run.checkpoint("ann", "16")
    before = {path: path.stat().st_mtime_ns for path in [run.folder, *run.folder.rglob("*")]}
    process = subprocess.run([sys.executable, "-c", ASKS, str(run.folder)], capture_output=True, text=True, timeout=60,
                             check=False)
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout[process.stdout.index("{"):])["step"] == 16
    assert {path: path.stat().st_mtime_ns for path in [run.folder, *run.folder.rglob("*")]} == before


# ---- the process that runs it


def leave(run, **record):
    record = {"pid": 12, "host": "here", "machine": lock._machine(), "since": "then", "command": "train", **record}
    (run.folder / lock.NAME).write_text(json.dumps(record))


def test_a_run_in_progress_is_running_however_silent(run):
    run.train("ann", 16)
    with Lock(run.folder, print) as held:
        held.keep()
        run.age(10_000)
        found = run.read()
        assert found["state"] == "running" and found["process"]["pid"] == os.getpid()
        assert f"running: process {os.getpid()} on " in status.describe(found)


@pytest.mark.parametrize("how", ["stopped", "failed"])
def test_a_run_that_ended_says_how(run, how):
    leave(run, ended="yesterday", how=how, said="ann is saved at step 3")
    found = run.read()
    assert found["state"] == how
    assert status.describe(found).endswith(f"{how} at yesterday: ann is saved at step 3")


def test_a_run_that_was_killed_is_no_running_one(run):
    run.train("ann", 16)  # just now
    leave(run)
    found = run.read()
    assert found["state"] == "killed"
    assert "killed: process 12 on here, begun at then, is no more" in status.describe(found)


def test_of_another_host_that_is_silent_nothing_is_known(run):
    leave(run, machine="elsewhere")
    run.age(10_000)
    found = run.read()
    assert (found["state"], found["process"]["alive"]) == ("silent", None)
    os.utime(run.folder / lock.NAME)
    assert run.read()["state"] == "running"


def test_a_finished_run_stays_finished_whatever_came_after_it(run):
    run.train("snn", 63)
    (run.folder / "summary.json").write_text("{}")
    leave(run, ended="yesterday", how="failed", said="no such data")
    assert run.read()["state"] == "finished"


# ---- what is gone from the log


def test_lines_that_are_gone_are_named(run):
    run.train("ann", 16, steps=16)
    run.train("ann", 63, steps=16)
    assert run.read()["lacking"] == ["metrics.jsonl lacks steps 17 to 47 of ann: it was shortened or removed"]
    assert "lacks steps 17 to 47 of ann" in status.describe(run.read())


def test_lines_that_are_not_due_yet_are_not_missed(run):
    run.train("ann", 50, steps=50)
    run.checkpoint("ann", "99")
    assert run.read()["lacking"] == []
    run.checkpoint("ann", "157")
    assert run.read()["lacking"] == ["metrics.jsonl lacks steps 51 to 107 of ann: it was shortened or removed"]


def test_a_run_that_is_stopped_before_its_first_line_lacks_none(run):
    (run.folder / "data.json").write_text(json.dumps({"train_images": IMAGES}))
    run.checkpoint("ann", "15")  # an epoch ends, and the first line is written, after 16
    assert run.read()["lacking"] == []
    run.checkpoint("ann", "16")
    assert run.read()["lacking"] == ["metrics.jsonl has no line of ann, of which step 16 is saved"]


def test_a_log_that_is_gone_is_missed_and_the_phase_is_the_checkpoint_s(run):
    run.checkpoint("ann", "157")
    run.checkpoint("snn", "16")
    found = run.read()
    assert found["phase"] == "snn"
    assert found["lacking"] == ["metrics.jsonl has no line of snn, of which step 16 is saved"]
