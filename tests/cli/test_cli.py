"""Laws of the command line: it prints what the run's files hold; a user's mistake is a message, never a traceback."""

import json
import pathlib
import re
import shutil
import subprocess
import sys
import typing

import pytest
import tiny_run

from dietjax.analysis.energy import AC_JOULES, MAC_JOULES
from dietjax.config import names
from dietjax.run import summary as measuring

pytestmark = pytest.mark.usefixtures("quick_compile", "narrow_networks")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, digits_folder):
    """With an experiment file; digits are where TFDS_DATA_DIR points."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "tiny.py").write_text(tiny_run.EXPERIMENT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TFDS_DATA_DIR", str(digits_folder))
        yield folder


@pytest.fixture(scope="module")
def finished(folder, finished_run):
    """The folder of a run that the command line made; the file says two timesteps, the option three."""
    return pathlib.Path(shutil.copytree(finished_run, folder / "run"))


def summary(workdir):
    return json.loads((workdir / "summary.json").read_text())


# ---- help


HELPS = """
import sys
import typing
from dietjax.cli import main as cli

for command in sys.argv[1:]:
    try:
        cli.main(command.split())
    except SystemExit as ended:
        assert not ended.code
    print([name for name in ("jax", "flax", "numpy", "matplotlib", "tensorflow_datasets") if name in sys.modules])
