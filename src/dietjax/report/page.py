"""A finished run's folder -> one self-contained HTML page. Its words are in page.html, its figures in plots."""

import html
import json
import pathlib
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .. import files
from ..analysis import activity
from ..analysis.log import lacking, named, parse
from ..config import Experiment, as_stored, flat, from_dict, read_stored, resolved
from ..errors import InputError
from . import elements, mistakes, phases, plots
from .elements import duration, figure, frames, image, joules, table, times

FILES = ("config.json", "summary.json", "recorded.npz")
"""What a finished run has; without a log its page lacks the curves, and says so."""
SUMMARY = (
    "experiment", "model", "dataset", "parameters", "train_images", "test_images",
    "ann", "converted", "snn", "layers", "energy", "seconds", "machine", "versions",
)  # fmt: skip
RECORDED = (
    "class_names", "image", "image_label", "image_prediction", "logits_by_timestep",
    "wrong_images", "wrong_labels", "wrong_predictions",
)  # fmt: skip


def write(run: pathlib.Path) -> pathlib.Path:
    """Write `run`/report.html from the files that training left in the folder `run`, and return its path.

    The same files give the same bytes. An existing page is replaced at once: a reader never meets half of one.
    """
    run = pathlib.Path(run)
    files.write_text(run / "report.html", _page(*_read(run)))
    return run / "report.html"


def _read(run: pathlib.Path) -> tuple[dict, list[dict], dict, dict[str, np.ndarray]]:
    """Return config, metrics, summary and recorded arrays, or say what keeps the folder from being a finished run."""
    remedy = f"it is not a finished run; make one with: dietjax train FILE --workdir {run}"
    missing = [name for name in FILES if not (run / name).is_file()]
    if missing:
        raise InputError(f"{run} has no {', '.join(missing)}: {remedy}")
    config = as_stored(read_stored(run / "config.json"))
    summary = _parse(files.read_text(run / "summary.json"), f"{run / 'summary.json'}", remedy)
    lines = enumerate(files.read_text(run / "metrics.jsonl").splitlines(), 1)
    rows = [_parse(line, f"{run / 'metrics.jsonl'} line {i}", remedy, parse) for i, line in lines]
    # A resumed run may have repeated steps after its last checkpoint: the later line counts.
    latest = {(row["phase"], row["split"], row.get("step", 0)): row for row in rows}
    metrics = sorted(latest.values(), key=lambda row: row.get("step", 0))
    try:
        with open(run / "recorded.npz", "rb") as file, np.load(file, allow_pickle=False) as archive:
            recorded = dict(archive)
    except (zipfile.BadZipFile, zlib.error, RuntimeError, ValueError, OSError, EOFError, TypeError) as error:
        raise InputError(f"{run / 'recorded.npz'} is damaged ({error}): remove {run / 'summary.json'}, and dietjax "
                         f"train FILE --workdir {run} measures and writes both again") from error
    absent = [f"{key} in summary.json" for key in SUMMARY if key not in summary]
    spikes = [f"spikes/{layer['name']}" for layer in summary.get("layers", [])]
    absent += [f"{key} in recorded.npz" for key in (*RECORDED, *spikes) if key not in recorded]
    if absent:
        raise InputError(f"{run} lacks {', '.join(absent)}: {remedy}")
    return config, metrics, summary, recorded


def _parse(text: str, where: str, remedy: str, parser: Callable[[str], dict] = json.loads) -> dict:
    try:
        found = parser(text)
    except ValueError as error:
        raise InputError(f"{where} is not JSON ({error}): {remedy}") from error
    if not isinstance(found, dict):
        raise InputError(f"{where} is no JSON object: {remedy}")
    return found


def _page(config: Mapping, metrics: Sequence[Mapping], summary: Mapping, recorded: Mapping[str, np.ndarray]) -> str:
    """Fill the template. Every value is HTML already: plain text passes through html.escape where it is put in."""
    layers, words = summary["layers"], phases.words(summary)
    fills = {
        "network": html.escape(summary["model"]),
        "dataset": html.escape(summary["dataset"]),
        "experiment": html.escape(summary["experiment"]),
        "tiles": _tiles(summary, words["energy_of"]),
        "warnings": _warnings(metrics, summary, config),
        "facts": _facts(summary),
        **words,
        **phases.accuracies(summary),
        **_neurons(layers, summary["snn"]["timesteps"], words["training"]),
        **_energy(summary["energy"]),
        **_sample(layers, recorded),
        **mistakes.section(summary, recorded),
        **phases.curves(metrics, summary),
        "settings": _settings(config, summary),
    }
    return elements.page("page", f"{fills['network']} on {fills['dataset']}", fills)


