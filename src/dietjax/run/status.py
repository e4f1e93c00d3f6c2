"""How far a run is, read from its files beside the process that runs it; loads no jax, so that it answers at once."""

import json
import pathlib
import time
from typing import Any

from .. import config
from ..analysis.log import LOG_EVERY, lacking, named, parse
from ..errors import InputError
from . import lock

SILENCE = 120.0
"""Seconds without a sign of life that are normal: starting, compiling, evaluating."""
SILENT_LINES = 5
"""So is this many times the interval between two lines of metrics."""


def read(run: pathlib.Path) -> dict[str, Any]:
    """What a run's files say; changes nothing. What is not known yet is None.

    Returns:
        {"run", "experiment", "state": see `_state`, "process": what `lock.read` returns, "phase": "ann" | "snn",
        "step", "total_steps", "epoch", "epochs", "loss" and "accuracy" of the last training line, "test_accuracy" of
        the phase so far, "images_per_second", "seconds_left" in this phase, "lacking": sentences on lines that are gone
        from metrics.jsonl, "checkpoint": {"phase", "step", "seconds_ago"}, "seconds_since_sign" of the last change of a
        file}.

    Raises:
        InputError: the folder holds no run, or its files are damaged.
    """
    experiment = config.read_run(run)
    lines = _lines(run / "metrics.jsonl")
    saved = last_checkpoint(run)
    past_the_ann = experiment.from_scratch or (run / "converted.json").exists() or (saved and saved[0] == "snn") or any(
        line["phase"] in ("converted", "snn") for line in lines)
    phase = "snn" if past_the_ann else "ann"
    settings = getattr(experiment, phase)
    trained = [line for line in lines if line["phase"] == phase and line["split"] == "train"]
    tested = [line for line in lines if line["phase"] == phase and line["split"] == "test"]
    found = {"run": str(run), "experiment": experiment.name, "phase": phase, "epochs": settings.epochs}
    try:
        found |= _last(trained, tested)
        forecast, patience = _forecast(settings, trained)
    except (KeyError, TypeError, ZeroDivisionError) as error:
        raise InputError(f"{run / 'metrics.jsonl'} holds lines that dietjax did not write ({error!r})") from error
    found |= forecast
    found["lacking"] = _lacking(lines, saved, _first_line(run, experiment, saved))
    now = time.time()
    found["checkpoint"] = None if saved is None else {
        "phase": saved[0], "step": saved[1], "seconds_ago": now - saved[2].stat().st_mtime}
    signs = [run / "config.json", run / "metrics.jsonl", run / "converted.json", *(run / "checkpoints").glob("*")]
    found["seconds_since_sign"] = now - max(path.stat().st_mtime for path in signs if path.exists())
    found["process"] = lock.read(run)
    found["state"] = _state(run, found["process"], found["seconds_since_sign"] < patience)
    return found


def _last(trained, tested):
    """What the last lines of a phase say."""
    last = trained[-1] if trained else {"step": 0, "epoch": 0.0}
    values = {key: last[key] for key in ("loss", "accuracy", "images_per_second")} if trained else dict.fromkeys(
        ("loss", "accuracy", "images_per_second"))
    return {"step": last["step"], "epoch": last["epoch"], **values,
            "test_accuracy": tested[-1]["accuracy"] if tested else None}


def last_checkpoint(run: pathlib.Path) -> tuple[str, int, pathlib.Path] | None:
    """(Phase, step, folder) of the latest complete one: orbax gives a checkpoint its name only when it is complete."""
    for phase in ("snn", "ann"):
        steps = saved_steps(run, phase)
        if steps:
            return phase, *max(steps.items())
    return None


def saved_steps(run: pathlib.Path, phase: str) -> dict[int, pathlib.Path]:
    """{step: folder} of a phase's checkpoints."""
    return {int(path.name): path for path in (run / "checkpoints" / phase).glob("*") if path.name.isdecimal()}


def _state(run, process, recent):
    """finished; running; stopped, by a signal; failed, with an error; killed, without a last word; or where nothing
    tells silent, unless a file was changed recently.
    """
    if process and process["alive"]:
        return "running"
    if (run / "summary.json").exists():
        return "finished"
    if process and "how" in process:
        return process["how"]
    if process and process["alive"] is False:
        return "killed"
    return "running" if recent else "silent"


