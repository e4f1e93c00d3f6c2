"""What came out of a run: measurements, the summary of them, and one image's spikes kept for the report."""

import contextlib
import dataclasses
import datetime
import json
import os
import pathlib
import platform
from collections.abc import Sequence
from importlib import metadata

import jax
import jax.numpy as jnp
import numpy as np

from .. import __version__, files, models
from ..analysis import energy
from ..config import Experiment
from ..core.neurons.params import described
from ..data import Dataset, normalise, survey
from ..errors import InputError
from ..models import Network
from ..models.populations import neurons_of
from ..parallel.mesh import make_mesh
from ..train.evaluate import Answers, Evaluator
from ..train.plan import Plan
from ..train.state import TimeSchedule
from .assemble import is_ann
from .mistakes import confusion, fair_sample

RASTER_NEURONS = 200
"""Neurons of a layer drawn in the raster, evenly spaced."""
WRONG_IMAGES = 100
"""Misclassified images that are kept for the report, of as many classes as can be."""


def measure(net: Network, variables: dict, dataset: Dataset, experiment: Experiment,
            timesteps: int = 1, test_batch: int | None = None) -> tuple[dict, Answers]:
    """Test-set metrics and answers of one of an experiment's networks (an ANN: T=1), see `train.evaluate`.

    test_batch: examples at once; None: as many as in training.
    """
    name = "ann" if is_ann(net) else "snn"
    timesteps = dataset.frames or 1 if name == "ann" else timesteps
    chunk = experiment.chunk if name == "snn" and timesteps == experiment.timesteps else None
    plan = Plan(name, net, dataset, getattr(experiment, name), TimeSchedule(timesteps, chunk), make_mesh(),
                seed=experiment.seed, test_batch=test_batch)
    return Evaluator(plan).whole(variables)


def neuron_means(variables: dict) -> dict[str, dict[str, float]]:
    """{parameter: {layer, or its residual's projection: its mean}} of a spiking network's neurons: {"leak": ...,
    "threshold": ...} of LIF's. A leak that follows from another parameter, as PLIF's, is among them.
    """
    means: dict[str, dict[str, float]] = {}
    for layer, neuron in neurons_of(variables["params"]).items():
        for name, values in described(neuron).items():
            means.setdefault(name, {})[layer] = np.asarray(values, np.float64).mean().item()
    return means


