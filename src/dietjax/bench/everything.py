"""`dietjax bench all`: the plan's suites one after the other within some minutes, each in a process of its own."""

import contextlib
import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any

from .. import files
from ..errors import InputError
from .commands import Speedrun
from .options import spelled, typed
from .plan import LENT, TOY, Planned, plan

SOURCE = pathlib.Path(__file__).parents[2]
FACTS = """import json, jax
from dietjax.bench.measure import environment
print(json.dumps(environment() | {"backend": jax.default_backend(), "devices": jax.device_count()}))"""
"""What a process of its own says of the machine: once jax had begun in this one, it would hold the GPU's memory."""
EXPERIMENT = '''"""VGG16 on random images: how fast it trains."""

from dietjax.config import Conversion, Data, Experiment, Model, Phase

phase = Phase(epochs=4, batch_size={batch}, learning_rate=1e-4)
experiment = Experiment(
    name="random_vgg16", timesteps={timesteps}, data=Data(name="npz:images.npz"), dtype="bfloat16",
    model=Model(name="VGG16", classifier=(64,), conv_dropout=0.0, classifier_dropout=0.0, batch_norm=True,
                width={width}),
    ann=phase, conversion=Conversion(images={batch}), snn=phase)
'''
BATCHES = 100
"""In an epoch of it."""


def run_all(out: pathlib.Path, minutes: float, experiment: pathlib.Path | None, toy: bool) -> bool:
    """Run what the plan has and the folder has not; whether nothing failed.

    Args:
        out: takes NAME.json of each suite, environment.json, and log/NAME.txt, what each said.
        minutes: after which the suite that runs is ended, and no other begins.
        experiment: whose training is compared with its bare steps; None: one on random images.
        toy: sizes at which a CPU runs all of it.

    Raises:
        InputError: the folder cannot be written, or holds what another machine or another program left there.
    """
    end = time.monotonic() + 60 * minutes
    _make_folder(out)
    with tempfile.TemporaryDirectory() as scratch, _stoppable():
        speedrun = Speedrun(experiment.absolute() if experiment else pathlib.Path("vgg16.py"), pathlib.Path("run"), 0.9)
        facts = _facts(out, scratch, end)
        suites = plan(TOY if toy else LENT, speedrun, facts["backend"] != "cpu", facts["devices"])
        there = {suite.name for suite in suites if _is_there(out, suite)}
        if experiment is None and "speedrun" not in there:
            _make_experiment(pathlib.Path(scratch), TOY if toy else LENT)
        print(f"{facts['device']}: {len(suites)} suites, {len(there)} there already", flush=True)
        failed, left = [], []
        for suite in suites:
            seconds = end - time.monotonic()
            if suite.name in there:
                continue
            if seconds < (0 if toy else suite.least):
                left.append(suite.name)
                continue
            (failed if not _measured(out, suite, scratch, seconds, left) else []).append(suite.name)
    if left:
        print(f"not for lack of time: {', '.join(left)}; the same command goes on with them")
    if failed:
        print(f"failed: {', '.join(failed)}; what they said is in {out / 'log'}")
    return not failed


def _measured(out: pathlib.Path, suite: Planned, scratch: str, seconds: float, left: list[str]) -> bool:
    """Run it and keep what it found; False: it failed, and without its peers too. What the end of the time cut off
    joins what is left.
    """
    began = time.monotonic()
    code, text, error = _run(out, suite.name, ["-m", "dietjax", *spelled(suite.command), "--json"], scratch,
                             min(seconds, suite.limit))
    took = time.monotonic() - began
    if code == 0:
        files.write_text(out / f"{suite.name}.json", text)
        print(f"{suite.name}: {took:.0f} s", flush=True)
        return True
    if code is None and seconds <= suite.limit:
        left.append(suite.name)
        return True
    print(f"{suite.name}: failed after {took:.0f} s: {error}", flush=True)
    if getattr(suite.command, "peer", ()) and code is not None:
        alone = dataclasses.replace(suite, name=f"{suite.name}_alone",
                                    command=dataclasses.replace(suite.command, peer=()))
        if not _is_there(out, alone):
            _measured(out, alone, scratch, seconds - took, left)
    return False


