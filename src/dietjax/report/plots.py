"""Recorded numbers -> matplotlib figures, and a figure -> inline SVG. Pure functions: no pyplot, no global rcParams.

Figures are narrow (`WIDTH`), so that their text stays readable at the width of a phone, and use only the colours of
`COLOURS`, so that a page can give each of them another value in dark mode.
"""

import html
import io
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator

WIDTH = 4.6  # inches; 442 CSS pixels
FONT = 10  # points

# Lines and bars are told apart by colour-blind-safe hues (Okabe & Ito 2008) and by marker or position as well.
COLOURS = {
    "ink": "#1b1f24",
    "muted": "#59636e",
    "rule": "#d1d9e0",
    "ann": "#0072b2",
    "converted": "#009e73",
    "snn": "#d55e00",
    "extra1": "#cc79a7",
    "extra2": "#e69f00",
    "extra3": "#56b4e9",
}
PHASES = {"ann": "ANN", "converted": "converted", "snn": "SNN"}
LEAST_SPAN = 5  # percentage points that an axis of accuracies shows: else one image of a few hundred fills it
MARKERS = {"ann": "s", "converted": "D", "snn": "o"}

Row = Mapping[str, Any]


def accuracy_bars(accuracy: Mapping[str, float]) -> Figure:
    """Draw the test accuracy (fraction) of each phase in `PHASES` as a bar in percent."""
    figure, axes = _figure(1.9, "test accuracy (%)")
    percent = [100 * accuracy[phase] for phase in PHASES]
    bars = axes.barh(range(len(PHASES)), percent, height=0.6, color=[COLOURS[phase] for phase in PHASES])
    axes.bar_label(bars, [f"{value:.2f}" for value in percent], padding=4, color=COLOURS["ink"], fontsize=FONT)
    axes.set_xlim(0, 118)  # room for the label of a bar of 100 %
    axes.xaxis.set_major_locator(FixedLocator([0, 20, 40, 60, 80, 100]))
    _rows(axes, list(PHASES.values()))
    return figure


def curves(metrics: Sequence[Row], phase: str, key: str) -> Figure:
    """Draw `key` ("accuracy" or "loss") of one phase over its epochs: train thin, test strong.

    The SNN starts from the converted network, whose own test value is the point at epoch 0.
    """
    percent = key == "accuracy"
    figure, axes = _figure(2.6, "epoch", "accuracy (%)" if percent else "loss (nats)")
    styles = {"train": {"linewidth": 1, "alpha": 0.55}, "test": {"linewidth": 2}}
    for split, style in styles.items():
        rows = [row for row in metrics if row["phase"] == phase and row["split"] == split]
        if rows:
            marker = MARKERS[phase] if split == "test" and len(rows) <= 40 else None
            values = [row[key] * (100 if percent else 1) for row in rows]
            epochs = [row["epoch"] for row in rows]
            axes.plot(epochs, values, label=split, color=COLOURS[phase], marker=marker, markersize=4, **style)
    start = [row for row in metrics if row["phase"] == "converted" and key in row]
    if phase == "snn" and start:
        value = start[-1][key] * (100 if percent else 1)
        axes.plot([0], [value], MARKERS["converted"], color=COLOURS["converted"], label="converted, test")
    if axes.lines:
        last = max((row["epoch"] for row in metrics if row["phase"] == phase), default=0) or 1
        axes.set_xlim(-0.04 * last, 1.04 * last)
        axes.ticklabel_format(axis="y", useOffset=False)
        _legend(axes)
        if percent:
            _widen(axes)
    else:
        axes.text(0.5, 0.5, "no training recorded", transform=axes.transAxes, ha="center", color=COLOURS["muted"])
    return figure


def accuracy_over_timesteps(ann: float | None, by_timestep: Mapping[str, Sequence[float]]) -> Figure:
    """Draw test accuracy (fractions) after 1..T timesteps of "converted" and "snn"; the ANN's, if any, as a line."""
    figure, axes = _figure(2.6, "timesteps", "test accuracy (%)")
    if ann is not None:
        axes.axhline(100 * ann, color=COLOURS["ann"], linestyle="--", linewidth=1.5, label="ANN")
    for phase, values in by_timestep.items():
        marker = MARKERS[phase] if len(values) <= 40 else None
        steps, percent = np.arange(1, len(values) + 1), 100 * np.asarray(values)
        axes.plot(steps, percent, color=COLOURS[phase], marker=marker, markersize=5, label=PHASES[phase])
    _timesteps(axes, max(len(values) for values in by_timestep.values()))
    _widen(axes)
    _legend(axes)
    return figure


