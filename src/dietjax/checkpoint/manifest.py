"""The list of a checkpoint's files, with size and CRC-32 of each: it shows damage even in files that nothing reads.

The arrays carry checksums of their own, which no layout changes; the list covers every byte as it lies on the disk.
"""

import json
import zlib
from pathlib import Path

from .. import files

NAME = "manifest.json"
BLOCK_BYTES = 1 << 20


def write(folder: Path) -> None:
    """List all files under a folder in its manifest, atomically. What is listed must not change afterwards."""
    listed = {name: _measure(folder / name) for name in _names(folder)}
    files.write_text(folder / NAME, _text(listed))


def check(folder: Path, part: int = 0, parts: int = 1) -> bool:
    """Compare the files with the manifest: this part of them, for readers that share the work.

    Returns:
        Whether there is a manifest. A folder without one passes: it is of an earlier version, or its writer was killed
        just before listing it.

    Raises:
        ValueError: naming the first file that is missing or not as it was written.
    """
    path = folder / NAME
    if not path.exists():
        return False
    listed = _read(path)
    for name in sorted(listed)[part::parts]:
        size, crc = listed[name]
        if not (folder / name).is_file():
            raise ValueError(f"{name} is missing")
        found = (folder / name).stat().st_size
        if found != size:
            raise ValueError(f"{name} has {found} bytes instead of {size}")
        if _measure(folder / name)[1] != crc:
            raise ValueError(f"{name} does not match its checksum")
    return True


def _names(folder):
    """Of the files in it, sorted, with / between the parts; without the manifest and what a kill left of one."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return [name for name in names if name != NAME and not files.is_temporary(Path(name), folder / NAME)]


def _measure(path):
    """[bytes, CRC-32], read in blocks: a file may be larger than memory."""
    size, crc, block = 0, 0, bytearray(BLOCK_BYTES)
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(block):
            size, crc = size + count, zlib.crc32(memoryview(block)[:count], crc)
    return [size, crc]


def _text(listed):
    return json.dumps({"crc32": zlib.crc32(json.dumps(listed).encode()), "files": listed}) + "\n"


def _read(path):
    try:
        text = path.read_text(encoding="utf-8")
        listed = json.loads(text)["files"]
        if _text(listed) == text:
            return listed
    except (ValueError, KeyError, TypeError):  # no JSON, not UTF-8, or another shape: as damaged as a wrong checksum
        pass
    raise ValueError(f"{path.name} does not match its checksum")
