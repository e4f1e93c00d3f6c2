"""DIET-SNN's three phases as one resumable run: train the ANN, convert it, fine-tune the SNN; then say what came out.

A run's folder holds config.json, checkpoints/{ann,snn}, metrics.jsonl, tensorboard/, converted.json, and when all is
done recorded.npz, summary.json and report.html. The same command again goes on where it stopped.
"""

import dataclasses
import json
import os
import pathlib
import platform
from importlib import metadata

import jax
import jax.numpy as jnp
import numpy as np

from . import config, convert, data, encode, energy, files, hosts, models
from .checkpoint import Checkpoints
from .config import Experiment
from .errors import InputError
from .fit import fit
from .mesh import check_batch_size, make_mesh
from .metrics import MetricsLog
from .models import Network
from .neurons import LIF, ReLU
from .terminal import Terminal
from .train import (
    Schedule,
    abstract_state,
    evaluate,
    make_eval_step,
    make_optimizer,
)

RASTER_NEURONS = 200
"""Neurons of a layer drawn in the raster, evenly spaced."""
LOCAL = ("data.dir", "data.threads")
"""Settings that may differ from machine to machine, and change no result."""
WRONG_IMAGES = 64
"""Misclassified images that are kept for the report."""


def run(experiment: Experiment, workdir: pathlib.Path, terminal: Terminal) -> dict:
    """Run or resume an experiment to its end.

    Args:
        experiment: what to do.
        workdir: the run's folder; made, or one that holds this same experiment.
        terminal: where progress goes.

    Returns:
        The summary, as in summary.json.
    """
    with hosts.together():
        config.check(experiment)
        _check_workdir(experiment, workdir)  # before anything is loaded, so that a typing mistake costs no time
    hosts.agree({key: value for key, value in _flat(_as_stored(experiment)).items() if key not in LOCAL})
    with hosts.together():
        dataset = open_data(experiment.data)
        ann, snn = networks(experiment, dataset)
        _check_resources(experiment, dataset)
        _claim(experiment, workdir)
    if hosts.first_says((workdir / "summary.json").exists()):
        terminal.say(f"{workdir} is finished: nothing to do")
        return json.loads((workdir / "summary.json").read_text())
    log = MetricsLog(workdir, writes=hosts.is_first())
    try:
        ann_variables = jax.jit(ann.init)(jax.random.key(experiment.seed), jnp.zeros((1, *dataset.image_shape)))
        ann_variables, ann_seconds = _phase("ann", ann, ann_variables, experiment, dataset, workdir, log, terminal)
        variables, converted = _convert(experiment, ann, ann_variables, snn, dataset, workdir, log, terminal)
        variables, snn_seconds = _phase("snn", snn, variables, experiment, dataset, workdir, log, terminal)
    finally:
        log.close()
    terminal.say("evaluating")
    summary = _summarise(experiment, dataset, workdir, (ann, ann_variables), converted, (snn, variables))
    summary["ann"]["seconds"], summary["snn"]["seconds"] = ann_seconds, snn_seconds
    summary["seconds"] = ann_seconds + snn_seconds
    if hosts.is_first():
        files.write_json(workdir / "summary.json", summary)
    return summary


def open_data(settings: config.Data) -> data.Dataset:
    """The set of an experiment."""
    return data.load(settings.name, settings.dir, image_size=settings.image_size, skip_corrupt=settings.skip_corrupt,
                     threads=settings.threads)


def networks(experiment: Experiment, dataset: data.Dataset) -> tuple[Network, Network]:
    """(ANN, SNN) of an experiment: the same layers, other neurons; the SNN has biases where the ANN has batch norm."""
    model = experiment.model
    dtype = None if experiment.dtype == "float32" else jnp.dtype(experiment.dtype)
    ann = models.build(model.name, dataset.num_classes, dataset.image_shape, classifier=model.classifier,
                       conv_dropout=model.conv_dropout, classifier_dropout=model.classifier_dropout,
                       batch_norm=model.batch_norm, neuron=ReLU(), dtype=dtype)
    neuron = experiment.neuron
    lif = LIF(leak=neuron.leak, per=neuron.per, reset=neuron.reset, surrogate=neuron.surrogate)
    encoder = encode.Poisson() if experiment.encoder == "poisson" else encode.Direct()
    return ann, ann.clone(neuron=lif, encoder=encoder, batch_norm=False, bias=model.batch_norm)


