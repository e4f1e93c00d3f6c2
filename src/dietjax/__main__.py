"""`python -m dietjax` and the command `dietjax`: what has to be before its imports, then the command line.

Imports take seconds, and an exception that a signal raises inside one may come out as another, with a traceback, or be
lost. So until a command says otherwise a signal ends the process at once, with a line. Nothing is half done then: what
writes for long, a run and `dietjax prepare`, handles signals itself while it does.
"""

import _signal as signal  # `signal` itself imports enum first, milliseconds in which Ctrl-C would be a traceback
import os
import sys


def main() -> int:
    """Entry point; returns the exit status."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _end)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # closed by who started us
            stream.reconfigure(errors="backslashreplace")  # a terminal may lack our µ and ×, and others' letters
    sys.unraisablehook = _of_an_object
    from .cli.main import main as command_line

    return command_line()


def _end(number, frame):
    os.write(2, b"stopped; the same command begins again\n")
    os._exit(128 + number)


def _of_an_object(unraisable):
    """Python's, but for what belongs to no object: tensorstore tells so what a save that failed has left undone, which
    `checkpoint.SaveError` says in a sentence.
    """
    if unraisable.object is not None:
        sys.__unraisablehook__(unraisable)


if __name__ == "__main__":
    sys.exit(main())
