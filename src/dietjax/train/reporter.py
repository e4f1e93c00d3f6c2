"""What a phase says while it trains: lines of metrics for the log, progress for the console."""

from collections.abc import Callable, Mapping
from typing import Any

from ..analysis import activity
from ..analysis.log import LOG_EVERY
from .optimizer import learning_rate
from .plan import Plan
from .window import MetricWindow


class Reporter:
    """Turns what steps and evaluations measure into lines. On several hosts every process has one."""

    def __init__(self, plan: Plan, begin: Callable[[int, bool, int], None], log: Callable[[str, int, dict], None],
                 advance: Callable[[int, int, dict], None], warn: Callable[[str], None]):
        """Of one phase.

        Args:
            plan: the phase.
            begin: called once with the step that training starts or resumes from, whether that is saved untested, and
                how many of the steps before it no line covers yet.
            log: called with ("train" | "test", step, values).
            advance: called with (step, total steps, latest values) after each look at the metrics.
            warn: called with a sentence about layers that do nothing (`activity`), once for each; a line or test in
                which they do nothing says so in its "warnings" every time.
        """
        self._plan, self._begin, self._log, self._advance, self._warn = plan, begin, log, advance, warn
        self._warned: set[tuple[str, str]] = set()  # (kind of finding, layer)
        self._rate = learning_rate(plan.phase, plan.total_steps)
        self.window = MetricWindow(plan.net, plan.name, plan.phase.batch_size)
        """The steps since the last line."""

    def begin(self, done: int, untested: bool, gathered: Mapping[str, list]) -> None:
        """Start or resume after so many steps, with what the window had gathered when they were saved."""
        self.window = MetricWindow(self._plan.net, self._plan.name, self._plan.phase.batch_size, gathered)
        self._begin(done, untested, len(self.window))
        self._advance(done, self._plan.total_steps, {})

    def is_due(self, done: int) -> bool:
        """Whether a line is, after so many steps."""
        return self._plan.ends_epoch(done) or len(self.window) >= LOG_EVERY

    def until_due(self, done: int, most: int) -> int:
        """Steps, at most `most`, until a line is due or the state is saved, which then ends an epoch."""
        return next((n for n in range(1, most) if self._plan.ends_epoch(done + n) or len(self.window) + n >= LOG_EVERY),
                    most)

    def line(self, done: int) -> None:
        """Log the means over the steps since the last line.

        Raises:
            TrainingError: one of them diverged.
        """
        values: dict[str, Any] = {"epoch": self._plan.epoch(done), "learning_rate": float(self._rate(done - 1)),
                                  **self.window.line(done)}
        values |= self._warnings(values, values.pop("zero_gradient", {}))
        self._log("train", done, values)
        self._advance(done, self._plan.total_steps, values)

    def tested(self, done: int, metrics: Mapping[str, Any]) -> None:
        """Log an evaluation after so many steps."""
        self._log("test", done, {"epoch": self._plan.epoch(done), **metrics, **self._warnings(metrics)})

    def _warnings(self, measured, zero_gradient=None):
        """{"warnings": sentences} for the log, where there are any; those on layers not named before are passed on."""
        found = activity.find(measured.get("spike_rate", {}), self._plan.schedule.timesteps, zero_gradient)
        for finding in found:
            named = {(finding.kind, layer) for layer in finding.layers}
            if named - self._warned:
                self._warn(finding.sentence)
            self._warned |= named
        return {"warnings": [finding.sentence for finding in found]} if found else {}