def _first_line(run, experiment, saved):
    """After how many steps of the phase that is saved a line is due: an epoch, LOG_EVERY at most; 1 where the run does
    not say how many images it has.
    """
    if saved is None:
        return 1
    try:
        images = json.loads((run / "data.json").read_text(encoding="utf-8"))["train_images"]
        return min(LOG_EVERY, -(-images // getattr(experiment, saved[0]).batch_size))
    except (OSError, ValueError, KeyError, TypeError):  # of an earlier version, or damaged, which `dietjax.load` says
        return 1


def _lacking(lines, saved, first):
    """A sentence for each phase of which lines are gone; the last ones before a checkpoint may not be due yet, and
    none before step `first`.
    """
    until = {"ann": 0, "snn": 0}
    if saved is not None:
        until[saved[0]] = saved[1] - LOG_EVERY
    gaps = {name: lacking(lines, name, until[name]) for name in ("ann", "snn")}
    said = [f"metrics.jsonl lacks {named(name, ranges)}: it was shortened or removed" for name, ranges in gaps.items()
            if ranges]
    if saved and saved[1] >= first and not said and not any(line["phase"] == saved[0] for line in lines):
        said.append(f"metrics.jsonl has no line of {saved[0]}, of which step {saved[1]:,} is saved")
    return said


def _forecast(settings, trained):
    """({"total_steps", "seconds_left"} of a phase, seconds of silence that say nothing), by its lines of training."""
    if not trained:
        return {"total_steps": None, "seconds_left": None}, SILENCE
    last = trained[-1]
    # steps per epoch are a fraction: the last step is the first at which all epochs have been read
    total = -int(-round(settings.epochs * last["step"] / last["epoch"], 6) // 1)
    per_step = settings.batch_size / last["images_per_second"]
    between = last["step"] - (trained[-2]["step"] if len(trained) > 1 else 0)
    forecast = {"total_steps": total, "seconds_left": (total - last["step"]) * per_step}
    return forecast, max(SILENCE, SILENT_LINES * between * per_step)


def describe(found: dict[str, Any]) -> str:
    """The same in a few lines."""
    step = f"step {found['step']:,}" + (f" of {found['total_steps']:,}" if found["total_steps"] else "")
    lines = [f"{found['experiment']} in {found['run']}: {found['phase'].upper()}, {step}, "
             f"epoch {found['epoch']:.1f} of {found['epochs']}"]
    if found["loss"] is not None:
        tested = "" if found["test_accuracy"] is None else f", test accuracy {found['test_accuracy']:.2%}"
        lines.append(f"loss {found['loss']:.4f}, accuracy {found['accuracy']:.2%}{tested}")
    lines += found["lacking"]
    if found["state"] == "finished":
        return "\n".join([*lines, "finished"])
    if found["loss"] is not None:
        left = _duration(found["seconds_left"])
        lines.append(f"{found['images_per_second']:,.0f} images/s, {left} left in this phase")
    saved = found["checkpoint"]
    lines.append("no checkpoint yet" if saved is None else f"last checkpoint: {saved['phase'].upper()} step "
                 f"{saved['step']:,}, {_duration(saved['seconds_ago'])} ago")
    lines.append(_fate(found))
    return "\n".join(lines)


def _fate(found):
    """A line on the process that runs it."""
    process, silent = found["process"] or {}, _duration(found["seconds_since_sign"])
    if found["state"] == "running" and process:
        return f"running: process {process.get('pid')} on {process.get('host')} since {process.get('since')}"
    if found["state"] in ("stopped", "failed"):
        return f"{found['state']} at {process['ended']}: {process['said']}"
    if found["state"] == "killed":
        return (f"killed: process {process.get('pid')} on {process.get('host')}, begun at {process.get('since')}, is "
                "no more, and left no word; the command that started it goes on from there")
    return (f"running, as it seems: last sign {silent} ago" if found["state"] == "running" else
            f"no sign of life for {silent}; if it has stopped, the command that started it goes on from there")


def _lines(path):
    """Every line that is whole: the last one may be in the middle of being written."""
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    found = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(parse(line.decode()))
        except ValueError as error:
            raise InputError(f"{path} line {number} is damaged ({error}); the run drops such lines when it goes "
                             "on") from error
    return found


def _duration(seconds):
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
