"""The page shows a sample's events over time: one picture a timestep, each polarity in its colour."""

import base64
import importlib.resources
import io
import re

import numpy as np
import pytest
from PIL import Image

from dietjax.report import elements
from dietjax.report import page as report

T, DARKER, BRIGHTER = 5, 0, 1


@pytest.fixture(scope="module")
def events():
    """Counts [T, 8, 9, 2]; by hand in the corner of the first frame: none, 1 darker, 4 brighter, 1 and 1."""
    frames = np.random.default_rng(0).poisson(0.3, (T, 8, 9, 2)).clip(0, 3).astype(np.uint8)
    frames[0, 0, :4] = [[0, 0], [1, 0], [0, 4], [1, 1]]
    return frames


@pytest.fixture(scope="module")
def page(events):
    """The part of the page that shows the sample."""
    return report._shown(events, "3, recognised", "a 3")


def pictures(html):
    """RGBA [H, W, 4] of each picture in it."""
    found = re.findall(r'<img[^>]*src="data:image/png;base64,([^"]+)"', html)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGBA")).astype(int) for data in found]


def test_there_is_a_picture_for_each_timestep_and_a_legend(page):
    row = re.search(r'<div class="frames">(.*?)</div>', page, re.DOTALL)[1]
    assert re.findall(r"<figcaption>(\d+)</figcaption>", row) == [str(t) for t in range(1, T + 1)]
    assert [picture.shape for picture in pictures(row)] == [(8, 9, 4)] * T
    assert row.count('class="pixels"') == T  # small: shown larger, pixel by pixel
    assert "The events, a frame a timestep: 3, recognised" in page
    assert re.findall(r'<i style="background: rgb\(([^)]*)\)"></i>(\w+)', page) == [
        (", ".join(map(str, colour)), name) for name, colour in elements.EVENT_COLOURS.items()]


def test_each_pixel_has_the_colour_of_its_events_and_the_more_the_stronger(page, events):
    shown = np.stack(pictures(re.search(r'<div class="frames">(.*?)</div>', page, re.DOTALL)[1]))
    darker, brighter = events[..., DARKER] > 0, events[..., BRIGHTER] > 0
    for name, where in (("darker", darker & ~brighter), ("brighter", brighter & ~darker), ("both", darker & brighter)):
        assert where.any() and (shown[where][:, :3] == elements.EVENT_COLOURS[name]).all(), name
    alpha, counts = shown[..., 3], events.sum(-1)
    assert not alpha[counts == 0].any() and alpha[counts == counts.max()].min() == 255
    means = [alpha[counts == count].mean() for count in np.unique(counts)]
    assert means == sorted(means) and means[1] >= 0.7 * 255


def luminance(colour):
    """WCAG 2.2's relative luminance of RGB 0..255."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in np.array(colour) / 255]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def test_the_colours_can_be_told_from_a_light_page_and_a_dark_one():
    """WCAG 2.2, 1.4.11: parts of a picture need a contrast of 3 : 1."""
    styles = "".join(path.read_text("utf-8") for path in importlib.resources.files("dietjax.report").iterdir()
                     if path.name.endswith((".html", ".css")))
    cards = {tuple(bytes.fromhex(card)) for card in re.findall(r"--card: #(\w{6})", styles)}
    assert len(cards) == 2
    for card in cards:
        for colour in elements.EVENT_COLOURS.values():
            dim, bright = sorted([luminance(card), luminance(colour)])
            assert (bright + 0.05) / (dim + 0.05) >= 3, (card, colour)


def test_mistakes_show_their_events_in_a_strip(events):
    strip, = pictures(elements.image(events, "a mistake"))
    assert strip.shape == (8, T * 9 + T - 1, 4)
    np.testing.assert_array_equal(strip[:, 10:19][..., 3] > 0, events[1].any(-1))


def test_grey_frames_stand_in_a_row_too_without_a_legend():
    html = elements.frames(np.full((3, 4, 4, 1), 200, np.uint8), "any")
    assert len(pictures(html)) == 3 and "legend" not in html and (pictures(html)[0][..., :3] == 200).all()
