"""The page's section of what the network got wrong: which class was taken for which, and a sample of the images."""

import html
from collections.abc import Mapping

import numpy as np

from . import confusion
from .elements import image

EARLIER = ("This run was recorded by an earlier version of dietjax, which kept the first mistakes of the test set, but "
           "not how sure the network was, and no confusion matrix.")


def section(summary: Mapping, recorded: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Return the words, the matrix and the images."""
    classes, shown = recorded["class_names"].tolist(), len(recorded["wrong_images"])
    tests = summary["test_images"]
    wrong = max(shown, round((1 - summary["snn"]["accuracy"]) * tests))
    if not wrong:
        text = f"None: the spiking network classified all {tests:,} test images correctly."
        return {"mistakes_text": text, "confusion": "", "mistakes": ""}
    which = "All of them" if shown == wrong else f"{shown:,} of them"
    text = f"The spiking network got {wrong:,} of {tests:,} test images wrong. {which}: true class → its answer"
    if "confusion" not in recorded:
        return {"mistakes_text": f"{text}. {EARLIER}", "confusion": "", "mistakes": _gallery(classes, recorded)}
    text += ", and how sure it was (softmax). "
    text += "" if shown == wrong else "They are spread evenly over the true classes. "
    text += "Of a class come first those of which it was surest."
    return {"mistakes_text": text, "confusion": confusion.drawn(recorded["confusion"], classes),
            "mistakes": _gallery(classes, recorded)}


def _gallery(classes, recorded):
    images, labels, guesses = (recorded[f"wrong_{what}"] for what in ("images", "labels", "predictions"))
    sure = [f", {value:.0%}" for value in recorded["wrong_confidence"]] if "wrong_confidence" in recorded else \
        [""] * len(images)
    cells = []
    for pixels, label, guess, share in zip(images, labels, guesses, sure, strict=True):
        picture = image(pixels, f"{classes[label]}, taken for {classes[guess]}")
        caption = f"{html.escape(classes[label])} → <b>{html.escape(classes[guess])}</b>{share}"
        cells.append(f"<figure>{picture}<figcaption>{caption}</figcaption></figure>")
    return f'<div class="mistakes">{"".join(cells)}</div>'
