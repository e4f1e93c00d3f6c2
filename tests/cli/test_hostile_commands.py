"""What people type, and the files that they name: each is answered with a sentence."""

import json
import pathlib

import commands
import pytest
import tiny_run
from hostile import Case, check

from dietjax import config
from dietjax.run import lock
from dietjax.run.lock import Lock


def experiment(text, *options):
    """An attempt to train an experiment file with this text; it would run, were it right, at 0 timesteps."""
    def attempt(folder):
        (folder / "mine.py").write_bytes(text if isinstance(text, bytes) else text.encode())
        return commands.run("train", folder / "mine.py", "--workdir", folder / "run", *options)

    return attempt


def typed(*arguments):
    """An attempt to run a command on a run's folder, called RUN."""
    def attempt(folder):
        make_run(folder)
        return commands.run(*(str(folder / "run") if argument == "RUN" else argument for argument in arguments))

    return attempt


def on_a_run(*options):
    """An attempt to go on with a run of the tiny experiment with other options."""
    def attempt(folder):
        make_run(folder)
        return commands.run("train", folder / "tiny.py", "--workdir", folder / "run", *options)

    return attempt


def make_run(folder):
    """One that has begun: its SNN is saved."""
    (folder / "tiny.py").write_text(tiny_run.EXPERIMENT)
    from dietjax.config import load_experiment

    (folder / "run" / "checkpoints" / "snn" / "3").mkdir(parents=True)
    (folder / "run" / "config.json").write_text(json.dumps(config.as_stored(load_experiment(folder / "tiny.py"))))


def with_file(name, content, *arguments):
    """An attempt to run a command on a run's folder in which a file is this."""
    def attempt(folder):
        make_run(folder)
        path = folder / "run" / name
        path.unlink(missing_ok=True)
        path.mkdir() if content is None else path.write_bytes(content)
        return commands.run(*(str(folder / "run") if argument == "RUN" else argument for argument in arguments))

    return attempt


def in_use(folder):
    make_run(folder)
    with pytest.MonkeyPatch.context() as patch, Lock(folder / "run", print):
        patch.setattr(lock, "PATIENCE", 0.0)
        return commands.run("train", folder / "tiny.py", "--workdir", folder / "run")


def stopped(folder):
    make_run(folder)
    record = {"pid": 1, "host": "h", "since": "s", "command": "c", "ended": "t", "how": "stopped", "said": "by hand"}
    (folder / "run" / lock.NAME).write_text(json.dumps(record))
    return commands.run("status", folder / "run")


def a_folder_as_experiment(folder):
    (folder / "mine.py").mkdir()
    return commands.run("train", folder / "mine.py", "--workdir", folder / "run")


def a_file_as_workdir(folder):
    make_run(folder)
    return commands.run("train", folder / "tiny.py", "--workdir", folder / "tiny.py")


