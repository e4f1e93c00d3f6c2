"""Laws of dietjax.run.console: a run outlives whoever reads what it says."""

import io
import os
import re
import subprocess
import sys
import time

import pytest
import rich.console

from dietjax.run.console import Console

TALK = """
import sys, time
from dietjax.run.console import Console

terminal = Console()
with terminal.phase("ann") as advance:
    for step in range(2):
        advance(step, 2, {"images_per_second": 10.0, "loss": 0.5, "input_wait_share": 0.0})
        terminal.epoch("ann", {"epoch": step, "accuracy": 0.5, "loss": 0.5})
        time.sleep(0.3)  # the bar is drawn by a thread of its own, ten times a second
        if not step:
            sys.stdin.readline()
terminal.say("x" * 100_000)  # more than a pipe holds
"""


@pytest.mark.parametrize("opened, drawn", [(os.pipe, False), (os.openpty, True)], ids=["pipe", "terminal"])
def test_a_run_goes_on_when_nobody_reads_it_any_more(opened, drawn):
    reader, writer = opened()
    process = subprocess.Popen([sys.executable, "-c", TALK], stdin=subprocess.PIPE, stdout=writer,
                               stderr=subprocess.PIPE, text=True, env=os.environ | {"TERM": "xterm", "COLUMNS": "200"})
    os.close(writer)
    said, end = b"", time.monotonic() + 60
    while b"test accuracy" not in said and time.monotonic() < end:
        said += os.read(reader, 1000)
    os.close(reader)
    _, errors = process.communicate("go on\n", timeout=60)
    assert (b"\x1b" in said) == drawn
    assert (process.returncode, errors) == (0, "")


@pytest.mark.parametrize("columns", [40, 80, 129, 130])
def test_what_a_run_says_is_not_cut_off_on_a_narrow_terminal(columns):
    terminal = rich.console.Console(file=io.StringIO(), force_terminal=True, width=columns)
    console = Console(terminal)
    with console.phase("converted") as advance:
        advance(123, 1000, {"images_per_second": 12345.0, "loss": 0.12345, "input_wait_share": 0.5})
        console.epoch("converted", {"epoch": 12.0, "accuracy": 0.5, "top5_accuracy": 0.75, "loss": 0.25})
    said = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", terminal.file.getvalue())
    assert "…" not in said and "12%" in said
    assert "converted SNN  epoch  12.0  test accuracy 50.00%  top-5 75.00%  loss 0.2500" in said
    assert ("12,345 images/s" in said) == (columns >= 130)
