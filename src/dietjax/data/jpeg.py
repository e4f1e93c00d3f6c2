"""A JPEG file that was cut off: whether its pixels are complete, so that only its end marker is missing.

OpenCV 5 refuses every file without the marker. With one appended it decodes whatever was cut away as if it were zeros,
and says so on stderr alone. So whether the pixels are complete is found here in two ways: by the scans, which have to
bring every bit of every coefficient, and by what is appended: to a complete last scan it makes no difference.
"""

import contextlib
import io
import re

START, END = b"\xff\xd8", b"\xff\xd9"
FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of a frame's header (ITU-T T.81, table B.1)."""
SCAN = 0xDA
ENDS_OF_A_SCAN = re.compile(rb"\xff(?![\x00\xd0-\xd7\xff])")
"""Within a scan 0xFF is followed by 0, which belongs to it, by the number of a restart, or by another 0xFF."""
FILLING = 2048
"""Bytes: more than are needed for the ten blocks of 64 coefficients that may be coded together, at 16 bits each; so
every component's blocks come to change, also where others lie outside the picture."""
FILLINGS = tuple(b"".join(bytes([byte] * FILLING) + bytes([0xFF, 0xD0 + (first + restart) % 8]) for restart in range(8))
                 for byte, first in ((0x00, 0), (0x55, 2), (0xAA, 4), (0xEE, 6)))
"""What may stand where the scan was cut: bits of several kinds, and after them every restart that could be waited for,
behind which they stand again. They begin with several, because a decoder that waits for one takes the next two for a
sign that it missed an interval, and fills that with grey."""


def with_end(encoded: bytes) -> bytes | None:
    """The file with its end marker, if that is all that it lacks; None: it lacks more, or nothing, or is no JPEG."""
    body = encoded.rstrip(b"\xff")  # half of the marker may be there
    if not body.startswith(START) or body.endswith(END) or not _has_all_scans(body):
        return None
    pictures = {_pixels(body + filling + END) for filling in (b"", *FILLINGS)}
    return None if len(pictures) > 1 or None in pictures else body + END


def _pixels(encoded: bytes) -> bytes | None:
    """By Pillow, whose decoder is OpenCV's but prints nothing."""
    from PIL import Image

    with contextlib.suppress(OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return Image.open(io.BytesIO(encoded)).tobytes()
    return None


def _has_all_scans(jpeg: bytes) -> bool:
    """Whether its scans have begun to bring the lowest bit of all 64 coefficients of every component.

    A sequential file has one scan for all of that, or one for each component. A progressive one brings the coefficients
    in ranges, and their bits from the highest down.
    """
    lowest: dict[int, list[int]] = {}  # component -> of each coefficient, the lowest bit that came; 14: none
    position = len(START)
    with contextlib.suppress(IndexError, KeyError, ValueError):  # a header that is no header
        while position < len(jpeg):
            if jpeg[position + 1] == END[1]:  # it is there, and something follows it
                return False
            marker, size = jpeg[position + 1], int.from_bytes(jpeg[position + 2 : position + 4], "big")
            header = jpeg[position + 4 : position + 2 + size]
            position += 2 + size
            if marker in FRAMES:
                lowest = {header[6 + 3 * i]: [14] * 64 for i in range(header[5])}
            elif marker == SCAN:
                count = header[0]
                first, last, bits = header[1 + 2 * count : 4 + 2 * count]
                for component in header[1 : 1 + 2 * count : 2]:
                    lowest[component][first : last + 1] = [bits & 15] * (last + 1 - first)
                ended = ENDS_OF_A_SCAN.search(jpeg, position)
                position = ended.start() if ended else len(jpeg)
    return bool(lowest) and not any(any(bits) for bits in lowest.values())
