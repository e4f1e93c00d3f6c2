"""Twenty runs disturbed at random: nothing that was saved is lost, nothing wrong is said, and all end the same.

Of a second command, signals, kills between log and checkpoint, a full disk, and files that somebody deletes.
"""

import json
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time
import warnings

import pytest
import small_disk
import tiny_run

from dietjax.run import status

pytestmark = [pytest.mark.usefixtures("quick_compile", "narrow_networks"), pytest.mark.slow]

RUNS, TIMEOUT = 20, 240  # seconds, of one process
STEPS = (23, 45, 68)  # at the end of each epoch
MOMENTS = [*(f"ann {what} {step}" for step in STEPS for what in ("train", "test", "save")), "converted test 0",
           "wrote converted.json", *(f"snn {what} {step}" for step in STEPS for what in ("train", "test", "save"))]
MEASURED = {"images_per_second", "input_wait_share", "process_memory_bytes", "device_memory_bytes"}
BEGINS = """
import signal, sys

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored, and stays so
signal.signal(signal.SIGINT, signal.default_int_handler)  # pytest may have been started with it ignored
print("begun", flush=True)
from dietjax.__main__ import main
sys.exit(main())
"""
PAUSES = """
import signal, sys

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored, and stays so
signal.signal(signal.SIGINT, signal.default_int_handler)
import moments, narrow
from dietjax.run import assemble

def pause():
    print("paused", flush=True)
    sys.stdin.readline()

moments.just_after(sys.argv.pop(1), pause)
assemble.networks = narrow.networks
from dietjax.__main__ import main
sys.exit(main())
"""
"""The narrow command line, which waits at a moment (a line logged, a save begun, a file written) until it is told to go
on."""