"""


def test_help_loads_no_jax():
    """Of the command line, and of all commands in turn."""
    commands = ["--help", "train --help", "energy --help", "bench step --help", "bench all --help"]
    found = subprocess.run([sys.executable, "-c", HELPS, *commands], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    said = found.stdout.split("\n[]\n")
    assert len(said) == len(commands) + 1 and not said[-1]
    assert all("usage: dietjax" in text for text in said[:-1]) and "--chunk" in said[3]


def test_help_names_every_command(dietjax):
    status, out, _ = dietjax("--help")
    assert status == 0
    assert all(name in out for name in ("train", "evaluate", "convert", "energy", "report"))


def test_help_shows_the_values_of_the_file(dietjax, folder):
    status, out, _ = dietjax("train", folder / "tiny.py", "--help")
    assert status == 0
    words = " ".join(re.sub("[│╭╮╰╯─]", " ", out).split())  # without the frames, however it was broken into lines
    assert "(default: tiny)" in words and "(default: VGG4)" in words and "(default: 16)" in words
    assert re.search(r"--snn\.epochs INT .{,300}?\(default: 3\)", words)
    assert re.search(r"--ann\.batch-size INT \(default: 64\)", words)


def test_help_shows_what_there_is_to_choose_from(dietjax, folder):
    _, out, _ = dietjax("train", folder / "tiny.py", "--help")
    words = re.sub(r"[│╭╮╰╯─\s]", "", out)  # however it was broken into lines
    for option, choices in (("model.name", typing.get_args(names.Network)),
                            ("neuron.kind", names.NEURONS),
                            ("neuron.surrogate", ("None", *typing.get_args(names.Surrogate)))):
        assert f"--{option}{{{','.join(choices)}}}" in words


# ---- what a finished run prints


def test_options_override_the_file(finished):
    stored = json.loads((finished / "config.json").read_text())
    assert (stored["snn"]["epochs"], stored["ann"]["epochs"], stored["timesteps"]) == (3, 3, 3)
    assert len(summary(finished)["snn"]["accuracy_by_timestep"]) == 3


def test_train_again_reports_the_finished_run(dietjax, finished, folder):
    status, out, _ = dietjax("train", folder / "tiny.py", "--workdir", finished, *tiny_run.OPTIONS)
    assert status == 0
    assert "finished: nothing to do" in out
    assert f"report: {finished / 'report.html'}\n" in out  # in one piece, to be copied
    for phase in ("ann", "converted", "snn"):
        assert f"{summary(finished)[phase]['accuracy']:.2%}" in out


@pytest.mark.slow
def test_a_run_whose_config_has_earlier_names_is_finished(dietjax, finished, folder, tmp_path):
    """As a run was left that had been stopped before its last evaluation."""
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    neuron = config["neuron"]
    neuron["per"], neuron["fixed"] = neuron.pop("sharing"), neuron.pop("freeze")
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    status, _, err = dietjax("train", folder / "tiny.py", "--workdir", tmp_path / "run", *tiny_run.OPTIONS)
    assert status == 0, err
    assert (tmp_path / "run" / "config.json").read_text() == (finished / "config.json").read_text()
    found, expected = summary(tmp_path / "run"), summary(finished)
    for name in ("ann", "converted", "snn"):
        assert found[name]["accuracy"] == expected[name]["accuracy"]
    assert found["layers"] == expected["layers"]


def test_evaluate_prints_the_accuracies_of_the_summary(dietjax, finished):
    status, out, _ = dietjax("evaluate", finished, "--json")
    found = json.loads(out)
    assert status == 0
    assert found["ann"]["accuracy"] == summary(finished)["ann"]["accuracy"]
    assert found["snn"]["accuracy_by_timestep"] == summary(finished)["snn"]["accuracy_by_timestep"]
    _, out, _ = dietjax("evaluate", finished)
    assert "digits: 360 test images" in out
    assert all(f"{accuracy:.2%}" in out for accuracy in found["snn"]["accuracy_by_timestep"])


def test_evaluating_layers_that_do_nothing_says_so(dietjax, finished, monkeypatch):
    """At the timesteps that are asked for."""
    rates = {"conv1": 2.0, "conv2": 0.0, "fc1": 0.5}

    def measured(net, *_):
        seen = {"spike_rate": rates} if getattr(net.neuron, "spiking", False) else {"spike_rate": {}}
        return {"accuracy": 0.5, "accuracy_by_timestep": [0.5], **seen}, None

    monkeypatch.setattr(measuring, "measure", measured)
    status, out, err = dietjax("evaluate", finished, "--json", "--timesteps", 2)
    assert status == 0 and json.loads(out)["snn"]["spike_rate"] == rates
    silent, always = err.splitlines()
    assert silent.startswith("warning: conv2 fired at no image")
    assert always.startswith("warning: conv1 fired at every timestep of every image (2 spikes per neuron)")
    assert dietjax("evaluate", finished, "--timesteps", 3)[2] == f"{silent}\n"


@pytest.mark.slow
def test_evaluate_at_fewer_timesteps_is_the_start_of_more(dietjax, finished):
    _, out, _ = dietjax("evaluate", finished, "--json", "--timesteps", 2)
    assert json.loads(out)["snn"]["accuracy_by_timestep"] == summary(finished)["snn"]["accuracy_by_timestep"][:2]


@pytest.mark.slow
def test_evaluate_shows_accuracy_against_mean_timesteps(dietjax, finished):
    status, out, _ = dietjax("evaluate", finished, "--json", "--margin", 0, 0.01, 1e9)
    assert status == 0
    first, middle, last = json.loads(out)["snn"]["early_exit"]
    by_timestep = summary(finished)["snn"]["accuracy_by_timestep"]
    assert first == {"margin": 0, "timesteps": 1, "accuracy": pytest.approx(by_timestep[0])}
    assert last == {"margin": 1e9, "timesteps": 3, "accuracy": pytest.approx(by_timestep[-1])}
    assert 1 <= middle["timesteps"] <= 3 and middle["margin"] == 0.01
    _, out, _ = dietjax("evaluate", finished, "--margin", 0.5, "--batch-size", 60)
    assert "mean timesteps" in out and "60 image(s) at a time, at most 3 timesteps" in out


@pytest.mark.slow
@pytest.mark.parametrize("asked, scale", [("2", 2), ("None", 0.2)])  # 0.2: default_scale(T <= 5)
def test_convert_changes_one_setting_and_keeps_the_rest_of_the_run(dietjax, finished, asked, scale):
    status, out, _ = dietjax("convert", finished, "--conversion.scale", asked, "--json")
    assert status == 0
    stored = json.loads((finished / "converted.json").read_text())["threshold"]
    for name, value in stored.items():
        assert json.loads(out)["threshold"][name] == pytest.approx(scale / 0.4 * value, rel=1e-5)


@pytest.mark.slow
def test_convert_prints_what_the_run_had_converted(dietjax, finished):
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    status, out, _ = dietjax("convert", finished, "--json")
    assert status == 0
    found, stored = json.loads(out), json.loads((finished / "converted.json").read_text())
    assert found.keys() == stored.keys()
    for name, value in stored.items():
        assert found[name] == pytest.approx(value, rel=1e-6), name
    assert found["accuracy"] == summary(finished)["converted"]["accuracy"]
    assert {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_energy_of_a_run_is_the_summary_s(dietjax, finished):
    status, out, _ = dietjax("energy", finished, "--json")
    assert status == 0
    assert json.loads(out)["ratio"] == pytest.approx(summary(finished)["energy"]["ratio"], rel=1e-9)
    _, out, _ = dietjax("energy", finished)
    assert f"ANN / SNN = {summary(finished)['energy']['ratio']:.2f}" in out


@pytest.mark.slow
def test_report_writes_the_same_page_again(dietjax, finished):
    before = (finished / "report.html").read_bytes()
    (finished / "report.html").unlink()
    status, out, _ = dietjax("report", finished)
    assert (status, out) == (0, f"{finished / 'report.html'}\n")
    assert (finished / "report.html").read_bytes() == before


def test_energy_at_a_rate_is_the_closed_formula(dietjax):
    """VGG16 on 32×32: f of the MACs are in the first layer, the paper's 1.62 spikes per neuron in all others."""
    status, out, _ = dietjax("energy", "--model", "VGG16", "--rate", 1.62, "--json")
    assert status == 0
    f = 1769472 / 338403328  # 3·3·3·64·32² of the sum over all layers
    assert json.loads(out)["ratio"] == pytest.approx(4.6 / (4.6 * f + 0.9 * 1.62 * (1 - f)), rel=1e-12)
    assert (MAC_JOULES, AC_JOULES) == (4.6e-12, 0.9e-12)