def dumbbells(names: Sequence[str], before: Sequence[float], after: Sequence[float], unit: str, upto: float) -> Figure:
    """Draw one layer a row: its value before (hollow) and after (filled) training; the axis holds 0..`upto` or more."""
    figure, axes = _figure(0.85 + 0.24 * len(names), unit)
    rows = np.arange(len(names))
    axes.hlines(rows, before, after, color=COLOURS["snn"], linewidth=2, alpha=0.5)
    axes.plot(before, rows, "D", color=COLOURS["converted"], markerfacecolor="none", markersize=6, label="before")
    axes.plot(after, rows, "o", color=COLOURS["snn"], markersize=6, label="after")
    low, high = min(0, *before, *after), max(upto, *before, *after)
    axes.set_xlim(low - 0.04 * (high - low), high + 0.04 * (high - low))
    _rows(axes, names)
    _legend(axes)
    return figure


def rate_bars(names: Sequence[str], rates: Sequence[float], timesteps: int) -> Figure:
    """Draw each layer's spikes per neuron, summed over the timesteps of one image."""
    figure, axes = _figure(0.9 + 0.24 * len(names), f"spikes per neuron in {_steps(timesteps)}")
    bars = axes.barh(range(len(names)), rates, height=0.65, color=COLOURS["snn"])
    axes.bar_label(bars, [f"{rate:.3g}" for rate in rates], padding=3, color=COLOURS["ink"], fontsize=FONT - 1)
    axes.set_xlim(0, 1.15 * max(rates) or 1)  # room for the longest bar's label; a silent network still has an axis
    _rows(axes, names)
    return figure


def energy_bars(names: Sequence[str], ann: Sequence[float], snn: Sequence[float]) -> Figure:
    """Draw each layer's energy (joules) for one image, ANN above SNN, on a log scale in microjoules."""
    figure, axes = _figure(0.85 + 0.34 * len(names), "energy per image (µJ, log scale)")
    rows = np.arange(len(names))
    for phase, joules, shift in (("ann", ann, -0.2), ("snn", snn, 0.2)):
        widths = 1e6 * np.asarray(joules, float)
        axes.barh(rows + shift, widths, height=0.38, color=COLOURS[phase], label=PHASES[phase])
    positive = [1e6 * value for value in (*ann, *snn) if value > 0]
    axes.set_xscale("log")
    axes.set_xlim(min(positive) / 3, max(positive) * 2)  # a log axis has no zero: start below the least
    _rows(axes, names)
    _legend(axes)
    return figure


def raster(spikes: Mapping[str, np.ndarray], sizes: Sequence[int]) -> Figure:
    """Draw each layer's spikes (bool [T, n]) as a strip, first layer on top: timesteps to the right, neurons down.

    `sizes` are the layers' numbers of neurons, of which the n recorded ones may be a sample.
    """
    strip = max(0.75 if len(spikes) <= 10 else 0.55, min(1.4, 4.8 / len(spikes)))  # inches: few fill their place too
    figure = Figure(figsize=(WIDTH, 0.5 + strip * len(spikes)), layout="constrained")
    figure.get_layout_engine().set(h_pad=0.06)
    panels = figure.subplots(len(spikes), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, fired), size in zip(panels, spikes.items(), sizes, strict=True):
        timesteps, neurons = fired.shape
        pixels = np.empty((neurons, timesteps, 4))
        pixels[..., :3] = matplotlib.colors.to_rgb(COLOURS["snn"])
        pixels[..., 3] = fired.T  # transparent where silent: the page's background shows
        axes.imshow(pixels, aspect="auto", extent=(0.5, timesteps + 0.5, neurons, 0), interpolation="nearest")
        if timesteps <= 25:
            axes.vlines(np.arange(1, timesteps) + 0.5, 0, neurons, color=COLOURS["rule"], linewidth=1)
        sample = f"{neurons:,} of {size:,}" if neurons < size else f"all {size:,}"
        note = f"{plain_name(name)} · {sample} neurons, {fired.sum():,} spikes"
        axes.set_title(note, loc="left", fontsize=FONT - 1, color=COLOURS["ink"], pad=2)
        axes.set_yticks([])
        axes.spines[:].set_color(COLOURS["rule"])
        axes.tick_params(length=0, labelsize=FONT, labelcolor=COLOURS["ink"])
        _timesteps(axes, timesteps)
    panels[-1].set_xlabel("timestep", fontsize=FONT, color=COLOURS["ink"])
    return figure


