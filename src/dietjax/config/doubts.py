"""What can run and is hardly meant."""

import dataclasses
from collections.abc import Callable, Iterator

from .experiment import Experiment, Phase
from .resolved import resolved
from .stored import flat
from .values import named_values

OF_EVENTS = (lambda e: e.data.of_events, "data.name events:PATH or saccade_digits")
IDLE: dict[str, tuple[Callable[[Experiment], bool], str]] = {
    "data.holdout_seed": (lambda e: e.data.holdout > 0, "data.holdout above 0"),
    "data.crop_fill": (lambda e: e.data.crop_padding > 0, "data.crop_padding above 0"),
    "data.events_by": OF_EVENTS,
    "data.events_binary": OF_EVENTS,
    "data.sensor_size": OF_EVENTS,
    "data.events_window": OF_EVENTS,
    "model.norm_scale": (lambda e: e.model.batch_norm, "model.batch_norm"),
    "model.classifier_dropout": (lambda e: e.model.classifier != (), "hidden layers in model.classifier"),
    "ann_neuron.levels": (lambda e: e.ann_neuron.kind == "qcfs", "ann_neuron.kind qcfs"),
    "ann_neuron.threshold": (lambda e: e.ann_neuron.kind == "qcfs", "ann_neuron.kind qcfs"),
    "conversion.percentile": (lambda e: resolved(e).conversion.method in ("match", "percentile"),
                              "conversion.method match or percentile"),
    "conversion.timesteps": (lambda e: resolved(e).conversion.method in ("percentile", "spikenorm"),
                             "conversion.method percentile or spikenorm"),
    "truncate": (lambda e: e.chunk is not None and e.chunk < e.timesteps, "chunk below timesteps"),
}
"""{setting: (whether this experiment uses it, what it needs)}."""
IDLE_OF_A_PHASE: dict[str, tuple[Callable[[Phase], bool], str]] = {
    "momentum": (lambda p: p.optimizer in ("sgd", "muon"), "optimizer sgd or muon"),
    "adam_learning_rate": (lambda p: p.optimizer == "muon", "optimizer muon"),
    "step_factor": (lambda p: p.schedule == "steps", "schedule steps"),
    "temperature": (lambda p: p.distillation > 0, "distillation above 0"),
    "tet_mean": (lambda p: p.tet_lambda > 0, "tet_lambda above 0"),
    "label_smoothing": (lambda p: p.distillation < 1, "distillation below 1"),
    "tet_weight": (lambda p: p.distillation < 1, "distillation below 1"),
}
OF_AN_SNN = ("temperature", "tet_mean")
"""Those of them that are idle in an ANN's phase whatever else is set: `check` refuses what they need there."""


def doubts(experiment: Experiment) -> list[str]:
    """What can run and is hardly meant, a sentence each with the remedy."""
    found = [*_idle(experiment), *_doubts_of_threshold(experiment), *_doubts_of_changes(experiment)]
    if not experiment.from_scratch:
        found += [*_doubts_of_method(experiment), *_doubts_of_levels(experiment)]
    return found


def _idle(experiment: Experiment) -> Iterator[str]:
    """What was set to another value than the default, and is not used. A whole phase that is left out, as ann.epochs 0
    does with the ANN's, was left out on purpose.
    """
    usual, given = (flat(dataclasses.asdict(e)) for e in (Experiment(experiment.name), experiment))
    left_out: tuple[str, ...] = ()
    if experiment.from_scratch:
        left_out = ("ann.", "ann_neuron.", "conversion.") if experiment.model.batch_norm else ("ann.", "ann_neuron.")
    needs = [(name, uses(experiment), what) for name, (uses, what) in IDLE.items()]
    for phase in ("ann", "snn"):
        for name, (phase_uses, what) in IDLE_OF_A_PHASE.items():
            what = f"to be snn.{name}" if phase == "ann" and name in OF_AN_SNN else f"{phase}.{what}"
            needs.append((f"{phase}.{name}", phase_uses(getattr(experiment, phase)), what))
    for name, used, what in needs:
        if not used and given[name] != usual[name] and not name.startswith(left_out):
            yield f"{name} {given[name]} does nothing: it needs {what}"


def _doubts_of_threshold(experiment):
    if "threshold" not in named_values(experiment.neuron.parameters):
        return []
    if experiment.from_scratch and experiment.model.batch_norm:
        return []
    return ["threshold in neuron.parameters does nothing: thresholds are set by conversion (conversion.scale scales "
            "them), or with ann.epochs 0 and without model.batch_norm balanced"]


def _doubts_of_changes(experiment):
    """Sigma-delta neurons hear changes, those of the first layer values: one neuron for all layers is wrong in some."""
    if experiment.neuron.kind != "sigma_delta":
        return []
    wrong = "the first layer gets the whole image at every timestep, and its neurons add it up as if it were changes"
    if named_values(experiment.neuron.parameters).get("inputs") == "values":
        wrong = "with inputs=values layers behind the first take the changes that they hear for whole values"
    biases = ""
    if experiment.model.batch_norm:
        biases = "; the biases into which model.batch_norm folds are added up at every timestep, in every layer"
    return [f"neuron.kind sigma_delta: {wrong}{biases}, so activations are not those of a ReLU network. An experiment "
            "has one neuron for all layers: build the network in Python, with "
            "Layer(neuron=dietjax.SigmaDelta(inputs='values')) for the first layer and without biases, or take another "
            "neuron.kind"]


def _doubts_of_method(experiment):
    method = experiment.conversion.method
    if not experiment.model.batch_norm or method in (None, "match"):
        return []
    return [f"conversion.method {method} scales thresholds under the biases that model.batch_norm leaves, which is "
            "another function than the ANN's: set conversion.method to match or None, and conversion.percentile and "
            "conversion.scale to None"]


def _doubts_of_levels(experiment):
    """A neuron of T timesteps can say T + 1 numbers, one of L levels L + 1."""
    levels, timesteps = experiment.ann_neuron.levels, experiment.timesteps
    if experiment.ann_neuron.kind != "qcfs" or levels == timesteps:
        return []
    asked = f"the ANN has ann_neuron.levels {levels} and the SNN {timesteps} timesteps"
    if timesteps < levels:
        return [f"{asked}, so conversion rounds {levels + 1} values of an activation to {timesteps + 1}, which costs "
                f"accuracy (compare the converted SNN's with the ANN's) that fine-tuning has to win back; "
                f"ann_neuron.levels {timesteps} rounds less"]
    return [f"{asked}: each beyond {levels} costs energy, and wins back only what deep layers round"]
