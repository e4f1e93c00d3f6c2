"""A command in this process, as a hostile case needs it: its refusal as an InputError, what it warns of as warnings."""

import contextlib
import io
import re
import warnings

from dietjax.cli import main as cli
from dietjax.errors import InputError

FRAMES = re.compile("[│╭╮╰╯─]")


def run(*arguments: object) -> str:
    """What the command prints, in one line.

    Raises:
        InputError: it ended with another status than 0, with all that it said on stderr.
    """
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = cli.main([str(argument) for argument in arguments])
        except SystemExit as ended:  # of tyro, with a text in a frame
            status = ended.code
    lines = [" ".join(FRAMES.sub(" ", line).split()) for line in err.getvalue().splitlines()]
    if status:
        raise InputError(" ".join(line.removeprefix("error: ") for line in lines if line))
    for line in lines:
        assert line.startswith("warning: "), line
        warnings.warn(line.removeprefix("warning: "), stacklevel=2)
    return " ".join(out.getvalue().split())