def _run(out: pathlib.Path, name: str, arguments: Sequence[str], scratch: str,
         seconds: float) -> tuple[int | None, str, str]:
    """Python with these arguments: (exit status, or None if it was ended for its time; what it printed; the last line
    of what it said).
    """
    log = out / "log" / f"{name}.txt"
    paths = [str(SOURCE), *(os.path.abspath(p) for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "COLUMNS": "120"}
    with open(log, "w", encoding="utf-8") as said, tempfile.TemporaryFile("w+", encoding="utf-8") as printed:
        child = subprocess.Popen([sys.executable, *arguments], stdout=printed, stderr=said, cwd=scratch,
                                 env=environment, stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            code = child.wait(timeout=max(seconds, 0.1))
        except subprocess.TimeoutExpired:
            code = None
        finally:
            if child.returncode is None:
                os.killpg(child.pid, signal.SIGKILL)  # it and what it started
                child.wait()
        printed.seek(0)
        text = printed.read()
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    ended = f"it takes longer than {seconds:.0f} s" if code is None else f"it ended with {code} and said nothing"
    return code, text, ended if code is None or not lines else lines[-1].strip()


def _facts(out: pathlib.Path, scratch: str, end: float) -> dict[str, Any]:
    """What the machine is, kept in environment.json."""
    code, text, error = _run(out, "environment", ["-c", FACTS], scratch, end - time.monotonic())
    if code != 0:
        raise InputError(f"jax does not start here: {error}")
    facts, path = json.loads(text), out / "environment.json"
    if path.exists():
        before = _read(path)
        if before.get("device") != facts["device"]:
            raise InputError(f"{out} holds what {before.get('device', 'something else')} measured, and this is "
                             f"{facts['device']}: name another --out")
    files.write_json(path, facts)
    return facts


def _is_there(out: pathlib.Path, suite: Planned) -> bool:
    """Whether the folder has what this command found."""
    path = out / f"{suite.name}.json"
    if not path.exists():
        return False
    found = _read(path)
    if not {"title", "rows", "environment", "command"} <= found.keys():
        raise InputError(f"{path} is no result of `dietjax bench`, and would be replaced by one: move it away, or name "
                         "another --out")
    return found["command"] == typed(suite.command)


def _read(path: pathlib.Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is no JSON ({error}): move it away, or name another --out") from error
    return found if isinstance(found, dict) else {}


def _make_folder(out: pathlib.Path) -> None:
    try:
        (out / "log").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {out} cannot be made: {error.strerror}") from error
    if not os.access(out, os.W_OK) or not os.access(out / "log", os.W_OK):
        raise InputError(f"--out {out} cannot be written")


def _make_experiment(folder: pathlib.Path, sizes: Any) -> None:
    import numpy as np  # --help answers without it

    rng, count = np.random.default_rng(0), BATCHES * sizes.batch
    images = rng.integers(0, 256, (count, *sizes.shape), np.uint8)
    labels = np.arange(count, dtype=np.int64) % 10
    tests = slice(0, max(count // 10, 10))
    np.savez(folder / "images.npz", train_images=images, train_labels=labels, test_images=images[tests],
             test_labels=labels[tests])
    (folder / "vgg16.py").write_text(
        EXPERIMENT.format(timesteps=sizes.steps, width=sizes.width, batch=sizes.batch), encoding="utf-8")


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """A signal ends the suite that runs with us; outside, `__main__` ends this process alone, at once."""
    def stop(number, frame):
        raise KeyboardInterrupt

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in numbers if signal.getsignal(number) != signal.SIG_IGN}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
