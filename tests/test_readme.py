"""The README's code runs as it stands and prints what stands below it; its commands are commands."""

import pathlib
import re
import shlex

import pages
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
@pytest.mark.usefixtures("narrow_networks")
def test_every_example_runs_and_prints_what_stands_below_it(digits_folder, finished_run, monkeypatch, tmp_path):
    """In a folder with a run on digits, as the quick start leaves one."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(digits_folder))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/digits").symlink_to(finished_run)
    assert all(below for _, below in pages.examples(README)), "no output stands below one of them"
    pages.check(README)


def test_there_are_as_many_examples_and_command_lines_as_the_readme_promises():
    assert len(pages.examples(README)) == 9
    assert len(command_lines()) > 12


def test_every_link_and_picture_leads_to_a_file_or_a_heading():
    text = README.read_text()
    headings = {re.sub(r"[^\w\- ]", "", line).strip().lower().replace(" ", "-")
                for line in re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)}
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("#"):
            assert target[1:] in headings, target
        elif "://" not in target:
            assert (README.parent / target).exists(), target


@pytest.mark.parametrize("line", command_lines())
def test_every_command_line_is_understood(line, monkeypatch, tmp_path):
    """Parsed, not run, where there is nothing but the experiments."""
    parsed = []
    for command in (cli.Train, cli.Status, cli.Evaluate, cli.Convert, cli.EnergyOf, cli.Report, cli.DataOf, cli.Prepare,
                    cli.Bench):
        monkeypatch.setattr(command, "__call__", lambda self: parsed.append(self))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments").symlink_to(README.parent / "experiments")
    assert cli.main(shlex.split(line, comments=True)[1:]) == 0
    assert len(parsed) == 1
