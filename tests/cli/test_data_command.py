"""`dietjax data`: what it prints, where its page is, whose settings it takes."""

import json

import numpy as np
import pytest

EXPERIMENT = """
import dietjax
experiment = dietjax.config.Experiment(name="mine", data=dietjax.config.Data(name={name!r}, flip=True))
"""


@pytest.fixture
def arrays(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 1), np.uint8)
    np.savez(tmp_path / "set.npz", train_images=images[:4], train_labels=np.array([0, 0, 1, 1]),
             test_images=images[[4, 0]], test_labels=np.array([0, 1]), class_names=np.array(["cat", "dog"]))
    return f"npz:{tmp_path / 'set.npz'}"


def test_it_prints_what_it_finds_and_where_the_page_is(dietjax, arrays, tmp_path):
    status, out, err = dietjax("data", arrays, "--out", tmp_path / "page.html")
    assert (status, err) == (0, "")
    assert "looked at: all 4 train images and all 2 test images" in out and "│ dog" in out
    assert f"odd: both in train and in test, pixel for pixel: 1 test image: {tmp_path}" in out
    assert out.endswith(f"page: {tmp_path / 'page.html'}\n")
    assert "No augmentation is set" in (tmp_path / "page.html").read_text()


def test_as_json_and_from_an_experiments_settings(dietjax, arrays, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(EXPERIMENT.format(name=arrays))
    monkeypatch.chdir(tmp_path)
    status, out, _ = dietjax("data", "mine.py", "--json")
    said = json.loads(out)
    assert status == 0 and said["page"] == "data_set.html" and said["train"] == [2, 2] and len(said["odd"]) == 2
    page = (tmp_path / "data_set.html").read_text()
    assert "flips (data.flip)" in page and page.count("<figure>") == 4
    status, _, _ = dietjax("data", "mine.py", "--out", tmp_path, "--data.no-flip")
    assert status == 0 and "No augmentation is set" in (tmp_path / "data_set.html").read_text()


@pytest.mark.parametrize("arguments, says", [
    (["folder:nowhere"], "nowhere"), (["npz:a.npz", "--data.name", "digits"], "the set is named twice"),
    (["digits", "--sample", "0"], "--sample must be at least 1"), (["missing.py"], "no experiment file missing.py"),
    (["digits", "--data.crop-padding", "-1"], "data.crop_padding")])
def test_what_cannot_be_looked_at_is_one_sentence(dietjax, arguments, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = dietjax("data", *arguments)
    assert status == 2 and out == "" and err.count("\n") == 1 and says in err
    assert list(tmp_path.iterdir()) == []
