"""What a run measures, as it goes: one JSON object a line in metrics.jsonl, and the same numbers for TensorBoard."""

import contextlib
import json
import os
import pathlib
import socket
import time
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from .. import files
from ..analysis.log import lacking, named, parse


class MetricLog:
    """Append-only; resuming at a step first removes the lines that a killed run wrote after it.

    What somebody else does to its files meanwhile is noticed, said in a warning, and mended as far as it can be.
    """

    def __init__(self, run: pathlib.Path, writes: bool = True):
        """`writes`: false in all processes of a run but the first."""
        self._writes = writes
        self.path = run / "metrics.jsonl"
        self._tensorboard = run / "tensorboard"
        self._writers: dict[str, Any] = {}
        self._file: Any = None
        self._size = 0
        """Bytes in it when it was last written."""

    def begin(self, phase: str, step: int, untested: bool = False, unlogged: int = 0) -> None:
        """Start or resume a phase at a step: remove its lines after that step, and a last line that is not complete.
        If the step is untested, the lines of a killed evaluation of it are removed too. Of the steps before it the last
        `unlogged` have no line yet.

        Damaged lines, as a power cut leaves them, are dropped with a warning, and lines that are gone are named in one:
        they must not keep a run from resuming.
        """
        if not self._writes:
            return
        # as bytes: damaged ones may be no text, or contain what str takes for the end of a line
        *lines, torn = self.path.read_bytes().split(b"\n") if self.path.exists() else [b""]
        kept, values = [], []
        for number, line in enumerate(lines, 1):
            try:
                if _stays(found := parse(line.decode()), phase, step, untested):
                    kept.append(line)
                    values.append(found)
            except ValueError as error:
                warnings.warn(f"{self.path} line {number} is damaged and was dropped: {error!r}", stacklevel=2)
        if kept != lines or torn:
            self.close()
            files.write_text(self.path, "".join(f"{line.decode()}\n" for line in kept))
        if gaps := lacking(values, phase, step - unlogged):
            warnings.warn(f"{self.path} lacks {named(phase, gaps)}: it was shortened or removed. The run goes on, and "
                          "its curves have a gap there", stacklevel=2)
        self._writers[phase] = _Events(self._tensorboard / phase)
        self._writers[phase].begin(step)

    def write(self, phase: str, split: str, step: int, values: Mapping[str, Any]) -> None:
        """One line; `values` are numbers, dicts of numbers by layer, or sentences, which TensorBoard does not get."""
        if not self._writes:
            return
        with files.naming(self.path):
            if self._file is not None:
                self._mend()
            if self._file is None:
                self._file = open(self.path, "a+b")  # noqa: SIM115  (open as long as the run)
            self._file.write(f"{json.dumps({'phase': phase, 'split': split, 'step': step, **values})}\n".encode())
            self._file.flush()
            self._size = self._file.tell()
        if phase in self._writers:
            self._writers[phase].write(step, dict(_scalars(split, values)))

    def _mend(self) -> None:
        """Where the open file is no longer what its name says, or shorter than it was."""
        if (size := os.fstat(self._file.fileno()).st_size) < self._size:
            self._file.seek(0)
            whole = self._file.read().rfind(b"\n") + 1
            self._file.truncate(whole)  # what is left of a line would be a damaged one
            warnings.warn(f"{self.path} was shortened under the run, from {self._size:,} bytes to {size:,}: lines of "
                          "it are lost, and its curves have a gap there", stacklevel=3)
        if not _has_its_name(self._file, self.path):
            self._file.seek(0)
            content, file, self._file = self._file.read(), self._file, None
            file.close()
            files.write_text(self.path, content.decode(errors="replace"))
            warnings.warn(f"{self.path} was removed or replaced under the run; it was written anew, with every line",
                          stacklevel=3)

    def close(self) -> None:
        """Everything written is on disk."""
        writers, self._writers, file, self._file = self._writers, {}, self._file, None
        with contextlib.ExitStack() as closing:  # all of them, even where the disk is full
            for writer in writers.values():
                closing.callback(writer.close)
            if file is not None:
                closing.enter_context(files.naming(self.path))
                closing.callback(file.close)


class _Events:
    """TensorBoard's file of one phase, written by the run's own thread.

    tensorboardX's SummaryWriter has another thread write: if that dies of a full disk, the run waits for it for ever.
    """

    def __init__(self, folder):
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.record_writer import RecordWriter
        from tensorboardX.summary import Summary

        self._folder, self._event, self._session, self._summary = folder, Event, SessionLog, Summary
        # the name that TensorBoard looks for; with the process id, so that a quick restart overwrites nothing
        self._path = folder / f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{os.getpid()}"
        self._writer = RecordWriter
        self._open()

    def _open(self):
        with files.naming(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file = self._writer(str(self._path))

    def begin(self, step):
        self._add(file_version="brain.Event:2")
        if step:  # TensorBoard then drops what a killed run wrote after this step
            self._add(step=step + 1, session_log=self._session(status=self._session.START))

    def write(self, step, scalars):
        if not self._path.exists():
            warnings.warn(f"{self._path} was removed under the run; TensorBoard sees what follows step {step}, and "
                          "metrics.jsonl has all", stacklevel=3)
            self.close()
            self._open()
            self.begin(0)
        values = [self._summary.Value(tag=tag, simple_value=number) for tag, number in scalars.items()]
        self._add(step=step, summary=self._summary(value=values))

    def close(self):
        with files.naming(self._folder):
            self._file.close()

    def _add(self, **fields):
        with files.naming(self._folder):
            self._file.write(self._event(wall_time=time.time(), **fields).SerializeToString())
            self._file.flush()


def _scalars(split: str, values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """What TensorBoard draws: (tag, number)."""
    for name, value in values.items():
        for layer, number in value.items() if isinstance(value, Mapping) else [(None, value)]:
            if isinstance(number, (int, float)):
                yield f"{split}/{name}/{layer}" if layer else f"{split}/{name}", number


def _has_its_name(file, path):
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _stays(line, phase, step, untested):
    last = step - 1 if untested and line["split"] == "test" else step
    return line["phase"] != phase or line["step"] <= last