def _neurons(layers: Sequence[Mapping], timesteps: int, training: str) -> dict[str, str]:
    """Return what became of each layer's neurons in `training`, as it is called."""
    names = [layer["name"] for layer in layers]
    rates = [layer["spike_rate"] for layer in layers]
    parameters = phases.parameters(layers)
    return {
        "parameters": "".join(_parameter(layers, name, training) for name in parameters),
        "neuron_table": _neuron_table(layers, parameters),
        "rates": figure(
            plots.rate_bars(names, rates, timesteps),
            "Spikes per neuron and image",
            ", ".join(f"{name} {rate:.2f}" for name, rate in zip(names, rates, strict=True)),
        ),
    }


def _parameter(layers: Sequence[Mapping], name: str, training: str) -> str:
    """Return the figure of one parameter of the neurons, of the layers that have it."""
    having = [layer for layer in layers if f"{name}_after" in layer]
    before, after = ([layer[f"{name}_{when}"] for layer in having] for when in ("before", "after"))
    unit, upto = {"threshold": ("membrane units", 0), "leak": ("fraction kept per timestep", 1)}.get(name, ("", 0))
    axis = f"{name} ({unit})" if unit else name
    return figure(
        plots.dumbbells([layer["name"] for layer in having], before, after, axis, upto),
        f"{name.capitalize()} before and after {training}",
        "values in the table below",
    )


def _energy(energy: Mapping) -> dict[str, str]:
    names, ann, snn = ([layer[key] for layer in energy["layers"]] for key in ("name", "ann_joules", "snn_joules"))
    return {
        "energy": figure(
            plots.energy_bars(names, ann, snn),
            "Energy per layer, ANN against SNN",
            f"in all {joules(energy['ann_joules'])} against {joules(energy['snn_joules'])}",
        ),
        "energy_table": _energy_table(energy),
    }


def _tiles(summary: Mapping, ann: str) -> str:
    """Return the headline figures; `ann` is what the energy is compared with."""
    ratio = summary["energy"]["ratio"]
    spent = f"{joules(summary['energy']['snn_joules'])} an image against {joules(summary['energy']['ann_joules'])}"
    saving = f"less energy than {ann}" if ratio >= 1 else "the ANN's energy over the SNN's, no saving"
    steps = summary["snn"]["timesteps"]
    before = {"ann": "ANN accuracy", "converted": "converted, before fine-tuning"}
    tiles = [
        ("snn", f"{summary['snn']['accuracy']:.2%}", f"SNN accuracy at T\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{steps}"),
        *((phase, f"{summary[phase]['accuracy']:.2%}", text) for phase, text in before.items() if summary[phase]),
        ("rule", f"{ratio:.2f}×", f"{saving}: {spent}"),
    ]
    return "".join(
        f'<div class="tile" style="--tone: var(--{tone})"><b>{number}</b><span>{html.escape(text)}</span></div>'
        for tone, number, text in tiles
    )


