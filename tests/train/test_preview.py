"""Laws of the pictures of augmented examples: what training sees of them, in the order that they were asked for."""

import numpy as np
import pytest
from short_training import make_dataset

from dietjax.config import Data
from dietjax.data import Dataset
from dietjax.data.npz import Arrays
from dietjax.data.stream import Stream
from dietjax.train.preview import augmented

pytestmark = pytest.mark.usefixtures("quick_compile")

CHOSEN = np.array([5, 0, 9])


def test_without_augmentation_training_sees_the_images_as_they_are():
    dataset = make_dataset()
    seen = augmented(dataset, Data(), CHOSEN, 2)
    np.testing.assert_array_equal(seen, np.stack([dataset.train.images[CHOSEN]] * 2))


def test_alternating_flips_show_one_side_and_then_the_other():
    dataset = make_dataset()
    images = dataset.train.images[CHOSEN]
    first, second, third = augmented(dataset, Data(flip=True, flip_alternates=True), CHOSEN, 3)
    for one, other, image in zip(first, second, images, strict=True):
        sides = [image.tolist(), image[:, ::-1].tolist()]
        assert sorted([one.tolist(), other.tolist()]) == sorted(sides)
    np.testing.assert_array_equal(first, third)


def test_cutout_shows_the_mean_colour():
    dataset = make_dataset()
    seen = augmented(dataset, Data(cutout=2), CHOSEN, 3)
    grey = np.round(255 * np.array(dataset.mean)).astype(np.uint8)
    changed = (seen != dataset.train.images[CHOSEN]).any(-1)
    assert changed.any((2, 3)).all() and (seen[changed] == grey).all()


@pytest.mark.parametrize("frames", [None, 3])
def test_of_streams_and_of_frames_too(frames):
    rng = np.random.default_rng(0)
    if frames:
        images = rng.integers(0, 256, (10, frames, 6, 6, 1), np.uint8)
        train = make_dataset().train._replace(images=images, labels=np.arange(10, dtype=np.int32))
        seen = augmented(Dataset("frames", train, train, ("a",) * 10, (0.5,), (0.25,)), Data(), CHOSEN, 1)
        np.testing.assert_array_equal(seen[0], images[CHOSEN])
        return
    images = np.arange(10, dtype=np.uint8)[:, None, None, None] * np.full((9, 7, 3), 20, np.uint8)
    train = Stream(Arrays(images, np.arange(10, dtype=np.int32), ""), (6, 6, 3), resized=True, num_classes=10)
    seen = augmented(Dataset("flat", train, train, ("a",) * 10, (0.5,) * 3, (0.25,) * 3), Data(image_size=6), CHOSEN, 2)
    assert seen.shape == (2, 3, 6, 6, 3)
    assert (seen == (20 * CHOSEN).reshape(1, 3, 1, 1, 1)).all()  # whatever the crop, one colour
