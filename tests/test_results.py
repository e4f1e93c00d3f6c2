"""The README's results are those of the stored summaries, and the experiments' files say the same."""

import ast
import dataclasses
import json
import pathlib
import re
import runpy
import shlex

import pytest

import dietjax
from dietjax.cli import main as cli
from dietjax.config import AnnNeuron, Data, Experiment, Model, Neuron, Phase, from_dict
from dietjax.errors import InputError
from dietjax.run.summary import portable

PROJECT = pathlib.Path(__file__).parents[1]
SCRIPT = runpy.run_path(str(PROJECT / "docs/results_table.py"))
FILE = """
from dietjax.config import Experiment, Phase

experiment = Experiment(name="mine", timesteps=4, ann=Phase(epochs=7))
"""
MINE = Experiment(name="mine", timesteps=4, ann=Phase(epochs=7))


def summary(experiment=MINE, ann=0.9, converted=(0.5, 0.7), snn=(0.6, 0.8), rates=(1.0, 2.0), ratio=5.0):
    """As a run leaves it, of two hidden layers of 300 and 100 neurons."""
    timesteps = experiment.timesteps
    return {
        "experiment": experiment.name, "model": experiment.model.name, "test_images": 10_000,
        "ann": {"accuracy": ann}, "converted": {"accuracy": converted[-1], "accuracy_by_timestep": list(converted)},
        "snn": {"accuracy": snn[-1], "accuracy_by_timestep": list(snn), "timesteps": timesteps},
        "layers": [{"neurons": 300, "spike_rate": rates[0]}, {"neurons": 100, "spike_rate": rates[1]}],
        "energy": {"ratio": ratio}, "machine": "1 × cpu", "versions": {"jax": "0.10.2"}, "seconds_in_all": 100.4,
        "settings": json.loads(json.dumps(portable(experiment)))}


@pytest.fixture
def project(tmp_path):
    """(name, contents) -> a file of results; in a project with one experiment's file, whose rows `.rows()` reads."""
    results = tmp_path / "experiments" / "results"
    results.mkdir(parents=True)
    (tmp_path / "experiments" / "mine.py").write_text(FILE)

    def store(name, contents):
        (results / name).write_text(json.dumps(contents))
        return tmp_path

    return store


def cells(line):
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


# ---- what is kept


def test_the_readme_shows_what_is_stored():
    page = (PROJECT / "README.md").read_text(encoding="utf-8")
    assert page == SCRIPT["filled"](page, SCRIPT["table"](SCRIPT["read"]())), "run: python docs/results_table.py"


def test_every_experiment_says_what_its_stored_runs_obtained():
    for row in SCRIPT["read"]():
        file = PROJECT / "experiments" / f"{row[0].summary['experiment']}.py"
        said = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))).split("Obtained:")[1]
        assert SCRIPT["obtained"](row) in " ".join(said.split()), f"{file} lacks: {SCRIPT['obtained'](row)}"


def test_no_stored_run_tells_of_this_machine_s_folders():
    for path in (PROJECT / "experiments/results").iterdir():
        assert not re.search(r'"(/|~|\w+:.*/)', path.read_text(encoding="utf-8")), path


def test_only_the_names_of_files_and_folders_are_kept():
    for name, kept in (("npz:/home/me/some.npz", "npz:some.npz"), ("folder:~/photos", "folder:photos"),
                       ("events:/data/N-MNIST", "events:N-MNIST"),
                       ("cifar10:3.0.2", "cifar10:3.0.2"), ("imagenet_resized/32x32", "imagenet_resized/32x32")):
        asked = Experiment("x", seed=3, data=Data(name, dir="/data", threads=3, flip=True))
        assert from_dict(Experiment, portable(asked)) == dataclasses.replace(asked, data=Data(kept, flip=True))


# ---- rows


def test_a_row_by_hand(project):
    """Rates: 1/4 and 2/4 spikes per step, 300 and 100 neurons: (75 + 50) / 400."""
    row, = SCRIPT["read"](project("mine.json", summary(converted=(0.1, 0.2, 0.3, 0.4), snn=(0.5, 0.6, 0.7, 0.81234))))
    head, rule, line = SCRIPT["table"]([row]).splitlines()
    assert len(cells(head)) == len(cells(rule)) == len(cells(line))
    assert cells(line) == [
        "[mine](experiments/mine.py) (VGG16, 10,000 test images)", "4", "90.00 %", "40.00 %", "81.23 %",
        "1: 10.0, 50.0; 2: 20.0, 60.0", "0.312 (0.250 to 0.500)", "5.00", "1 min 40 s", "1 × cpu, jax 0.10.2"]
    assert SCRIPT["obtained"](row) == ("ANN 90.00 %, converted 40.00 %, SNN 81.23 % at 4 timesteps, energy ratio 5.00, "
                                       "spikes per neuron and step 0.312 (0.250 to 0.500) (seed 0).")


