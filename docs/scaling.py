"""The modelled tables of docs/scaling.md: `python docs/scaling.py` writes each between its two marks. The equations are
`dietjax.analysis.scaling`'s; here stands what they are applied to. The measured tables are performance.py's.
"""

import functools
import math
import pathlib
import sys
from collections.abc import Callable
from typing import Any

from dietjax.analysis.scaling import CHIPS, GATHERS, Chip, Step, Traffic, operations, share_of_peak, step
from dietjax.core.neurons import LIF
from dietjax.models import Network, build

DOCS = pathlib.Path(__file__).parent
sys.path.insert(0, str(DOCS))  # where this is run by a test

from performance import figure, filled, markdown, read  # noqa: E402

MEASURED = DOCS / "measured"
TIMESTEPS = 5
NETWORKS = {"VGG16": "vgg16", "ResNet34": "resnet34"}
"""{name: what the files of its collectives have in their names}."""
LAYOUTS = ("data parallel", "fsdp")
COUNTS = (8, 16, 32, 64, 128, 256, 512, 1024)
STRONG = 4096
"""Images in the whole batch of strong scaling."""
MOST = 64
"""Images that a chip takes at once at most; fewer where its memory ends."""
FILLED = 0.8
"""Of a chip's memory, by the state and the maps of those images."""
SHARES = (0.1, None, 0.4, 0.6)
"""Of peak, in the table of them; None: as measured."""


@functools.cache
def network(name: str, side: int = 224, classes: int = 1000) -> Network:
    """The network, of which shapes are asked."""
    return build(name, classes, (side, side, 3), neuron=LIF())


def weights(net: Network) -> int:
    """Of all synapses."""
    return sum(math.prod(synapse.kernel) for synapse in net.connections())


@functools.cache
def stored(stem: str) -> list[dict]:
    """The rows of a result."""
    return read(stem, MEASURED)["rows"]


def rows(stem: str, **wanted: Any) -> list[dict]:
    """Of a stored result, those with these values."""
    found = stored(stem)
    return [row for row in found if all(row[key] == value for key, value in wanted.items())]


def measured_share() -> float:
    """Of an H100's peak that a training step of VGG16 on 32×32 images reached: batch 128, T=5, bfloat16."""
    row, = rows("step_vgg16_h100", network="SNN, layer by layer", dtype="bfloat16")
    return share_of_peak(row["ms"] / 1e3, 128, operations(network("VGG16", 32, 10), row["T"]), CHIPS["H100"])


def traffic(name: str, chip: Chip, layout: str) -> tuple[Traffic, ...]:
    """What a pass sends, as compiled. A ring of permutations is a reduce-scatter in as many parts as devices."""
    found = []
    for row in compiled(name, chip, layout):
        if row["kind"] == "collective-permute":
            found.append(Traffic("reduce-scatter", row["MB"] * 1e6, math.ceil(row["number"] / row["devices"])))
        elif row["kind"] != "all":
            found.append(Traffic(row["kind"], row["MB"] * 1e6, row["number"]))
    return tuple(found)


def compiled(name: str, chip: Chip, layout: str) -> list[dict]:
    """Rows of the compiled program that stands for this chip's."""
    stem = f"collectives_{NETWORKS[name]}_{'v5e' if chip.name.startswith('TPU') else 'h100'}"
    return [row for row in stored(stem) if (row["fsdp"] > 1) == (layout == "fsdp")]


def image_bytes(name: str) -> float:
    """Temporaries that one image more takes on an H100, from the compiled programs of 1 and of 4 images a chip."""
    one, four = (rows(f"collectives_{NETWORKS[name]}{batch}_h100", kind="all", fsdp=1)[0]["temporary MB"]
                 for batch in ("", "_batch4"))
    return (four - one) / 3 * 1e6


def images_at_once(name: str, chip: Chip) -> int:
    """The largest power of two that fits beside a whole state, at most `MOST`."""
    state = rows(f"collectives_{NETWORKS[name]}_h100", kind="all", fsdp=1)[0]["state MB"] * 1e6
    room = (FILLED * chip.memory - state) / image_bytes(name)
    return min(MOST, 2 ** math.floor(math.log2(room)))


def weak(name: str, chip: Chip, layout: str, count: int, share: float) -> Step:
    """Every chip has the images that it takes at once."""
    batch = count * images_at_once(name, chip)
    return step(chip, count, batch, operations(network(name), TIMESTEPS), traffic(name, chip, layout), share)