class Disturbed:
    """A run that things happen to. Each of them is a method: of the moment at which, and random numbers."""

    def __init__(self, folder, digits):
        self.folder, self.run, self.digits = folder, folder / "run", digits
        (folder / "tiny.py").write_text(tiny_run.EXPERIMENT)
        self.lost = False  # whether lines are gone that nobody can write again

    def start(self, script, *arguments):
        command = [*arguments, "train", str(self.folder / "tiny.py"), "--workdir", str(self.run), *tiny_run.OPTIONS]
        return subprocess.Popen([sys.executable, "-c", script, *command], text=True,
                                env=tiny_run.environment(self.digits),
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def pause(self, moment):
        """The command, waiting at that moment."""
        process = self.start(PAUSES, moment)
        said = list(iter(process.stdout.readline, "paused\n")) if process.poll() is None else []
        assert process.poll() is None, (said, process.communicate())
        return process

    def end(self, process, expected, *says):
        """Let it go on to its end, which has this exit status and says this on stderr."""
        out, err = process.communicate("go on\n", timeout=TIMEOUT)
        assert process.returncode == expected, out + err
        assert "Traceback" not in err and all(text in err for text in says), err

    def state(self):
        return status.read(self.run)["state"]

    def finish(self):
        """The same command, in this process: (exit status, what it warned of)."""
        with tiny_run.as_in_a_process(self.digits), warnings.catch_warnings():
            warnings.simplefilter("always")
            return tiny_run.train(self.folder / "tiny.py", self.run)

    def second_command(self, moment, rng, capsys):
        process = self.pause(moment)
        capsys.readouterr()
        assert self.finish() == 2
        assert f"in use: process {process.pid} on" in capsys.readouterr().err
        assert self.state() == "running"
        process.kill()
        process.communicate()
        assert self.state() == "killed"

    def second_command_while_it_goes_on(self, moment, rng, capsys):
        process = self.pause(moment)
        assert self.finish() == 2
        self.end(process, 0)

    def stopped_in_the_first_second(self, moment, rng, capsys):
        process = self.start(BEGINS)
        assert process.stdout.readline() == "begun\n"
        time.sleep(0.02 + 0.98 * rng.random())
        process.send_signal(signal.SIGINT)
        self.end(process, 130, "stopped")

    def stopped(self, moment, rng, capsys):
        process = self.pause(moment)
        number = rng.choice([signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
        process.send_signal(number)
        self.end(process, 128 + number, "stopped: ", "is saved at step", "the same command goes on from there")
        assert self.state() == "stopped"

    def killed(self, moment, rng, capsys):
        process = self.pause(moment)
        process.kill()
        process.communicate()
        assert self.state() == "killed"

    def disk_full(self, moment, rng, capsys):
        process = self.pause(moment)
        with open(self.folder / "filler", "wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
            while True:
                file.write(bytes(4096))
        self.end(process, 1, "No space left on device")
        assert self.state() == "failed"
        (self.folder / "filler").unlink()

    def deleted_under_it(self, moment, rng, capsys):
        process = self.pause(moment)
        name = rng.choice(["metrics.jsonl", "tensorboard"])
        path = self.run / name
        path.unlink() if path.is_file() else shutil.rmtree(path)
        says = ["was removed"] if moment != MOMENTS[-1] else []  # after which nothing is logged
        if name == "metrics.jsonl" and not says:
            path.write_text("")
            self.lost = True
        self.end(process, 0, *says)

    def deleted(self, moment, rng, capsys):
        """After a kill, because there is something to delete then."""
        self.killed(moment, rng, capsys)
        found = [path for name in ("metrics.jsonl", "tensorboard", "converted.json", "process.json", "checkpoints/*/*")
                 for path in self.run.glob(name)]
        path = rng.choice(found)
        print("deleted", path.relative_to(self.run))
        self.lost |= path.name == "metrics.jsonl" and status.last_checkpoint(self.run) is not None
        path.unlink() if path.is_file() else shutil.rmtree(path)
        self.state()


KINDS = [Disturbed.second_command, Disturbed.stopped_in_the_first_second, Disturbed.stopped, Disturbed.killed,
         Disturbed.disk_full, Disturbed.deleted, Disturbed.deleted_under_it, Disturbed.second_command_while_it_goes_on]
ENDS = KINDS[-2:]
"""Those after which the run has come to its end."""


@pytest.fixture
def disk(tmp_path):
    """A file system of its own, which can be full."""
    with small_disk.mounted(tmp_path, "64m") as disk:
        yield disk


def summary(run):
    found = json.loads((run / "summary.json").read_text())
    for measured in (found, found["ann"], found["snn"]):
        del measured["seconds"]
    del found["seconds_in_all"], found["date"]
    return found


def logged(run):
    """{(phase, split, step): values}, each once."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    found = {(line["phase"], line["split"], line["step"]): {
        name: value for name, value in line.items() if name not in MEASURED} for line in lines}
    assert len(found) == len(lines)
    return found


def plan(seed):
    """The random numbers of a run, and its disturbances: two kinds, at two moments one after the other."""
    rng = random.Random(seed)
    kinds = [rng.choice([kind for kind in KINDS if kind not in ENDS]), KINDS[seed % len(KINDS)]]
    moments = [MOMENTS[i] for i in sorted(rng.sample(range(len(MOMENTS)), 2))]
    return rng, list(zip(kinds, moments, strict=True))


def test_every_kind_of_disturbance_is_among_them():
    assert {kind for seed in range(RUNS) for kind, _ in plan(seed)[1]} == set(KINDS)


@pytest.mark.parametrize("seed", range(RUNS))
def test_a_disturbed_run_ends_as_one_that_nobody_disturbed(finished_run, digits_folder, disk, capsys, seed):
    disturbed, (rng, happens) = Disturbed(disk, digits_folder), plan(seed)
    for kind, moment in happens:
        print(kind.__name__, "at", moment)
        kind(disturbed, moment, rng, capsys)
    assert disturbed.finish() == 0
    assert disturbed.state() == "finished"
    assert summary(disturbed.run) == summary(finished_run)
    found, expected = logged(disturbed.run), logged(pathlib.Path(finished_run))
    page = (disturbed.run / "report.html").read_text()
    if disturbed.lost:
        assert all(found[key] == expected[key] for key in found)
    else:
        assert found == expected
    assert ("metrics.jsonl lacks steps" in page) == ("train" in {split for _, split, _ in expected.keys() - found})