def test_seeds_share_a_row_and_options_do_not(project):
    """Mean, least, largest."""
    other = dataclasses.replace(MINE, timesteps=2, model=Model(width=0.5))
    for seed, accuracy, ratio, rates in ((1, 0.5, 2.0, (1.0, 2.0)), (0, 0.7, 4.0, (0.4, 2.8)), (2, 0.9, 6.0, (1, 2))):
        project(f"any{seed}.json", summary(dataclasses.replace(MINE, seed=seed), snn=(accuracy,), ratio=ratio,
                                           rates=rates))
    first, second = SCRIPT["read"](project("mine_T2.json", summary(other)))
    assert [result.seed for result in first] == [0, 1, 2] and len(second) == 1
    line = cells(SCRIPT["table"]([first]).splitlines()[2])
    assert "3 seeds" in line[0] and line[4] == "70.00 % (50.00 to 90.00)" and line[7] == "4.00 (2.00 to 6.00)"
    assert line[6] == "0.292 (0.100 to 0.700)"  # (125 + 100 + 125) / 400 / 3
    assert "(seeds 0, 1, 2)" in SCRIPT["obtained"](first)
    assert cells(SCRIPT["table"]([second]).splitlines()[2])[0] == (
        "[mine](experiments/mine.py) `--timesteps 2 --model.width 0.5` (VGG16, width 0.5, 10,000 test images)")
    assert SCRIPT["obtained"](second).startswith("--timesteps 2 --model.width 0.5: ANN ")


def test_what_was_measured_at_more_timesteps_stands_beside_it(project):
    project("mine.json", summary(converted=(0.1, 0.2, 0.3, 0.4), snn=(0.5, 0.6, 0.7, 0.8)))
    project("mine.converted.json", {"accuracy": 0.95, "accuracy_by_timestep": [0.1 * i for i in range(1, 9)]})
    row, = SCRIPT["read"](project("mine.evaluated.json", {"ann": {"accuracy_by_timestep": [0.9]},
                                                          "snn": {"accuracy_by_timestep": [0.5, 0.6, 0.7, 0.8, 0.9]}}))
    assert cells(SCRIPT["table"]([row]).splitlines()[2])[5] == "1: 10.0, 50.0; 2: 20.0, 60.0; 8: 80.0, –"


def test_what_is_not_known_is_a_dash(project):
    """A run from scratch has no ANN; summaries of earlier versions do not say the time."""
    lacking = summary() | {"ann": None, "converted": None}
    del lacking["seconds_in_all"]
    row, = SCRIPT["read"](project("mine.json", lacking))
    line = cells(SCRIPT["table"]([row]).splitlines()[2])
    assert (line[2], line[3], line[4], line[5], line[8]) == ("–", "–", "80.00 %", "1: –, 60.0; 2: –, 80.0", "–")
    assert SCRIPT["obtained"](row).startswith("SNN 80.00 % at 4 timesteps")


@pytest.mark.parametrize("run", [
    dataclasses.replace(MINE, seed=5, neuron=Neuron(initial_membrane=0.5, freeze=("leak", "threshold"))),
    dataclasses.replace(MINE, timesteps=1, model=Model("VGG9", classifier=(), batch_norm=True, width=0.5)),
    dataclasses.replace(MINE, ann=Phase(epochs=9, schedule="steps", milestones=(3, 4.5), clip_norm=5.0, nesterov=True,
                                        optimizer="sgd"), ann_neuron=AnnNeuron("qcfs", 4)),
    dataclasses.replace(MINE, data=Data("cifar10", crop_padding=4, flip=True), dtype="bfloat16", truncate=True),
])
def test_the_options_of_a_row_are_those_that_the_command_line_takes(project, monkeypatch, run):
    folder = project("mine.json", summary(run))
    (row,), = SCRIPT["read"](folder)
    parsed = []
    monkeypatch.setattr(cli.Train, "__call__", lambda self: parsed.append(self.experiment))
    command = f"train {folder}/experiments/mine.py --workdir x {' '.join(row.options)}"
    assert cli.main(shlex.split(command)) == 0
    assert parsed == [dataclasses.replace(run, seed=0)]


def test_what_a_run_leaves_is_all_that_a_row_needs(project, finished_run):
    """The summary of a run of the command line, copied as it is."""
    folder = project("tiny_T3.json", json.loads((finished_run / "summary.json").read_text()))
    (folder / "experiments" / "tiny.py").write_text((finished_run.parent / "tiny.py").read_text())
    row, = SCRIPT["read"](folder)
    assert row[0].options == ("--timesteps 3",) and row[0].seed == 0
    assert SCRIPT["NOTHING"] not in cells(SCRIPT["table"]([row]).splitlines()[2])
    summary = row[0].summary
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", summary["date"]) and summary["versions"]["dietjax"] == dietjax.__version__
    assert summary["seconds_in_all"] > summary["seconds"] == summary["ann"]["seconds"] + summary["snn"]["seconds"] > 0


# ---- mistakes


def test_a_summary_without_settings_is_named(project):
    contents = summary()
    del contents["settings"]
    with pytest.raises(InputError, match=r"mine\.json does not say its settings.*train again"):
        SCRIPT["read"](project("mine.json", contents))


def test_a_result_of_no_experiment_is_named(project):
    with pytest.raises(InputError, match=r"no experiment file .*other\.py"):
        SCRIPT["read"](project("mine.json", summary(dataclasses.replace(MINE, name="other"))))


def test_only_what_stands_between_the_marks_is_replaced():
    begin, end = SCRIPT["BEGIN"], SCRIPT["END"]
    assert SCRIPT["filled"](f"a\n{begin}\nold\n{end}\nb\n", "new\n") == f"a\n{begin}\nnew\n{end}\nb\n"
    assert SCRIPT["filled"](f"{begin}\n{end}\n", r"\1") == f"{begin}\n\\1{end}\n"
    for page in ("nothing", f"{begin}\n", f"{end}\n{begin}\n"):
        with pytest.raises(InputError, match=r"README\.md needs the lines"):
            SCRIPT["filled"](page, "new\n")
