"""Runs on examples that have a frame for each timestep: trained, converted, tested, reported."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from rich.console import Console as Rich

from dietjax import data
from dietjax.config import Conversion, Data, Experiment, Model, Phase
from dietjax.errors import InputError
from dietjax.report import page
from dietjax.run import assemble, recipe
from dietjax.run.console import Console

T, SIDE = 4, 8
QUIET = Console(Rich(quiet=True))


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A bar that moves to the left or to the right, one column a frame: no single frame tells which."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 96), ("test", 32)):
        labels = np.arange(count) % 2
        images = rng.integers(0, 40, (count, T, SIDE, SIDE, 1))
        for image, label, start in zip(images, labels, rng.integers(T, SIDE - T + 1, count), strict=True):
            for t in range(T):
                image[t, :, start + (t if label else -t)] = 255
        arrays |= {f"{split}_images": images.astype(np.uint8), f"{split}_labels": labels}
    path = tmp_path_factory.mktemp("frames") / "bars.npz"
    np.savez(path, **arrays)
    return path


def experiment(path, **changes):
    phase = Phase(1, 32, learning_rate=5e-3)
    return Experiment("bars", T, data=Data(f"npz:{path}", crop_padding=1, flip=False),
                      model=Model("VGG4", (16,), conv_dropout=0.0, classifier_dropout=0.0), ann=phase, snn=phase,
                      conversion=Conversion(images=64),
                      **changes)


def test_a_set_of_frames_says_so(path):
    found = data.load(f"npz:{path}")
    assert found.image_shape == (SIDE, SIDE, 1) and found.frames == T
    assert found.train.take(np.arange(3))[0].shape == (3, T, SIDE, SIDE, 1)
    pixels = found.train.images / 255
    np.testing.assert_allclose([*found.mean, *found.std], [pixels.mean(), pixels.std()], rtol=1e-6)


def test_all_frames_of_an_example_are_cropped_and_flipped_alike():
    images = np.random.default_rng(0).integers(1, 255, (5, T, 6, 6, 3), np.uint8)
    key = jax.random.key(1)
    found = data.random_crop_flip(key, images, 2, True)
    each = [data.random_crop_flip(key, images[:, t], 2, True) for t in range(T)]
    np.testing.assert_array_equal(found, np.stack(each, 1))


def test_what_does_not_go_with_frames_is_refused(path, tmp_path):
    with pytest.raises(InputError, match=r"timesteps are 5, and .* of bars have 4 frames.*set timesteps to 4"):
        recipe.run(dataclasses.replace(experiment(path), timesteps=5), tmp_path / "run", QUIET)
    with pytest.raises(InputError, match=r"has frames, which are taken as they are: leave out data.image_size \(16\)"):
        data.load(f"npz:{path}", image_size=16)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"ann": Phase(0), "model": Model("VGG4", (16,), batch_norm=True)}],
                         ids=["converted", "from scratch"])
def test_a_run_goes_from_end_to_end(path, tmp_path, changes):
    workdir = tmp_path / "run"
    wanted = dataclasses.replace(experiment(path), **changes)
    summary = recipe.run(wanted, workdir, QUIET)
    assert len(summary["snn"]["accuracy_by_timestep"]) == T
    first, *_ = summary["energy"]["layers"]
    assert first["rate"] is None  # analog frames: MACs, once for each
    assert first["snn_joules"] == first["ann_joules"] == pytest.approx(T * 4.6e-12 * first["macs"])
    assert json.loads((workdir / "summary.json").read_text())["snn"] == summary["snn"]
    assert "The frames, one a timestep" in page.write(workdir).read_text("utf-8")
    networks = assemble.open_run(workdir)[2]
    assert list(networks) == (["ann", "snn"] if wanted.ann.epochs else ["snn"])
