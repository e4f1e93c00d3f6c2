"""The picture at the top of architecture.md: `python docs/draw_rooms.py` writes docs/rooms.svg.

The rooms and their words come from the block under "## Rooms" there; the way of a training run is `WAY`.
"""

import html
import pathlib
import re

ROW, LEFT, STEP, MARGIN = 42, 330, 53, 16  # pixels
GROUND = "ground"
WAY = (
    ("cli", "reads file and options"),
    ("run", "takes the folder"),
    ("data", "opens the set"),
    ("models", "builds ANN and SNN"),
    ("analysis", "do they fit in memory?"),
    ("train", "trains the ANN"),
    ("parallel", "shards batch and state"),
    ("core", "runs neurons over time"),
    ("checkpoint", "saves each epoch"),
    ("convert", "sets thresholds"),
    ("train", "fine-tunes the SNN"),
    ("analysis", "counts energy"),
    ("report", "writes the page"),
)
"""(room, what happens there), in the order of one `dietjax train`."""
STYLE = """
:root { color-scheme: light dark; --card: #ffffff; --floor: #f0f2f5; --ink: #1b1f24; --muted: #59636e; --way: #c25400; }
@media (prefers-color-scheme: dark) {
  :root { --card: #181c21; --floor: #22282f; --ink: #e8ebee; --muted: #9ba5af; --way: #ff8a3d; }
}
text { font: 13px system-ui, sans-serif; fill: var(--ink); }
.room { font-weight: 600; font-size: 14px; }
.words { fill: var(--muted); font-size: 12px; }
.label { paint-order: stroke; stroke: var(--floor); stroke-width: 5px; stroke-linejoin: round; }
.number { fill: var(--card); font-size: 11px; font-weight: 600; text-anchor: middle; }
"""


def rooms(text: str) -> dict[str, str]:
    """{room: its words} from ground to roof, the single files at the bottom as one."""
    block = re.search(r"## Rooms.*?```\w*\n(.*?)```", text, flags=re.DOTALL)[1]
    found = dict(re.findall(r"^(\S+) +(.*)$", block, flags=re.MULTILINE))
    files = [name.removesuffix(".py") for name in found if name.endswith(".py")]
    return {GROUND: ", ".join(files)} | {name.rstrip("/"): words for name, words in found.items() if name.endswith("/")}


def picture(found: dict[str, str]) -> str:
    """One floor a room, the roof on top, and the way of a training run through them from left to right."""
    height = {name: MARGIN + ROW * i for i, name in enumerate(reversed(found))}
    size = LEFT + STEP * len(WAY) + 120, 2 * MARGIN + ROW * len(found)
    parts = [f'<rect width="{size[0]}" height="{size[1]}" rx="8" fill="var(--card)"/>']
    for name, words in found.items():
        y = height[name]
        parts += [f'<rect x="{MARGIN}" y="{y}" width="{size[0] - 2 * MARGIN}" height="{ROW - 4}" rx="4" '
                  'fill="var(--floor)"/>',
                  f'<text class="room" x="{MARGIN + 10}" y="{y + 16}">{name}</text>',
                  f'<text class="words" x="{MARGIN + 10}" y="{y + 31}">{html.escape(words)}</text>']
    dots = [(LEFT + STEP * i, height[room] + (ROW - 4) / 2) for i, (room, _) in enumerate(WAY)]
    parts.append('<polyline fill="none" stroke="var(--way)" stroke-width="2" stroke-opacity="0.6" points="'
                 + " ".join(f"{x},{y}" for x, y in dots) + '"/>')
    for number, ((x, y), (_, label)) in enumerate(zip(dots, WAY, strict=True), 1):
        parts += [f'<text class="label" x="{x + 14}" y="{y + 4.5}">{label}</text>',
                  f'<circle cx="{x}" cy="{y}" r="10" fill="var(--way)"/>',
                  f'<text class="number" x="{x}" y="{y + 4}">{number}</text>']
    title = "The rooms of dietjax, from ground to roof, and the way of one training run through them"
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size[0]} {size[1]}" width="{size[0]}" '
            f'height="{size[1]}" role="img" aria-label="{title}">\n<style>{STYLE}</style>\n'
            + "\n".join(parts) + "\n</svg>\n")


if __name__ == "__main__":
    here = pathlib.Path(__file__).parent
    (here / "rooms.svg").write_text(picture(rooms((here / "architecture.md").read_text("utf-8"))), "utf-8")
    print(here / "rooms.svg")
