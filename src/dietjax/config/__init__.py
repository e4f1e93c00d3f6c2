"""Experiments as nested frozen dataclasses. Loads no jax: `--help` answers at once."""

from .dataset import Data
from .doubts import doubts
from .experiment import AnnNeuron, Conversion, Experiment, Hosts, Model, Neuron, Parallel, Phase
from .file import load_experiment
from .limits import check, check_width
from .resolved import resolved
from .stored import as_stored, flat, from_dict, read_run, read_stored

__all__ = [
    "AnnNeuron",
    "Conversion",
    "Data",
    "Experiment",
    "Hosts",
    "Model",
    "Neuron",
    "Parallel",
    "Phase",
    "as_stored",
    "check",
    "check_width",
    "doubts",
    "flat",
    "from_dict",
    "load_experiment",
    "read_run",
    "read_stored",
    "resolved",
]
