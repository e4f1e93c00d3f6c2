"""What None stands for in an experiment."""

import dataclasses
from typing import Any

from .experiment import Conversion, Experiment
from .scale import default_scale

LIF = {"leak": 1.0, "sharing": "layer", "reset": "subtract", "surrogate": "piecewise_linear"}
"""The paper's neuron: what None stands for with neuron.kind lif, as in `dietjax.LIF`."""


def resolved(experiment: Experiment) -> Experiment:
    """The experiment with what None stands for in its conversion: the method, its percentile and its scale, and in its
    neuron: lif's own settings, and where membranes start after the conversion. Without an ANN thresholds are balanced;
    with batch norm they are not, and the conversion, which is not used, stays as it is.
    """
    conversion, neuron = _conversion(experiment), experiment.neuron
    meant: dict[str, Any] = dict(LIF) if neuron.kind == "lif" else {}
    if conversion.method == "match" and not experiment.from_scratch:
        meant["initial_membrane"] = 0.5
    elif neuron.kind == "lif":
        meant["initial_membrane"] = 0.0
    unset = {name: value for name, value in meant.items() if getattr(neuron, name) is None}
    return dataclasses.replace(experiment, conversion=conversion, neuron=dataclasses.replace(neuron, **unset))


def _conversion(experiment: Experiment) -> Conversion:
    conversion, batch_norm = experiment.conversion, experiment.model.batch_norm
    if experiment.from_scratch and batch_norm:
        return conversion
    keeps_function = not experiment.from_scratch and (batch_norm or experiment.ann_neuron.kind == "qcfs")
    method = conversion.method or ("match" if keeps_function else "percentile")
    percentile, scale = conversion.percentile, conversion.scale
    if method in ("max", "spikenorm"):
        percentile = 100.0
    elif percentile is None:
        percentile = 99.9 if method == "match" else 99.7
    if scale is None:
        scale = 1.0 if method == "match" else default_scale(experiment.timesteps)
    return dataclasses.replace(conversion, method=method, percentile=percentile, scale=scale)
