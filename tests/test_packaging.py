"""What is published: one version in one place, and everything that an installed dietjax reads."""

import ast
import re
import tomllib
from importlib import metadata, resources
from pathlib import Path

import yaml

import dietjax
from dietjax.cli.main import main

PROJECT = Path(__file__).parents[1]


def test_one_version_in_one_place(capsys):
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    assert "version" in settings["project"]["dynamic"]
    assert settings["tool"]["hatch"]["version"]["path"] == "src/dietjax/__init__.py"
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"dietjax {dietjax.__version__}\n"
    assert metadata.version("dietjax") == dietjax.__version__
    assert yaml.safe_load((PROJECT / "CITATION.cff").read_text())["version"] == dietjax.__version__
    newest = re.search(r"^## .*", (PROJECT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest and dietjax.__version__ in newest[0]


def test_what_is_read_at_run_time_lies_in_the_package():
    for room, name in (("dietjax", "py.typed"), ("dietjax.report", "page.html")):
        assert resources.files(room).joinpath(name).is_file()


def test_what_a_checker_sees_of_the_package_is_what_there_is():
    """The lazy names of dietjax/__init__.py: every one of __all__ loads, and a type checker reads its import."""
    for name in dietjax.__all__:
        assert getattr(dietjax, name) is not None
    assert dietjax._MODULES.keys() | dietjax._MEMBERS.keys() == set(dietjax.__all__)
    source = ast.parse((PROJECT / "src/dietjax/__init__.py").read_text())
    guarded, = (node for node in source.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    assert {alias.name for statement in guarded.body for alias in statement.names} == set(dietjax.__all__)


def test_the_files_to_touch_are_there():
    """CONTRIBUTING.md names a module with or without its ending, and a folder."""
    named = re.findall(r"(?<![\w/.])((?:src|tests|docs)/[\w/.]*\w)", (PROJECT / "CONTRIBUTING.md").read_text())
    assert len(named) > 20
    assert [name for name in named if not (PROJECT / name).exists() and not (PROJECT / f"{name}.py").exists()] == []
