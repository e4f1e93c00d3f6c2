"""Hostile cases: what somebody has, what they should be told, what they are told.

A table is a list `CASES` of `Case` in a file test_hostile_*.py, whose test runs each: `check(case, tmp_path)`. This
file prints all of them, as docs/hostile.md keeps them: `python tests/helpers/hostile.py > docs/hostile.md`.
"""

import dataclasses
import os
import pathlib
import re
import runpy
import sys
import tempfile
import warnings
from collections.abc import Callable
from typing import Any

from dietjax.errors import InputError

TESTS = pathlib.Path(__file__).parents[1]


@dataclasses.dataclass(frozen=True)
class Case:
    """One hostile case."""

    what: str
    """What somebody has or types, in a few words; unique within its table."""
    attempt: Callable[[pathlib.Path], Any]
    """Makes it in an empty folder, then tries it; what comes back is said by its `str`."""
    expected: tuple[str, ...]
    """Parts of what is obtained, in this order. The first is "error", where it has to be refused, "warning", where it
    is taken and something is said, or "taken"."""

    def __str__(self) -> str:
        return self.what


def obtained(case: Case, folder: pathlib.Path) -> str:
    """"error: SENTENCE", "warning: SENTENCE; RESULT" or "taken: RESULT", with PATH for the folder and for its name.
    Whatever is no InputError passes through: it would be a traceback.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = f"{case.attempt(folder)}"
            said = [f"warning: {warning.message}" for warning in caught]
            told = "; ".join([*said, result]) if said else f"taken: {result}"
        except InputError as error:
            told = f"error: {error}"
    return told.replace(str(folder), "PATH").replace(folder.name, "PATH")


def check(case: Case, folder: pathlib.Path) -> None:
    """That what is obtained has the parts that are expected, in their order, and is one line."""
    found, position = obtained(case, folder), 0
    assert case.expected[0] in ("error", "warning", "taken") and found.startswith(case.expected[0]), found
    assert "\n" not in found and "Traceback" not in found, found
    for part in case.expected:
        assert part in found[position:], f"{part!r} is not, or not there, in: {found}"
        position = found.index(part, position) + len(part)


def tables() -> dict[str, list[Case]]:
    """{file name: its CASES} of all tests."""
    return {path.name: runpy.run_path(str(path))["CASES"] for path in sorted(TESTS.rglob("test_hostile_*.py"))}


def row(case: Case, found: str) -> str:
    """The case's row in a table, without what differs from run to run."""
    for changing, instead in ((r"process \d+ on \S+ runs it since \S+ \S+", "process 123 on HOST runs it since TIME"),
                              ("0x[0-9a-f]+", "0x..."), ("-{5,}", "-----")):
        found = re.sub(changing, instead, found)
    cells = case.what, " … ".join(case.expected), found
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _print_all() -> None:
    found = tables()
    print(f"""# Hostile cases

{sum(map(len, found.values()))} things that people have or type and that are not as they should be: what they have to
be told, and what they are told. Tests run each of them; `python tests/helpers/hostile.py > docs/hostile.md` wrote this
page.
""")
    for name, cases in found.items():
        print(f"## {name}\n\n| case | expected | obtained |\n|---|---|---|")
        for case in cases:
            with tempfile.TemporaryDirectory() as folder:
                os.chdir(folder)
                print(row(case, obtained(case, pathlib.Path(folder))))
        print()


if __name__ == "__main__":
    sys.path.insert(0, str(TESTS / "helpers"))
    _print_all()
