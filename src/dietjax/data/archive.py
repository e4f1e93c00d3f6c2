"""The arrays of an .npz file, checked byte by byte before any of them is believed."""

import lzma
import os
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .source import DataError

BROKEN = (OSError, EOFError, RuntimeError, ValueError, OverflowError, struct.error, zipfile.BadZipFile, zlib.error,
          lzma.LZMAError)
"""What zipfile raises of a file with a wrong byte, by where that is: a method of compression that is none, a password
that nobody set, a place before the file's start. RuntimeError: NotImplementedError too."""
END = b"PK\5\6"
"""Where the end of a zip file begins (APPNOTE 4.3.16)."""
END_BYTES = 22 + 2**16
"""How long the end may be, with a comment."""
KINDS = {
    b"\x93NUMPY": "it is an .npy file, one array without a name",
    b"\x89HDF": "it is an HDF5 file; read its arrays with h5py",
    b"\x1f\x8b": "it is packed with gzip; unpack it",
    b"\x80": "it is a pickle, and reading one can run code",
    b"PK\3": "it is cut off: copy or write it again",
}
"""How a file begins that is no whole zip file -> what is said of it."""


def read_arrays(path: Path, wanted: Sequence[str]) -> tuple[dict[str, np.ndarray], list[str]]:
    """(Those of the arrays `wanted` that the file has, the names of all that it has).

    Every byte that could matter is checked before: the arrays' sums, the names in the directory against those beside
    the arrays, and how many there are. So a byte that is flipped anywhere is an error, or changes nothing.

    Raises DataError where the file is no .npz, is damaged, or an array cannot be read without running code.
    """
    _check_kind(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
            damaged = archive.testzip()
            if damaged or _declared_members(path) != len(members):
                what = repr(damaged) if damaged else "its directory"
                raise zipfile.BadZipFile(f"{what} is not what it was when it was written")
    except BROKEN as error:
        raise DataError(f"{path} cannot be read: it is damaged ({str(error) or 'it ends too early'}); copy or write it "
                        "again") from error
    names = [member.removesuffix(".npy") for member in members]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{path} holds {', '.join(twice)} more than once: write it again")
    with zipfile.ZipFile(path) as archive:
        return {name: _array(path, name, archive) for name in wanted if f"{name}.npy" in members}, names


def _check_kind(path: Path) -> None:
    try:
        with open(path, "rb") as file:
            begins = file.read(8)
            zipped = zipfile.is_zipfile(file)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {os.strerror(error.errno or 0)}; give the path of an .npz file") \
            from error
    if not begins:
        raise DataError(f"{path} cannot be read: it is empty; np.savez writes an .npz file")
    if not zipped:
        kind = next((said for start, said in KINDS.items() if begins.startswith(start)), "it is none")
        if begins.isascii() and begins.decode().isprintable():
            kind = "it is text"
        raise DataError(f"{path} cannot be read as an .npz file: {kind}; np.savez writes one")


def _declared_members(path: Path) -> int:
    """How many members the end of a zip file says that it has; zipfile itself does not compare."""
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - END_BYTES))
        end = file.read()
    start = end.rindex(END) + 10
    return int.from_bytes(end[start : start + 2], "little")


def _array(path: Path, name: str, archive: zipfile.ZipFile) -> np.ndarray:
    try:
        with archive.open(f"{name}.npy") as file:
            return np.lib.format.read_array(file, allow_pickle=False)
    except MemoryError as error:
        raise DataError(f"{name} of {path} does not fit into memory: {error}") from error
    except (ValueError, TypeError, SyntaxError, EOFError) as error:  # numpy's, of what it refuses or cannot understand
        if "Object arrays" not in str(error):
            raise DataError(f"{name} of {path} cannot be read: {error}; write it again") from error
        kind = "str" if "name" in name else "np.uint8" if "images" in name else "int"
        raise DataError(f"{name} of {path} are pickled Python objects, and reading those can run code: save one plain "
                        f"array, np.array(x, {kind})") from error
