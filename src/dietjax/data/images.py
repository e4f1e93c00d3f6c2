"""From an image file to its pixels, on the host. OpenCV, because it releases the GIL."""

from typing import NamedTuple

import numpy as np

from . import jpeg
from .source import CorruptImage, DataError

FORMATS = "JPEG, PNG, WebP, BMP or TIFF"
PNG, TIFF = b"\x89PNG\r\n\x1a\n", (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""How files begin. TIFF: either byte order; + is that of files above 4 GB."""


class Read(NamedTuple):
    """What was found in an image file."""

    image: np.ndarray
    """uint8 or uint16 [H, W, C]."""
    mended: str | None = None
    """What was wrong with the file and was put right, as a sentence."""
    transparent: str | None = None
    """That transparency was dropped, as a sentence."""


def read(encoded: bytes, name: str, channels: int | None = None) -> Read:
    """As `decode`; but a JPEG that only lacks its end marker is taken."""
    try:
        image, mended = decode(encoded, name, channels), None
    except CorruptImage:
        whole = jpeg.with_end(encoded)
        if whole is None:
            raise
        image = decode(whole, name, channels)
        mended = f"{name} lacks the end marker of a JPEG; its pixels are complete, and are taken"
    dropped = f"{name} has transparency, which is dropped: its pixels count in the colours that are stored behind it"
    return Read(image, mended, dropped if is_transparent(encoded) else None)


def decode(encoded: bytes, name: str, channels: int | None = None) -> np.ndarray:
    """uint8 or uint16 [H, W, C] of an image file (FORMATS): colours as RGB, turned as its EXIF orientation says, and
    without transparency.

    channels: what the file is converted to, 1 or 3; None: as stored.

    Raises CorruptImage where OpenCV cannot decode the file or finds it cut off; DataError for pixels that are neither 8
    nor 16 bits, for an animation, and for a TIFF file of several pages or with transparency. Damage within a JPEG's
    compressed pixels may go unnoticed: the decoder then returns a wrong image without an error.
    """
    import cv2

    grey = channels == 1 or (channels is None and encoded[:8] == PNG and encoded[25:26] == b"\4")  # grey, transparent
    colours = 0 if grey else cv2.IMREAD_COLOR_RGB if channels else cv2.IMREAD_ANYCOLOR
    try:
        image = _tiff(encoded, name) if encoded.startswith(TIFF) else cv2.imdecode(
            np.frombuffer(encoded, np.uint8), colours | cv2.IMREAD_ANYDEPTH) if encoded else None
    except cv2.error as error:
        if error.code == cv2.Error.STS_NO_MEM:
            raise DataError(f"{name} does not fit into memory: {error.err}") from error
        raise CorruptImage(f"{name} is corrupt, or larger than can be decoded: OpenCV demands {error.err}") from error
    if image is None:
        raise CorruptImage(f"{name} is corrupt: {len(encoded)} bytes that are no whole {FORMATS}")
    if _is_animated(encoded):
        raise DataError(f"{name} is an animation: save the picture that is meant as an image of its own")
    if image.dtype not in (np.uint8, np.uint16):
        raise DataError(f"{name} has pixels of {image.dtype.name}: convert it to 8 or 16 bits")
    if encoded.startswith(TIFF):
        return _converted(image, name, channels)
    if image.ndim == 2:
        return image[..., None]
    return image if channels else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _tiff(encoded: bytes, name: str) -> np.ndarray | None:
    """As stored, BGR: converting, OpenCV takes floats for corrupt; of several pages it shows the first."""
    import cv2

    _, pages = cv2.imdecodemulti(np.frombuffer(encoded, np.uint8), cv2.IMREAD_UNCHANGED)
    if len(pages) > 1:
        raise DataError(f"{name} has {len(pages)} pages: save each as an image of its own")
    return pages[0] if pages else None


def _converted(image: np.ndarray, name: str, channels: int | None) -> np.ndarray:
    """[H, W], BGR or BGRA of a TIFF file -> [H, W, channels]."""
    import cv2

    if image.ndim == 2:
        return np.repeat(image[..., None], channels or 1, axis=2)
    if image.shape[2] == 4 and image[..., 3].min() < np.iinfo(image.dtype).max:
        raise DataError(f"{name} is a TIFF file with transparency, which is read in more than one way: save it without")
    image = image[..., :3]
    return cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)[..., None] if channels == 1 else image[..., ::-1]


def is_transparent(encoded: bytes) -> bool:
    """Whether a file says that it has transparency, by its headers alone."""
    if encoded.startswith(PNG):
        return encoded[25:26] in (b"\4", b"\6") or encoded.find(b"tRNS", 0, encoded.find(b"IDAT")) > 0
    if encoded[:4] == b"RIFF":  # WebP: the flag of its extended header, or of the one of its lossless form
        flags = {b"VP8X": encoded[20], b"VP8L": encoded[24]}.get(encoded[12:16], 0)
        return bool(flags & 16)
    return encoded[:2] == b"BM" and encoded[28:30] == b"\x20\0"


def _is_animated(encoded: bytes) -> bool:
    """Whether a PNG or WebP file has several pictures, of which OpenCV shows the first."""
    if encoded.startswith(PNG):
        return encoded.find(b"acTL", 0, encoded.find(b"IDAT")) > 0
    return encoded[:4] == b"RIFF" and encoded[12:16] == b"VP8X" and bool(encoded[20] & 2)


def eight_bits(image: np.ndarray, bits: int) -> np.ndarray:
    """uint16 of so many bits -> uint8: the whole range, 0..2^bits - 1, to 0..255, rounded."""
    return np.round(image * (255 / (2**bits - 1))).astype(np.uint8)
