"""Laws of folders of images: what is held out, how 16 bits become 8, what `prepare` keeps."""

import collections
import io

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dietjax import data
from dietjax.data import folder, images, jpeg, survey
from dietjax.data.source import CorruptImage


def classes(*counts):
    return {f"class {i}": [f"{i}/{k}" for k in range(count)] for i, count in enumerate(counts)}


class TestHoldout:
    @settings(max_examples=30)
    @given(counts=st.lists(st.integers(2, 60), min_size=1, max_size=6), share=st.floats(0.01, 0.99),
           seed=st.integers(0, 2**40))
    def test_it_takes_its_share_of_every_class_and_none_twice(self, counts, share, seed):
        whole = classes(*counts)
        train, test = folder.hold_out(whole, share, seed)
        assert list(train) == list(test) == list(whole)
        for name, count in zip(whole, counts, strict=True):
            assert sorted([*train[name], *test[name]]) == sorted(whole[name])
            assert len(test[name]) == min(max(1, round(share * count)), count - 1)
            assert train[name] == [file for file in whole[name] if file in train[name]]  # in the order of names
        assert folder.hold_out(whole, share, seed) == (train, test)

    def test_every_image_is_held_out_as_often_as_others_over_seeds(self):
        """A tenth of 20 over 500 seeds: each 50 times, by chance give or take 6.7."""
        taken = collections.Counter(file for seed in range(500)
                                    for file in folder.hold_out(classes(20), 0.1, seed)[1]["class 0"])
        assert len(taken) == 20 and sum(taken.values()) == 1000
        assert min(taken.values()) > 20 and max(taken.values()) < 80

    def test_classes_of_one_size_are_not_split_alike(self):
        _, test = folder.hold_out(classes(50, 50), 0.5, 0)
        assert {file[2:] for file in test["class 0"]} != {file[2:] for file in test["class 1"]}


def write(path, pixels, suffix=".png"):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), pixels[..., ::-1] if pixels.ndim == 3 else pixels)
    return path


@pytest.fixture
def deep():
    """Of 12 bits, and as one reads them: the nearest of 0..255 to that part of 4095."""
    pixels = np.random.default_rng(0).integers(0, 4096, (4, 5, 6), dtype=np.uint16)
    pixels[0, 0, 0] = 4095
    return pixels, np.array([int(value * 255 / 4095 + 0.5) for value in pixels.ravel().tolist()]).reshape(pixels.shape)