def readout(logits: np.ndarray, class_names: Sequence[str], label: int, prediction: int, most: int = 6) -> Figure:
    """Draw the readout's membrane (logits [T, classes]) over time.

    Lines for the `most` largest classes at the end and for the true one; the range of all others is a grey band.
    """
    figure, axes = _figure(2.5, "timestep", "membrane (logit)")
    timesteps = len(logits)
    steps = np.arange(1, timesteps + 1)
    shown = np.argsort(-logits[-1], kind="stable")[:most].tolist()
    shown += [label] if label not in shown else []
    others = np.delete(logits, shown, axis=1)
    if others.shape[1]:
        bounds = others.min(axis=1), others.max(axis=1)
        axes.fill_between(steps, *bounds, color=COLOURS["rule"], linewidth=3, label=f"{others.shape[1]} other classes")
    hues = [name for name in COLOURS if name not in ("ink", "muted", "rule")]
    for rank, index in enumerate(shown):
        roles = [role for role, of in (("true", label), ("predicted", prediction)) if of == index]
        text = f"{plain_name(class_names[index])}{' (' + ', '.join(roles) + ')' if roles else ''}"
        axes.plot(
            steps, logits[:, index], color=COLOURS[hues[rank % len(hues)]], linewidth=2.5 if roles else 1.3,
            marker="osD^vPX"[rank % 7], markersize=4, markevery=max(1, timesteps // 10), label=text,
        )  # fmt: skip
    _timesteps(axes, timesteps)
    _legend(axes)
    return figure


def to_svg(figure: Figure, label: str) -> str:
    """Return the figure as `<svg>` to be put inline: colours are CSS variables, `label` is read out in its place.

    The same figure and label give the same bytes.
    """
    buffer = io.StringIO()
    # The raster's pixels are many, and finer than the screen's: none may be dropped before the browser scales them.
    # Text stays text: the reader's own fonts have the glyphs that matplotlib's may lack, hence no warning about them.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": label}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(buffer, format="svg", transparent=True, dpi=600, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    # The style is for the whole page once inline, the metadata links out, and the groups' ids repeat between figures.
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|(?<=<g) id=\"[^\"]*\"", "", svg, flags=re.DOTALL)
    variables = {colour: f"var(--{name})" for name, colour in COLOURS.items()}
    svg = re.sub(r"(?<=fill: |roke: )#[0-9a-f]{6}", lambda match: variables.get(match[0], match[0]), svg)
    return svg.replace("<svg", f'<svg role="img" aria-label="{html.escape(label)}"', 1)


def _figure(height: float, xlabel: str, ylabel: str = "") -> tuple[Figure, Axes]:
    """Return an empty figure of one plot, `height` inches high without its legend."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(COLOURS["rule"])
    axes.grid(color=COLOURS["rule"], linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", length=0, labelsize=FONT, labelcolor=COLOURS["ink"])
    axes.set_xlabel(xlabel, fontsize=FONT, color=COLOURS["ink"])
    axes.set_ylabel(ylabel, fontsize=FONT, color=COLOURS["ink"])
    return figure, axes


def _rows(axes: Axes, names: Sequence[str]) -> None:
    """Name the rows of a horizontal plot, the first on top."""
    axes.set_yticks(range(len(names)), [plain_name(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")


def _timesteps(axes: Axes, timesteps: int) -> None:
    axes.set_xlim(0.5, timesteps + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True, min_n_ticks=1))


def _widen(axes: Axes) -> None:
    """Let an axis of accuracies show `LEAST_SPAN` points at least, and none above 100 % but a margin."""
    low, high = axes.get_ylim()
    if high - low < LEAST_SPAN:
        top = min((low + high + LEAST_SPAN) / 2, 100 + 0.05 * LEAST_SPAN)
        axes.set_ylim(top - LEAST_SPAN, top)


def _steps(timesteps: int) -> str:
    return f"{timesteps} timestep{'s' * (timesteps != 1)}"


def _legend(axes: Axes) -> None:
    """Put the legend below the plot, where it covers no data, in as many columns as its longest label allows."""
    labels = axes.get_legend_handles_labels()[1]
    columns = min(3, max(1, 66 // (6 + max(map(len, labels)))))  # of about 66 letters a line; 6 for the sample
    axes.figure.set_figheight(axes.figure.get_figheight() + 0.2 * -(-len(labels) // columns))
    axes.figure.legend(
        loc="outside lower center", ncols=columns, frameon=False, fontsize=FONT, labelcolor=COLOURS["ink"]
    )  # fmt: skip


def plain_name(name: str, longest: int = 22) -> str:
    """Return a name fit for a plot: shortened in the middle, and never read as mathematics or as hidden."""
    name = " ".join(str(name).split())
    if len(name) > longest:
        name = f"{name[: longest - 10]}…{name[-9:]}"
    # matplotlib leaves labels that start with "_" out of the legend
    return (" " + name if name.startswith("_") else name).replace("$", r"\$")