def strong(name: str, chip: Chip, layout: str, count: int, share: float) -> Step:
    """All chips share out `STRONG` images."""
    return step(chip, count, STRONG, operations(network(name), TIMESTEPS), traffic(name, chip, layout), share,
                images_at_once(name, chip))


def cell(found: Step) -> str:
    """Images per second if nothing is hidden and if all is, and the efficiency of both."""
    low, high = (found.images / seconds for seconds in (found.serial, found.hidden))
    least, most = (found.efficiency(seconds) for seconds in (found.serial, found.hidden))
    return f"{figure(low, 3)}–{figure(high, 3)} ({least:.2f}–{most:.2f})"


def over_chips(name: str, layout: str, scaled: Callable[..., Step]) -> list[list[str]]:
    """A line for each number of chips."""
    share = measured_share()
    lines = [[str(count), *(cell(scaled(name, chip, layout, count, share)) for chip in CHIPS.values())]
             for count in COUNTS]
    return [["chips", *CHIPS], *lines]


def chips() -> list[list[str]]:
    """What is assumed of them."""
    head = ["chip", "peak, TFLOP/s", "memory", "its bytes for 1,000 operations", "chips in an island",
            "a chip sends inside, GB/s", "between islands, GB/s", "source"]
    body = []
    for chip in CHIPS.values():
        inner = chip.levels(min(chip.island, max(COUNTS)))[0]
        body.append([chip.name, figure(chip.peak / 1e12), f"{figure(chip.memory / 1e9)} GB, "
                     f"{figure(chip.bandwidth / 1e9)} GB/s", figure(1e3 * chip.bandwidth / chip.peak, 2),
                     f"{chip.island:,}", figure(inner.rate / 1e9), figure(chip.outer.rate / 1e9, 3), chip.source])
    return [head, *body]


def work() -> list[list[str]]:
    """Of one image, and of a step."""
    body = []
    for name in NETWORKS:
        net = network(name)
        gathers = [", ".join(figure(sum(GATHERS[each.kind] * each.size / 1e6 for each in traffic(name, chip, layout)))
                             for layout in LAYOUTS) for chip in (CHIPS["TPU v5e"], CHIPS["H100"])]
        body.append([name, figure(weights(net) / 1e6), figure(operations(net, TIMESTEPS) / 1e9), *gathers,
                     figure(image_bytes(name) / 1e6, 3),
                     ", ".join(f"{images_at_once(name, chip)}" for chip in CHIPS.values())])
    head = ["network", "weights, M", "GFLOP an image", "MB in gathers on a TPU: data parallel, fsdp",
            "on an H100", "MB an image", f"images a chip at once ({', '.join(CHIPS)})"]
    return [head, *body]


def shares() -> list[list[str]]:
    """Efficiency of VGG16, data parallel, strong scaling on 256 chips, over the share of peak."""
    body = []
    for share in SHARES:
        taken = measured_share() if share is None else share
        body.append([f"{taken:.2f}" + (", as measured" if share is None else ""), *(
            cell(strong("VGG16", chip, "data parallel", 256, taken)) for chip in CHIPS.values())])
    return [["share of peak", *CHIPS], *body]


def first_run() -> list[list[str]]:
    """What the model says of eight chips, for `bench step` on one and `bench scaling` on eight."""
    body, share = [], measured_share()
    for name in NETWORKS:
        for chip in CHIPS.values():
            found = weak(name, chip, "data parallel", 8, share)
            body.append([name, chip.name, str(found.images // 8), figure(found.compute * 1e3, 3),
                         f"{figure(found.hidden * 1e3, 3)}–{figure(found.serial * 1e3, 3)}",
                         f"{found.efficiency(found.serial):.3f}–{found.efficiency(found.hidden):.3f}"])
    return [["network", "chip", "images a chip", "one chip, ms", "eight chips, ms", "efficiency"], *body]


MODELLED = {
    "chips": chips, "work": work, "shares": shares, "first_run": first_run,
    **{f"{kind}_{NETWORKS[name]}_{layout.split()[0]}": functools.partial(over_chips, name, layout, scaled)
       for name in NETWORKS for layout in LAYOUTS for kind, scaled in (("weak", weak), ("strong", strong))},
}
"""{name in the page: what makes its lines}."""


def made(name: str) -> str:
    """A table in Markdown."""
    return "\n" + markdown(MODELLED[name]()) + "\n"


if __name__ == "__main__":
    page = DOCS / "scaling.md"
    page.write_text(filled(page.read_text(encoding="utf-8"), MODELLED, made, "modelled"), "utf-8")
    print(f"{page}: {len(MODELLED)} tables, at {measured_share():.3f} of peak")
