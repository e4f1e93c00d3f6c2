"""Clear errors: what was wrong, the nearest thing that would have been right, and the remedy."""

import contextlib
import difflib
from collections.abc import Callable, Iterable, Iterator


class InputError(ValueError):
    """The caller's mistake, with its remedy. The command line prints it without a traceback; anything else is a bug."""


class OutOfMemory(InputError):
    """A device's memory was too small for what was asked of it."""


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


def ran_out(error: BaseException) -> bool:
    """Whether this says that memory was too small: JAX's own error, or that of a library beside it."""
    return isinstance(error, MemoryError) or any(said in str(error) for said in ("RESOURCE_EXHAUSTED",
                                                                                 "CUDA out of memory"))


@contextlib.contextmanager
def naming_shortage(doing: str, helps: str | Callable[[], str],
                    largest: Callable[[], str] | None = None) -> Iterator[None]:
    """Around programs on data of a size that somebody chose; their results have to be waited for inside.

    Args:
        doing: what they do, as in "the device ran out of memory in {doing}".
        helps: a sentence: which setting of this place takes less.
        largest: says the largest block (`models.largest_block`), where there is a network.

    Raises:
        OutOfMemory: they ran out of memory, with all of this; one from inside, which knows more, passes through.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not ran_out(error):
            raise
        said = f" {largest()}" if largest else ""
        remedy = helps if isinstance(helps, str) else helps()
        whose = "this machine" if isinstance(error, MemoryError) else "the device"
        raise OutOfMemory(f"{whose} ran out of memory in {doing}.{said} {remedy}") from error
