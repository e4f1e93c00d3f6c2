"""Clear errors: what was wrong, the nearest thing that would have been right, and the remedy."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """The caller's mistake, with its remedy. The command line prints it without a traceback; anything else is a bug."""


class Stopped(BaseException):
    """A run that a signal stopped, and what is saved of it; the command line exits with 128 + `signal`, as shells do.

    No Exception, as KeyboardInterrupt is none: what mends errors must not take a signal for one.
    """

    def __init__(self, message: str, signal: int):
        super().__init__(message)
        self.signal = signal


def unknown(what: str, given: str, known: Iterable[str]) -> InputError:
    """An error that names the nearest known match: `raise unknown("surrogate", "arctn", DERIVATIVES)`."""
    known = list(known)
    # matched without regard to case: "resnet20" is near "ResNet20"
    near = difflib.get_close_matches(given.lower(), [k.lower() for k in known], n=1, cutoff=0.5)
    hint = next((f"; did you mean {k!r}?" for k in known if near and k.lower() == near[0]), "")
    return InputError(f"unknown {what} {given!r}{hint or '.'} Known: {', '.join(known)}.")
