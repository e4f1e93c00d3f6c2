"""A run's trained network for use in Python: `dietjax.load`."""

import dataclasses
import functools
import os
import pathlib
import warnings
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import config, data
from ..config import Experiment
from ..errors import InputError, naming_shortage, unknown
from ..models import Network, largest_block
from ..types import Array
from . import assemble, data_info


class Prediction(NamedTuple):
    """What a network answers."""

    classes: np.ndarray
    """int32 [B], indices of `Run.class_names`."""
    confidence: np.ndarray
    """float32 [B], the softmax of the logits, of that class."""


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A trained network and what it takes to use it.

    `logits, record = run.net.apply(run.variables, run.normalise(images), run.timesteps)` is all that it computes;
    `run.predict(images)` is that, compiled, as classes.
    """

    experiment: Experiment
    net: Network
    variables: dict
    """On the default device. Batch norm of an SNN is folded into its weights."""
    timesteps: int
    """The experiment's; of an ANN 1, or the number of frames of its examples."""
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    """Per channel, of pixels in [0, 1], of the training images."""
    std: tuple[float, ...]
    """Per channel, of pixels in [0, 1], of the training images."""
    frames: int | None = None
    """T of the examples that it was trained on; None: they were images."""

    def normalise(self, images: np.ndarray | Array) -> Array:
        """uint8 [B, H, W, C], or frames [B, T, H, W, C] -> float32, as the network was trained on.

        Raises:
            InputError: other images than the network takes.
        """
        shape, kind = tuple(np.shape(images)), getattr(images, "dtype", type(images).__name__)
        if kind != np.uint8 or len(shape) not in (4, 5) or shape[-3:] != self.net.image_shape:
            batch = "; a single image is images[None]" if shape == self.net.image_shape else ""
            raise InputError(f"images are {kind} of shape {shape}; the network takes uint8 [B, "
                             f"{', '.join(map(str, self.net.image_shape))}], raw pixels of 0..255, or frames with T "
                             f"behind B{batch}")
        if self.frames is not None and len(shape) != 5:
            raise InputError(f"images are of shape {shape}; the network was trained on frames [B, {self.frames}, "
                             f"{', '.join(map(str, self.net.image_shape))}], one for each timestep; a single example "
                             "is images[None]")
        return data.normalise(images, self.mean, self.std, jnp.float32)

    def predict(self, images: np.ndarray | Array) -> Prediction:
        """Classes of these images, raw as `normalise` takes them; all at once, compiled once for each shape."""
        count = next(iter(np.shape(images)), 0)  # of anything: `normalise` refuses what is no batch
        with naming_shortage(f"the prediction of {count} examples at {self.timesteps} timesteps",
                             "Give predict fewer examples at once.",
                             functools.partial(largest_block, self.net, count, self.timesteps)):
            classes, confidence = jax.device_get(self._answer(self.variables, self.normalise(images)))
        return Prediction(classes, confidence)

    @functools.cached_property
    def _answer(self) -> Any:
        def answer(variables, x):
            # a readout's noise is that of the seed: the same images have the same answer
            keys = {"encode": jax.random.key(self.experiment.seed)}
            logits, _ = self.net.apply(variables, x, self.timesteps, rngs=keys)
            return logits.argmax(-1).astype(jnp.int32), jax.nn.softmax(logits.astype(jnp.float32)).max(-1)

        return jax.jit(answer)


def load(run: str | os.PathLike, network: Literal["snn", "ann"] = "snn") -> Run:
    """A run's network, from its latest checkpoint; its data set need not be there.

    Args:
        run: its folder.
        network: "snn", or "ann", the ordinary network that the spiking one was made from.

    A run of a version of dietjax that kept no data.json needs its data set, and warns of it.

    Raises:
        InputError: the folder holds no run, or it has no such network, or not yet.
    """
    if network not in ("snn", "ann"):
        raise unknown("network of a run:", str(network), ("snn", "ann"))
    workdir = pathlib.Path(run)
    experiment = config.read_run(workdir)
    if network == "ann" and experiment.from_scratch:
        raise InputError(f"{workdir} has no ANN, its SNN was trained from scratch: dietjax.load({str(workdir)!r})")
    info = data_info.read(workdir) or _from_the_data(workdir, experiment)
    found = assemble.restore_networks(workdir, experiment, info)
    if network not in found:
        raise InputError(f"{workdir} has no spiking network yet: run dietjax train again, it goes on where it stopped; "
                         f"its ANN is dietjax.load({str(workdir)!r}, \"ann\")")
    net, variables = found[network]
    timesteps = experiment.timesteps if network == "snn" else info.frames or 1
    return Run(experiment, net, variables, timesteps, info.class_names, info.mean, info.std, info.frames)


def _from_the_data(workdir, experiment):
    earlier = f"{workdir} was made by a version of dietjax that kept no {data_info.FILE}"
    try:
        dataset = assemble.open_data(experiment.data, experiment.timesteps)
    except data.DataError as error:
        raise InputError(f"{earlier}, so that its data is needed, and that cannot be opened: {error}") from error
    warnings.warn(f"{earlier}: class names, mean and standard deviation are taken from its data, "
                  f"{experiment.data.name}", stacklevel=3)
    return data_info.describe(dataset)
