"""What no run could use, refused by name before any work is done."""

import dataclasses
import math
import operator
import typing
from typing import Literal

from ..errors import InputError, unknown
from .experiment import Experiment, Neuron, Phase
from .names import NEURONS
from .values import fits, named_kind, named_values


def _of_phases(*fields):
    return tuple(f"{phase}.{field}" for phase in ("ann", "snn") for field in fields)


LIMITS = {
    "> 0": (("timesteps", "model.classifier", "model.width", "ann_neuron.levels", "ann_neuron.threshold",
             "conversion.images", "conversion.timesteps", "conversion.scale",
             "parallel.data", "parallel.fsdp", "parallel.steps_at_once", "data.image_size", "data.threads",
             "data.events_window", "data.sensor_size", "snn.epochs",
             *_of_phases("batch_size", "learning_rate", "adam_learning_rate", "checkpoint_every", "accumulate",
                         "clip_norm", "step_factor", "temperature", "milestones")),
            lambda x: 0 < x < math.inf),
    ">= 0": (("seed", "ann.epochs", "data.crop_padding", "data.cutout", "data.holdout_seed",
              *_of_phases("weight_decay", "warmup_epochs")),
             lambda x: 0 <= x < math.inf),
    "in [0, 1)": (("data.drop_events", "data.holdout", "model.conv_dropout", "model.classifier_dropout",
                   "neuron.initial_membrane",
                   *_of_phases("momentum", "ema_decay", "label_smoothing", "conv_dropout", "classifier_dropout")),
                  lambda x: 0 <= x < 1),
    "in [0, 1]": (("neuron.leak", *_of_phases("tet_weight", "tet_lambda", "distillation")), lambda x: 0 <= x <= 1),
    "finite": (_of_phases("tet_mean"), math.isfinite),
    "in (0, 100]": (("conversion.percentile",), lambda x: 0 < x <= 100),
}
"""What a number must be -> (the fields it holds for, the test)."""


def check(experiment: Experiment) -> None:
    """Every field against its type and its limits, before any work is done.

    Raises:
        InputError: a value that no run could use, named with its field.
    """
    check_values(experiment)
    if experiment.chunk is not None and (experiment.chunk < 1 or experiment.timesteps % experiment.chunk):
        raise InputError(f"chunk must divide timesteps, got chunk={experiment.chunk}, timesteps={experiment.timesteps}")
    for name in ("snn",) if experiment.from_scratch else ("ann", "snn"):
        _check_schedule(name, getattr(experiment, name))
        _check_optimizer(name, experiment)
    _check_losses(experiment)
    _check_neuron(experiment.neuron)
    if experiment.data.flip_alternates and not experiment.data.flip:
        raise InputError("data.flip_alternates says how images are flipped, and data.flip is False: set both")
    if experiment.data.events_window is not None and experiment.data.events_by != "time":
        raise InputError("data.events_window is the length of a window of time, and data.events_by is "
                         f"{experiment.data.events_by}: set data.events_by to time, or leave the window out")
    if experiment.from_scratch:
        _check_from_scratch(experiment)


def check_values(experiment: Experiment) -> None:
    """Every field by itself: its type, then its limits.

    Raises:
        InputError: naming the field, what it must be and what is there.
    """
    _check_kinds(experiment)
    for limit, (names, holds) in LIMITS.items():
        for name in names:
            value = operator.attrgetter(name)(experiment)
            if any(not holds(v) for v in (value if isinstance(value, tuple) else [value]) if v is not None):
                raise InputError(f"{name} must be {limit}, got {value}")


def check_width(name: str, width: float) -> None:
    """A factor on features, by the name under which it was given.

    Raises:
        InputError: it is not > 0, or not finite.
    """
    if not 0 < width < math.inf:
        raise InputError(f"{name} must be > 0, got {width}; 0.5 halves the features of every layer but the readout")


def _check_optimizer(name: str, experiment: Experiment) -> None:
    """Nesterov's momentum is sgd's; muon, which keeps the norm of kernels, needs batch norm behind them."""
    phase, batch_norm = getattr(experiment, name), experiment.model.batch_norm
    if phase.nesterov and phase.optimizer != "sgd":
        raise InputError(f"{name}.nesterov is sgd's, and {name}.optimizer is {phase.optimizer}")
    folded = name == "snn" and not experiment.from_scratch  # an ANN's batch norm, before the SNN trains
    if phase.optimizer == "muon" and (folded or not batch_norm):
        remedy = "conversion folds it: take" if folded else "set model.batch_norm, or take"
        raise InputError(f"{name}.optimizer muon keeps the norm of kernels as it is, which needs batch norm behind "
                         f"them; {remedy} {name}.optimizer adam or sgd")
    if phase.optimizer == "muon" and phase.weight_decay:
        raise InputError(f"{name}.weight_decay must be 0 with muon, which keeps the norm of kernels as it is")


