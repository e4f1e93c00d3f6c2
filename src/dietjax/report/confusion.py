"""Which class was taken for which, over all test images: a matrix while it can be read, and the most frequent pairs."""

import math
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from . import plots
from .elements import figure, table

MOST_CLASSES = 200
"""Of more, a cell would be smaller than two pixels: then there is the table alone."""
NAMED_CLASSES = 30
"""Of more, the axes show the classes' numbers."""
LEAST_FONT = 6
"""Points: where a count would be smaller, cells have none."""
STRONGEST = 0.55
"""Opacity of the fullest cell under counts, which stay readable on it, on a light page and on a dark one."""
WORDS = ("Each row is a true class, each column an answer. A colour is stronger the larger its share of the row: grey "
         "for right answers, coloured for wrong ones, of which the largest share has the full colour.")
PAIRS = 10
"""Rows of the table beside a matrix."""
PAIRS_ALONE = 25
"""Rows of the table without one."""


def drawn(counts: np.ndarray, names: Sequence[str]) -> str:
    """Return counts [K, K] (true class × answer) as HTML: the matrix, if K allows it, and the most frequent pairs."""
    classes = len(names)
    if classes > MOST_CLASSES:
        return f'<div class="scroll">{pairs_table(counts, names, PAIRS_ALONE)}</div>'
    wrong = counts.sum() - counts.trace()
    said = f"of {counts.sum():,} test images {counts.trace():,} lie on the diagonal, {wrong:,} beside it"
    matrix = figure(matrix_figure(counts, names), "Confusion matrix", said)
    pairs = pairs_table(counts, names, PAIRS)
    return f'<div class="pair">{matrix}<div><p>{WORDS}</p><div class="scroll">{pairs}</div></div></div>'


def pairs_table(counts: np.ndarray, names: Sequence[str], most: int) -> str:
    """Return a table of the pairs of classes that were confused most often; the share is of the true class's images."""
    wrong = counts - np.diag(counts.diagonal())
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = [(i, j) for i, j in zip(*np.unravel_index(order, wrong.shape), strict=True) if wrong[i, j]]
    rows = [(f"{_named(i, names)} → {_named(j, names)}", f"{wrong[i, j]:,}", f"{wrong[i, j] / counts[i].sum():.1%}")
            for i, j in pairs]
    return table(("true class → answer, most frequent first", "images", "of the class"), rows)


def _named(index: int, names: Sequence[str]) -> str:
    """Its name, with its number where the axes show numbers."""
    return f"{names[index]} ({index})" if NAMED_CLASSES < len(names) <= MOST_CLASSES else names[index]


def matrix_figure(counts: np.ndarray, names: Sequence[str]) -> Figure:
    """Draw counts [K, K] as `WORDS` say; as numbers, where there is room for them."""
    classes = len(names)
    cell = 72 * 0.75 * plots.WIDTH / classes  # points, beside labels
    font = min(plots.FONT, cell / (0.62 * len(str(counts.max()))), 0.75 * cell)
    drawing = Figure(figsize=(plots.WIDTH, plots.WIDTH), layout="constrained")
    axes = drawing.subplots()
    axes.imshow(_pixels(counts, STRONGEST if font >= LEAST_FONT else 1), interpolation="nearest")
    if font >= LEAST_FONT:
        for row, column in zip(*counts.nonzero(), strict=True):
            axes.text(column, row, f"{counts[row, column]}", ha="center", va="center", fontsize=font,
                      color=plots.COLOURS["ink"])
    axes.spines[:].set_color(plots.COLOURS["rule"])
    axes.tick_params(length=0, labelsize=min(plots.FONT, max(cell, 5)), labelcolor=plots.COLOURS["ink"])
    shown = range(0, classes, 1 if classes <= NAMED_CLASSES else 10 * math.ceil(classes / 100))
    labels = [plots.plain_name(name, 16) for name in names] if classes <= NAMED_CLASSES else list(map(str, shown))
    axes.set_xticks(shown, labels, rotation=90 if max(map(len, labels)) > 2 else 0)
    axes.set_yticks(shown, labels)
    what = "" if classes <= NAMED_CLASSES else ", by number"
    axes.set_xlabel(f"answer{what}", fontsize=plots.FONT, color=plots.COLOURS["ink"])
    axes.set_ylabel(f"true class{what}", fontsize=plots.FONT, color=plots.COLOURS["ink"])
    return drawing


def _pixels(counts: np.ndarray, strongest: float) -> np.ndarray:
    """RGBA [K, K, 4], its opacity the root of a share on a scale to 1 on the diagonal, beside it to the largest there;
    transparent where there is nothing, so that the page's background shows.
    """
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    right = np.eye(len(counts), dtype=bool)
    wrong = share[~right].max(initial=0)
    pixels = np.empty((*counts.shape, 4))
    for where, colour, full in ((right, "muted", 1), (~right, "snn", wrong or 1)):
        pixels[where, :3] = matplotlib.colors.to_rgb(plots.COLOURS[colour])
        pixels[where, 3] = strongest * np.sqrt(share[where] / full)
    return pixels
