"""SIGTERM of a scheduler, SIGHUP of a lost terminal, or Ctrl-C: noticed between two training steps, to save first;
elsewhere the end at once, with a word.
"""

import contextlib
import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import jax
from jax.experimental import multihost_utils

from ..errors import Stopped

AGAIN = 0.05
"""Seconds after which a signal that came during an import is sent again."""
LONGEST_IMPORT = 5.0
"""Seconds after which it waits no longer: a run may have been begun by a module that is being imported itself."""
Handler = Callable[[int, FrameType | None], Any] | int | None


class Preemption:
    """Inside its `with` block the first SIGTERM or SIGINT is only noted; a second one of the same kind acts as usual.

    SIGHUP is only noted, however often it comes: when a connection drops, shell and kernel send one each, and the
    second would end the run while it saves. Where it is ignored (nohup) it stays ignored.

    On several hosts a signal to one stops all, after the same step: jax's preemption service tells the others of a
    SIGTERM and agrees on the step with them. So there SIGTERM keeps jax's own handler, and the handlers of the other
    signals send a SIGTERM. Outside the main thread Python allows no handlers, and signals act as usual.
    """

    _asked = itertools.count()  # number of the question to all hosts; over all phases, because steps begin at 0 in each

    def __init__(self):
        self.signal: int = signal.SIGTERM
        """The signal received, once `reached` is true."""
        self._noticed = False
        self._hosts = jax.process_count() > 1
        self._previous: dict[int, Handler] = {}

    def __enter__(self) -> "Preemption":
        self._previous = _handle(self._notice)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def reached(self) -> bool:
        """Whether to stop here. On several hosts each must ask after every step."""
        if self._hosts:
            return multihost_utils.reached_preemption_sync_point(next(self._asked))
        return self._noticed

    def _notice(self, number: int, frame: FrameType | None) -> None:
        first, self.signal, self._noticed = not self._noticed, number, True
        if number != signal.SIGHUP:
            signal.signal(number, self._previous.pop(number))
        if self._hosts and first:
            os.kill(os.getpid(), signal.SIGTERM)


@contextlib.contextmanager
def stopping(said: Callable[[], str]) -> Iterator[None]:
    """Inside, SIGTERM, SIGHUP or Ctrl-C raise `Stopped` at once, with what `said` returns then. A `Preemption` inside
    comes first. On several hosts SIGTERM keeps jax's own handler.

    While a module is being imported the signal waits for its end: what is raised inside an import may come out as
    another exception, or be lost.
    """
    waiting: list[float] = []

    def stop(number: int, frame: FrameType | None) -> None:
        waiting.append(time.monotonic())
        if _imports(frame) and waiting[-1] - waiting[0] < LONGEST_IMPORT:
            threading.Timer(AGAIN, os.kill, (os.getpid(), number)).start()
        else:
            raise Stopped(said(), number)

    previous = _handle(stop)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _imports(frame: FrameType | None) -> bool:
    """Whether Python is importing a module there."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _handle(handler: Handler) -> dict[int, Handler]:
    """Give the signals that may be handled here this handler: {signal: the one that it had}."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    signals = [signal.SIGINT] if jax.process_count() > 1 else [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signals.append(signal.SIGHUP)
    return {number: signal.signal(number, handler) for number in signals}
