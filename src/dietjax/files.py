"""Files of a run, written so that a kill leaves either the old one or the new one whole."""

import json
import os
import pathlib
from typing import Any


def write_text(path: pathlib.Path, text: str) -> None:
    """Replace a text file atomically."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")  # as is_temporary knows it
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def is_temporary(found: pathlib.Path, path: pathlib.Path) -> bool:
    """Whether a file is what a kill in the middle of writing `path` leaves behind."""
    return found.name.startswith(f".{path.name}.")


def write_json(path: pathlib.Path, value: Any) -> None:
    """Replace a JSON file atomically."""
    write_text(path, json.dumps(value, indent=1) + "\n")
