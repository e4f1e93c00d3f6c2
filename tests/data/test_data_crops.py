"""Laws of dietjax.data.crops: from an image of any size to a picture of one."""

import numpy as np
import pytest

from dietjax.data import crops


class TestRandomResizedCrop:
    def test_area_and_aspect_follow_the_law(self):
        """On an image so large that every box fits: area uniform in [0.08, 1], log aspect uniform, both by moments."""
        height, width, draws = 10_000, 10_000, 4000
        rng = np.random.default_rng(0)
        boxes = np.array([crops.random_crop_box(rng.random(crops.DRAWS), height, width) for _ in range(draws)])
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
        assert crops.random_crop_box(np.random.default_rng(0).random(crops.DRAWS), height, width) == box

    def test_the_part_is_the_one_that_the_box_says(self):
        """A ramp: after resizing, its ends are still those of the box."""
        ramp = np.repeat(np.arange(200, dtype=np.uint8)[None, :, None], 100, axis=0)
        for seed in range(20):
            draws = np.random.default_rng(seed).random(crops.DRAWS)
            box = crops.random_crop_box(draws, 100, 200)
            crop = crops.random_resized_crop(draws, ramp, 50, 50)
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
        crops.resize(image, side, side, batch[1])
        np.testing.assert_array_equal(batch[1], crops.resize(image, side, side))
        assert (batch[1] != 7).any() and (batch[[0, 2]] == 7).all()


class TestCentreCrop:
    def test_equals_hand_arithmetic(self):
        """Shorter side 16 = 14 · 256/224 already: nothing is resized, the middle 14 × 14 of 16 × 21 remain."""
        image = np.random.default_rng(0).integers(0, 256, (16, 21, 3), dtype=np.uint8)
        np.testing.assert_array_equal(crops.centre_crop(image, 14, 14), image[1:15, 3:17])
        upright = np.ascontiguousarray(image.transpose(1, 0, 2))
        np.testing.assert_array_equal(crops.centre_crop(upright, 14, 14), upright[3:17, 1:15])

    def test_whole_factors_average_pixels(self):
        """Four times as large: a pixel is the mean of 4 × 4."""
        image = np.random.default_rng(0).integers(0, 256, (64, 84, 1), dtype=np.uint8)
        means = image.reshape(16, 4, 21, 4, 1).mean((1, 3))
        np.testing.assert_allclose(crops.centre_crop(image, 14, 14), means[1:15, 3:17], atol=1.01)  # rounded twice

    @pytest.mark.parametrize("height, width", [(375, 500), (500, 333), (8, 9), (1000, 30)])
    def test_imagenets_figures(self, height, width):
        assert crops.centre_crop(np.zeros((height, width, 3), np.uint8), 224, 224).shape == (224, 224, 3)