def write_all(path, pixels):
    for i, image in enumerate(pixels):
        write(path / ("train", "test")[i // 2] / ("cat", "dog")[i % 2] / "0.png", image)
    return path


class TestSixteenBits:
    def test_they_are_scaled_by_one_range_for_the_whole_set(self, tmp_path, deep):
        """The darker image too; its own largest value is another."""
        pixels, expected = deep
        write_all(tmp_path, pixels)
        with pytest.warns(data.DataWarning, match=r"4 of 4 images are of 16 bits and reach 4095: .* 12 bits"):
            dataset = data.load(f"folder:{tmp_path}")
        np.testing.assert_array_equal(dataset.train.images[..., 0], expected[:2])
        np.testing.assert_array_equal(dataset.test.images[..., 0], expected[2:])
        np.testing.assert_allclose(dataset.mean, (expected[:2] / 255).mean(), rtol=1e-9)

    def test_a_stream_that_meets_more_bits_than_were_seen_says_so(self, tmp_path, monkeypatch, deep):
        """Looked at are the first and the last image of each split: the brighter one lies between them."""
        for i, most in enumerate((255, 4095, 255)):
            write(tmp_path / "train" / ("cat", "cat", "dog")[i] / f"{i}.png", deep[0][0] % (most + 1))
        for name in ("cat", "dog"):
            write(tmp_path / "test" / name / "0.png", deep[0][1] % 256)
        monkeypatch.setattr(survey, "SAMPLE", 2)
        with pytest.warns(data.DataWarning, match="4 of 4 images are of 16 bits .* read as 8 bits"):
            dataset = data.load(f"folder:{tmp_path}", image_size=(5, 6))
        with pytest.raises(data.DataError, match=r"1\.png reaches 4095, and the images that were .* have 8 bits"):
            next(dataset.train.batches(3))


    def test_those_of_the_test_split_alone_are_found_when_the_set_is_opened(self, tmp_path, deep):
        pixels, _ = deep
        write_all(tmp_path, [*(pixels[:2] // 16).astype(np.uint8), *pixels[2:]])
        with pytest.warns(data.DataWarning, match="2 of 4 images are of 16 bits .* 12 bits"):
            assert isinstance(data.load(f"folder:{tmp_path}", image_size=(5, 6)).test, data.Stream)


def test_non_square_pictures_keep_their_proportions(tmp_path):
    """A disk stays one: as wide as high in the picture, whatever the proportions of the image and of the picture."""
    image = np.zeros((100, 160, 3), np.uint8)
    cv2.circle(image, (80, 50), 20, (255, 255, 255), -1)
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            write(tmp_path / split / name / "0.png", image)
    dataset = data.load(f"folder:{tmp_path}", image_size=(48, 96))
    assert dataset.image_shape == (48, 96, 3)
    picture = next(dataset.test.batches(1))[0][0, ..., 0] > 127
    height, width = picture.any(1).sum(), picture.any(0).sum()
    assert height == pytest.approx(40 * round(96 * 256 / 224) / 160, abs=1) and abs(height - width) <= 1


def cut_jpegs():
    """Of every kind: progressive or not, with restarts or not, grey or in colour, of a size that fills no block."""
    for progressive in (0, 1):
        for restarts in (0, 2):
            for channels in (1, 3):
                image = np.random.default_rng(channels).integers(0, 256, (4, 5, channels), dtype=np.uint8)
                options = [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive, cv2.IMWRITE_JPEG_RST_INTERVAL, restarts]
                yield cv2.imencode(".jpg", cv2.resize(image, (35, 19)), options)[1].tobytes()


JPEGS = list(cut_jpegs())


class TestCutJpegs:
    @pytest.mark.parametrize("file", JPEGS)
    @pytest.mark.parametrize("lost", [1, 2])
    def test_one_that_lacks_its_end_marker_is_what_it_was(self, file, lost):
        np.testing.assert_array_equal(images.read(file[:-lost], "tom").image, images.decode(file, "tom"))
        assert jpeg.with_end(file) is None and jpeg.with_end(file + bytes(9)) is None

    @given(file=st.sampled_from(JPEGS), length=st.integers(0, 2000))
    def test_one_that_is_cut_anywhere_is_refused_or_what_it_was(self, file, length):
        try:
            found = images.read(file[: length % len(file)], "tom").image
        except CorruptImage:
            return
        np.testing.assert_array_equal(found, images.decode(file, "tom"))


class TestPrepare:
    def test_files_are_kept_and_read_by_the_same_rules(self, tmp_path, deep):
        """16 bits, an EXIF orientation, a lost end marker; what is neither PNG nor JPEG becomes PNG."""
        pixels, expected = deep
        turned = Image.Exif()
        turned[274] = 6
        file = io.BytesIO()
        Image.fromarray(np.rot90(pixels[1] // 16).astype(np.uint8)).save(file, "PNG", exif=turned)
        plain = cv2.imencode(".jpg", (pixels[2] // 16).astype(np.uint8))[1].tobytes()
        write_all(tmp_path / "pets", pixels)
        (tmp_path / "pets/train/dog/0.png").write_bytes(file.getvalue())
        (tmp_path / "pets/test/cat/0.png").write_bytes(plain[:-2])
        (tmp_path / "pets/test/dog/0.png").write_bytes(cv2.imencode(".tiff", pixels[3])[1].tobytes())
        with pytest.warns(data.DataWarning, match=r"cat/0\.png lacks the end marker"):
            data.prepare(f"folder:{tmp_path}/pets", tmp_path / "tfds")
        with pytest.warns(data.DataWarning, match="2 of 4 images are of 16 bits .* 12 bits"):
            dataset = data.load("pets", tmp_path / "tfds")
        np.testing.assert_array_equal(dataset.train.images[..., 0], [expected[0], pixels[1] // 16])
        np.testing.assert_array_equal(dataset.test.images[..., 0], [images.decode(plain, "")[..., 0], expected[3]])
