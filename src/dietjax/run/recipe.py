"""DIET-SNN's three phases as one resumable run: train the ANN, convert it, fine-tune the SNN; then say what came out.

A run's folder holds config.json, checkpoints/{ann,snn}, metrics.jsonl, tensorboard/, converted.json, and when all is
done recorded.npz, summary.json and report.html. The same command again goes on where it stopped.
"""

import functools
import json
import pathlib

import jax
import jax.numpy as jnp

from .. import config, convert, data, files, models
from ..analysis import memory
from ..checkpoint import Checkpoints
from ..config import Experiment
from ..core import encode
from ..core.neurons import LIF, ReLU
from ..errors import InputError
from ..models import Network
from ..parallel import processes
from ..train.loop import check, fit
from ..train.optimizer import make_optimizer
from ..train.state import TimeSchedule, abstract_state
from . import folder
from .console import Console
from .metric_log import MetricLog
from .summary import measure, neuron_means, summarise


def run(experiment: Experiment, workdir: pathlib.Path, terminal: Console) -> dict:
    """Run or resume an experiment to its end.

    Args:
        experiment: what to do.
        workdir: the run's folder; made, or one that holds this same experiment.
        terminal: where progress goes.

    Returns:
        The summary, as in summary.json.
    """
    with processes.raise_on_all():
        config.check(experiment)
        folder.check(experiment, workdir)  # before anything is loaded, so that a typing mistake costs no time
    processes.check_agreement(folder.settings(experiment))
    with processes.raise_on_all():
        dataset = open_data(experiment.data)
        ann, snn = networks(experiment, dataset)
        _check_resources(experiment, dataset, ann, snn)
    processes.check_agreement({"training images": dataset.train.num_examples, "test images": dataset.test.num_examples,
                 "classes": dataset.class_names, "mean": dataset.mean, "standard deviation": dataset.std,
                 "image shape": dataset.image_shape})
    with processes.raise_on_all():
        folder.claim(experiment, workdir)
    folder.check_shared(workdir)
    finished = processes.broadcast(files.read_text(workdir / "summary.json"))
    if finished:
        terminal.say(f"{workdir} is finished: nothing to do")
        return json.loads(finished)
    log = MetricLog(workdir, writes=processes.is_main())
    try:
        ann_variables = jax.jit(ann.init)(jax.random.key(experiment.seed), jnp.zeros((1, *dataset.image_shape)))
        ann_variables, ann_seconds = _phase("ann", ann, ann_variables, experiment, dataset, workdir, log, terminal)
        variables, converted = _convert(experiment, ann, ann_variables, snn, dataset, workdir, log, terminal)
        variables, snn_seconds = _phase("snn", snn, variables, experiment, dataset, workdir, log, terminal)
    finally:
        log.close()
    terminal.say("evaluating")
    summary = summarise(experiment, dataset, workdir, (ann, ann_variables), converted, (snn, variables))
    summary["ann"]["seconds"], summary["snn"]["seconds"] = ann_seconds, snn_seconds
    summary["seconds"] = ann_seconds + snn_seconds
    if processes.is_main():
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
    lif = LIF(leak=neuron.leak, sharing=neuron.sharing, reset=neuron.reset, surrogate=neuron.surrogate)
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
            freeze = experiment.neuron.freeze if phase == "snn" else ()
            restored = checkpoints.restore(abstract_state(net, make_optimizer(settings, 1, freeze)))
        if restored is not None:
            found[phase] = net, restored[0].variables
    if not found:
        raise InputError(f"{workdir} has no checkpoint yet; run dietjax train again, it goes on where it stopped")
    return experiment, dataset, found


def _phase(name, net, variables, experiment, dataset, workdir, log, terminal):
    phase, schedule = getattr(experiment, name), _schedule(experiment, name)

    def record(split, step, values):
        log.write(name, split, step, values)
        if split == "test":
            terminal.epoch(name, values)

    with terminal.phase(name) as advance, Checkpoints(workdir / "checkpoints" / name) as checkpoints:
        return fit(net, variables, dataset, phase, name=name, schedule=schedule, seed=experiment.seed,
                   augment=experiment.data, freeze=experiment.neuron.freeze if name == "snn" else (),
                   checkpoints=checkpoints, begin=functools.partial(log.begin, name), log=record,
                   advance=advance, parallel=experiment.parallel)


def _schedule(experiment, name):
    return TimeSchedule(experiment.timesteps, experiment.chunk, experiment.truncate) if name == "snn" else TimeSchedule()


def _convert(experiment, ann, ann_variables, snn, dataset, workdir, log, terminal):
    """(The SNN's variables, what converted.json holds). Deterministic given the ANN, so a resumed run repeats it
    instead of keeping a checkpoint of it, and every process computes it for itself.
    """
    variables = convert_ann(experiment, ann, ann_variables, snn, dataset)
    processes.check_agreement({f"converted {field}": means for field, means in neuron_means(variables).items()})
    path = workdir / "converted.json"
    converted = processes.broadcast(files.read_text(path))
    if converted:
        return variables, json.loads(converted)
    tested, _ = measure(snn, variables, dataset, experiment, experiment.timesteps)
    log.begin("converted", -1)  # what a killed run logged without finishing
    log.write("converted", "test", 0, tested)
    terminal.epoch("converted", tested)
    converted = {**tested, **neuron_means(variables)}
    if processes.is_main():
        files.write_json(path, converted)
    return variables, converted


def _check_resources(experiment, dataset, ann, snn):
    """What the later phases need, before the first one has trained for hours."""
    _check_images(experiment, dataset)
    for name, net in (("ann", ann), ("snn", snn)):
        check(net, getattr(experiment, name), name, _schedule(experiment, name), experiment.parallel)
    if experiment.conversion.method != "max":
        memory.check_conversion(snn, experiment.conversion.images, experiment.conversion.timesteps)


def _check_images(experiment, dataset):
    if experiment.conversion.images > dataset.train.num_examples:
        raise InputError(f"conversion.images={experiment.conversion.images}, but {dataset.name} has "
                         f"{dataset.train.num_examples} training images")
