"""The pieces of the report's page, as HTML: figures, images, tables, numbers with their units."""

import base64
import html
import importlib.resources
import io
import string
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from . import plots

LARGEST_IMAGE = 192  # pixels: larger ones are scaled down, so that the page stays small
EVENT_COLOURS = {"darker": (43, 127, 196), "brighter": (217, 95, 2), "both": (138, 138, 138)}
"""RGB, each at least 3 : 1 against the page's white and its dark."""
FAINTEST = 0.7
"""Opacity of few events where the most of a picture's is 1."""


def page(template: str, title: str, fills: Mapping[str, str]) -> str:
    """Return a page of this room, `template`.html, with these fills, HTML already as the title is, under the head that
    pages share: what a browser may load, and the style.
    """
    room = importlib.resources.files("dietjax.report")
    text, head, style = ((room / name).read_text(encoding="utf-8") for name in (f"{template}.html", "head.html",
                                                                              "style.css"))
    return string.Template(text).substitute(fills, head=string.Template(head).substitute(title=title, style=style))


def figure(drawn: plots.Figure, title: str, description: str) -> str:
    """Return a figure as inline SVG under its title; the description is for who cannot see it."""
    svg = plots.to_svg(drawn, f"{title}: {description}")
    return f"<figure><figcaption>{html.escape(title)}</figcaption>{svg}</figure>"


def image(pixels: np.ndarray, description: str) -> str:
    """Return a uint8 [H, W, C] image, C = 1 (grey), 2 (events) or 3 (RGB), as an inline PNG; frames [T, H, W, C] as a
    strip.
    """
    largest = LARGEST_IMAGE
    if pixels.shape[-1] == 2:
        pixels = _coloured(pixels)
    if pixels.ndim == 4:
        largest *= 4
        gaps = np.pad(pixels, ((0, 0), (0, 0), (0, 1), (0, 0)), constant_values=128)
        pixels = np.concatenate(list(gaps), axis=1)[:, :-1]
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    sharp = ' class="pixels"' if min(picture.size) <= 64 else ""  # a small image is shown larger, its pixels as squares
    picture.thumbnail((largest, largest))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img{sharp} alt="{html.escape(description)}" src="data:image/png;base64,{data}">'


def frames(pixels: np.ndarray, description: str) -> str:
    """Return frames [T, H, W, C] as pictures in a row, each over its timestep; of events with what colours mean."""
    shades = _coloured(pixels) if pixels.shape[-1] == 2 else pixels  # of all together, so that they compare
    row = "".join(f"<figure>{image(frame, f'{description}, timestep {t}')}<figcaption>{t}</figcaption></figure>"
                  for t, frame in enumerate(shades, 1))
    legend = "".join(f'<span><i style="background: rgb{colour}"></i>{name}</span>'
                     for name, colour in EVENT_COLOURS.items()) if pixels.shape[-1] == 2 else ""
    return f'<div class="frames">{row}</div>' + (f'<p class="legend">{legend}</p>' if legend else "")


def _coloured(events: np.ndarray) -> np.ndarray:
    """RGBA of counts of events [..., 2], darker and brighter: the more, the less transparent; none is transparent."""
    darker, brighter = events[..., 0] > 0, events[..., 1] > 0
    counts = events.astype(float).sum(-1)
    opacity = FAINTEST + (1 - FAINTEST) * counts / max(counts.max(), 1)
    colour = np.select([(darker & brighter)[..., None], darker[..., None], brighter[..., None]],
                       [np.array(EVENT_COLOURS[name]) for name in ("both", "darker", "brighter")], 0)
    alpha = np.where(counts > 0, np.round(255 * opacity), 0)
    return np.concatenate([colour, alpha[..., None]], -1).astype(np.uint8)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], total: Sequence[str] = (), kind: str = "numbers") -> str:
    """Return a table of these rows, with the total as its foot; kind: its class in page.html."""

    def line(cells: Sequence[str], tag: str) -> str:
        return f"<tr>{''.join(f'<{tag}>{html.escape(str(cell))}</{tag}>' for cell in cells)}</tr>"

    body = "".join(line(row, "td") for row in rows)
    foot = f"<tfoot>{line(total, 'td')}</tfoot>" if total else ""
    return f'<table class="{kind}"><thead>{line(head, "th")}</thead><tbody>{body}</tbody>{foot}</table>'


def joules(value: float) -> str:
    """Return an energy in the unit that suits it."""
    for scale, unit in ((1, "J"), (1e-3, "mJ"), (1e-6, "µJ"), (1e-9, "nJ")):
        if value >= scale:
            return f"{value / scale:.3g}\N{NO-BREAK SPACE}{unit}"
    return f"{value / 1e-12:.3g}\N{NO-BREAK SPACE}pJ"


def times(ann: float, snn: float) -> str:
    """Return how many times more the ANN takes."""
    return f"{ann / snn:.2f}×" if snn else "no spikes"


def duration(seconds: float) -> str:
    """Return a time in hours and minutes, or minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
