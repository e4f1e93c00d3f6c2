"""The page on a set before training: complete in itself, what it is told, and pictures of whatever examples are."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from dietjax.report import data_page


def written(path, classes=2, **changes):
    facts = {"name": "<my set>", "lines": {"format": "PNG 4 & JPEG 1"}, "train": [3, 1] + [1] * (classes - 2),
             "test": [1] * classes, "class_names": [f"<class {i}>" for i in range(classes)]}
    strips = [("<class 0>", np.arange(2 * 3 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3, 3))]
    arguments = {"facts": facts, "oddities": ["<odd> thing"], "examples": strips, "augmented": strips,
                 "words": "flips & crops"} | changes
    data_page.write(path, **arguments)
    return path.read_text("utf-8")


def pixels(page):
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(found)))) for found in
            re.findall(r'src="data:image/png;base64,(.*?)"', page)]


def test_the_page_says_what_it_is_told_and_loads_nothing(tmp_path):
    page = written(tmp_path / "new" / "page.html")
    for said in ("&lt;my set&gt; before training", "<li>&lt;odd&gt; thing</li>", "PNG 4 &amp; JPEG 1",
                 "flips &amp; crops", "<td>&lt;class 1&gt;</td><td>1</td><td>1</td>", "<b>4</b><span>training images"):
        assert said in page, said
    assert not re.search(r"<script|<link|https?://|\$\w", page) and "--card" in page
    assert "Nothing odd was found" in written(tmp_path / "page.html", oddities=[])


def test_a_strip_holds_the_pictures_side_by_side(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (3, 5, 4, 1), np.uint8)
    page = written(tmp_path / "page.html", examples=[("a", images)], augmented=[])
    strip, = pixels(page)
    assert strip.shape == (5, 3 * 4 + 2)
    for i, image in enumerate(images):
        np.testing.assert_array_equal(strip[:, 5 * i : 5 * i + 4], image[..., 0])


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_is_shown_as_it_is(channels):
    image = np.random.default_rng(0).integers(0, 256, (5, 4, channels), np.uint8)
    np.testing.assert_array_equal(data_page.as_picture(image), image)


def test_of_frames_the_sum_over_time_is_shown():
    frames = np.zeros((4, 2, 2, 1), np.uint8)
    frames[:, 0, 0], frames[1, 1, 0] = 200, 200
    np.testing.assert_array_equal(data_page.as_picture(frames)[..., 0], [[255, 0], [64, 0]])
    assert (data_page.as_picture(np.zeros((3, 2, 2, 1), np.uint8)) == 0).all()


def test_of_events_the_fullest_frame_is_shown():
    events = np.zeros((3, 1, 3, 2), np.uint8)
    events[:, 0, 0, 0], events[1, 0, 1, 1] = 1, 3
    np.testing.assert_array_equal(data_page.as_picture(events), [[[1, 0], [0, 3], [0, 0]]])


def test_of_very_many_classes_the_largest_and_the_smallest_are_listed(tmp_path):
    page = written(tmp_path / "page.html", classes=1000)
    assert "... 800 classes between" in page and page.count("<td>&lt;class") == data_page.CLASSES_LISTED
    assert "&lt;class 0&gt;</td><td>3" in page
