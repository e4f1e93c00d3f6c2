"""`dietjax.load` of what is no run, and of runs whose files somebody changed; images that a network does not take."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
from hostile import Case, check

import dietjax as dj
from dietjax.config import Experiment, Model, Phase, as_stored
from dietjax.run import data_info, summary
from dietjax.run.load import Run

INFO = data_info.DataInfo("photos", 60, 20, ("cat", "dog"), (4, 4, 1), None, (0.5,), (0.25,))
NET = dj.models.Network((dj.models.Layer("readout", 2, kernel=None),), image_shape=(4, 4, 1))


def run(folder, settings=None, **changes):
    """A folder with config.json and data.json, of a run without a checkpoint."""
    settings = settings or Experiment("mine", model=Model("VGG4", (8,)))
    (folder / "config.json").write_text(json.dumps(as_stored(settings)))
    (folder / "data.json").write_text(json.dumps(dataclasses.asdict(INFO) | changes))
    return folder


def loaded(network="snn", text=None, **changes):
    def attempt(folder):
        run(folder, **changes)
        if text is not None:
            (folder / "data.json").write_text(text)
        return dj.load(folder, network)

    return attempt


def kept(**changes):
    """Other data than the run began with."""
    def attempt(folder):
        split = dj.data.Split(np.zeros((60, 4, 4, 1), np.uint8), np.zeros(60, np.int32))
        found = dj.data.Dataset("photos", split, dj.data.Split(split.images[:20], split.labels[:20]), ("cat", "dog"),
                                (0.5,), (0.25,))
        data_info.keep(dataclasses.replace(found, **changes), run(folder))

    return attempt


def shown(images, frames=None):
    """A network that is given these images."""
    return lambda _: Run(Experiment("mine"), NET, {}, 1, INFO.class_names, INFO.mean, INFO.std, frames).predict(images)


DAMAGED = ("error", "data.json is damaged", "remove it", "dietjax train FILE --workdir PATH")
def parsed(text):
    """summary.json of a finished run, when the command comes again."""
    return lambda folder: summary.parse(text, folder / "summary.json", ("ann", "snn"))


CASES = [
    *(Case(f"summary.json with {text}", parsed(text), ("error", "PATH/summary.json is damaged", said, "remove it"))
      for text, said in (("[]", "no JSON object"), ("{", "Expecting"), ('{"ann": 1}', "it lacks snn"), ("7", "no J"))),
    Case("one example of frames without a batch", shown(np.zeros((3, 4, 4, 1), np.uint8), 3),
         ("error", "(3, 4, 4, 1)", "frames [B, 3, 4, 4, 1]", "images[None]")),
    Case("no folder", lambda folder: dj.load(folder / "runs"), ("error", "holds no run", "dietjax train")),
    Case("an empty folder", lambda folder: dj.load(folder), ("error", "PATH holds no run (no config.json)")),
    Case("a run before its first checkpoint", loaded(), ("error", "no checkpoint yet", "dietjax train again")),
    Case("a network called teacher", loaded("teacher"), ("error", "unknown network", "'teacher'", "snn, ann")),
    Case("a network by number", loaded(0), ("error", "unknown network", "'0'")),
    Case("the ANN of a run from scratch", loaded("ann", settings=Experiment("mine", ann=Phase(epochs=0))),
         ("error", "has no ANN", "trained from scratch", "dietjax.load('PATH')")),
    Case("data.json is empty", loaded(text=""), DAMAGED),
    Case("data.json is cut off", loaded(text='{"name": "phot'), DAMAGED),
    Case("data.json holds a list", loaded(text="[1, 2]"), DAMAGED),
    Case("data.json with a key more", loaded(colour="blue"), DAMAGED),
    Case("data.json with a key less", loaded(text='{"name": "photos"}'), DAMAGED),
    Case("class names as numbers", loaded(class_names=[1, 2]), DAMAGED),
    Case("no class names", loaded(class_names=[]), DAMAGED),
    Case("class names as one string", loaded(class_names="cat"), DAMAGED),
    Case("a mean that is text", loaded(mean=["0.5"]), DAMAGED),
    Case("a mean that is NaN", loaded(mean=[float("nan")]), DAMAGED),
    Case("a standard deviation of 0", loaded(std=[0.0]), DAMAGED),
    Case("a mean for each of three channels of one", loaded(mean=[0.5] * 3), DAMAGED),
    Case("an image shape of two sides", loaded(image_shape=[4, 4]), DAMAGED),
    Case("an image shape of 4.5 pixels", loaded(image_shape=[4.5, 4, 1]), DAMAGED),
    Case("frames that are text", loaded(frames="4"), DAMAGED),
    Case("a run goes on with other classes", kept(class_names=("cat", "owl")),
         ("error", "PATH began with other data", "class_names", "'dog'", "'owl'", "nothing was changed")),
    Case("a run goes on with images of another size",
         kept(train=dj.data.Split(np.zeros((60, 6, 4, 1), np.uint8), np.zeros(60, np.int32))),
         ("error", "image_shape: then (4, 4, 1), now (6, 4, 1)")),
    Case("a run goes on with an image more",
         kept(train=dj.data.Split(np.zeros((61, 4, 4, 1), np.uint8), np.zeros(61, np.int32))),
         ("error", "train_images: then 60, now 61")),
    Case("a run goes on with brighter images", kept(mean=(0.6,)), ("error", "mean: then (0.5,), now (0.6,)")),
    Case("floats of 0..1 for a network", shown(np.zeros((2, 4, 4, 1), np.float32)),
         ("error", "float32 of shape (2, 4, 4, 1)", "uint8 [B, 4, 4, 1]", "0..255")),
    Case("normalised images for a network", shown(jnp.zeros((2, 4, 4, 1))), ("error", "float32", "raw pixels")),
    Case("a single image for a network", shown(np.zeros((4, 4, 1), np.uint8)), ("error", "images[None]")),
    Case("colour for a grey network", shown(np.zeros((2, 4, 4, 3), np.uint8)), ("error", "(2, 4, 4, 3)", "4, 4, 1]")),
    Case("images as nested lists", shown([[[[0]] * 4] * 4]), ("error", "images are list of shape (1, 4, 4, 1)")),
    Case("no image at all", shown(None), ("error", "images are NoneType of shape ()")),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_cannot_be_loaded_or_answered(case, tmp_path):
    check(case, tmp_path)
