"""Laws of augmentation of events: what is drawn is an example's, and no event is made."""

import jax
import numpy as np
import pytest
from recordings import stream
from short_training import one_device

from dietjax import data
from dietjax.config import Data, Phase
from dietjax.core.neurons import ReLU
from dietjax.data.framing import COUNTS
from dietjax.errors import InputError
from dietjax.models import Layer, Network
from dietjax.train.batches import make_batches
from dietjax.train.plan import Plan
from dietjax.train.state import TimeSchedule

T, SENSOR = 3, (6, 8)
pytestmark = pytest.mark.usefixtures("quick_compile")


drop = jax.jit(data.drop_events)


def frames_of(count, binary=False):
    return np.stack([data.to_frames(stream(seed, 200, SENSOR), SENSOR, T, binary=binary) for seed in range(count)])


def make_dataset(count=64):
    split = data.Split(frames_of(count), (np.arange(count) % 2).astype(np.int32))
    return data.Dataset("events", split, split, ("0", "1"), *COUNTS)


@pytest.mark.parametrize("most", [0.0, 0.5])
def test_events_that_are_dropped_are_a_share_of_each_example_s(most):
    """Of 1,440 cells with an event, the share that is lost is drawn uniformly from [0, most)."""
    frames = np.ones((200, 15, *SENSOR, 2), np.uint8)
    found = np.asarray(drop(jax.random.key(0), frames, most))
    assert found.dtype == np.uint8 and set(np.unique(found)) <= {0, 1}
    lost = 1 - found.mean((1, 2, 3, 4))
    assert lost.max() <= most + 0.06
    np.testing.assert_allclose([lost.mean(), lost.std()], [most / 2, most / 12**0.5], atol=0.03)
    assert not most or abs(np.corrcoef(found[0].ravel(), found[1].ravel())[0, 1]) < 0.1  # each draws its own cells


def test_what_is_not_dropped_stays_as_it_was():
    frames = frames_of(20)
    found = np.asarray(drop(jax.random.key(1), frames, 0.9))
    assert ((found == frames) | (found == 0)).all() and (found != frames).any() and found.any()


def test_all_frames_of_an_example_are_shifted_and_flipped_alike_and_both_polarities():
    frames, key = frames_of(8), jax.random.key(2)
    found = np.asarray(jax.jit(data.random_crop_flip, static_argnums=(2, 3))(key, frames, 2, True))
    for before, after in zip(frames, found, strict=True):
        padded = np.pad(before, ((0, 0), (2, 2), (2, 2), (0, 0)))
        possible = [view[:, top:top + 6, left:left + 8][:, :, ::step] for view in [padded] for top in range(5)
                    for left in range(5) for step in (1, -1)]
        assert any(np.array_equal(after, shown) for shown in possible)


def test_batches_have_events_dropped_and_hold_counts():
    dataset, key = make_dataset(16), jax.random.key(3)
    batches = make_batches(dataset, Data(drop_events=0.4), 0, 16, one_device())
    raw, _, indices = batches.arguments(0)
    expected = drop(jax.random.split(key)[1], raw[indices], 0.4)
    found = np.asarray(jax.jit(batches.fetch)(key, *batches.arguments(0))[0])
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert 0 < found.sum() < np.asarray(raw).sum()


def test_images_have_no_events_to_drop():
    images = data.Split(np.zeros((4, *SENSOR, 3), np.uint8), np.zeros(4, np.int32))
    for split, channels, fits in ((images, 3, False), (make_dataset(4).train, 2, True)):
        dataset = data.Dataset("x", split, split, ("0", "1"), (0.0,) * channels, (1.0,) * channels)
        net = Network((Layer("out", 2, kernel=None),), (*SENSOR, channels), ReLU())
        plan = Plan("snn", net, dataset, Phase(batch_size=2), TimeSchedule(), one_device(), Data(drop_events=0.1))
        if fits:
            plan.check()
        else:
            with pytest.raises(InputError, match=r"data.drop_events is for events, .* x has 3: set it to 0"):
                plan.check()
