"""What None stands for in an experiment."""

import dataclasses

from .experiment import Experiment
from .scale import default_scale


def resolved(experiment: Experiment) -> Experiment:
    """The experiment with what None stands for in its conversion: the method, its percentile and its scale, and
    where membranes start after it.
    """
    conversion = experiment.conversion
    keeps_function = experiment.model.batch_norm or experiment.ann_neuron.kind == "qcfs"
    method = conversion.method or ("match" if keeps_function else "percentile")
    percentile, scale, membrane = conversion.percentile, conversion.scale, experiment.neuron.initial_membrane
    if method in ("max", "spikenorm"):
        percentile = 100.0
    elif percentile is None:
        percentile = 99.9 if method == "match" else 99.7
    if scale is None:
        scale = 1.0 if method == "match" else default_scale(experiment.timesteps)
    if membrane is None:
        membrane = 0.5 if method == "match" else 0.0
    return dataclasses.replace(
        experiment, conversion=dataclasses.replace(conversion, method=method, percentile=percentile, scale=scale),
        neuron=dataclasses.replace(experiment.neuron, initial_membrane=membrane))
