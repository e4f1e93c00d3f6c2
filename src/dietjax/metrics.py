"""What a run measures, as it goes: one JSON object a line in metrics.jsonl, and the same numbers for TensorBoard."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from . import files


class MetricsLog:
    """Append-only; resuming at a step first takes back what a killed run had written beyond it."""

    def __init__(self, run: pathlib.Path, writes: bool = True):
        """`writes`: false in all processes of a run but the first."""
        self._writes = writes
        self.path = run / "metrics.jsonl"
        self._tensorboard = run / "tensorboard"
        self._writers: dict[str, Any] = {}
        self._file = None

    def begin(self, phase: str, step: int) -> None:
        """Start or resume a phase at a step: its lines beyond that go, and a last line that was not written whole."""
        if not self._writes:
            return
        lines = self.path.read_text().splitlines(keepends=True) if self.path.exists() else []
        kept = [line for line in lines if line.endswith("\n") and _stays(json.loads(line), phase, step)]
        if kept != lines:
            self.close()
            files.write_text(self.path, "".join(kept))
        from tensorboardX import SummaryWriter

        self._writers[phase] = SummaryWriter(str(self._tensorboard / phase), purge_step=step + 1 if step else None)

    def write(self, phase: str, split: str, step: int, values: Mapping[str, Any]) -> None:
        """One line; `values` are numbers, or dicts of numbers by layer."""
        if not self._writes:
            return
        if self._file is None:
            self._file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115  (open as long as the run)
        self._file.write(json.dumps({"phase": phase, "split": split, "step": step, **values}) + "\n")
        self._file.flush()
        if phase in self._writers:
            for name, value in values.items():
                for layer, number in value.items() if isinstance(value, Mapping) else [(None, value)]:
                    if isinstance(number, (int, float)):
                        tag = f"{name}/{layer}" if layer else f"{split}/{name}"
                        self._writers[phase].add_scalar(tag, number, step)

    def close(self) -> None:
        """Everything written is on disk."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()
        if self._file is not None:
            self._file.close()
            self._file = None


def _stays(line, phase, step):
    return line["phase"] != phase or line["step"] <= step