def test_energy_of_half_the_width(dietjax):
    """VGG4 has 64 and 128 features, then 1024."""
    _, out, _ = dietjax("energy", "--model", "VGG4", "--image-shape", 8, 8, 1, "--width", 0.5, "--rate", 1, "--json")
    assert [layer["macs"] for layer in json.loads(out)["layers"]] == [
        64 * 9 * 32, 16 * 9 * 32 * 64, 2 * 2 * 64 * 512, 512 * 10]


def test_a_classifier_without_hidden_layers_is_an_empty_option(dietjax, folder):
    status, _, err = dietjax("train", folder / "tiny.py", "--workdir", folder, "--model.classifier", "--model.width", 0)
    assert status == 2 and "model.width must be > 0, got 0" in err


def test_energy_of_a_silent_network_says_so(dietjax):
    status, out, err = dietjax("energy", "--model", "VGG4", "--rate", 0)
    assert status == 0 and "ANN / SNN" in out
    assert err.startswith("warning: conv1, conv2, fc1 fired at no image (0 spikes per neuron)")
    assert dietjax("energy", "--model", "VGG4", "--rate", 1)[2] == ""


@pytest.mark.slow
def test_converting_to_thresholds_that_nothing_reaches_says_so(dietjax, finished):
    status, out, err = dietjax("convert", finished, "--conversion.scale", 1e6, "--json")
    assert status == 0 and set(json.loads(out)["spike_rate"].values()) == {0.0}
    assert err.startswith("warning: conv1, conv2, fc1 fired at no image (0 spikes per neuron)")


def test_a_conversion_that_breaks_batch_norm_is_doubted_before_anything_trains(dietjax, folder, tmp_path):
    """Then this run stops at its first mistake: more images than there are."""
    status, out, err = dietjax("train", folder / "tiny.py", "--workdir", tmp_path / "run", "--model.batch-norm",
                               "--conversion.method", "percentile", "--conversion.images", 10_000)
    assert status == 2 and "10000" in err
    assert out.startswith("warning: conversion.method percentile scales thresholds")