CONFIG = "from dietjax import config\n"
CASES = [
    # ---- an experiment's file
    Case("calls sys.exit", experiment("import sys\n\nsys.exit(3)\n"),
         ("error", "mine.py line 3 ends the program (SystemExit: 3)", "to define `experiment`")),
    Case("calls exit() without a number", experiment("raise SystemExit\n"), ("error", "line 1 ends the program")),
    Case("raises KeyboardInterrupt", experiment("raise KeyboardInterrupt\n"),
         ("error", "mine.py line 1 cannot be run: KeyboardInterrupt")),
    Case("has a syntax error", experiment("a = 1\nb = = 2\n"), ("error", "cannot be run: SyntaxError", "line 2")),
    Case("is cut off in a string", experiment("a = 'half\n"), ("error", "SyntaxError", "unterminated string")),
    Case("is a folder", a_folder_as_experiment, ("error", "mine.py is a folder", "an experiment is a Python file")),
    Case("is not UTF-8", experiment(b"name = '\xff\xfe'\n"), ("error", "cannot be run: SyntaxError", "utf-8")),
    Case("is binary", experiment(b"\x7fELF\0\0"), ("error", "mine.py cannot be run", "null bytes")),
    Case("is empty", experiment(""), ("error", "defines no experiment", "experiment = dietjax.config.Experiment(")),
    Case("defines a class", experiment("class experiment:\n    pass\n"), ("error", "is a class", "has to be an Exp")),
    Case("defines a function", experiment("def experiment():\n    pass\n"), ("error", "is a function", "has to be")),
    Case("defines a dict", experiment("experiment = {'name': 'x'}\n"), ("error", "is dict", "has to be an Exp")),
    Case("defines the class Experiment itself", experiment(CONFIG + "experiment = config.Experiment\n"),
         ("error", "is a class")),
    Case("imports what is not installed", experiment("import numpyy\n"),
         ("error", "line 1 cannot be run: ModuleNotFoundError: No module named 'numpyy'")),
    Case("raises with a text of several lines", experiment("raise ValueError('a\\n\\nb')\n"),
         ("error", "line 1 cannot be run: ValueError: a b")),
    Case("calls itself for ever", experiment("def f():\n    return f()\n\n\nf()\n"), ("error", "RecursionError")),
    Case("has a field that there is not", experiment(CONFIG + "config.Phase(epoch=3)\n"),
         ("error", "unknown Phase field in", "'epoch'; did you mean 'epochs'?")),
    Case("gives a text for a number", experiment(CONFIG + "experiment = config.Experiment('x', timesteps='5')\n"),
         ("error", "timesteps must be int, got '5'")),
    Case("gives a phase for a model", experiment(
        CONFIG + "experiment = config.Experiment('x', model=config.Phase())\n"),
         ("error", "model must be Model, got Phase(")),
    Case("warns, and cannot run", experiment(
        CONFIG + "import warnings\nwarnings.warn('this is old')\nexperiment = config.Experiment('x', timesteps=0)\n"),
         ("error", "warning: this is old", "timesteps must be > 0, got 0")),
    # ---- numbers that nothing has
    Case("train --timesteps 0", experiment(tiny_run.EXPERIMENT, "--timesteps", "0"), ("error", "must be > 0, got 0")),
    Case("train --snn.epochs 0", experiment(tiny_run.EXPERIMENT, "--snn.epochs", "0"), ("error", "snn.epochs must be")),
    Case("train with a number of 30 digits", experiment(tiny_run.EXPERIMENT, "--seed", "9" * 30),
         ("error", "seed must be int, got 9999")),
    Case("train --ann.learning-rate nan", experiment(tiny_run.EXPERIMENT, "--ann.learning-rate", "nan"),
         ("error", "ann.learning_rate must be > 0, got nan")),
    Case("evaluate --timesteps 0", typed("evaluate", "RUN", "--timesteps", "0"), ("error", "timesteps must be at")),
    Case("evaluate --margin nan", typed("evaluate", "RUN", "--margin", "nan"), ("error", "--margin must be >= 0")),
    Case("convert --timesteps -3", typed("convert", "RUN", "--timesteps", "-3"), ("error", "timesteps must be", "-3")),
    Case("convert --conversion.images 0", typed("convert", "RUN", "--conversion.images", "0"),
         ("error", "conversion.images must be > 0, got 0")),
    Case("energy --rate nan", typed("energy", "--rate", "nan"), ("error", "--rate must be >= 0 and finite")),
    Case("energy --width nan", typed("energy", "--rate", "1", "--width", "nan"), ("error", "--width must be > 0")),
    Case("bench step --timesteps 0", typed("bench", "step", "--timesteps", "0"), ("error", "--timesteps must be at")),
    Case("bench step --width 0", typed("bench", "step", "--width", "0"), ("error", "--width must be > 0")),
    Case("bench memory --batch 0", typed("bench", "memory", "--batch", "0"), ("error", "--batch must be at least 1")),
    Case("bench neuron --neurons 0", typed("bench", "neuron", "--neurons", "0"), ("error", "--neurons must be at")),
    Case("bench layer --features 0", typed("bench", "layer", "--features", "0"), ("error", "--features must be at")),
    Case("bench scaling --devices 0", typed("bench", "scaling", "--devices", "0"), ("error", "--devices must be at")),
    Case("bench input --runs 0", typed("bench", "input", "--runs", "0"), ("error", "--runs must be at least 1")),
    # ---- names that nothing has
    Case("a command that there is not", typed("trian", "RUN"), ("error", "trian")),
    Case("an option that there is not", on_a_run("--snn.epoch", "3"), ("error", "--snn.epoch")),
    Case("an unknown network, in a run's folder", on_a_run("--model.name", "VGG17"), ("error", "VGG17")),
    Case("an unknown neuron, in a run's folder", on_a_run("--neuron.kind", "plfi"),
         ("error", "unknown neuron.kind 'plfi'; did you mean 'plif'?")),
    Case("a module that there is not, in a run's folder", on_a_run("--neuron.kind", "nowhere_at_all:Mine"),
         ("error", "there is no module nowhere_at_all")),
    Case("an unknown parameter, in a run's folder", on_a_run("--neuron.parameters", "thresold=4"),
         ("error", "unknown parameter of neuron.kind lif", "thresold")),
    Case("an unknown parameter to freeze, in a run's folder", on_a_run("--neuron.freeze", "leek"),
         ("error", "unknown parameter in neuron.freeze", "'leek'; did you mean 'leak'?")),
    Case("another seed, in a run's folder", on_a_run("--seed", "7"),
         ("error", "holds another experiment's run (seed: there 0, asked for 7)", "nothing was changed")),
    # ---- folders
    Case("a folder in which a run runs", in_use, ("error", "in use: process", "nothing was changed", "dietjax status")),
    Case("a file as --workdir", a_file_as_workdir, ("error", "tiny.py is no run of dietjax")),
    Case("status of a run that was stopped", stopped, ("taken", "stopped at t: by hand")),
    Case("status of nothing", lambda folder: commands.run("status", folder), ("error", "PATH holds no run")),
    Case("a config.json that is a folder", with_file("config.json", None, "status", "RUN"), ("error", "config.json")),
    Case("metrics.jsonl of bytes", with_file("metrics.jsonl", b"\xff\xfe\n", "status", "RUN"),
         ("error", "metrics.jsonl line 1 is damaged")),
    Case("metrics.jsonl of another tool", with_file("metrics.jsonl", b'{"loss": 1}\n', "status", "RUN"),
         ("error", "metrics.jsonl line 1 is damaged")),
    Case("metrics.jsonl without numbers", with_file(
        "metrics.jsonl", b'{"phase": "snn", "split": "train", "step": 3, "epoch": 0}\n', "status", "RUN"),
         ("error", "metrics.jsonl holds lines that dietjax did not write")),
    Case("a report of a run that is not finished", typed("report", "RUN"),
         ("error", "has no summary.json, recorded.npz")),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_is_typed_is_answered(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check(case, tmp_path)
    assert {path.name for path in pathlib.Path(tmp_path).iterdir()} <= {"mine.py", "tiny.py", "run"}
