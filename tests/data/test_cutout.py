"""Laws of cutout: the function, in training batches, and the sizes that are refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quadrants import BATCH, make_dataset, make_net
from short_training import one_device

from dietjax.config import Data, Phase
from dietjax.core.neurons import ReLU
from dietjax.data import cutout, normalise, random_crop_flip
from dietjax.errors import InputError
from dietjax.train.batches import make_batches
from dietjax.train.plan import Plan
from dietjax.train.state import TimeSchedule


@pytest.mark.parametrize("size", [1, 2, 5])
def test_cutout_is_a_square_around_any_pixel_and_nothing_else(size):
    """Every centre is drawn; what lies outside the image is lost."""
    height, width = 4, 6
    possible = set()
    for row in range(height):
        for column in range(width):
            kept = np.ones((height, width, 2), bool)
            top, left = row - size // 2, column - size // 2
            kept[max(top, 0):max(top + size, 0), max(left, 0):max(left + size, 0)] = False
            possible.add(kept.tobytes())
    images = jnp.asarray(np.random.default_rng(0).normal(size=(1000, height, width, 2)), jnp.float32)
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        found = np.asarray(jax.jit(cutout, static_argnums=2)(jax.random.key(0), images, size))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[found != 0], np.asarray(images)[found != 0])
    assert {(image != 0).tobytes() for image in found} == possible


@pytest.mark.slow
def test_batches_are_cut_out_after_they_are_normalised():
    """A hole is the mean colour, 0; without cutout a batch is cropped and flipped as it always was."""
    dataset, key = make_dataset(), jax.random.key(5)
    plain = make_batches(dataset, Data(crop_padding=2, flip=True), 0, BATCH, one_device())
    raw, _, indices = plain.arguments(0)
    expected = normalise(random_crop_flip(key, raw[indices], 2, True), dataset.mean, dataset.std)
    np.testing.assert_array_equal(plain.fetch(key, *plain.arguments(0))[0], expected)
    cut = make_batches(dataset, Data(cutout=3), 0, BATCH, one_device())
    images = np.asarray(cut.fetch(key, *cut.arguments(0))[0])
    whole = np.asarray(normalise(raw[indices], dataset.mean, dataset.std))
    holes = (images != whole).sum((1, 2, 3))
    assert set(holes) <= {4, 6, 9} and 9 in holes
    assert not images[images != whole].any()


@pytest.mark.parametrize("size, fits", [(7, True), (8, False), (9, False)])
def test_a_cutout_of_whole_images_is_refused(size, fits):
    plan = Plan("ann", make_net(ReLU()), make_dataset(), Phase(batch_size=BATCH), TimeSchedule(), one_device(),
                Data(cutout=size))
    if fits:
        plan.check()
    else:
        with pytest.raises(InputError, match=rf"data.cutout={size} hides whole images: those of quadrants have 8"):
            plan.check()
