"""Text and JSON files of a run, replaced as a whole: after a kill there is either the old content or the new."""

import contextlib
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any


def write_text(path: pathlib.Path, text: str) -> None:
    """Replace a text file atomically."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")  # `is_temporary` recognises this name
    with naming(path):
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())  # else a power cut may leave the new name on an empty file
        os.replace(temporary, path)


@contextlib.contextmanager
def naming(path: pathlib.Path) -> Iterator[None]:
    """Around reading or writing a file: gives an OSError raised inside the path, which `write` omits (disk full)."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def is_temporary(found: pathlib.Path, path: pathlib.Path) -> bool:
    """Whether `found` is the temporary file that a kill during `write_text(path, ...)` leaves behind."""
    return found.name.startswith(f".{path.name}.")


def read_text(path: pathlib.Path) -> str:
    """A text file's contents, "" where there is none."""
    return path.read_text(encoding="utf-8") if path.exists() else ""


def write_json(path: pathlib.Path, value: Any) -> None:
    """Replace a JSON file atomically."""
    write_text(path, json.dumps(value, indent=1) + "\n")
