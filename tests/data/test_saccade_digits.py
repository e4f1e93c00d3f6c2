"""Laws of saccade_digits: a camera that moves before an image, simulated again here pixel by pixel."""

import math

import numpy as np
import pytest
from sklearn.datasets import load_digits

from dietjax import data
from dietjax.data import optdigits, saccade_digits
from dietjax.data.framing import Framing


@pytest.fixture(scope="module")
def recorded():
    """(Events of each digit, labels, splits) of the first 40 digits."""
    counts, labels, _ = optdigits.read()
    few = counts[:40], labels[:40], {"train": np.arange(30), "test": np.arange(30, 40)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optdigits, "read", lambda: few)
        return saccade_digits.record()


def brightness(image, y, x):
    """Of the point (y, x), in pixels of an image 8 × 8 whose centres lie at 0..7: between its four neighbours."""
    top, left = math.floor(y), math.floor(x)
    value = 0.0
    for row, column in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
        if 0 <= row < 8 and 0 <= column < 8:
            value += (1 - abs(y - row)) * (1 - abs(x - column)) * image[row, column] / 16
    return value


def camera(moment):
    """Where the digit's centre is seen after so many microseconds, from the sensor's: (y, x)."""
    leg, rest = divmod(moment, 100_000)
    if leg == 3:
        return -2.0, -2.0
    (y, x), (to_y, to_x) = saccade_digits.CORNERS[leg:leg + 2]
    along = (1 - math.cos(math.pi * rest / 100_000)) / 2
    return y + along * (to_y - y), x + along * (to_x - x)


def events_of_a_pixel(image, row, column):
    """[(t, p)]: a pixel whose logarithm of brightness goes in lines from look to look, and fires at each threshold."""
    def seen(moment):
        y, x = camera(moment)
        here = brightness(image, (row - 7.5 - y) / 1.5 + 3.5, (column - 7.5 - x) / 1.5 + 3.5)
        return round(math.log(0.3 + 0.7 * here) / saccade_digits.THRESHOLD * 2**16)

    found, before = [], seen(0)
    reference = before
    for look in range(1, 3 * saccade_digits.LOOKS + 1):
        end = look * 100_000 // saccade_digits.LOOKS
        start, now = end - 100_000 // saccade_digits.LOOKS, seen(end)
        while abs(now - reference) >= 2**16:
            sign = 1 if now > reference else -1
            reference += sign * 2**16
            found.append((start + (reference - before) / (now - before) * (end - start), sign > 0))
        before = now
    return found


def test_a_digit_s_events_are_those_of_a_simulation_pixel_by_pixel(recorded):
    image, events = load_digits().images[3], recorded[0][3]
    for row in range(0, 16, 3):
        for column in range(0, 16, 2):
            here = events[(events["y"] == row) & (events["x"] == column)]
            expected = events_of_a_pixel(image, row, column)
            assert here["p"].tolist() == [polarity for _, polarity in expected], (row, column)
            np.testing.assert_allclose(here["t"], [t for t, _ in expected], atol=1.001)


def test_the_camera_ends_where_it_began_so_each_pixel_has_as_many_events_of_either_sign(recorded):
    for events in recorded[0]:
        net = np.zeros((16, 16), int)
        np.add.at(net, (events["y"], events["x"]), 2 * events["p"].astype(int) - 1)
        assert not net.any() and len(events) > 300


def test_events_come_in_the_order_of_time_in_three_saccades(recorded):
    for events in recorded[0]:
        assert (np.diff(events["t"]) >= 0).all() and events["t"][0] >= 0 and events["t"][-1] <= 300_000
        assert (np.bincount(np.minimum(events["t"] // 100_000, 2), minlength=3) > 100).all()


def test_a_digit_has_the_same_events_whatever_is_recorded_beside_it(recorded, monkeypatch):
    counts, labels, _ = optdigits.read()
    monkeypatch.setattr(optdigits, "read", lambda: (counts[2:5], labels[2:5], {}))
    for again, before in zip(saccade_digits.record()[0], recorded[0][2:5], strict=True):
        np.testing.assert_array_equal(again, before)


def test_the_set_is_framed_recordings_with_the_split_of_digits(recorded, monkeypatch):
    monkeypatch.setattr(saccade_digits, "record", lambda: recorded)
    found = data.load("saccade_digits", framing=Framing(4, "time"))
    assert (found.name, found.image_shape, found.frames, found.num_classes) == ("saccade_digits", (16, 16, 2), 4, 10)
    frames = [data.to_frames(events, (16, 16), 4, by="time") for events in recorded[0]]
    np.testing.assert_array_equal(np.concatenate([found.train.images, found.test.images]), frames)
    np.testing.assert_array_equal(np.concatenate([found.train.labels, found.test.labels]), recorded[1])
    with pytest.raises(data.DataError, match=r"saccade_digits\[\d+\] is at .* outside the sensor of 12 × 12"):
        data.load("saccade_digits", framing=Framing(4, sensor_size=(12, 12)))


def test_the_same_digits_are_held_out_as_of_digits(digits_folder):
    digits = data.load("digits", digits_folder)
    counts, labels, splits = optdigits.read()
    for name, chosen in splits.items():
        split = getattr(digits, name)
        np.testing.assert_array_equal(split.images[..., 0], 15 * counts[chosen])
        np.testing.assert_array_equal(split.labels, labels[chosen])
