"""DIET-SNN's three phases as one resumable run: train the ANN, convert it, fine-tune the SNN; then say what came out.

A run's folder holds config.json, checkpoints/{ann,snn}, metrics.jsonl, tensorboard/, converted.json, and when all is
done recorded.npz, summary.json and report.html. The same command again goes on where it stopped.
"""

import dataclasses
import json
import pathlib

import jax
import jax.numpy as jnp

from . import config, convert, data, encode, files, hosts, models
from .checkpoint import Checkpoints
from .config import Experiment
from .errors import InputError
from .fit import fit
from .mesh import check_batch_size, make_mesh
from .metrics import MetricsLog
from .models import Network
from .neurons import LIF, ReLU
from .outcome import measure, neuron_means, summarise
from .terminal import Terminal
from .train import Schedule, abstract_state, make_optimizer

LOCAL = ("data.dir", "data.threads")
"""Settings that may differ from machine to machine, and change no result."""


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
    summary = summarise(experiment, dataset, workdir, (ann, ann_variables), converted, (snn, variables))
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
