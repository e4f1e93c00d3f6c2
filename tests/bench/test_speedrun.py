"""Time to accuracy: what is reported of a run is what the run says of itself."""

import json

import pytest
from tiny_run import EXPERIMENT, as_in_a_process

from dietjax import config
from dietjax.cli import main as cli


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "tiny.py"
    path.write_text(EXPERIMENT)
    return path


@pytest.mark.parametrize("options, says", [
    (["--accuracy", "97"], r"--accuracy is a share of the test set in (0, 1], got 97.0"),
    (["--accuracy", "0"], "got 0.0"),
    (["--accuracy", "0.9", "--output.plot", "a.png"], "--plot draws times of calls"),
])
def test_what_cannot_be_measured_is_refused_before_it_runs(file, tmp_path, capsys, options, says):
    options = [option.replace("--output.", "--") for option in options]
    assert cli.main(["bench", "speedrun", str(file), "--workdir", str(tmp_path / "run"), *options]) == 2
    assert says in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_a_start_in_a_folder_that_is_there_is_not_cold(file, tmp_path, capsys):
    assert cli.main(["bench", "speedrun", str(file), "--workdir", str(tmp_path), "--accuracy", "0.9"]) == 2
    assert "a cold start needs a new folder" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("at_once", [1, 3])
def test_the_accuracies_are_the_runs_own_and_times_follow_one_another(file, tmp_path, capsys, digits_folder, at_once):
    run = tmp_path / "run"
    file.write_text(f"{EXPERIMENT}\nimport dataclasses\nfrom dietjax.config import Parallel\nexperiment = "
                    f"dataclasses.replace(experiment, parallel=Parallel(steps_at_once={at_once}))\n")
    with as_in_a_process(digits_folder):
        assert cli.main(["bench", "speedrun", str(file), "--workdir", str(run), "--accuracy", "0.2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    ann, snn = found["rows"]
    for row, phase in ((ann, "ann"), (snn, "snn")):
        tested = [line["accuracy"] for line in lines if (line["phase"], line["split"]) == (phase, "test")]
        assert row["best accuracy"] == max(tested) > 0.2
        assert row["share"] == pytest.approx(row["images/s"] / row["bare images/s"])
    assert 0 < ann["to accuracy, s"] < snn["to accuracy, s"]
    assert "compiling" in found["notes"][0] and config.read_run(run).name == "tiny"
