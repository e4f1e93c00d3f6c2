"""Experiments as a run's config.json keeps them."""

import dataclasses
import json
import pathlib
import typing
from collections.abc import Mapping
from typing import Any

from ..errors import InputError, unknown
from .experiment import Experiment, Neuron
from .resolved import LIF

RENAMED: dict[type, dict[str, str]] = {Neuron: {"per": "sharing", "fixed": "freeze"}}
"""Class -> {a field as earlier versions stored it: its name now}: their runs go on."""


def from_dict(cls: type, values: Mapping[str, Any]) -> Any:
    """The config that `dataclasses.asdict` turned into these values, as read back from JSON; see `RENAMED`."""
    for old, new in RENAMED.get(cls, {}).items():
        if old in values and new not in values:
            values = {new if name == old else name: value for name, value in values.items()}
    if cls is Neuron and "kind" not in values:  # of an earlier version: lif's own settings stood there as values
        values = {name: None if LIF.get(name) == value else value for name, value in values.items()}
    fields = {f.name: typing.get_type_hints(cls)[f.name] for f in dataclasses.fields(cls)}
    for name in values:
        if name not in fields:
            raise unknown(f"{cls.__name__} field", name, fields)

    def restore(kind, value):
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            return from_dict(kind, value)
        return tuple(value) if isinstance(value, list) else value  # JSON has no tuples

    return cls(**{name: restore(fields[name], value) for name, value in values.items()})


def as_stored(experiment: Experiment) -> dict[str, Any]:
    """What config.json holds of an experiment: `from_dict` reads it."""
    return json.loads(json.dumps(dataclasses.asdict(experiment)))


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"snn.epochs": 3} for {"snn": {"epochs": 3}}: the names that the command line takes."""
    return {key: value for name, inside in values.items() for key, value in (
        flat(inside, f"{prefix}{name}.") if isinstance(inside, Mapping) else {f"{prefix}{name}": inside}).items()}


def read_stored(path: pathlib.Path) -> Experiment:
    """The experiment that a run's config.json holds.

    Raises:
        InputError: the file is damaged, or does not describe an experiment.
    """
    try:
        stored = json.loads(path.read_text())
        if not isinstance(stored, dict):
            raise ValueError("no JSON object")
        return from_dict(Experiment, stored)
    except (ValueError, TypeError) as error:
        raise InputError(f"{path} is damaged or no dietjax config ({error}); nothing was changed. "
                         "Choose another folder") from error
