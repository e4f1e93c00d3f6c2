"""Hostile cases of `dietjax bench all`."""

import pytest
from hostile import Case, check

from dietjax.bench.main import All
from dietjax.bench.options import Output


def asked(minutes=1.0, make=None, out="out", experiment=None):
    """`bench all` into a folder beside what `make` made; nothing gets as far as starting a process."""
    def attempt(folder):
        if make:
            make(folder)
        return All(folder / out, minutes, experiment and folder / experiment)()

    return attempt


def a_file(folder):
    (folder / "out").write_text("mine")


def below_a_file(folder):
    (folder / "mine").write_text("mine")


def a_file_as_log(folder):
    (folder / "out").mkdir()
    (folder / "out/log").write_text("mine")


def no_experiment(folder):
    (folder / "mine.py").write_text("a = 1")


CASES = [
    Case("bench all --minutes 0", asked(0.0), ("error", "--minutes must be > 0, got 0")),
    Case("bench all --minutes -3", asked(-3.0), ("error", "--minutes must be > 0, got -3")),
    Case("bench all --minutes nan", asked(float("nan")), ("error", "--minutes must be > 0, got nan")),
    Case("bench all --minutes inf", asked(float("inf")), ("error", "--minutes must be > 0, got inf")),
    Case("bench all --out, a file", asked(make=a_file), ("error", "--out PATH/out cannot be made: Not a directory")),
    Case("bench all --out below a file", asked(make=below_a_file, out="mine/out"),
         ("error", "--out PATH/mine/out cannot be made: Not a directory")),
    Case("bench all --out whose log is a file", asked(make=a_file_as_log), ("error", "cannot be made")),
    Case("bench all --out where nobody may write", asked(out="/proc/out"), ("error", "--out /proc/out cannot be made")),
    Case("bench all --experiment that is not there", asked(experiment="none.py"), ("error", "none.py")),
    Case("bench all --experiment without one", asked(make=no_experiment, experiment="mine.py"), ("error", "mine.py")),
    Case("bench step --plot in a folder that is not there", lambda folder: Output(plot=folder / "a/b.png").check(),
         ("error", "there is no folder PATH/a")),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_is_odd_is_named(case, tmp_path):
    check(case, tmp_path)