def summarise(experiment: Experiment, dataset: Dataset, snn: Network, variables: dict, tested_ann: dict | None,
              began: dict, tested_snn: dict) -> dict:
    """What summary.json holds, without times.

    Args:
        experiment, dataset: of the run.
        snn, variables: the trained network.
        tested_ann, tested_snn: the test-set metrics of both networks at the end. None: there is no ANN, and "ann" and
            "converted" are None.
        began: what converted.json holds, or without an ANN the `neuron_means` that training began with.
    """
    converted = None if tested_ann is None else {k: began[k] for k in ("accuracy", "accuracy_by_timestep")}
    return {
        "experiment": experiment.name, "model": experiment.model.name, "dataset": dataset.name,
        "parameters": models.parameter_count(snn),
        "train_images": dataset.train.num_examples, "test_images": dataset.test.num_examples,
        "ann": None if tested_ann is None else {"accuracy": tested_ann["accuracy"]},
        "converted": converted,
        "snn": {"accuracy": tested_snn["accuracy"], "timesteps": experiment.timesteps,
                "accuracy_by_timestep": tested_snn["accuracy_by_timestep"]},
        "layers": _layers(snn, began, neuron_means(variables), tested_snn["spike_rate"]),
        "energy": energy.estimate(snn, tested_snn, timesteps=experiment.timesteps).as_dict(),
        "machine": _machine(),
        "versions": {"dietjax": __version__,  # its own word: it may run from a checkout that is not installed
                     **{name: metadata.version(name) for name in ("jax", "jaxlib", "flax", "optax")}},
        "settings": portable(experiment), "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def portable(experiment: Experiment) -> dict:
    """Its settings as config.json holds them, without the folders of this machine: what a stored result is of."""
    kind, _, path = experiment.data.name.partition(":")
    name = f"{kind}:{pathlib.Path(path).name}" if kind in ("folder", "npz", "events") else experiment.data.name
    return dataclasses.asdict(
        dataclasses.replace(experiment, data=dataclasses.replace(experiment.data, name=name, dir=None, threads=None)))


def _layers(net, before, after, spike_rates):
    """Per layer that spikes: its neurons' mean parameters before and after its training, and its rate after it."""
    shapes = {c.name: c.out_shape for c in net.connections()}

    def means(layer):
        return {f"{name}_{when}": found[name][layer] for name, of_layers in after.items() if layer in of_layers
                for when, found in (("before", before), ("after", after)) if layer in found[name]}

    return [{"name": layer, "neurons": int(np.prod(shapes[layer])), **means(layer), "spike_rate": rate}
            for layer, rate in spike_rates.items()]


def record(experiment: Experiment, dataset: Dataset, workdir: pathlib.Path, net: Network, variables: dict,
           answers: Answers) -> None:
    """Write recorded.npz, what the report draws: one image's spikes through the network, images it got wrong, and how
    often each class was taken for each.

    answers: to all test images.
    """
    wrong = fair_sample(answers, WRONG_IMAGES)
    first, _ = dataset.test.take(np.arange(1))
    wrong_images, wrong_labels = dataset.test.take(wrong)
    image = normalise(first, dataset.mean, dataset.std, jnp.float32)
    run_one = jax.jit(lambda v, x: net.apply(v, x, experiment.timesteps, record=("spikes",),
                                             rngs={"encode": jax.random.key(experiment.seed)}))
    _, seen = run_one(variables, image)
    path = workdir / "recorded.npz"
    with files.naming(path), open(path, "wb") as file:
        np.savez_compressed(
            file, class_names=np.array(dataset.class_names), image=first[0],
            image_label=answers.labels[0], image_prediction=answers.classes[0],
            logits_by_timestep=np.asarray(seen["logits"][0]), confusion=confusion(answers, dataset.num_classes),
            wrong_images=wrong_images, wrong_labels=wrong_labels, wrong_predictions=answers.classes[wrong],
            wrong_confidence=answers.confidence[wrong],
            **{f"spikes/{name}": _raster(spikes[0]) for name, spikes in seen["spikes"].items()})


def _raster(spikes):
    """Whether each of a layer's neurons fired at each timestep, of those that are drawn: bool [T, n] of [T, ...]."""
    fired = np.asarray(spikes.reshape(len(spikes), -1)) != 0  # of some neurons also below 0
    return fired[:, survey.sample(fired.shape[1], RASTER_NEURONS)]


def _machine() -> str:
    kinds = {device.device_kind for device in jax.devices()}
    shared = f" in {jax.process_count()} processes" if jax.process_count() > 1 else ""
    return (f"{jax.device_count()} × {', '.join(sorted(kinds))}{shared}, {os.cpu_count()} CPU cores{_processor()}; "
            f"{platform.system()} {platform.machine()}, Python {platform.python_version()}")


def _processor(path: str = "/proc/cpuinfo") -> str:
    """" (its name)", where Linux tells it; else nothing."""
    with contextlib.suppress(OSError), open(path, encoding="utf-8") as told:
        return next((f" ({line.partition(':')[2].strip()})" for line in told if line.startswith("model name")), "")
    return ""


def parse(text: str, path: pathlib.Path, needed: Sequence[str]) -> dict:
    """What a run has stored of its measurements, by the text of the file.

    Raises:
        InputError: it is damaged, or lacks a name that is needed.
    """
    try:
        found = json.loads(text)
        if not isinstance(found, dict):
            raise ValueError("it is no JSON object")
        if lacking := [name for name in needed if name not in found]:
            raise ValueError(f"it lacks {', '.join(lacking)}")
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}): remove it, and dietjax train measures and writes it again"
                         ) from error
    return found
