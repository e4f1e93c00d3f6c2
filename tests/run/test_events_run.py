"""Runs on recordings of events: trained in memory and streamed, tested, reported, opened again."""

import dataclasses
import json
import warnings

import commands
import numpy as np
import pytest
from recordings import DTYPE, write
from rich.console import Console as Rich

from dietjax import data
from dietjax.cli import main as cli
from dietjax.config import Data, Experiment, Model, Phase, as_stored, check, from_dict
from dietjax.data import sets
from dietjax.errors import InputError
from dietjax.report import page
from dietjax.run import assemble, recipe
from dietjax.run import folder as runs
from dietjax.run.console import Console

T, QUIET = 3, Console(Rich(quiet=True))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files of N-MNIST's form: a bar of four rows that moves to the left or to the right, brighter before it."""
    path, rng = tmp_path_factory.mktemp("events") / "bars", np.random.default_rng(0)
    for split, count in (("train", 24), ("test", 8)):
        for label, step in (("left", -1), ("right", 1)):
            for i in range(count):
                row, column = rng.integers(2, 28), rng.integers(12, 22)
                events = [(column + step * k, row + y, 1000 * k + y, 1) for k in range(9) for y in range(4)]
                write(path / split / label / f"{i:05}.bin", np.array(events, DTYPE))
    return path


def experiment(folder, **changes):
    settings = Data(f"events:{folder}", events_binary=True, sensor_size=(36, 36), drop_events=0.1, threads=2)
    return Experiment("bars", T, data=dataclasses.replace(settings, **changes), ann=Phase(0),
                      model=Model("VGG4", (), conv_dropout=0.0, batch_norm=True, width=0.0625),
                      snn=Phase(2, 16, learning_rate=5e-3))


def test_an_experiment_s_data_are_cut_as_it_says(folder):
    asked = experiment(folder, events_by="time", events_window=4000, events_binary=False)
    check(asked)
    found = assemble.open_data(asked.data, asked.timesteps)
    assert found.frames == T and found.image_shape == (36, 36, 2)
    assert found.train.images[0].sum((1, 2, 3)).tolist() == [16, 16, 4]  # columns 0 to 3, 4 to 7, 8
    assemble.make_plans(asked, found)


def test_a_stored_experiment_without_these_settings_resumes():
    """As of an earlier version: what None and the defaults mean is what was."""
    stored = {"name": "npz:bars.npz", "dir": None, "crop_padding": 1}
    assert from_dict(Data, stored) == Data("npz:bars.npz", crop_padding=1)


def test_an_ann_s_frames_stay_those_that_it_was_trained_on(folder, tmp_path):
    """Other sets may be converted to another number of timesteps while there is no SNN; events are cut into them."""
    asked = experiment(folder)
    for stored, refused in ((asked, True), (dataclasses.replace(asked, data=Data()), False)):
        run = tmp_path / f"{refused}"
        run.mkdir()
        (run / "config.json").write_text(json.dumps(dataclasses.asdict(stored)))
        other = dataclasses.replace(stored, timesteps=T + 1)
        if refused:
            with pytest.raises(InputError, match=r"another experiment's run \(timesteps: there 3, asked for 4\)"):
                runs.check(other, run)
        else:
            runs.check(other, run)


def test_its_settings_are_options_of_the_command_line(folder, tmp_path, monkeypatch):
    file, parsed = tmp_path / "bars.py", []
    file.write_text(f"from dietjax.config import *\nexperiment = Experiment('bars', data=Data('events:{folder}'))\n")
    monkeypatch.setattr(cli.Train, "__call__", lambda self: parsed.append(self.experiment.data))
    options = "--data.events-by time --data.events-window 5000 --data.events-binary --data.sensor-size 36 40"
    assert cli.main(["train", str(file), "--workdir", "x", *options.split(), "--data.drop-events", "0.2"]) == 0
    assert parsed == [Data(f"events:{folder}", events_by="time", events_window=5000, events_binary=True,
                           sensor_size=(36, 40), drop_events=0.2)]


@pytest.mark.slow
@pytest.mark.usefixtures("quick_compile")
def test_a_run_goes_from_end_to_end_in_memory_as_streamed(folder, tmp_path, monkeypatch):
    summary = recipe.run(experiment(folder), tmp_path / "memory", QUIET)
    first, *_ = summary["energy"]["layers"]
    dataset = data.load(f"events:{folder}", framing=data.Framing(T, binary=True, sensor_size=(36, 36)))
    per_pixel = dataset.test.images.sum() / (dataset.test.num_examples * 36 * 36 * 2)
    assert first["rate"] == pytest.approx(per_pixel) and not first["graded"]  # spikes: an accumulate each
    assert first["snn_joules"] == pytest.approx(0.9e-12 * per_pixel * first["macs"])
    assert summary["settings"]["data"]["name"] == "events:bars"
    assert "The events, a frame a timestep" in page.write(tmp_path / "memory").read_text("utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a layer that so few events a frame leave silent
        said = commands.run("evaluate", tmp_path / "memory", "--timesteps", T + 2, "--json", "--test-batch", 5)
    assert len(json.loads(said)["snn"]["accuracy_by_timestep"]) == T + 2
    monkeypatch.setattr(sets, "RESIDENT_BYTES", 0)
    streamed = recipe.run(experiment(folder), tmp_path / "streamed", QUIET)
    assert isinstance(assemble.open_run(tmp_path / "streamed")[1].train, data.Stream)
    assert streamed["snn"]["accuracy_by_timestep"] == summary["snn"]["accuracy_by_timestep"]
    losses = [[json.loads(line)["loss"] for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
              for name in ("memory", "streamed")]
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_a_run_is_evaluated_at_other_timesteps_on_events_cut_into_as_many_frames(folder, tmp_path, monkeypatch):
    """And one on stored frames says how many there are."""
    (tmp_path / "config.json").write_text(json.dumps(as_stored(experiment(folder))))
    monkeypatch.setattr(assemble, "restore_networks", lambda *_: {})
    for asked, frames in ((None, T), (T + 2, T + 2)):
        opened, dataset, _ = assemble.open_run(tmp_path, asked)
        expected = data.load(f"events:{folder}", framing=data.Framing(frames, binary=True, sensor_size=(36, 36)))
        assert opened.timesteps == T and dataset.frames == frames
        np.testing.assert_array_equal(dataset.test.images, expected.test.images)
    images, labels = dataset.train.images, dataset.train.labels
    np.savez(tmp_path / "stored.npz", train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    stored = dataclasses.replace(experiment(folder), timesteps=T + 2, ann=Phase(1),
                                 data=Data(f"npz:{tmp_path / 'stored.npz'}"))
    (tmp_path / "config.json").write_text(json.dumps(as_stored(stored)))
    for command in ("evaluate", "convert"):
        with pytest.raises(InputError, match=r"timesteps are 4, and .* of stored have 5 frames.*set timesteps to 5"):
            commands.run(command, tmp_path, "--timesteps", 4)
