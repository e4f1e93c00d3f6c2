"""`dietjax data` on sets that something is odd about: each oddity is named, none of them stops it."""

import cv2
import numpy as np
import pytest
from hostile import Case, check
from recordings import write_folder

from dietjax.config import Data
from dietjax.run import look

RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (12, 4, 4, 3), np.uint8)
CUT_OFF = cv2.imencode(".jpg", RNG.integers(0, 256, (16, 16, 3), np.uint8))[1].tobytes()[:300]


def png(picture, **options):
    return cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, options.get("level", 3)])[1].tobytes()


def folder(changes, **settings):
    """What is odd about a folder of two classes, two pictures each, with these files written over or added."""
    def attempt(path):
        names = [f"{split}/{kind}/{i}.png" for split in ("train", "test") for kind in ("cat", "dog") for i in (0, 1)]
        for name, content in {**{name: png(PICTURES[i]) for i, name in enumerate(names)}, **changes}.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
        return "; ".join(look.look(Data(name=f"folder:{path}", **settings), 100).oddities) or "nothing"

    return attempt


def arrays(**changes):
    """What is odd about a file of four training and two test images, with these arrays changed."""
    def attempt(path):
        np.savez(path / "set.npz", **{
            "train_images": PICTURES[:4], "train_labels": np.array([0, 0, 1, 1]), "test_images": PICTURES[4:6],
            "test_labels": np.array([0, 1]), "class_names": np.array(["cat", "dog"]), **changes})
        return "; ".join(look.look(Data(name=f"npz:{path / 'set.npz'}"), 100).oddities) or "nothing"

    return attempt


CASES = [
    Case("an ordinary folder", folder({}), ("taken", "nothing")),
    Case("an ordinary file of arrays", arrays(), ("taken", "nothing")),
    Case("a test image that is a training image", folder({"test/cat/0.png": png(PICTURES[0])}),
         ("taken", "both in train and in test, pixel for pixel: 1 test image", "0.png = PATH/test/cat/0.png")),
    Case("the same picture in another file", folder({"test/cat/copy.png": png(PICTURES[0], level=9)}),
         ("taken", "both in train and in test", "PATH/test/cat/copy.png")),
    Case("a picture in two classes", folder({"train/dog/9.png": png(PICTURES[0])}),
         ("taken", "equal images with different labels, 1 times", "PATH/train/cat/0.png = PATH/train/dog/9.png",
          "repeated within train: 1 train image")),
    Case("five copies of a picture", folder({f"train/cat/{i}.png": png(PICTURES[0]) for i in range(3, 8)}),
         ("taken", "repeated within train: 5 train images", "= ...")),
    Case("a cut-off training image", folder({"train/cat/9.jpg": CUT_OFF}),
         ("taken", "cannot be read: 1 train image", "PATH/train/cat/9.jpg is corrupt", "data.skip_corrupt")),
    Case("two cut-off test images", folder({"test/cat/8.jpg": CUT_OFF, "test/dog/9.jpg": b""}),
         ("taken", "training would refuse this set", "cannot be read: 2 test images", "8.jpg", "9.jpg", "mend or")),
    Case("a text file called png", folder({"train/cat/9.png": b"a cat"}), ("taken", "9.png is corrupt", "5 bytes")),
    Case("a black image", folder({"train/cat/9.png": png(np.zeros((4, 4, 3), np.uint8))}),
         ("taken", "one colour all over: 1 train image: PATH/train/cat/9.png")),
    Case("images of different sizes", folder({"train/cat/9.png": png(np.tile(PICTURES[8], (2, 1, 1)))}),
         ("taken", "training would refuse this set", "9.png", "(8, 4, 3)", "data.image_size")),
    Case("images of different sizes, resized", folder({"train/cat/9.png": png(np.tile(PICTURES[8], (2, 1, 1)))},
                                                      image_size=4), ("taken", "nothing")),
    Case("a grey image among colour", folder({"train/cat/9.png": png(PICTURES[8][..., 0])}),
         ("taken", "training would refuse this set", "images differ in channels: 1 with 1, 8 with 3",
          "data.channels 3")),
    Case("events dropped from images", folder({}, drop_events=0.2),
         ("taken", "training would refuse this set: data.drop_events is for events")),
    Case("a square that hides whole images", folder({}, cutout=4),
         ("taken", "training would refuse this set: data.cutout=4 hides whole images")),
    Case("a setting of events for images", folder({}, events_binary=True),
         ("taken", "data.events_binary True does nothing")),
    Case("ten times as many of one class", folder({f"train/cat/x{i}.png": png(np.roll(PICTURES[8], i)) for i in
                                                   range(18)}),
         ("taken", "imbalance: 20 training images of cat, 2 of dog, 10.0 times", "always answers cat", "50.0%")),
    Case("a class without test images", arrays(test_labels=np.array([0, 0])),
         ("taken", "dog: no test images", "nothing tells how well")),
    Case("a class without training images", arrays(class_names=np.array(["cat", "dog", "owl"])),
         ("taken", "owl: no train images", "cannot learn", "owl: no test images")),
    Case("all training images equal", arrays(train_images=np.tile(PICTURES[:1], (4, 1, 1, 1))),
         ("taken", "equal images with different labels, 1 times", "repeated within train: 3 train images")),
    Case("training images that are all one colour", arrays(train_images=np.full((4, 4, 4, 3), 7, np.uint8)),
         ("taken", "training would refuse this set", "constant", "one colour all over: 4 train images")),
    Case("no such folder", lambda _: look.look(Data(name="folder:nowhere"), 100), ("error", "nowhere")),
    Case("no path behind the colon", lambda _: look.look(Data(name="folder:"), 100), ("error", "folder:PATH")),
    Case("a folder without its kind", lambda path: look.look(Data(name=str(path)), 100),
         ("error", "PATH", "but a folder", "folder:PATH", "events:PATH")),
    Case("a file that is no array file", lambda path: ((path / "a.npz").write_text("a"),
                                                       look.look(Data(name=f"npz:{path / 'a.npz'}"), 100)),
         ("error", "a.npz cannot be read")),
]


def test_recordings_are_said_as_their_files_are(tmp_path):
    """Endings and bytes of the files, not of the frames that they become; counts are not called normalised."""
    files = write_folder(tmp_path)
    lines = look.look(Data(name=f"events:{tmp_path}"), 100, timesteps=2).lines
    assert lines["format"] == ".npy 10"
    assert lines["as stored"] == f"{sum(file.stat().st_size for file in files) / 1e3:.3g} kB"
    assert "normalised" in lines["counts of events"] and not any("deviation" in name for name in lines)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_odd_sets(case, tmp_path):
    check(case, tmp_path)