def convert_ann(experiment: Experiment, ann: Network, variables: dict, snn: Network, dataset: data.Dataset) -> dict:
    """The SNN's variables from the ANN's, by the experiment's method; leaks as the experiment starts them."""
    _check_images(experiment, dataset)
    settings = experiment.conversion
    chosen = data.batch_indices(experiment.seed, dataset.train.num_examples, settings.images, 0)
    images = data.normalise(dataset.train.take(chosen)[0], dataset.mean, dataset.std, jnp.float32)
    if ann.batch_norm:
        ann, variables = convert.fold_batch_norm(ann, variables)
        variables = convert.normalise_weights(ann, variables, images, percentile=99.9)  # biases on the scale of spikes
    key = jax.random.key(experiment.seed)
    if settings.method == "max":
        variables = convert.with_neurons(snn, convert.normalise_weights(snn, variables, images, percentile=100))
    elif settings.method == "spikenorm":
        variables = convert.balance_thresholds(snn.clone(encoder=encode.Poisson()), variables, images, percentile=100,
                                               timesteps=settings.timesteps, key=key)
    else:
        variables = convert.balance_thresholds(snn, variables, images, percentile=settings.percentile,
                                               timesteps=settings.timesteps, key=key)
    scale = convert.default_scale(experiment.timesteps) if settings.scale is None else settings.scale
    variables = convert.scale_thresholds(variables, scale)
    for layer in variables["params"].values():
        if "neuron" in layer:
            layer["neuron"] = layer["neuron"]._replace(leak=jnp.full_like(layer["neuron"].leak, experiment.neuron.leak))
    return variables


def open_run(workdir: pathlib.Path) -> tuple[Experiment, data.Dataset, dict[str, tuple[Network, dict]]]:
    """A run's experiment, data and trained networks: {"ann": (net, variables), "snn": ...}, as far as it has got.

    Raises:
        InputError: the folder holds no run, or the run has no checkpoint yet.
    """
    path = workdir / "config.json"
    if not path.exists():
        raise InputError(f"{workdir} holds no run (no config.json); train one: dietjax train FILE --workdir {workdir}")
    experiment = config.read_stored(path)
    dataset = open_data(experiment.data)
    found = {}
    for phase, net in zip(("ann", "snn"), networks(experiment, dataset), strict=True):
        with Checkpoints(workdir / "checkpoints" / phase) as checkpoints:
            settings = getattr(experiment, phase)
            fixed = experiment.neuron.fixed if phase == "snn" else ()
            restored = checkpoints.restore(abstract_state(net, make_optimizer(settings, 1, fixed)))
        if restored is not None:
            found[phase] = net, restored[0].variables
    if not found:
        raise InputError(f"{workdir} has no checkpoint yet; run dietjax train again, it goes on where it stopped")
    return experiment, dataset, found


def measure(net: Network, variables: dict, dataset: data.Dataset, timesteps: int, seed: int = 0, batch_size: int = 256,
            chunk: int | None = None) -> tuple[dict, np.ndarray]:
    """Test-set metrics and predictions of a network, see `train.evaluate`."""
    mesh = make_mesh()
    step = make_eval_step(net, dataset, Schedule(timesteps, chunk), mesh)
    return evaluate(step, variables, dataset.test, batch_size, mesh, seed)


def _phase(name, net, variables, experiment, dataset, workdir, log, terminal):
    phase = getattr(experiment, name)
    schedule = Schedule(experiment.timesteps, experiment.chunk, experiment.truncate) if name == "snn" else Schedule()

    def record(split, step, values):
        log.write(name, split, step, values)
        if split == "test":
            terminal.epoch(name, values)

    with terminal.phase(name) as advance, Checkpoints(workdir / "checkpoints" / name) as checkpoints:
        return fit(net, variables, dataset, phase, name=name, schedule=schedule, seed=experiment.seed,
                   augment=experiment.data, fixed=experiment.neuron.fixed if name == "snn" else (),
                   checkpoints=checkpoints, begin=lambda step: log.begin(name, step), log=record,
                   advance=advance, parallel=experiment.parallel)


def _convert(experiment, ann, ann_variables, snn, dataset, workdir, log, terminal):
    """(The SNN's variables, what converted.json holds). Deterministic given the ANN, so a resumed run repeats it
    instead of keeping a checkpoint of it, and every process computes it for itself.
    """
    variables = convert_ann(experiment, ann, ann_variables, snn, dataset)
    path = workdir / "converted.json"
    if hosts.first_says(path.exists()):
        return variables, json.loads(path.read_text())
    tested, _ = measure(snn, variables, dataset, experiment.timesteps, experiment.seed, chunk=experiment.chunk)
    log.begin("converted", -1)  # what a killed run logged without finishing
    log.write("converted", "test", 0, tested)
    terminal.epoch("converted", tested)
    converted = {**tested, **neuron_means(variables)}
    if hosts.is_first():
        files.write_json(path, converted)
    return variables, converted


def _summarise(experiment, dataset, workdir, ann, converted, snn):
    """Final measurements; writes recorded.npz, returns the summary."""
    net, variables = snn
    ann_tested, _ = measure(*ann, dataset, 1)
    tested, predicted = measure(net, variables, dataset, experiment.timesteps, experiment.seed, chunk=experiment.chunk)
    trained = neuron_means(variables)
    shapes = {c.name: c.out_shape for c in net.connections()}
    if hosts.is_first():
        _record(experiment, dataset, workdir, net, variables, predicted)
    return {
        "experiment": experiment.name, "model": experiment.model.name, "dataset": dataset.name,
        "parameters": models.parameter_count(net),
        "train_images": dataset.train.num_examples, "test_images": dataset.test.num_examples,
        "ann": {"accuracy": ann_tested["accuracy"]},
        "converted": {k: converted[k] for k in ("accuracy", "accuracy_by_timestep")},
        "snn": {"accuracy": tested["accuracy"], "timesteps": experiment.timesteps,
                "accuracy_by_timestep": tested["accuracy_by_timestep"]},
        "layers": [{"name": name, "neurons": int(np.prod(shapes[name])),
                    "threshold_before": converted["threshold"][name], "threshold_after": trained["threshold"][name],
                    "leak_before": converted["leak"][name], "leak_after": trained["leak"][name], "spike_rate": rate}
                   for name, rate in tested["spike_rate"].items()],
        "energy": energy.estimate(net, tested).as_dict(),
        "machine": _machine(),
        "versions": {name: metadata.version(name) for name in ("dietjax", "jax", "jaxlib", "flax", "optax")},
    }


