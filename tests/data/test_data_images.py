"""Laws of dietjax.data.images and jpeg: from a file to its pixels."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from dietjax.data import images
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

    @pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tiff"])
    @pytest.mark.parametrize("orientation, turned", [
        (1, lambda x: x), (2, np.fliplr), (3, lambda x: np.rot90(x, 2)), (4, np.flipud),
        (5, lambda x: x.swapaxes(0, 1)), (6, lambda x: np.rot90(x, -1)), (7, lambda x: np.rot90(x, 2).swapaxes(0, 1)),
        (8, np.rot90)])
    @pytest.mark.parametrize("channels", [None, 1, 3])
    def test_an_exif_orientation_is_applied(self, suffix, orientation, turned, channels):
        """As the standard (CIPA DC-008, tag 274) lists them; pixels of even size are whole blocks of JPEG's."""
        image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 32, 3), dtype=np.uint8))
        exif, files = Image.Exif(), []
        for value in (1, orientation):
            exif[274] = value
            file = io.BytesIO()
            image.save(file, Image.registered_extensions()[suffix], exif=exif, lossless=True)
            files.append(file.getvalue())
        upright, found = (images.decode(file, "a", channels) for file in files)
        np.testing.assert_array_equal(found, turned(upright))

    @pytest.mark.parametrize("suffix", [".jpg", ".png"])
    @pytest.mark.parametrize("damage", ["cut in half", "last bytes lost", "first byte flipped", "empty", "text"])
    def test_a_damaged_file_is_named(self, picture, suffix, damage):
        whole = encoded(picture, suffix)
        damaged = {"cut in half": whole[:len(whole) // 2], "last bytes lost": whole[:-2],
                   "first byte flipped": bytes([whole[0] ^ 255]) + whole[1:], "empty": b"", "text": b"hello"}[damage]
        with pytest.raises(CorruptImage, match=r"^cats/tom is corrupt"):
            images.decode(damaged, "cats/tom")

    def test_transparency_is_dropped_and_said(self, picture):
        """Grey with it is grey still."""
        see_through = np.dstack([picture, np.full(picture.shape[:2], 128, np.uint8)])
        for stored, seen in ((see_through, picture), (see_through[..., 2:], picture[..., 2:])):
            file = io.BytesIO()
            Image.fromarray(stored, "RGBA" if stored.shape[2] == 4 else "LA").save(file, "PNG")
            image, mended, transparent = images.read(file.getvalue(), "tom")
            np.testing.assert_array_equal(image, seen)
            assert transparent.startswith("tom has transparency, which is dropped") and mended is None

    @pytest.mark.parametrize("suffix", [".png", ".tiff"])
    @pytest.mark.parametrize("channels", [1, 3])
    def test_16_bits_stay_until_the_set_says_how_many_count(self, suffix, channels):
        image = np.random.default_rng(0).integers(0, 4096, (5, 6, channels), dtype=np.uint16)
        found = images.decode(encoded(image, suffix), "tom")
        np.testing.assert_array_equal(found, image)
        expected = [int(value / 4095 * 255 + 0.5) for value in image.ravel().tolist()]
        assert images.eight_bits(found, 12).ravel().tolist() == expected