def _check_schedule(name: str, phase: Phase) -> None:
    """The parts of a schedule must lie in the run, and nothing be set that it does not use."""
    rises = phase.schedule in ("one_cycle", "warmup_cosine")
    for field, last in (("warmup_epochs", phase.warmup_epochs), ("milestones", max(phase.milestones, default=0))):
        if 0 < phase.epochs <= last:
            raise InputError(f"{name}.{field} reaches epoch {last:g}, {name}.epochs is {phase.epochs}: a schedule "
                             "longer than the run; shorten it, or train for more epochs")
    if rises != (phase.warmup_epochs > 0):
        raise InputError(f"{name}.schedule {phase.schedule} {'needs' if rises else 'has no'} warm-up: set "
                         f"{name}.warmup_epochs {'above 0' if rises else 'to 0, or take one_cycle or warmup_cosine'}")
    if (phase.schedule == "steps") != bool(phase.milestones):
        raise InputError(f"{name}.milestones are the epochs after which schedule steps falls: set both, or neither "
                         f"(schedule is {phase.schedule}, milestones are {phase.milestones})")


def _check_neuron(neuron: Neuron) -> None:
    """The form of its kind and of its parameters; whether the class takes them, `run.neuron` sees."""
    module, colon, name = neuron.kind.partition(":")
    if neuron.kind not in NEURONS and not (colon and all(part.isidentifier() for part in (*module.split("."), name))):
        raise unknown("neuron.kind", neuron.kind, (*NEURONS, "MODULE:CLASS (of your own)"))
    settings = {field.name for field in dataclasses.fields(Neuron)}
    for given in named_values(neuron.parameters):
        if given in settings:
            raise InputError(f"neuron.parameters say {given}, which is a setting of its own: set neuron.{given}")


def _check_losses(experiment: Experiment) -> None:
    """What compares timesteps needs several, what learns from the ANN needs one."""
    for field, why in (("tet_weight", "an ANN has one timestep"),
                       ("distillation", "the ANN is whom the SNN learns from")):
        if getattr(experiment.ann, field):
            raise InputError(f"ann.{field} must be 0: {why}; set snn.{field}")
    for name, phase in (("ann", experiment.ann), ("snn", experiment.snn)):
        if phase.tet_lambda and not phase.tet_weight:
            raise InputError(f"{name}.tet_lambda is a share of TET's loss, and {name}.tet_weight is 0")


def _check_from_scratch(experiment: Experiment) -> None:
    """What would need an ANN; what batch norm through time would need."""
    if experiment.snn.distillation:
        raise InputError("snn.distillation learns from the run's own ANN, and ann.epochs is 0: train one, or set "
                         "snn.distillation to 0")
    if not experiment.model.batch_norm and experiment.conversion.method in ("match", "max"):
        raise InputError(f"conversion.method {experiment.conversion.method} takes thresholds from the ANN's "
                         "activations, and ann.epochs is 0: set conversion.method to percentile or spikenorm, which "
                         "balance the SNN's own currents, or set model.batch_norm")
    if experiment.model.batch_norm and experiment.chunk not in (None, experiment.timesteps):
        raise InputError(f"ann.epochs is 0, so batch norm trains with the SNN and needs every timestep at once, and "
                         f"chunk is {experiment.chunk}: set chunk to None, or model.batch_norm to False")


def _check_kinds(config, prefix=""):
    for name, kind in typing.get_type_hints(type(config)).items():
        value = getattr(config, name)
        if isinstance(kind, type) and dataclasses.is_dataclass(kind) and isinstance(value, kind):
            _check_kinds(value, f"{prefix}{name}.")
        elif not fits(value, kind):
            literal = [k for k in (kind, *typing.get_args(kind)) if typing.get_origin(k) is Literal]
            if literal and str not in typing.get_args(kind):
                raise unknown(f"{prefix}{name}", str(value), map(str, typing.get_args(literal[0])))
            raise InputError(f"{prefix}{name} must be {named_kind(kind)}, got {value!r}")
