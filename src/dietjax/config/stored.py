"""Experiments as a run's config.json keeps them."""

import dataclasses
import json
import pathlib
import typing
from collections.abc import Mapping
from typing import Any

from ..errors import InputError, unknown
from .experiment import Experiment, Neuron
from .limits import check_values
from .resolved import LIF

RENAMED: dict[type, dict[str, str]] = {Neuron: {"per": "sharing", "fixed": "freeze"}}
"""Class -> {a field as earlier versions stored it: its name now}: their runs go on."""


def from_dict(cls: type, values: Mapping[str, Any], prefix: str = "") -> Any:
    """The config that `dataclasses.asdict` turned into these values, as read back from JSON; see `RENAMED`.

    prefix: of the names of its fields in messages ("snn.").

    Raises:
        InputError: a field that there is not, one that is missing, or a value where several have to stand.
    """
    for old, new in RENAMED.get(cls, {}).items():
        if old in values and new not in values:
            values = {new if name == old else name: value for name, value in values.items()}
    if cls is Neuron and "kind" not in values:  # of an earlier version: lif's own settings stood there as values
        values = {name: None if LIF.get(name) == value else value for name, value in values.items()}
    fields = {f.name: typing.get_type_hints(cls)[f.name] for f in dataclasses.fields(cls)}
    for name in values:
        if name not in fields:
            raise unknown(f"{cls.__name__} field", name, fields)
    for field in dataclasses.fields(cls):
        if field.default is dataclasses.MISSING and field.name not in values:
            raise InputError(f"{prefix}{field.name} is missing")

    def restore(name, value):
        kind = fields[name]
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            if not isinstance(value, Mapping):
                raise InputError(f"{prefix}{name} must be an object with the fields of {kind.__name__}, got {value!r}")
            return from_dict(kind, value, f"{prefix}{name}.")
        return tuple(value) if isinstance(value, list) else value  # JSON has no tuples

    return cls(**{name: restore(name, value) for name, value in values.items()})


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
        InputError: the file is damaged, does not describe an experiment, or holds a value that no run could use.
    """
    try:
        stored = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_once_each)
        if not isinstance(stored, dict):
            raise ValueError("no JSON object")
        experiment = from_dict(Experiment, stored)
        check_values(experiment)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged or no dietjax config ({error}); nothing was changed. Mend it, or choose "
                         "another folder") from error
    return experiment


def read_run(run: pathlib.Path) -> Experiment:
    """The experiment of a run's folder.

    Raises:
        InputError: the folder holds no run, or its config.json is damaged.
    """
    path = run / "config.json"
    if not path.exists():
        raise InputError(f"{run} holds no run (no config.json); train one: dietjax train FILE --workdir {run}")
    return read_stored(path)


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; of two values under one name Python would take the last, without a word."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name} stands there twice")
        found[name] = value
    return found