def _record(experiment, dataset, workdir, net, variables, predicted):
    """What the report draws: one image's spikes through the network, and the images that it got wrong."""
    test = dataset.test
    wrong = np.flatnonzero(predicted != test.labels)[:WRONG_IMAGES]
    first, _ = test.take(np.arange(1))
    wrong_images, wrong_labels = test.take(wrong)
    image = data.normalise(first, dataset.mean, dataset.std, jnp.float32)
    run_one = jax.jit(lambda v, x: net.apply(v, x, experiment.timesteps, spikes=True,
                                             rngs={"encode": jax.random.key(experiment.seed)}))
    _, record = run_one(variables, image)
    spikes = {}
    for name, block in record["spikes"].items():
        flat = np.asarray(block[0].reshape(experiment.timesteps, -1)) > 0
        chosen = np.unique(np.linspace(0, flat.shape[1] - 1, RASTER_NEURONS).astype(int))
        spikes[f"spikes/{name}"] = flat[:, chosen]
    path = workdir / "recorded.npz"
    with files.naming(path), open(path, "wb") as file:
        np.savez_compressed(
            file, class_names=np.array(dataset.class_names), image=first[0], image_label=test.labels[0],
            image_prediction=predicted[0], logits_by_timestep=np.asarray(record["logits"][0]),
            wrong_images=wrong_images, wrong_labels=wrong_labels, wrong_predictions=predicted[wrong],
            **spikes)


def neuron_means(variables: dict) -> dict[str, dict[str, float]]:
    """{"threshold": {layer: mean}, "leak": {layer: mean}} of a spiking network."""
    neurons = {name: layer["neuron"] for name, layer in variables["params"].items() if "neuron" in layer}
    return {field: {name: np.asarray(getattr(neuron, field), np.float64).mean().item()
                    for name, neuron in neurons.items()} for field in ("threshold", "leak")}


def _machine() -> str:
    kinds = {device.device_kind for device in jax.devices()}
    processes = f" in {jax.process_count()} processes" if jax.process_count() > 1 else ""
    return (f"{jax.device_count()} × {', '.join(sorted(kinds))}{processes}, {os.cpu_count()} CPU cores; "
            f"{platform.system()} {platform.machine()}, Python {platform.python_version()}")


def _as_stored(experiment: Experiment) -> dict:
    return json.loads(json.dumps(dataclasses.asdict(experiment)))


def _check_workdir(experiment, workdir):
    path = workdir / "config.json"
    if path.exists():
        stored, wanted = _flat(_as_stored(config.read_stored(path))), _flat(_as_stored(experiment))
        different = [f"{key}: there {stored.get(key)!r}, asked for {wanted.get(key)!r}"
                     for key in sorted(stored.keys() | wanted)
                     if key not in LOCAL and not key.startswith("parallel.") and stored.get(key) != wanted.get(key)]
        if different:
            raise InputError(f"{workdir} holds another experiment's run ({'; '.join(different)}); "
                             "nothing was changed. Choose another --workdir, or ask for that experiment")
    elif workdir.exists() and not (workdir.is_dir() and all(files.is_temporary(f, path) for f in workdir.iterdir())):
        raise InputError(f"{workdir} is no run of dietjax and not empty; nothing was changed. Choose another --workdir")


def _check_resources(experiment, dataset):
    """What the later phases need, before the first one has trained for hours."""
    _check_images(experiment, dataset)
    mesh = make_mesh(experiment.parallel)
    for name in ("ann", "snn"):
        check_batch_size(name, getattr(experiment, name), mesh)


def _check_images(experiment, dataset):
    if experiment.conversion.images > dataset.train.num_examples:
        raise InputError(f"conversion.images={experiment.conversion.images}, but {dataset.name} has "
                         f"{dataset.train.num_examples} training images")


def _claim(experiment, workdir):
    if not hosts.is_first():
        return
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        files.write_json(workdir / "config.json", _as_stored(experiment))
    except OSError as error:
        raise InputError(f"workdir {workdir} cannot be written: {error.strerror}; choose another --workdir") from error


def _flat(tree, prefix=""):
    return {k: v for name, value in tree.items() for k, v in (
        _flat(value, f"{prefix}{name}.").items() if isinstance(value, dict) else [(f"{prefix}{name}", value)])}
