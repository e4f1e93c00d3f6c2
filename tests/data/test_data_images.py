"""Laws of dietjax.data.images: decoding and cropping on the host."""

import cv2
import numpy as np
import pytest

from dietjax.data import DataError, images
from dietjax.data.source import CorruptImage


def encoded(image, suffix=".png"):
    return cv2.imencode(suffix, image[..., ::-1] if image.shape[2] == 3 else image)[1].tobytes()


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)


class TestDecode:
    @pytest.mark.parametrize("channels", [None, 3])
    def test_colours_come_as_rgb(self, picture, channels):
        np.testing.assert_array_equal(images.decode(encoded(picture), "a", channels), picture)

    def test_grey_keeps_its_axis_and_is_converted_on_demand(self, picture):
        grey = encoded(picture[..., :1])
        np.testing.assert_array_equal(images.decode(grey, "a"), picture[..., :1])
        np.testing.assert_array_equal(images.decode(grey, "a", 3), np.repeat(picture[..., :1], 3, axis=2))

    def test_exif_orientation_is_not_applied(self, picture):
        jpeg = encoded(picture, ".jpg")
        # orientation 6 (turn by 90 degrees), as little-endian TIFF with one entry, right after the start of the image
        tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
        exif = b"\xff\xe1" + (len(tiff) + 8).to_bytes(2, "big") + b"Exif\0\0" + tiff
        turned = jpeg[:2] + exif + jpeg[2:]
        assert cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR).shape == (40, 30, 3)  # it is effective
        np.testing.assert_array_equal(images.decode(turned, "a", 3), images.decode(jpeg, "a", 3))

    @pytest.mark.parametrize("suffix", [".jpg", ".png"])
    @pytest.mark.parametrize("damage", ["cut in half", "last bytes lost", "first byte flipped", "empty", "text"])
    def test_a_damaged_file_is_named(self, picture, suffix, damage):
        whole = encoded(picture, suffix)
        damaged = {"cut in half": whole[:len(whole) // 2], "last bytes lost": whole[:-2],
                   "first byte flipped": bytes([whole[0] ^ 255]) + whole[1:], "empty": b"", "text": b"hello"}[damage]
        with pytest.raises(CorruptImage, match=r"^cats/tom is corrupt"):
            images.decode(damaged, "cats/tom")

    @pytest.mark.parametrize("image", [np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.uint16)])
    def test_alpha_and_16_bits_are_not_dropped_silently(self, image):
        with pytest.raises(DataError, match=r"^tom has \d channels of uint.*8-bit"):
            images.decode(encoded(image), "tom")


class TestRandomResizedCrop:
    def test_area_and_aspect_follow_the_law(self):
        """On an image so large that every box fits: area uniform in [0.08, 1], log aspect uniform, both by moments."""
        height, width, draws = 10_000, 10_000, 4000
        rng = np.random.default_rng(0)
        boxes = np.array([images.random_crop_box(rng.random(images.DRAWS), height, width) for _ in range(draws)])
        top, left, h, w = boxes.T
        area, aspect = h * w / (height * width), np.log(w / h)
        assert area.min() > 0.0799 and abs(aspect).max() < np.log(4 / 3) + 1e-3
        small = area < 0.5  # larger ones fit less often when they are not square
        assert area[small].mean() == pytest.approx(0.29, abs=0.01)  # (0.08 + 0.5) / 2
        assert np.std(aspect[small]) == pytest.approx(2 * np.log(4 / 3) / np.sqrt(12), rel=0.05)
        assert abs(aspect[small].mean()) < 0.02
        assert (top + h <= height).all() and (left + w <= width).all() and top.min() >= 0 and left.min() >= 0
        assert (top[small] / (height - h[small])).mean() == pytest.approx(0.5, abs=0.03)
        assert (left[small] / (width - w[small])).mean() == pytest.approx(0.5, abs=0.03)

    @pytest.mark.parametrize("height, width, box", [(10, 1000, (0, 493, 10, 13)), (1000, 10, (493, 0, 13, 10))])
    def test_where_none_fits_the_largest_central_box_is_taken(self, height, width, box):
        assert images.random_crop_box(np.random.default_rng(0).random(images.DRAWS), height, width) == box

    def test_the_part_is_the_one_that_the_box_says(self):
        """A ramp: after resizing, its ends are still those of the box."""
        ramp = np.repeat(np.arange(200, dtype=np.uint8)[None, :, None], 100, axis=0)
        for seed in range(20):
            draws = np.random.default_rng(seed).random(images.DRAWS)
            box = images.random_crop_box(draws, 100, 200)
            crop = images.random_resized_crop(draws, ramp, 50)
            assert crop.shape == (50, 50, 1) and crop.dtype == np.uint8
            # the outermost pixels lie half of one of the new ones inside
            inset = (box[3] / 50 - 1) / 2
            assert crop[25, 0, 0] == pytest.approx(box[1] + inset, abs=1.01)
            assert crop[25, -1, 0] == pytest.approx(box[1] + box[3] - 1 - inset, abs=1.01)


class TestResize:
    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("side", [10, 30, 70])
    def test_it_writes_into_the_row_of_a_batch_and_nowhere_else(self, channels, side):
        image = np.random.default_rng(0).integers(0, 256, (25, 41, channels), dtype=np.uint8)
        batch = np.full((3, side, side, channels), 7, np.uint8)
        images.resize(image, side, side, batch[1])
        np.testing.assert_array_equal(batch[1], images.resize(image, side, side))
        assert (batch[1] != 7).any() and (batch[[0, 2]] == 7).all()


class TestCentreCrop:
    def test_equals_hand_arithmetic(self):
        """Shorter side 16 = 14 · 256/224 already: nothing is resized, the middle 14 × 14 of 16 × 21 remain."""
        image = np.random.default_rng(0).integers(0, 256, (16, 21, 3), dtype=np.uint8)
        np.testing.assert_array_equal(images.centre_crop(image, 14), image[1:15, 3:17])
        upright = np.ascontiguousarray(image.transpose(1, 0, 2))
        np.testing.assert_array_equal(images.centre_crop(upright, 14), upright[3:17, 1:15])

    def test_whole_factors_average_pixels(self):
        """Four times as large: a pixel is the mean of 4 × 4."""
        image = np.random.default_rng(0).integers(0, 256, (64, 84, 1), dtype=np.uint8)
        means = image.reshape(16, 4, 21, 4, 1).mean((1, 3))
        np.testing.assert_allclose(images.centre_crop(image, 14), means[1:15, 3:17], atol=1.01)  # rounded twice

    @pytest.mark.parametrize("height, width", [(375, 500), (500, 333), (8, 9), (1000, 30)])
    def test_imagenets_figures(self, height, width):
        assert images.centre_crop(np.zeros((height, width, 3), np.uint8), 224).shape == (224, 224, 3)
