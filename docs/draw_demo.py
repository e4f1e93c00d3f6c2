"""The README's picture, from the folder of a finished run: `python docs/draw_demo.py runs/digits` writes docs/demo.svg.

Two of the report's figures side by side, in its colours, on a card that is light or dark as the reader's screen is.
"""

import html
import importlib.resources
import json
import pathlib
import re
import sys

from dietjax.report import plots

MARGIN = 16
TITLE = 28
PIXELS = 96  # of CSS, to the inch


def picture(summary: dict) -> str:
    """Accuracy over timesteps beside energy per layer, as one SVG; the same summary gives the same bytes."""
    accuracy = {phase: summary[phase]["accuracy_by_timestep"] for phase in ("converted", "snn") if summary[phase]}
    ann = summary["ann"]["accuracy"] if summary["ann"] else None  # trained from scratch
    spent = {key: [layer[key] for layer in summary["energy"]["layers"]] for key in ("name", "ann_joules", "snn_joules")}
    ratio = summary["energy"]["ratio"]
    panels = (
        (f"{summary['model']} on {summary['dataset']}: accuracy after each timestep",
         plots.accuracy_over_timesteps(ann, accuracy)),
        (f"Energy per image: {ratio:.1f} times less than the ANN's", plots.energy_bars(*spent.values())),
    )
    width = plots.WIDTH * PIXELS
    height = max(figure.get_figheight() for _, figure in panels) * PIXELS
    parts = []
    for i, (title, figure) in enumerate(panels):
        figure.set_figheight(height / PIXELS)
        svg = re.sub(r' (width|height)="[^"]*pt"', "", plots.to_svg(figure, title), count=2)
        left = MARGIN + i * (width + MARGIN)
        parts.append(f'<text class="title" x="{left:.0f}" y="{MARGIN + 14}">{html.escape(title, quote=False)}</text>')
        parts.append(svg.replace("<svg", f'<svg x="{left:.0f}" y="{MARGIN + TITLE}" width="{width:.0f}" '
                                         f'height="{height:.0f}"', 1))
    full = 3 * MARGIN + 2 * width, 2 * MARGIN + TITLE + height
    light, dark = _colours()
    return (f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="0 0 {full[0]:.0f} {full[1]:.0f}" width="{full[0]:.0f}" height="{full[1]:.0f}">\n'
            f"<style>\n:root {{{light}}}\n@media (prefers-color-scheme: dark) {{ :root {{{dark}}} }}\n"
            "text { font-family: system-ui, sans-serif !important; }\n"
            ".title { font-size: 15px; font-weight: 600; fill: var(--ink); }\n</style>\n"
            '<rect width="100%" height="100%" rx="8" style="fill: var(--card)"/>\n' + "\n".join(parts) + "\n</svg>\n")


def _colours() -> tuple[str, str]:
    """The report page's variables, light and dark."""
    page = importlib.resources.files("dietjax.report").joinpath("style.css").read_text(encoding="utf-8")
    light, dark = re.findall(r":root \{([^}]*)\}", page)
    return light, dark


if __name__ == "__main__":
    run = pathlib.Path(sys.argv[1])
    written = pathlib.Path(__file__).with_name("demo.svg")
    written.write_text(picture(json.loads((run / "summary.json").read_text())), encoding="utf-8")
    print(written)
