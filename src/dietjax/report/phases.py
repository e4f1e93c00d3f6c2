"""The parts of the page that depend on which phases a run had: ANN, conversion and SNN, or an SNN from scratch."""

import html
from collections.abc import Mapping, Sequence

from . import plots
from .elements import figure

AFTER_AN_ANN = {
    "origin": "a spiking network made by DIET-SNN, that is, an ordinary network (ANN) is trained, converted to spiking "
    "neurons, and fine-tuned through time{together}",
    "accuracy_heading": "Accuracy through the phases",
    "accuracy_words": "Test accuracy of the ANN, of the same weights right after conversion to a spiking network, and "
    "after fine-tuning. The gap that conversion opens is what fine-tuning has to close.",
    "nearer": "comes near the dashed ANN line",
    "began": "set by conversion",
    "training": "fine-tuning",
    "energy_of": "the ANN",
}
FROM_SCRATCH = {
    "origin": "a spiking network trained from scratch, that is, through time from its initial weights{together}; "
    "there was no ordinary network (ANN) before it",
    "accuracy_heading": "Accuracy",
    "accuracy_words": "Test accuracy of the spiking network. Batch norm, where it was trained with it, was folded into "
    "its weights at the end, and what is shown below is of the network without it.",
    "nearer": "comes near its last value",
    "began": "that training began with",
    "training": "training",
    "energy_of": "an ANN of the same layers",
}


EXPLAINED = {
    ("threshold", "leak"): "A neuron fires when its membrane exceeds the threshold, and keeps the fraction leak of it "
    "from one timestep to the next (1: nothing is lost).",
    (): "These neurons have no parameters: only the weights between them are trained.",
}
"""What parameters of neurons mean, for the kinds that most runs have."""


def parameters(layers: Sequence[Mapping]) -> tuple[str, ...]:
    """Return the names of what the neurons of a summary's layers have besides weights; threshold and leak first."""
    names = dict.fromkeys(key.removesuffix("_after") for layer in layers for key in layer if key.endswith("_after"))
    return tuple(sorted(names, key=lambda name: (name != "threshold", name != "leak")))


def words(summary: Mapping) -> dict[str, str]:
    """Return what the page says of a run with an ANN, or of one without, and of its neurons."""
    said, names = dict(AFTER_AN_ANN if summary["ann"] else FROM_SCRATCH), parameters(summary["layers"])
    *most, last = [html.escape(name) for name in names] or [""]
    listed = f"{', '.join(most)} and {last}" if most else last
    said["origin"] = said["origin"].format(together=f" together with each layer's {listed}" if names else "")
    said["neurons_heading"] = "Thresholds and leaks" if names == ("threshold", "leak") else "Neurons"
    explained = EXPLAINED.get(names, f"Of each layer's neurons: {listed}.")
    rows = (f" Each row is a layer: the hollow mark is the value {said['began']}, the filled one what training made of "
            "it. Where neurons of a layer have values of their own, the mean is shown.") if names else ""
    return said | {"neurons_words": explained + rows}


def accuracies(summary: Mapping) -> dict[str, str]:
    """Return the figures of the phases' accuracies, and of those after each timestep."""
    accuracy = {phase: summary[phase]["accuracy"] for phase in plots.PHASES if summary[phase]}
    kept = [phase for phase in ("converted", "snn") if summary[phase]]
    by_timestep = {phase: summary[phase]["accuracy_by_timestep"] for phase in kept}
    span, bars = f"from {by_timestep['snn'][0]:.2%} to {by_timestep['snn'][-1]:.2%}", ""
    if summary["ann"]:
        said = ", ".join(f"{plots.PHASES[phase]} {value:.2%}" for phase, value in accuracy.items())
        bars = figure(plots.accuracy_bars(accuracy), "Test accuracy by phase", said)
        span = f"fine-tuned {span}, ANN {accuracy['ann']:.2%}"
    drawn = plots.accuracy_over_timesteps(accuracy.get("ann"), by_timestep)
    return {"accuracy_bars": bars, "timesteps": figure(drawn, "Test accuracy after each timestep", span)}


def curves(metrics: Sequence[Mapping], summary: Mapping) -> dict[str, str]:
    """Return accuracy and loss over the epochs of each phase that was trained."""
    def drawn(phase: str, key: str) -> str:
        title = f"{plots.PHASES[phase]}: {key} over epochs"
        return figure(plots.curves(metrics, phase, key), title, "train and test") if summary[phase] else ""

    return {f"{key}_{phase}": drawn(phase, key) for key in ("accuracy", "loss") for phase in ("ann", "snn")}