def _warnings(metrics: Sequence[Mapping], summary: Mapping, config: Mapping) -> str:
    """Return a list of what the log warned about, of the finished network's layers that do nothing, of what the log
    lacks; or nothing.
    """
    items = [f"{plots.PHASES['snn']}, at the end: {finding.sentence}" for finding in activity.find_in_summary(summary)]
    epochs: dict[tuple[str, str], list[float]] = {}
    for row in metrics:
        for sentence in row.get("warnings", ()):
            epochs.setdefault((row["phase"], sentence), []).append(row.get("epoch", 0))
    for (phase, sentence), seen in epochs.items():
        when = f", epochs {min(seen):.1f} to {max(seen):.1f}" if max(seen) else ""
        items.append(f"{plots.PHASES[phase]}{when}: {sentence}")
    for phase in ("ann", "snn"):
        steps = -(-config[phase]["epochs"] * summary["train_images"] // config[phase]["batch_size"])
        if gaps := lacking(metrics, phase, steps):
            items.append(f"metrics.jsonl lacks {named(phase, gaps)}, where the curves have a gap: it was shortened or "
                         "removed")
    return f'<ul class="warnings">{"".join(f"<li>{html.escape(item)}</li>" for item in items)}</ul>' if items else ""


def _facts(summary: Mapping) -> str:
    tests = summary["test_images"]
    return html.escape(
        f"{summary['parameters']:,} parameters, {summary['train_images']:,} training images. Accuracies are of "
        f"{tests:,} test images: one image is {100 / tests:.2g} percentage points. "
        f"Training took {duration(summary['seconds'])} on {summary['machine']}."
    )


def _neuron_table(layers: Sequence[Mapping], parameters: Sequence[str]) -> str:
    keys = [f"{name}_{when}" for name in parameters for when in ("before", "after")]
    heads = [f"{name} {when}" for name in parameters for when in ("before", "after")]
    rows = [
        [layer["name"], f"{layer['neurons']:,}", *(f"{layer[key]:.3f}" if key in layer else "–" for key in keys),
         f"{layer['spike_rate']:.3f}"] for layer in layers
    ]  # fmt: skip
    return table(("layer", "neurons", *heads, "spikes per neuron"), rows)


def _energy_table(energy: Mapping) -> str:
    head = ("layer", "MACs", "spikes per input neuron", "ANN", "SNN", "ANN / SNN")
    rows = []
    for layer in energy["layers"]:
        ann, snn = layer["ann_joules"], layer["snn_joules"]
        rate = "analog (MACs)" if layer["rate"] is None else f"{layer['rate']:.3f}"
        rows.append([layer["name"], f"{layer['macs']:,}", rate, joules(ann), joules(snn), times(ann, snn)])
    macs = sum(layer["macs"] for layer in energy["layers"])
    ann, snn = energy["ann_joules"], energy["snn_joules"]
    return table(head, rows, ["all layers", f"{macs:,}", "", joules(ann), joules(snn), f"{energy['ratio']:.2f}×"])


def _sample(layers: Sequence[Mapping], recorded: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Return the image, the readout and the raster of the recorded image."""
    classes = recorded["class_names"].tolist()
    label, prediction = int(recorded["image_label"]), int(recorded["image_prediction"])
    spikes = {layer["name"]: recorded[f"spikes/{layer['name']}"] for layer in layers}
    logits = recorded["logits_by_timestep"]
    answer = f"{classes[label]}, {'recognised' if label == prediction else f'taken for {classes[prediction]}'}"
    return {
        "sample": _shown(recorded["image"], html.escape(answer), answer),
        "readout": figure(
            plots.readout(logits, classes, label, prediction),
            "The readout's membrane per class",
            f"highest at the end: {classes[int(logits[-1].argmax())]}",
        ),
        "raster": figure(
            plots.raster(spikes, [layer["neurons"] for layer in layers]),
            "Spikes, layer by layer",
            ", ".join(f"{name} {int(fired.sum())} spikes" for name, fired in spikes.items()),
        ),
    }


def _shown(pixels: np.ndarray, answer: str, description: str) -> str:
    """Return the recorded image, or its frames in a row."""
    if pixels.ndim == 3:
        return (f'<figure class="sample"><figcaption>The image: {answer}</figcaption>{image(pixels, description)}'
                "</figure>")
    what = "The events, a frame" if pixels.shape[-1] == 2 else "The frames, one"
    return f"<figure><figcaption>{what} a timestep: {answer}</figcaption>{frames(pixels, description)}</figure>"


def _settings(config: Mapping, summary: Mapping) -> str:
    """Return every setting with its value, and its default where it was set to another; then the versions.

    Where a setting is None, what that stood for.
    """
    experiment = from_dict(Experiment, config)
    usual, meant = (flat(as_stored(e)) for e in (Experiment(name=config["name"]), resolved(experiment)))

    def row(name: str, value: Any) -> list[str]:
        shown, default = (json.dumps(v, ensure_ascii=False) for v in (meant[name], usual.get(name, value)))
        return [name, shown, "" if usual.get(name, value) == value else default.replace("null", "None")]

    rows = [row(*setting) for setting in flat(as_stored(experiment)).items()]
    rows += [[f"{package} version", version, ""] for package, version in summary["versions"].items()]
    return table(("setting", "value", "default, if another"), rows, kind="words")
