"""The page's section of mistakes: the matrix shows the counts that were recorded, and earlier runs have a page too."""

import re

import numpy as np
import pytest
from invented_run import make_run

from dietjax.report import confusion, mistakes, page

COUNTS = np.array([[8, 2, 0], [0, 0, 0], [5, 0, 5]])
NAMES = ["cat", "<dog>", "$owl$"]
SUMMARY = {"test_images": 20, "snn": {"accuracy": 13 / 20}}


def recorded(**changes):
    images = np.arange(4 * 2 * 2, dtype=np.uint8).reshape(4, 2, 2, 1)
    return {"class_names": np.array(NAMES), "wrong_images": images, "wrong_labels": np.array([0, 0, 2, 2]),
            "wrong_predictions": np.array([1, 1, 0, 0]), "wrong_confidence": np.array([0.987, 0.5, 1.0, 0.25]),
            "confusion": COUNTS} | changes


def test_a_matrix_shows_every_count_and_its_share_of_the_true_class():
    axes, = confusion.matrix_figure(COUNTS, NAMES).axes
    assert {(int(t.get_position()[1]), int(t.get_position()[0])): int(t.get_text()) for t in axes.texts} == \
        {(0, 0): 8, (0, 1): 2, (2, 0): 5, (2, 2): 5}
    strength = np.asarray(axes.images[0].get_array())[..., 3]
    full = confusion.STRONGEST
    expected = [[full * 0.8**0.5, full * 0.4**0.5, 0], [0, 0, 0], [full, 0, full * 0.5**0.5]]  # the largest wrong: 0.5
    np.testing.assert_allclose(strength, expected, rtol=1e-6)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "<dog>", r"\$owl\$"]


@pytest.mark.parametrize("classes, counts, ticks", [(2, 1, 2), (20, 1, 20), (33, 0, 4), (100, 0, 10), (200, 0, 10)])
def test_a_matrix_has_counts_and_names_where_there_is_room(classes, counts, ticks):
    axes, = confusion.matrix_figure(7 * np.eye(classes, dtype=int), [f"class {i}" for i in range(classes)]).axes
    assert len(axes.texts) == counts * classes
    assert len(axes.get_xticks()) == ticks
    assert axes.get_xlabel() == ("answer" if classes <= 30 else "answer, by number")


def test_the_most_frequent_pairs_are_listed():
    table = confusion.pairs_table(COUNTS, NAMES, 5)
    rows = re.findall("<tr><td>(.*?)</td></tr>", table)
    assert rows == ["$owl$ → cat</td><td>5</td><td>50.0%", "cat → &lt;dog&gt;</td><td>2</td><td>20.0%"]
    assert confusion.pairs_table(COUNTS, NAMES, 1).count("<td>") == 3


def test_many_classes_have_a_table_alone():
    counts = np.eye(1000, dtype=int) + np.eye(1000, k=-1, dtype=int)
    drawn = confusion.drawn(counts, [f"name {i}" for i in range(1000)])
    assert "<svg" not in drawn and drawn.count("→ name") == confusion.PAIRS_ALONE
    assert "name 1 → name 0</td><td>1</td><td>50.0%" in drawn


def test_the_gallery_says_how_sure_the_network_was():
    found = mistakes.section(SUMMARY, recorded())
    captions = re.findall("<figcaption>(.*?)</figcaption>", found["mistakes"])
    assert captions == ["cat → <b>&lt;dog&gt;</b>, 99%", "cat → <b>&lt;dog&gt;</b>, 50%", "$owl$ → <b>cat</b>, 100%",
                        "$owl$ → <b>cat</b>, 25%"]
    assert "got 7 of 20 test images wrong. 4 of them" in found["mistakes_text"]
    assert "spread evenly over the true classes" in found["mistakes_text"] and "<svg" in found["confusion"]


def test_a_run_without_mistakes_says_so():
    none = {key: value[:0] for key, value in recorded().items() if key.startswith("wrong")}
    found = mistakes.section({"test_images": 20, "snn": {"accuracy": 1.0}}, recorded(**none))
    assert "classified all 20 test images correctly" in found["mistakes_text"]
    assert found["confusion"] == found["mistakes"] == ""


def test_what_an_earlier_version_recorded_is_shown_and_said():
    kept = {key: value for key, value in recorded().items() if key not in ("confusion", "wrong_confidence")}
    found = mistakes.section(SUMMARY, kept)
    assert "7 of 20 test images wrong. 4 of them" in found["mistakes_text"]
    assert "recorded by an earlier version" in found["mistakes_text"]
    assert found["mistakes"].count("<figure>") == 4 and found["confusion"] == "" and "%" not in found["mistakes"]


@pytest.mark.slow
def test_a_run_of_the_earlier_version_has_a_page_that_says_what_it_lacks(tmp_path):
    run = make_run(tmp_path, layers=1, epochs=1)
    with np.load(run / "recorded.npz") as stored:
        kept = {key: value for key, value in stored.items() if key not in ("confusion", "wrong_confidence")}
    np.savez(run / "recorded.npz", **kept)
    text = page.write(run).read_text("utf-8").split('<section id="mistakes">')[1].split("</section>")[0]
    assert "740 of 10,000 test images wrong. 12 of them" in text and "recorded by an earlier version" in text
    assert text.count("<figure>") == 12 and "Confusion" not in text