def test_a_finished_run_that_was_silent_says_so_beside_its_ratio(dietjax, finished, folder, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    changed = summary(finished)
    changed["layers"][1]["spike_rate"] = 0.0
    (tmp_path / "run" / "summary.json").write_text(json.dumps(changed))
    status, out, _ = dietjax("train", folder / "tiny.py", "--workdir", tmp_path / "run", *tiny_run.OPTIONS)
    assert status == 0
    assert re.search("times less energy than the ANN\nwarning: SNN: conv2 fired at no image .*\nreport: ", out)


def test_energy_table_adds_up(dietjax):
    status, out, _ = dietjax("energy", "--model", "VGG16", "--rate", 1.62)
    assert status == 0
    assert "338,403,328" in out and "ANN / SNN = 3.12" in out


# ---- mistakes

MISTAKES = {
    "no command": ([], "Missing subcommand|required"),
    "negative margin": (["evaluate", "{}", "--margin", "1", "-1"], "--margin must be >= 0 and finite.*got 1.0, -1.0"),
    "no images at a time": (["evaluate", "{}", "--margin", "1", "--batch-size", "0"], "--batch-size at least 1"),
    "unknown command": (["trian"], "trian"),
    "missing file": (["train", "{}/nowhere.py", "--workdir", "{}/new"], "no experiment file .*nowhere.py"),
    "no Python file": (["train", "{}/nowhere", "--workdir", "{}/new"], "nowhere is no Python file"),
    "syntax error": (["train", "{}/syntax.py", "--workdir", "{}/new"], "syntax.py.*line 3"),
    "failing file": (["train", "{}/fails.py", "--workdir", "{}/new"],
                     "fails.py line 3 cannot be run: ZeroDivisionError"),
    "unknown field": (["train", "{}/field.py", "--workdir", "{}/new"],
                      "unknown Phase field in .*field.py line 3: 'epoch'; did you mean 'epochs'"),
    "no experiment": (["train", "{}/empty.py", "--workdir", "{}/new"], "empty.py defines no experiment"),
    "string for a number": (["train", "{}/string.py", "--workdir", "{}/new"], "ann.epochs must be int, got '3'"),
    "no workdir": (["train", "{}/tiny.py"], "--workdir"),
    "unknown option": (["train", "{}/tiny.py", "--workdir", "{}/new", "--snn.epoch", "3"], "--snn.epoch"),
    "word for a number": (["train", "{}/tiny.py", "--workdir", "{}/new", "--timesteps", "two"], "two"),
    "network": (["train", "{}/tiny.py", "--workdir", "{}/new", "--model.name", "VGG17"],
                "'VGG17' .*Expected one of .*'VGG16'"),
    "network in the file": (["train", "{}/vgg7.py", "--workdir", "{}/new"], "unknown model.name 'VGG7'; did you"),
    "surrogate": (["train", "{}/tiny.py", "--workdir", "{}/new", "--neuron.surrogate", "arctn"],
                  "'arctn' .*Expected one of .*'arctan'"),
    "neuron": (["train", "{}/tiny.py", "--workdir", "{}/new", "--neuron.kind", "plfi"], "'plfi'; did you mean 'plif'"),
    "neuron without a conversion": (["train", "{}/tiny.py", "--workdir", "{}/new", "--neuron.kind", "plif"],
                                    "neuron.kind plif cannot be converted to.*--ann.epochs 0"),
    "timesteps": (["train", "{}/tiny.py", "--workdir", "{}/new", "--timesteps", "0"], "timesteps must be > 0, got 0"),
    "leak": (["train", "{}/tiny.py", "--workdir", "{}/new", "--neuron.leak", "1.5"], r"leak must be in \[0, 1\].*1.5"),
    "rate": (["train", "{}/tiny.py", "--workdir", "{}/new", "--ann.learning-rate", "-1"], "ann.learning_rate must"),
    "choice": (["train", "{}/tiny.py", "--workdir", "{}/new", "--ann.optimizer", "adamx"], "adamx"),
    "image size": (["train", "{}/tiny.py", "--workdir", "{}/new", "--model.name", "VGG16"], "8×8 does not fit"),
    "data set": (["train", "{}/tiny.py", "--workdir", "{}/new", "--data.name", "digts"], "Did you mean 'digits'"),
    "data not prepared": (["train", "{}/tiny.py", "--workdir", "{}/new", "--data.name", "cifar10"], "not prepared"),
    "data nowhere": (["train", "{}/tiny.py", "--workdir", "{}/new", "--data.dir", "{}/tiny.py/x"], "tiny.py/x"),
    "foreign folder": (["train", "{}/tiny.py", "--workdir", "{}"], "no run of dietjax and not empty"),
    "impossible folder": (["train", "{}/tiny.py", "--workdir", "{}/tiny.py/run"], "cannot be written"),
    "evaluate nothing": (["evaluate", "{}/empty"], "holds no run"),
    "convert nothing": (["convert", "{}/empty"], "holds no run"),
    "energy of nothing": (["energy", "{}/empty"], "holds no run"),
    "report of nothing": (["report", "{}/empty"], "has no config.json"),
    "energy of what": (["energy"], "either a run's folder, or --rate"),
    "energy of both": (["energy", "{}/empty", "--rate", "1"], "either a run's folder, or --rate"),
    "negative energy": (["energy", "--rate", "-1"], "--rate must be >= 0"),
    "energy of no image": (["energy", "--rate", "1", "--image-shape", "0", "0", "3"], "--image-shape"),
    "energy of a misfit": (["energy", "--rate", "1", "--image-shape", "30", "30", "3"], "30×30 does not fit"),
    "energy of no width": (["energy", "--rate", "1", "--width", "0"], "width must be > 0, got 0"),
    "energy of no network": (["energy", "--rate", "1", "--model", "VGG17"], "unknown network 'VGG17'"),
}


@pytest.fixture(scope="module")
def mistaken(folder):
    """`folder` with experiment files that are wrong."""
    (folder / "syntax.py").write_text("a = 1\n\nb = = 2\n")
    (folder / "fails.py").write_text("from dietjax.config import Phase\n\nphase = Phase(epochs=1 // 0)\n")
    (folder / "field.py").write_text("from dietjax.config import Phase\n\nphase = Phase(epoch=3)\n")
    (folder / "empty.py").write_text("a = 1\n")
    (folder / "string.py").write_text(tiny_run.EXPERIMENT.replace("ann=Phase(epochs=3", "ann=Phase(epochs='3'"))
    (folder / "vgg7.py").write_text(tiny_run.EXPERIMENT.replace("VGG4", "VGG7"))
    (folder / "empty").mkdir()
    return folder


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_a_message_and_an_exit_status(dietjax, mistaken, mistake):
    arguments, says = MISTAKES[mistake]
    status, out, err = dietjax(*(argument.format(mistaken) for argument in arguments))
    assert status in (1, 2)
    assert re.search(says, " ".join(err.split())), err
    assert "Traceback" not in out + err
    assert not (mistaken / "new").exists()


@pytest.mark.parametrize("workdir", ["gs://bucket/run", "s3://bucket/run", "file:///run", "gs:/bucket/run"])
def test_a_run_s_folder_is_no_address(dietjax, folder, tmp_path, monkeypatch, workdir):
    monkeypatch.chdir(tmp_path)
    status, out, err = dietjax("train", folder / "tiny.py", "--workdir", workdir)
    assert status == 2 and out == ""
    assert re.search("--workdir .*run is an address, and a run's folder is on a file system: mount it", err)
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("arguments, says", [
    (["train", "{}/../tiny.py", "--workdir", "{}", *tiny_run.OPTIONS, "--snn.epochs", "2"],
     "snn.epochs: there 3, asked for 2"),
    (["evaluate", "{}", "--timesteps", "0"], "timesteps must be .*got 0"),
    (["convert", "{}", "--timesteps", "0"], "timesteps must be .*got 0"),
    (["convert", "{}", "--timesteps", "-3"], "timesteps must be .*got -3"),
])
def test_a_mistake_with_a_run_changes_nothing(dietjax, finished, arguments, says):
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    status, out, err = dietjax(*(argument.format(finished) for argument in arguments))
    assert status == 2
    assert re.search(says, err) and "Traceback" not in out + err
    assert {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()} == before


def test_the_installed_command_prints_a_mistake_on_stderr_alone(folder):
    found = subprocess.run([sys.executable, "-m", "dietjax", "evaluate", str(folder / "nowhere")], text=True,
                           capture_output=True)
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.startswith("error: ") and found.stderr.count("\n") == 1


@pytest.mark.slow
def test_divergence_is_a_message(dietjax, folder, tmp_path):
    status, out, err = dietjax("train", folder / "tiny.py", "--workdir", tmp_path / "run", "--ann.learning-rate", 1e30)
    assert status == 2
    assert re.search(r"ann: loss is .* at step \d+: .*Lower ann.learning_rate", err) and "Traceback" not in out + err
