"""Pictures of the network's size from images of any size: their middle in its own proportions, or random parts.

OpenCV, because it releases the GIL.
"""

import math
from collections.abc import Sequence

import numpy as np

AREA = (0.08, 1.0)
"""Share of the image that a random crop covers: Szegedy et al., CVPR 2015 (arXiv 1409.4842), section 6."""
ASPECT = (3 / 4, 4 / 3)
"""Width over height of a random crop, relative to that of the picture: the same."""
ATTEMPTS = 10
"""Crops drawn before the largest central one is taken: as torchvision's RandomResizedCrop."""
DRAWS = 2 * ATTEMPTS + 2
"""Random numbers that a crop is made from."""
EVALUATION_MARGIN = 256 / 224
"""Shorter side of an image, over the side of its central square that is evaluated: He et al., CVPR 2016
(arXiv 1512.03385), section 3.4."""


def random_crop_box(draws: Sequence[float], height: int, width: int, proportion: float = 1.0
                    ) -> tuple[int, int, int, int]:
    """(top, left, height, width) of a random part of an image: uniform in area (AREA) and logarithm of aspect (ASPECT).

    If none of ATTEMPTS such boxes fits, the largest central box that ASPECT allows.

    draws: DRAWS numbers, uniform in [0, 1): areas, aspects, the place. Drawn by the caller, for a whole batch at once:
        a generator for each image takes longer than all that is done here.
    proportion: width over height of the picture that it becomes; ASPECT is relative to it.
    """
    narrow, wide = ASPECT[0] * proportion, ASPECT[1] * proportion
    for area, aspect in zip(draws[:ATTEMPTS], draws[ATTEMPTS : 2 * ATTEMPTS], strict=True):
        area = height * width * (AREA[0] + (AREA[1] - AREA[0]) * area)
        aspect = narrow * (wide / narrow) ** aspect
        h, w = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 0 < h <= height and 0 < w <= width:
            return int(draws[-2] * (height - h + 1)), int(draws[-1] * (width - w + 1)), h, w
    h, w = max(1, min(height, round(width / narrow))), max(1, min(width, round(height * wide)))
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


def random_resized_crop(draws: Sequence[float], image: np.ndarray, height: int, width: int,
                        out: np.ndarray | None = None) -> np.ndarray:
    """uint8 [height, width, C]: a random part of the image, see `random_crop_box`; out: see `resize`."""
    top, left, h, w = random_crop_box(draws, image.shape[0], image.shape[1], width / height)
    return resize(image[top : top + h, left : left + w], height, width, out)


def centre_crop(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 [height, width, C]: the middle of the image, in its own proportions, once it just covers a frame of 256/224
    times that height and width.
    """
    h, w = round(height * EVALUATION_MARGIN), round(width * EVALUATION_MARGIN)
    factor = max(h / image.shape[0], w / image.shape[1])
    image = resize(image, max(h, int(image.shape[0] * factor)), max(w, int(image.shape[1] * factor)))
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]
