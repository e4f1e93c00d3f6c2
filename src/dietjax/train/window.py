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
RUN_AHEAD = 4
"""Programs, of a step each, the host may be ahead of the device: enough to keep it busy, few enough to stop soon after
a signal. Of several steps each, it is one."""


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
        self.gathered: dict[str, list] = {key: [self._by_layer(value) for value in values]
                                          for key, values in (gathered or {}).items()}
        """{metric: its value at each step since the last line that has been checked, a number or {layer: number}}; JSON
        can hold it."""
        self._pending: list[tuple[int | None, dict]] = []
        self._last: dict[str, Any] = {}
        self._since, self._waited, self._timed = None, 0.0, 0

    def __len__(self) -> int:
        """Steps since the last line."""
        return len(self.gathered.get("loss", ())) + sum(count or 1 for count, _ in self._pending)

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Around what fetches a step's input."""
        began = time.perf_counter()
        self._since = self._since or began
        yield
        self._waited += time.perf_counter() - began

    def add(self, metrics: dict[str, Any], count: int | None = None) -> int | None:
        """The metrics of one step, still on the device; with `count` of so many, the first along their first axis.
        Returns the count of the earlier ones that it waited for, None where the host is not yet so far ahead.
        """
        self._pending.append((count, metrics))
        ahead = RUN_AHEAD if count is None else 1
        if len(self._pending) <= ahead:
            return None
        earlier, metrics = self._pending[-1 - ahead]
        jax.block_until_ready(metrics)
        return earlier

    def collect(self, step: int) -> None:
        """Wait for the steps before this one and check them.

        Raises:
            TrainingError: one of them diverged.
        """
        seen = [one for count, metrics in jax.device_get(self._pending) for one in _each(metrics, count)]
        for i, metrics in enumerate(seen):
            check_health(self._net, self._phase, step - len(seen) + i, metrics)
            for key in AVERAGED:
                if key in metrics:
                    self.gathered.setdefault(key, []).append(_plain(metrics[key]))
            self._last = {name: _plain(values) for name, values in metrics.get("neurons", {}).items()}
        self._pending, self._timed = [], self._timed + len(seen)

    def line(self, step: int) -> dict[str, Any]:
        """Collect, and return means over the steps since the last line, and how fast they were."""
        self.collect(step)
        seconds = time.perf_counter() - self._since
        means = {key: _mean(steps) for key, steps in self.gathered.items()}
        values: dict[str, Any] = self._last | means  # whatever somebody's neuron calls its parameters
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
        """As it is, by name. A list is of an earlier version's checkpoint: one number for each layer."""
        if not isinstance(value, list):
            return value
        return dict(zip((layer.name for layer in self._net.layers), value, strict=False))


def _plain(value):
    """A number, or {name: number}, as Python has them."""
    return {name: float(v) for name, v in value.items()} if isinstance(value, Mapping) else float(value)


def _mean(steps):
    """Of numbers, or of {name: number}."""
    if isinstance(steps[0], Mapping):
        return {name: float(np.mean([step[name] for step in steps])) for name in steps[0]}
    return float(np.mean(steps))


def _each(metrics, count):
    """The metrics of each step."""
    return [metrics] if count is None else [jax.tree.map(lambda x, i=i: x[i], metrics) for i in range(count)]


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
