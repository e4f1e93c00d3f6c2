"""Laws of data.events and data.framing: frames hold each event once, where and when it was."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recordings import stream

from dietjax import data
from dietjax.data.framing import COUNTS, Framing, framed

SENSOR = (6, 8)
seeds = st.integers(0, 10**6)


def by_a_loop(events, steps, end_of):
    """Frames of events whose frame is the first whose end, `end_of(i)`, is after their number and their time."""
    frames = np.zeros((steps, *SENSOR, 2), int)
    for number, event in enumerate(events):
        step = next((i for i in range(steps) if end_of(i, number, int(event["t"]))), None)
        if step is not None:
            frames[step, event["y"], event["x"], event["p"]] += 1
    return frames


@settings(deadline=None, max_examples=30)
@given(seeds, st.integers(1, 40), st.integers(1, 9))
def test_frames_by_count_are_those_of_a_loop(seed, count, steps):
    """Event k of N is in frame i where k < (i + 1) N / T: in whole numbers, (k + 1) T <= (i + 1) N."""
    events = stream(seed, count)
    expected = by_a_loop(events, steps, lambda i, k, t: (k + 1) * steps <= (i + 1) * count)
    found = data.to_frames(events, SENSOR, steps)
    np.testing.assert_array_equal(found, expected)
    sizes = found.sum((1, 2, 3))
    assert found.dtype == np.uint8 and sizes.sum() == count and sizes.max() - sizes.min() <= 1


@settings(deadline=None, max_examples=30)
@given(seeds, st.integers(1, 40), st.integers(1, 9), st.integers(1, 60))
def test_frames_by_time_are_those_of_a_loop(seed, count, steps, until):
    """T equal windows from the first event to the last, which lies in the last window."""
    events = stream(seed, count, until=until)
    first, span = int(events["t"][0]), int(events["t"][-1] - events["t"][0]) + 1
    expected = by_a_loop(events, steps, lambda i, k, t: (t - first) * steps < (i + 1) * span)
    found = data.to_frames(events, SENSOR, steps, by="time")
    np.testing.assert_array_equal(found, expected)
    assert found.sum() == count


@settings(deadline=None, max_examples=30)
@given(seeds, st.integers(1, 9), st.integers(1, 300))
def test_frames_of_fixed_windows_are_those_of_a_loop(seed, steps, window):
    events = stream(seed, 50, until=400)
    first = int(events["t"][0])
    expected = by_a_loop(events, steps, lambda i, k, t: t - first < (i + 1) * window)
    found, left_out = framed(data.as_events(events), SENSOR, Framing(steps, "time", window))
    np.testing.assert_array_equal(found, expected)
    assert left_out == 50 - expected.sum()


def test_what_no_window_holds_is_said_and_empty_windows_are_empty():
    events = stream(0, 100)
    span = int(events["t"][-1] - events["t"][0]) + 1
    with pytest.warns(data.LeftOutWarning, match=r"of 100 events of the stream come after the last of 2 windows"):
        data.to_frames(events, SENSOR, 2, by="time", window=100)
    frames = data.to_frames(events, SENSOR, 5, by="time", window=span)
    assert frames[0].sum() == 100 and not frames[1:].any()


@settings(deadline=None, max_examples=20)
@given(seeds, st.sampled_from(["count", "time"]))
def test_binary_frames_say_where_the_counts_are_not_0(seed, by):
    events = stream(seed, 300, until=50)
    counts, binary = (data.to_frames(events, SENSOR, 3, by=by, binary=binary) for binary in (False, True))
    np.testing.assert_array_equal(binary, counts > 0)
    assert counts.max() > 1


def test_255_events_of_a_pixel_fit_into_a_frame_and_one_more_is_refused():
    events = np.zeros(256, [("x", int), ("y", int), ("p", int), ("t", int)])
    assert data.to_frames(events[1:], (1, 1), 1).tolist() == [[[[255, 0]]]]
    assert data.to_frames(events, (1, 1), 1, binary=True).tolist() == [[[[1, 0]]]]
    with pytest.raises(data.DataError, match=r"pixel x 0, y 0 of events has 256 events in frame 0, .* or take binary"):
        data.to_frames(events, (1, 1), 1)


def test_fields_may_lie_in_any_order_and_polarities_be_called_and_signed_as_they_are():
    events = stream(3)
    expected = data.to_frames(events, SENSOR, 4)
    for name, values in (("p", events["p"]), ("polarity", events["p"] == 1), ("on", 2 * events["p"] - 1)):
        other = np.empty(len(events), [(name, values.dtype), ("y", "i4"), ("extra", "f4"), ("x", "u1"), ("t", "u8")])
        for field in ("x", "y", "t"):
            other[field] = events[field]
        other[name], other["extra"] = values, np.nan
        np.testing.assert_array_equal(data.to_frames(other, np.array(SENSOR), 4), expected)


@pytest.mark.parametrize("order", ["xytp", "xypt", "txyp", "pytx"])
def test_a_plain_array_is_taken_in_the_order_that_is_said_or_the_only_possible_one(order):
    events = stream(4)
    plain = np.stack([events[field].astype(np.int64) for field in order], 1)
    expected = data.to_frames(events, SENSOR, 4)
    np.testing.assert_array_equal(data.to_frames(plain, SENSOR, 4, order=order), expected)
    if order == "pytx":  # as nobody stores them
        with pytest.raises(data.DataError, match="columns are in none of the orders xytp, xypt, txyp"):
            data.to_frames(plain, SENSOR, 4)
    else:
        np.testing.assert_array_equal(data.to_frames(plain, SENSOR, 4), expected)


def test_a_plain_array_that_could_be_in_two_orders_is_refused():
    """Columns 0, 1, 1, 1 and 1, 1, 1, 0, of which the last two could be times and polarities either way."""
    plain = np.array([[0, 1, 0, 1], [1, 0, 1, 1]])
    with pytest.raises(data.DataError, match="columns could be in the order xytp or xypt or txyp; make it a NumPy str"):
        data.as_events(plain, (2, 2))
    assert data.as_events(plain, (2, 2), order="xytp")["t"].tolist() == [0, 1]


def test_times_of_any_size_are_cut_without_overflow():
    """Microseconds since 1970, and the largest that there are."""
    events = stream(5, 40)
    expected = data.to_frames(events, SENSOR, 7, by="time")
    late = events.copy()
    late["t"] += 1_790_000_000_000_000
    np.testing.assert_array_equal(data.to_frames(late, SENSOR, 7, by="time"), expected)
    ends = np.zeros(3, events.dtype)
    ends["t"] = [0, 2**62, 2**63 - 1]
    frames = data.to_frames(ends, SENSOR, 2, by="time")
    assert frames.sum((1, 2, 3)).tolist() == [1, 2]


def test_frames_of_events_are_normalised_to_their_counts():
    import jax

    counts = np.arange(256, dtype=np.uint8).reshape(1, 16, 8, 2)
    found = np.asarray(jax.jit(lambda frames: data.normalise(frames, *COUNTS))(counts)).ravel()
    np.testing.assert_allclose(found, np.arange(256), rtol=2e-7)
    assert found[0] == 0 and found[1] == 1  # exactly: spikes, whose energy is an accumulate's
