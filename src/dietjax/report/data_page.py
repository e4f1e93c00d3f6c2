"""A set before training -> one self-contained HTML page: what it consists of, what is odd, examples."""

import html
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .. import files
from .elements import image, page, table

CLASSES_LISTED = 200
"""Rows of the table of classes; of more classes the ends of the order by size."""


def write(path: pathlib.Path, facts: Mapping[str, Any], oddities: Sequence[str],
          examples: Sequence[tuple[str, np.ndarray]], augmented: Sequence[tuple[str, np.ndarray]], words: str) -> None:
    """Write the page.

    Args:
        path: of the page; its folder is made.
        facts: "name"; "lines", {what: words}; "class_names"; "train", "test", examples of each class.
        oddities: sentences.
        examples: (class, its images uint8 [n, H, W, C] or frames [n, T, H, W, C]) as the network sees them in a test.
        augmented: (class, one example: as it is, then as training sees it) in the same form.
        words: what is done to training images.
    """
    items = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in oddities)
    fills = {
        "name": html.escape(facts["name"]),
        "tiles": _tiles(facts),
        "oddities": f'<ul class="warnings">{items}</ul>' if items else "<p>Nothing odd was found.</p>",
        "lines": table(("what", "of this set"), list(facts["lines"].items()), kind="words"),
        "classes": _classes(facts),
        "examples": _strips(examples), "augmented": _strips(augmented), "words": html.escape(words),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(path, page("data_page", f"{fills['name']} before training", fills))


def _tiles(facts: Mapping[str, Any]) -> str:
    numbers = (("classes", len(facts["class_names"])), ("training images", sum(facts["train"])),
               ("test images", sum(facts["test"])))
    return "".join(f'<div class="tile"><b>{number:,}</b><span>{what}</span></div>' for what, number in numbers)


def _classes(facts: Mapping[str, Any]) -> str:
    rows = [(name, f"{train:,}", f"{test:,}")
            for name, train, test in zip(facts["class_names"], facts["train"], facts["test"], strict=True)]
    if len(rows) > CLASSES_LISTED:
        order = np.argsort(facts["train"], kind="stable")[::-1]
        half = CLASSES_LISTED // 2
        left_out = (f"... {len(rows) - 2 * half:,} classes between", "", "")
        rows = [*(rows[i] for i in order[:half]), left_out, *(rows[i] for i in order[-half:])]
    return table(("class", "training images", "test images"), rows)


def _strips(rows: Sequence[tuple[str, np.ndarray]]) -> str:
    cells = []
    for name, images in rows:
        strip = image(np.stack([as_picture(example) for example in images]), f"{name}, {len(images)} pictures")
        cells.append(f"<figure>{strip}<figcaption>{html.escape(name)}</figcaption></figure>")
    return f'<div class="strips">{"".join(cells)}</div>' if cells else ""


def as_picture(example: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 1 or 3] of an image uint8 [H, W, C], or of frames [T, H, W, C] their sum; of events [T, H, W, 2] the
    frame with the most of them, [H, W, 2], which `image` colours: over time a pixel has events of both polarities.
    """
    if example.ndim == 3 and example.shape[-1] in (1, 3):
        return example
    if example.shape[-1] == 2:
        return example[example.sum((1, 2, 3)).argmax()]
    summed = example.reshape(-1, *example.shape[-3:]).sum(0, dtype=np.float64)
    shares = summed / max(1, summed.max())
    return np.round(255 * (shares if shares.shape[-1] in (1, 3) else shares[..., :1])).astype(np.uint8)
