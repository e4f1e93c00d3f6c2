"""The page's model is what the code says, from what was stored; its figures are those of hand arithmetic."""

import math
import pathlib
import runpy

import pytest

from dietjax.analysis.scaling import CHIPS

DOCS = pathlib.Path(__file__).parents[1] / "docs"
SCRIPT = runpy.run_path(str(DOCS / "scaling.py"))
VGG16 = 64 * 9 * (3 + 64) + 128 * 9 * (64 + 128) + 256 * 9 * (128 + 256 + 256) + 512 * 9 * (256 + 5 * 512) + (
    25088 * 4096 + 4096 * 4096 + 4096 * 1000)
"""Weights: thirteen convolutions of 3×3, and the classifier behind a map of 7×7×512."""


def test_the_page_says_what_the_model_does():
    page = (DOCS / "scaling.md").read_text(encoding="utf-8")
    assert page == SCRIPT["filled"](page, SCRIPT["MODELLED"], SCRIPT["made"], "modelled"), "run: python docs/scaling.py"


def test_the_weights_are_vgg16_s():
    assert SCRIPT["weights"](SCRIPT["network"]("VGG16")) == VGG16 == 138_344_128


def test_the_share_is_that_of_the_measured_step():
    """6.89 ms; multiply-accumulates of VGG16 on 32×32, whose last map is 2×2×512."""
    first, rest = 1024 * 9 * 3 * 64, (
        1024 * 9 * 64 * 64 + 256 * 9 * (64 * 128 + 128 * 128) + 64 * 9 * (128 * 256 + 2 * 256 * 256)
        + 16 * 9 * (256 * 512 + 2 * 512 * 512) + 4 * 9 * 3 * 512 * 512 + 2048 * 4096 + 4096 * 4096 + 4096 * 10)
    performed = 128 * (2 * 2 * first + 5 * 3 * 2 * rest)
    assert SCRIPT["measured_share"]() == pytest.approx(performed / 6.89e-3 / 989.4e12)


@pytest.mark.parametrize("name", SCRIPT["NETWORKS"])
@pytest.mark.parametrize("chip", ["H100", "TPU v5e"])
def test_weights_and_gradients_travel_in_two_bytes(name, chip):
    """Besides them less than a kilobyte; an H100 with fsdp: one gather and one scatter."""
    half = 2 * SCRIPT["weights"](SCRIPT["network"](name))
    reduced, = SCRIPT["traffic"](name, CHIPS[chip], "data parallel")
    assert reduced.kind == "all-reduce" and half < reduced.size < half + 1000
    sent = {each.kind: each.size for each in SCRIPT["traffic"](name, CHIPS[chip], "fsdp")}
    assert half <= sent["all-gather"] < half + 1000
    if chip == "H100":
        assert half <= sent["reduce-scatter"] < half + 1000 > sent["all-reduce"]
    else:
        assert sent["all-reduce"] + sent["reduce-scatter"] >= half


@pytest.mark.parametrize("stem", SCRIPT["NETWORKS"].values())
def test_what_is_sent_does_not_depend_on_the_batch_and_a_state_is_split(stem):
    for fsdp in (1, 8):
        one, four = (SCRIPT["rows"](f"collectives_{stem}{batch}_h100", kind="all", fsdp=fsdp)[0]
                     for batch in ("", "_batch4"))
        assert one["sent MB"] == four["sent MB"] and one["temporary MB"] < four["temporary MB"]
    for count in (8, 16, 32, 64):
        whole, split = (SCRIPT["rows"](f"collectives_{stem}_cpu{count}", kind="all", fsdp=fsdp)[0]["state MB"]
                        for fsdp in (1, count))
        assert whole / count <= split < whole / count + (0.1 if count < 64 else 1)


def test_a_cell_by_hand():
    """VGG16 on 8 H100s, 64 images each: two gathers of its weights over NVLink, each collective with its seven hops."""
    chip = CHIPS["H100"]
    found = SCRIPT["weak"]("VGG16", chip, "data parallel", 8, 0.2)
    each = 2 * (7 / 8 * (2 * VGG16 + 192) / 450e9 + 5 * 7 * 3.4e-6)  # five all-reduces, 192 bytes of sums
    assert found.after == pytest.approx(each) and found.before == 0
    performed = 64 * SCRIPT["operations"](SCRIPT["network"]("VGG16"), 5)
    assert found.serial == pytest.approx(each + performed / 0.2 / 989.4e12)
    low, high = (512 / seconds for seconds in (found.serial, found.hidden))
    assert SCRIPT["cell"](found).startswith(f"{low:,.0f}–{high:,.0f} (")


def test_the_images_of_a_chip_fit():
    for name in SCRIPT["NETWORKS"]:
        for chip in CHIPS.values():
            count = SCRIPT["images_at_once"](name, chip)
            assert count >= 1 and math.log2(count).is_integer()
            assert count * SCRIPT["image_bytes"](name) < 0.8 * chip.memory
