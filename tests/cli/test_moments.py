"""Laws of the command line in time: a signal ends it with a line at any moment, a mistake before much is loaded."""

import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time
import warnings

import pytest
import tiny_run

from dietjax.run import assemble

pytestmark = pytest.mark.usefixtures("quick_compile", "narrow_networks")

BEGINS = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # pytest may have been started with it ignored
print("begun", flush=True)
from dietjax.__main__ import main
sys.exit(main())
"""
"""The command `dietjax`; what comes before is Python's own."""
LOADED = """
import sys
from dietjax.cli import main as cli
for line in sys.stdin:
    assert cli.main(line.split()) == 2
    print([name for name in ("jax", "flax", "orbax", "tensorflow_datasets", "matplotlib") if name in sys.modules])
"""
MISTAKES = ("train {}/tiny.py --workdir {}/new --timesteps 0", "train {}/tiny.py --workdir gs://x",
            "train {}/nowhere.py --workdir {}/new", "evaluate {}/run --timesteps 0", "evaluate {}/none",
            "evaluate {}/run --margin -1", "convert {}/none",
            "convert {}/run --timesteps 0", "convert {}/run --conversion.images 0", "energy {}/none", "energy",
            "energy --rate -1", "energy --rate 1 --width 0", "status {}/none", "bench step --timesteps 0",
            "bench step --width 0", "bench memory --batch 0", "bench scaling --devices 0")


@pytest.fixture
def place(tmp_path, digits_folder, monkeypatch):
    """A folder with an experiment file; digits are where TFDS_DATA_DIR points."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(digits_folder))
    (tmp_path / "tiny.py").write_text(tiny_run.EXPERIMENT)
    return tmp_path


@pytest.fixture
def half(place, finished_run):
    """A run whose ANN is trained."""
    run = pathlib.Path(shutil.copytree(finished_run, place / "run"))
    shutil.rmtree(run / "checkpoints" / "snn")
    for name in ("summary.json", "recorded.npz", "report.html", "converted.json"):
        (run / name).unlink()
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(line for line in lines if json.loads(line)["phase"] == "ann"))
    return run


# ---- before anything is loaded


@pytest.mark.slow
def test_a_mistake_is_answered_before_anything_heavy_is_loaded(place, half):
    typed = "".join(line.replace("{}", str(place)) + "\n" for line in MISTAKES)
    found = subprocess.run([sys.executable, "-c", LOADED], input=typed, capture_output=True, text=True, check=False)
    assert found.stdout.split("\n") == ["[]"] * len(MISTAKES) + [""], found.stderr
    assert found.stderr.count("error: ") == len(MISTAKES)


# ---- signals


@pytest.mark.slow
@pytest.mark.parametrize("command", ["train {}/tiny.py --workdir {}/run", "energy --rate 1", "bench step"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_in_the_first_seconds_is_a_line(place, number, command):
    """Whatever is being imported, parsed or loaded then."""
    rng = random.Random(f"{number.name} {command}")
    for wait in (0.02 + rng.random() ** 2 * 3 for _ in range(5)):  # first our package itself is found
        arguments = command.replace("{}", str(place)).split()
        process = subprocess.Popen([sys.executable, "-c", BEGINS, *arguments], text=True, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
        assert process.stdout.readline() == "begun\n"
        time.sleep(wait)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        said = f"{wait:.3f} s: status {process.returncode}, {err!r}"
        if process.returncode in (0, -number) and wait > 0.5 and not err:
            continue  # it was faster, or at its end, where Python has taken its handlers back
        assert process.returncode == 128 + number, said
        assert err.startswith("stopped") and err.count("\n") == 1 and "Traceback" not in out + err, said
        assert "the same command begins again" in err or "the same command goes on" in err, said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
@pytest.mark.parametrize("where", ["open_data", "make_plans"])
def test_a_signal_outside_the_training_says_what_is_saved(dietjax, place, half, monkeypatch, number, where):
    before = (half / "process.json").read_bytes()
    earlier = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored, and stays so
    monkeypatch.setattr(assemble, where, lambda *_: os.kill(os.getpid(), number) or time.sleep(10))
    status, _, err = dietjax("train", place / "tiny.py", "--workdir", half, *tiny_run.OPTIONS)
    signal.signal(signal.SIGHUP, earlier)
    assert status == 128 + number
    assert err == "stopped: ann is saved at step 68; the same command goes on from there\n"
    assert (half / "process.json").read_bytes() == before  # it had not begun


@pytest.mark.slow
@pytest.mark.parametrize("where", ["convert_ann", "without_batch_norm"])
def test_a_signal_in_the_conversion_or_the_last_evaluation_says_what_is_saved(dietjax, place, half, monkeypatch, where):
    original = getattr(assemble, where)
    with monkeypatch.context() as patch:
        patch.setattr(assemble, where, lambda *_: os.kill(os.getpid(), signal.SIGTERM) or time.sleep(10))
        status, _, err = dietjax("train", place / "tiny.py", "--workdir", half, *tiny_run.OPTIONS)
    phase = "ann" if where == "convert_ann" else "snn"
    assert (status, err) == (143, f"stopped: {phase} is saved at step 68; the same command goes on from there\n")
    _, out, _ = dietjax("status", half)
    assert f": {phase} is saved at step 68; the same command goes on" in out.splitlines()[-1]
    assert getattr(assemble, where) is original
    assert dietjax("train", place / "tiny.py", "--workdir", half, *tiny_run.OPTIONS)[0] == 0
    assert dietjax("status", half)[1].endswith("finished\n")


def test_a_new_run_that_is_stopped_before_it_begins_leaves_nothing(dietjax, place, monkeypatch):
    monkeypatch.setattr(assemble, "open_data", lambda *_: os.kill(os.getpid(), signal.SIGTERM) or time.sleep(10))
    status, _, err = dietjax("train", place / "tiny.py", "--workdir", place / "a" / "run")
    assert (status, err) == (143, "stopped: nothing is saved yet; the same command begins again\n")
    assert [path.name for path in place.iterdir()] == ["tiny.py"]


# ---- what is half done


def test_evaluating_a_run_that_is_not_finished_says_how_far_it_is(dietjax, half):
    for step in (46, 68):
        path = half / "checkpoints" / "ann" / str(step)
        if step == 68:
            shutil.rmtree(path)
    left = max(int(path.name) for path in (half / "checkpoints" / "ann").iterdir() if path.name.isdecimal())
    status, out, err = dietjax("evaluate", half)
    assert status == 0
    assert err.splitlines() == [
        f"warning: the ANN is trained for {left} of 68 steps, epoch {3 * left / 68:.1f} of 3: what it does now is not "
        "what it will do at the end; dietjax train goes on",
        "warning: the SNN is not trained yet; dietjax train goes on"]
    assert f"ANN at step {left} of 68" in out
    _, out, _ = dietjax("evaluate", half, "--json")
    assert (json.loads(out)["ann"]["step"], json.loads(out)["ann"]["total_steps"]) == (left, 68)


# ---- warnings


def test_a_warning_is_a_sentence(dietjax, place):
    (place / "warns.py").write_text("import warnings\n\nwarnings.warn('one\\n  two', stacklevel=1)\n")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        shown = warnings.showwarning
        status, _, err = dietjax("train", place / "warns.py", "--workdir", place / "run")
        assert warnings.showwarning is shown
    assert status == 2 and err.splitlines()[0] == "warning: one two"
