"""What no run could use, refused by name before any work is done."""

import dataclasses
import math
import operator
import typing
from typing import Literal

from ..errors import InputError, unknown
from .experiment import Experiment


def _of_phases(*fields):
    return tuple(f"{phase}.{field}" for phase in ("ann", "snn") for field in fields)


LIMITS = {
    "> 0": (("timesteps", "model.classifier", "conversion.images", "conversion.timesteps", "conversion.scale",
             "parallel.data", "parallel.fsdp", "data.image_size", "data.threads",
             *_of_phases("epochs", "batch_size", "learning_rate", "checkpoint_every", "accumulate")),
            lambda x: 0 < x < math.inf),
    ">= 0": (("seed", "data.crop_padding", *_of_phases("weight_decay")), lambda x: 0 <= x < math.inf),
    "in [0, 1)": (("model.conv_dropout", "model.classifier_dropout", *_of_phases("momentum")), lambda x: 0 <= x < 1),
    "in [0, 1]": (("neuron.leak",), lambda x: 0 <= x <= 1),
    "in (0, 100]": (("conversion.percentile",), lambda x: 0 < x <= 100),
}
"""What a number must be -> (the fields it holds for, the test)."""


def check(experiment: Experiment) -> None:
    """Every field against its type and its limits, before any work is done.

    Raises:
        InputError: a value that no run could use, named with its field.
    """
    _check_kinds(experiment)
    for limit, (names, holds) in LIMITS.items():
        for name in names:
            value = operator.attrgetter(name)(experiment)
            if any(not holds(v) for v in (value if isinstance(value, tuple) else [value]) if v is not None):
                raise InputError(f"{name} must be {limit}, got {value}")
    if experiment.chunk is not None and (experiment.chunk < 1 or experiment.timesteps % experiment.chunk):
        raise InputError(f"chunk must divide timesteps, got chunk={experiment.chunk}, timesteps={experiment.timesteps}")


def _check_kinds(config, prefix=""):
    for name, kind in typing.get_type_hints(type(config)).items():
        value = getattr(config, name)
        if isinstance(kind, type) and dataclasses.is_dataclass(kind) and isinstance(value, kind):
            _check_kinds(value, f"{prefix}{name}.")
        elif not _fits(value, kind):
            if typing.get_origin(kind) is Literal:
                raise unknown(f"{prefix}{name}", str(value), typing.get_args(kind))
            wanted = kind.__name__ if isinstance(kind, type) else kind
            raise InputError(f"{prefix}{name} must be {wanted}, got {value!r}")


def _fits(value, kind):
    inside = typing.get_args(kind)
    if typing.get_origin(kind) is Literal:
        return value in inside
    if typing.get_origin(kind) is tuple:  # tuple[kind, ...]
        return isinstance(value, tuple) and all(_fits(v, inside[0]) for v in value)
    if inside:  # a union
        return any(_fits(value, k) for k in inside)
    return isinstance(value, (int, float) if kind is float else kind) and (kind is bool or not isinstance(value, bool))
