"""The spiking neuron of an experiment: its class loaded by name, made with the experiment's parameters, and tried."""

import importlib
import inspect
import pathlib
import sys
import typing
from typing import Any

import jax
import jax.numpy as jnp

from .. import config
from ..config.names import NEURONS
from ..config.values import fits, named_values
from ..core.neurons.params import name_of
from ..core.unroll import unroll
from ..errors import InputError, unknown
from ..types import Neuron, missing_methods

SETTINGS = ("leak", "sharing", "reset", "surrogate", "initial_membrane")
"""Settings of an experiment that are passed to the class under the same name."""


def make_neuron(experiment: config.Experiment) -> Neuron:
    """The neuron that an experiment's SNN has.

    A class that takes `timesteps` gets the experiment's, unless neuron.parameters say another number.

    Raises:
        InputError: no such module or class, a class that is no neuron, a setting or a parameter that it does not take,
            or a neuron that cannot run.
    """
    settings = experiment.neuron
    cls = _load(settings.kind)
    takes = {name: p for name, p in inspect.signature(cls).parameters.items()
             if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    given = named_values(settings.parameters)
    for name in given:
        if name not in takes:
            raise unknown(f"parameter of neuron.kind {settings.kind}:", name, [n for n in takes if n not in SETTINGS])
    given = {name: _fitting(settings.kind, cls, name, value) for name, value in given.items()}
    if "timesteps" in takes:
        given.setdefault("timesteps", experiment.timesteps)
    given |= _settings(experiment, takes)
    lacking = [name for name, p in takes.items() if p.default is p.empty and name not in given]
    if lacking:
        raise InputError(f"neuron.kind {settings.kind} has no default for {', '.join(lacking)}: say it in "
                         f"neuron.parameters, as {lacking[0]}=VALUE")
    neuron = _called(settings.kind, lambda: cls(**given))
    _called(settings.kind, lambda: _try(neuron, experiment.timesteps))
    return neuron


def _load(kind: str) -> type:
    """The class that a kind names, from the current folder or from where Python looks."""
    module, _, name = NEURONS.get(kind, kind).partition(":")
    here = str(pathlib.Path.cwd())
    sys.path.insert(0, here)  # a command that is installed looks beside itself, not here
    importlib.invalidate_caches()  # its file may be younger than what Python remembers of the folder
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise InputError(f"neuron.kind {kind}: module {module} needs {error.name}, which is not there") from error
        raise InputError(f"neuron.kind {kind}: there is no module {error.name} in {here}, nor installed; run the "
                         "command in the folder that holds it, or add that to PYTHONPATH") from error
    except Exception as error:
        raise InputError(f"neuron.kind {kind}: module {module} cannot be imported: {type(error).__name__}: "
                         f"{error}") from error
    finally:
        sys.path.remove(here)
    if not hasattr(found, name):
        raise unknown(f"class of module {module}", name, [n for n, v in vars(found).items() if _is_neuron(v)])
    if not _is_neuron(getattr(found, name)):
        missing = [f"{method}()" for method in missing_methods(getattr(found, name))]
        what = f"it lacks {', '.join(missing)}" if isinstance(getattr(found, name), type) else "it is no class"
        raise InputError(f"neuron.kind {kind} is no neuron: {what}; see dietjax.types.Neuron")
    return getattr(found, name)


def _is_neuron(value: Any) -> bool:
    return isinstance(value, type) and not missing_methods(value)


def _fitting(kind: str, cls: type, name: str, value: Any) -> Any:
    """A parameter's value, where the class takes that type."""
    try:
        wanted = typing.get_type_hints(cls.__init__).get(name, Any)
    except (NameError, TypeError):  # annotations that nobody can read: the class itself will judge
        return value
    if not fits(value, wanted):
        raise InputError(f"parameter {name} of neuron.kind {kind} must be "
                         f"{wanted.__name__ if isinstance(wanted, type) else wanted}, got {value!r}")
    return float(value) if wanted is float else value


def _settings(experiment: config.Experiment, takes: typing.Container[str]) -> dict[str, Any]:
    """What the experiment's own settings say of this class; one that was set, and that it does not take, is refused."""
    asked, meant = experiment.neuron, config.resolved(experiment).neuron
    for name in SETTINGS:
        if getattr(asked, name) is not None and name not in takes:
            raise InputError(f"neuron.{name} is set to {getattr(asked, name)}, and neuron.kind {asked.kind} has no "
                             f"{name}: leave it at None")
    return {name: getattr(meant, name) for name in SETTINGS if name in takes and getattr(meant, name) is not None}


def _called(kind: str, function: Any) -> Any:
    """What a function of the user's class returns; whatever it raises is an error of the kind."""
    try:
        return function()
    except Exception as error:
        said = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        raise InputError(f"neuron.kind {kind}: {said}") from error


def _try(neuron: Neuron, timesteps: int) -> None:
    """Run it over a block, for the shapes alone: what fails would fail in the middle of the network."""
    def run(current):
        params = neuron.init(jax.random.key(0), current.shape[2:])
        state = neuron.initial_state(params, (current.shape[0], *current.shape[2:]))
        return state, unroll(neuron, params, state, current)[1]

    current = jax.ShapeDtypeStruct((2, timesteps, 3), jnp.float32)
    state, outputs = jax.eval_shape(run, current)
    if not jax.tree.leaves(state) and not getattr(neuron, "spiking", False):
        raise InputError("it carries nothing from one timestep to the next, as an ANN's neuron; one that spikes all "
                         "the same says so by `spiking = True`")
    if (outputs.shape, outputs.dtype) != (current.shape, current.dtype):
        raise InputError(f"of currents {current.dtype}{list(current.shape)} it makes outputs "
                         f"{outputs.dtype}{list(outputs.shape)}; they must be alike")


def reset_but_threshold(params: Any, initial: Any) -> Any:
    """A converted neuron's parameters: its thresholds, and everything else as it starts."""
    return jax.tree_util.tree_map_with_path(lambda path, now, first: now if name_of(path) == "threshold" else first,
                                            params, initial)
