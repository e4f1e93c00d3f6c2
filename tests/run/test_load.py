"""Laws of dietjax.load: the network that a run's summary speaks of, wherever its data is."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

import dietjax as dj
from dietjax.config import Experiment
from dietjax.errors import InputError
from dietjax.run import data_info
from dietjax.run.load import Run

pytestmark = pytest.mark.usefixtures("quick_compile", "narrow_networks")


@pytest.fixture(scope="module")
def digits(digits_folder):
    return dj.data.load("digits", digits_folder)


@pytest.fixture(scope="module")
def run(finished_run, tmp_path_factory):
    """A finished run's folder, and nowhere any data."""
    folder = tmp_path_factory.mktemp("loaded")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TFDS_DATA_DIR", str(folder / "nothing"))
        yield shutil.copytree(finished_run, folder / "run")


@pytest.mark.thin(1)
@pytest.mark.parametrize("network", ["snn", "ann"])
def test_a_loaded_network_answers_as_its_summary_says_without_the_data(run, digits, network):
    loaded, said = dj.load(run, network), json.loads((run / "summary.json").read_text())
    assert loaded.timesteps == (said["snn"]["timesteps"] if network == "snn" else 1)
    assert loaded.class_names == digits.class_names and loaded.experiment.name == said["experiment"]
    answers = loaded.predict(digits.test.images)
    assert np.mean(answers.classes == digits.test.labels) == pytest.approx(said[network]["accuracy"], abs=1.5 / 360)
    assert (answers.confidence > 1 / 10).all() and (answers.confidence <= 1).all()


def test_a_prediction_is_the_softmax_of_the_logits_by_hand():
    """One fully connected layer, whose readout sums over two timesteps."""
    net = dj.models.Network((dj.models.Layer("readout", 3, kernel=None),), image_shape=(2, 2, 1))
    rng = np.random.default_rng(0)
    images, kernel = rng.integers(0, 256, (5, 2, 2, 1), np.uint8), rng.normal(0, 1, (4, 3))
    variables = {"params": {"readout": {"kernel": jax.numpy.asarray(kernel, "float32")}}}
    answers = Run(Experiment("mine"), net, variables, 2, ("a", "b", "c"), (0.5,), (0.25,)).predict(images)
    powers = np.exp(2 * ((images / 255 - 0.5) / 0.25).reshape(5, 4) @ kernel)
    np.testing.assert_array_equal(answers.classes, powers.argmax(1))
    np.testing.assert_allclose(answers.confidence, powers.max(1) / powers.sum(1), rtol=1e-4)


def test_images_are_normalised_as_in_training(run, digits):
    images, pixels = dj.load(run).normalise(digits.test.images[:2]), digits.test.images[:2].astype(np.float64)
    np.testing.assert_allclose(images, (pixels / 255 - 0.2874) / 0.3540, rtol=1e-5, atol=1e-6)


def test_a_run_of_an_earlier_version_takes_them_from_its_data_and_says_so(run, digits, digits_folder, tmp_path,
                                                                          monkeypatch):
    earlier = shutil.copytree(run, tmp_path / "run")
    (earlier / data_info.FILE).unlink()
    monkeypatch.setenv("TFDS_DATA_DIR", str(digits_folder))
    with pytest.warns(UserWarning, match=r"kept no data.json: class names, .* are taken from its data, digits"):
        loaded = dj.load(earlier)
    assert (loaded.class_names, loaded.mean, loaded.std) == (digits.class_names, digits.mean, digits.std)
    assert not (earlier / data_info.FILE).exists()
    config = json.loads((earlier / "config.json").read_text())
    (earlier / "config.json").write_text(json.dumps(config | {"data": config["data"] | {"name": "npz:moved.npz"}}))
    with pytest.raises(InputError, match=r"kept no data.json, so that its data is needed, .* moved.npz cannot be read"):
        dj.load(earlier)


def test_what_a_run_is_trained_on_is_kept_once_and_read_again(tmp_path, digits):
    data_info.keep(digits, tmp_path)
    before = (tmp_path / data_info.FILE).stat()
    assert data_info.read(tmp_path) == data_info.describe(digits)
    summed_otherwise = dataclasses.replace(digits, mean=tuple(x * (1 + 1e-9) for x in digits.mean))
    data_info.keep(summed_otherwise, tmp_path)
    assert (tmp_path / data_info.FILE).stat().st_mtime_ns == before.st_mtime_ns


def test_a_run_that_has_not_come_to_its_snn_still_gives_its_ann(run, tmp_path):
    half = shutil.copytree(run, tmp_path / "half")
    shutil.rmtree(half / "checkpoints" / "snn")
    assert dj.load(half, "ann").predict(np.zeros((1, 8, 8, 1), np.uint8)).classes.shape == (1,)
    with pytest.raises(InputError, match="no spiking network yet: run dietjax train again"):
        dj.load(half)
