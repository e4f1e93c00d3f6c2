"""From an image file to a picture of the network's size, on the host. OpenCV, because it releases the GIL."""

import math
from collections.abc import Sequence

import numpy as np

from .source import CorruptImage, DataError

AREA = (0.08, 1.0)
"""Share of the image that a random crop covers: Szegedy et al., CVPR 2015 (arXiv 1409.4842), section 6."""
ASPECT = (3 / 4, 4 / 3)
"""Width over height of a random crop: the same."""
ATTEMPTS = 10
"""Crops drawn before the largest central one is taken: as torchvision's RandomResizedCrop."""
DRAWS = 2 * ATTEMPTS + 2
"""Random numbers that a crop is made from."""
EVALUATION_MARGIN = 256 / 224
"""Shorter side of an image, over the side of its central square that is evaluated: He et al., CVPR 2016
(arXiv 1512.03385), section 3.4."""


def decode(encoded: bytes, name: str, channels: int | None = None) -> np.ndarray:
    """uint8 [H, W, C] of a JPEG or PNG file, colours as RGB, pixels as stored (an EXIF orientation is not applied).

    channels: what the file is converted to, 1 or 3; None: as stored.

    Raises CorruptImage where OpenCV cannot decode the file or finds it cut off; DataError for pixels that are not 8
    bits of grey or RGB, unless they are converted. Damage within a JPEG's compressed pixels may go
    unnoticed: the decoder then returns a wrong image without an error.
    """
    import cv2

    colours = {None: cv2.IMREAD_UNCHANGED, 1: cv2.IMREAD_GRAYSCALE, 3: cv2.IMREAD_COLOR_RGB}[channels]
    image = None
    if encoded:
        image = cv2.imdecode(np.frombuffer(encoded, np.uint8), colours | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise CorruptImage(f"{name} is corrupt: {len(encoded)} bytes that are no whole JPEG or PNG")
    if image.ndim == 2:
        image = image[..., None]
    elif channels is None and image.shape[2] == 3:
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    if image.dtype != np.uint8 or image.shape[2] not in (1, 3):
        raise DataError(
            f"{name} has {image.shape[2]} channels of {image.dtype.name}: convert it to 8-bit grey or RGB, or set "
            "data.image_size, which converts every image to 8-bit RGB"
        )
    return image


def random_crop_box(draws: Sequence[float], height: int, width: int) -> tuple[int, int, int, int]:
    """(top, left, height, width) of a random part of an image: uniform in area (AREA) and logarithm of aspect (ASPECT).

    If none of ATTEMPTS such boxes fits, the largest central box that ASPECT allows.

    draws: DRAWS numbers, uniform in [0, 1): areas, aspects, the place. Drawn by the caller, for a whole batch at once:
        a generator for each image takes longer than all that is done here.
    """
    for area, aspect in zip(draws[:ATTEMPTS], draws[ATTEMPTS : 2 * ATTEMPTS], strict=True):
        area = height * width * (AREA[0] + (AREA[1] - AREA[0]) * area)
        aspect = ASPECT[0] * (ASPECT[1] / ASPECT[0]) ** aspect
        h, w = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 0 < h <= height and 0 < w <= width:
            return int(draws[-2] * (height - h + 1)), int(draws[-1] * (width - w + 1)), h, w
    h, w = min(height, round(width / ASPECT[0])), min(width, round(height * ASPECT[1]))
    return (height - h) // 2, (width - w) // 2, h, w


def resize(image: np.ndarray, height: int, width: int, out: np.ndarray | None = None) -> np.ndarray:
    """Bilinear, to uint8 [height, width, C].

    Below half the size bilinear sampling skips pixels, so larger images are halved first, as often as needed. OpenCV's
    own averaging over areas would take as long as decoding the image.

    out: what it is written into, contiguous; None: a new array.
    """
    import cv2

    h, w, channels = image.shape
    out = np.empty((height, width, channels), np.uint8) if out is None else out
    while h > 2 * height or w > 2 * width:
        h, w = (h + 1) // 2 if h > 2 * height else h, (w + 1) // 2 if w > 2 * width else w
        image = cv2.resize(image, (w, h), interpolation=cv2.INTER_LINEAR)
    # OpenCV drops the axis of a single channel, and fills `dst` only if it has exactly the shape of the result
    target = out[..., 0] if channels == 1 else out
    cv2.resize(image, (width, height), dst=target, interpolation=cv2.INTER_LINEAR)
    return out


def random_resized_crop(draws: Sequence[float], image: np.ndarray, size: int, out: np.ndarray | None = None
                        ) -> np.ndarray:
    """uint8 [size, size, C]: a random part of the image, see `random_crop_box`; out: see `resize`."""
    top, left, height, width = random_crop_box(draws, *image.shape[:2])
    return resize(image[top : top + height, left : left + width], size, size, out)


def centre_crop(image: np.ndarray, size: int) -> np.ndarray:
    """uint8 [size, size, C]: the middle of the image once its shorter side is size · 256/224."""
    height, width = image.shape[:2]
    shorter = round(size * EVALUATION_MARGIN)
    factor = shorter / min(height, width)
    image = resize(image, max(shorter, int(height * factor)), max(shorter, int(width * factor)))
    top, left = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
    return image[top : top + size, left : left + size]
