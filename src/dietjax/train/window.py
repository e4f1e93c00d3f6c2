"""What training steps report between two lines of the log: checked, averaged and timed."""

import contextlib
import resource
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from ..models import Network
from .health import check_health

AVERAGED = ("loss", "accuracy", "spike_rate", "zero_gradient")
LAST = ("threshold", "leak")
RUN_AHEAD = 4
"""Steps the host may be ahead of the device: enough to keep it busy, few enough to stop soon after a signal."""


class MetricWindow:
    """Gathers the metrics of steps. A run that was stopped and resumed writes the same lines as one that was not."""

    def __init__(self, net: Network, phase: str, batch_size: int, gathered: Mapping[str, list] | None = None):
        """For one session of a phase.

        Args:
            net: what is trained.
            phase: its name, for messages.
            batch_size: images per step.
            gathered: `gathered` as the checkpoint holds it that the session resumes from.
        """
        self._net, self._phase, self._batch_size = net, phase, batch_size
        self._names = [layer.name for layer in net.layers]
        self.gathered: dict[str, list] = {key: list(values) for key, values in (gathered or {}).items()}
        """{metric: its value at each step since the last line that has been checked}; JSON can hold it."""
        self._pending: list[dict] = []
        self._last: dict[str, Any] = {}
        self._since, self._waited, self._timed = None, 0.0, 0

    def __len__(self) -> int:
        """Steps since the last line."""
        return len(self.gathered.get("loss", ())) + len(self._pending)

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Around what fetches a step's input."""
        began = time.perf_counter()
        self._since = self._since or began
        yield
        self._waited += time.perf_counter() - began

    def add(self, metrics: dict[str, Any]) -> None:
        """The metrics of one step, still on the device."""
        self._pending.append(metrics)
        if len(self._pending) > RUN_AHEAD:
            jax.block_until_ready(self._pending[-1 - RUN_AHEAD])

    def collect(self, step: int) -> None:
        """Wait for the steps before this one and check them.

        Raises:
            TrainingError: one of them diverged.
        """
        seen = jax.device_get(self._pending)
        for i, metrics in enumerate(seen):
            check_health(self._net, self._phase, step - len(seen) + i, metrics)
            for key in AVERAGED:
                if key in metrics:
                    self.gathered.setdefault(key, []).append(np.asarray(metrics[key], np.float64).tolist())
            self._last = {key: metrics[key] for key in LAST if key in metrics}
        self._pending, self._timed = [], self._timed + len(seen)

    def line(self, step: int) -> dict[str, Any]:
        """Collect, and return means over the steps since the last line, and how fast they were."""
        self.collect(step)
        seconds = time.perf_counter() - self._since
        values = {key: self._by_layer(np.mean(steps, axis=0)) for key, steps in self.gathered.items()}
        values |= {key: self._by_layer(value) for key, value in self._last.items()}
        values |= {"steps": len(self.gathered["loss"]),
                   "images_per_second": self._timed * self._batch_size / seconds,
                   "input_wait_share": self._waited / seconds, **memory()}
        self.gathered = {}
        self.pause()
        return values

    def pause(self) -> None:
        """Stop the clock until the next input is fetched."""
        self._since, self._waited, self._timed = None, 0.0, 0

    def _by_layer(self, value):
        return dict(zip(self._names, np.asarray(value).tolist(), strict=False)) if np.ndim(value) else float(value)


def memory(devices: Sequence[jax.Device] | None = None) -> dict[str, int]:
    """The most bytes that were in use so far.

    Returns:
        {"device_memory_bytes": on the fullest of this process's devices}, or {"process_memory_bytes": resident} where
        the devices do not tell (CPU).
    """
    stats = [device.memory_stats() for device in (jax.local_devices() if devices is None else devices)]
    peaks = [s["peak_bytes_in_use"] for s in stats if s and "peak_bytes_in_use" in s]
    if peaks:
        return {"device_memory_bytes": max(peaks)}
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"process_memory_bytes": resident * (1 if sys.platform == "darwin" else 1024)}
