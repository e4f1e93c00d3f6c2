"""The README's code runs as it stands, and its commands are commands."""

import pathlib
import re
import shlex

import numpy as np
import pytest

from dietjax.cli import main as cli

README = pathlib.Path(__file__).parents[1] / "README.md"


def command_lines():
    """Of the shell blocks, and those in the text."""
    text = README.read_text()
    blocks = re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    lines += re.findall(r"`([^`\n]*)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return [line for line in lines if re.match(r"(\.venv/bin/)?dietjax ", line)]


@pytest.mark.slow
def test_readme_code_runs_and_shows_what_it_says(capsys):
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    assert len(blocks) == 2
    names = {}
    for block in blocks:
        exec(compile(block, str(README), "exec"), names)
    assert names["record"]["logits"].shape == (4, 5, 10)
    assert next(iter(names["record"]["spike_rate"])) == "conv1"
    assert np.isfinite(float(names["gradient"].leak)) and float(names["gradient"].threshold) < 0


def test_there_are_command_lines():
    assert len(command_lines()) > 12


@pytest.mark.parametrize("line", command_lines())
def test_every_command_line_is_understood(line, monkeypatch, tmp_path):
    """Parsed, not run, where there is nothing but the experiments."""
    parsed = []
    for command in (cli.Train, cli.Status, cli.Evaluate, cli.Convert, cli.EnergyOf, cli.Report, cli.Prepare, cli.Bench):
        monkeypatch.setattr(command, "__call__", lambda self: parsed.append(self))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments").symlink_to(README.parent / "experiments")
    assert cli.main(shlex.split(line, comments=True)[1:]) == 0
    assert len(parsed) == 1
