"""The house's counts: `python tests/helpers/house.py` prints the rooms, the longest functions and the longest files."""

import ast
import re
import tomllib
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).parents[2]
FOLDERS = ("src", "tests", "experiments")
LONGEST_FUNCTION, LONGEST_FILE = 60, 300  # lines: a function fits on a screen, a file holds one concept


class Length(NamedTuple):
    """How many lines something has."""

    lines: int
    what: str
    """FILE, or FILE:NAME of a function."""


def sources(project: Path = PROJECT) -> list[Path]:
    """Every Python file that is kept."""
    return sorted(path for folder in FOLDERS for path in (project / folder).rglob("*.py"))


def files(project: Path = PROJECT) -> list[Length]:
    """Lines of every file, longest first."""
    return sorted((Length(len(path.read_text().splitlines()), path.relative_to(project).as_posix())
                   for path in sources(project)), reverse=True)


def functions(project: Path = PROJECT) -> list[Length]:
    """Lines of every function from its `def` on, docstring and nested functions too, longest first."""
    return sorted((Length(node.end_lineno - node.lineno + 1, f"{path.relative_to(project).as_posix()}:{node.name}")
                   for path in sources(project) for node in ast.walk(ast.parse(path.read_text()))
                   if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)), reverse=True)


def rooms_in_contract(project: Path = PROJECT) -> list[str]:
    """The rooms of the contract "ladder" in pyproject.toml, ground first."""
    settings = tomllib.loads((project / "pyproject.toml").read_text())["tool"]["importlinter"]
    ladder, = (contract for contract in settings["contracts"] if contract["id"] == "ladder")
    return ladder["layers"][::-1]


def rooms_in_page(page: str) -> list[str]:
    """The rooms of docs/architecture.md, ground first: the first words of the fenced block under its heading "Rooms".

    `core/` and `errors.py` name rooms; what is indented or is something else goes on about the line above it.
    """
    block = re.search(r"^## Rooms\b.*\n(?:(?!## |```).*\n)*```\w*\n((?:(?!```).*\n)*)", page, re.MULTILINE)
    if block is None:
        raise ValueError('docs/architecture.md has no fenced block under a heading "## Rooms"')
    return [room for line in block[1].splitlines() for room in re.findall(r"(\w+)(?:/|\.py)(?=[\s,]|$)", _names(line))]


def _names(line: str) -> str:
    """What stands at the beginning of a line, before two spaces; nothing of an indented line."""
    return "" if line.startswith(" ") else line.split("  ")[0]


def rooms_in_source(project: Path = PROJECT) -> set[str]:
    """The folders and files directly under src/dietjax."""
    return {path.stem for path in (project / "src/dietjax").iterdir()
            if (path.suffix == ".py" and not path.stem.startswith("__")) or (path / "__init__.py").exists()}


if __name__ == "__main__":
    print("rooms, from the ground:", *rooms_in_contract())
    for title, limit, found in (("function", LONGEST_FUNCTION, functions()), ("file", LONGEST_FILE, files())):
        print(f"\n{len(found)} {title}s, {sum(length.lines > limit for length in found)} over {limit} lines. Longest:")
        for length in found[:12]:
            print(f"{length.lines:5}  {length.what}")
