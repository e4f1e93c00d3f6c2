"""DIET-SNN's three phases as one resumable run: train the ANN, convert it, fine-tune the SNN; then say what came out.
Or one phase: an SNN trained from scratch (`Experiment.from_scratch`).

A run's folder holds config.json, checkpoints/{ann,snn}, metrics.jsonl, tensorboard/, converted.json, and when all is
done recorded.npz, summary.json and report.html. The same command again goes on where it stopped.
"""

import dataclasses
import functools
import json
import pathlib

import jax
import jax.numpy as jnp

from .. import config, convert, data, files, models
from ..analysis import activity, memory
from ..checkpoint import Checkpoints
from ..config import Experiment
from ..core import encode
from ..core.neurons import LIF, QCFS, ReLU
from ..errors import InputError
from ..models import Network
from ..parallel import processes
from ..parallel.mesh import make_mesh
from ..train.batches import Teacher
from ..train.evaluate import Evaluator
from ..train.loop import fit
from ..train.optimizer import make_optimizer
from ..train.plan import Plan
from ..train.reporter import Reporter
from ..train.state import TimeSchedule, abstract_state
from . import folder
from .console import Console
from .metric_log import MetricLog
from .summary import neuron_means, record, summarise


def run(experiment: Experiment, workdir: pathlib.Path, console: Console) -> dict:
    """Run or resume an experiment to its end.

    Args:
        experiment: what to do.
        workdir: the run's folder; made, or one that holds this same experiment.
        console: where progress goes.

    Returns:
        The summary, as in summary.json.
    """
    dataset, plans = _prepare(experiment, workdir)
    finished = processes.broadcast(files.read_text(workdir / "summary.json"))
    if finished:
        console.say(f"{workdir} is finished: nothing to do")
        return json.loads(finished)
    ann, snn = plans.get("ann"), plans["snn"]
    measure_ann, measure_snn = Evaluator(ann) if ann else None, Evaluator(snn)
    tested_ann, ann_seconds, teacher = None, 0.0, None
    log = MetricLog(workdir, writes=processes.is_main())
    try:
        variables = _initial(ann or snn)
        if ann:
            ann_variables, ann_seconds = _train(ann, variables, measure_ann, workdir, log, console)
            variables = convert_ann(experiment, ann.net, ann_variables, snn.net, dataset)
            began = _measure_converted(experiment, variables, measure_snn, workdir, log, console)
            teacher = Teacher(ann.net, ann_variables) if experiment.snn.distillation else None
        else:
            if not snn.net.batch_norm:  # thresholds are balanced on these weights
                variables = convert_ann(experiment, snn.net, variables, snn.net, dataset)
                variables = convert.unit_thresholds(snn.net, variables)
            began = _agreed_means(variables)
        variables, snn_seconds = _train(snn, variables, measure_snn, workdir, log, console, teacher)
    finally:
        log.close()
    console.say("evaluating")
    if ann:
        tested_ann, _ = measure_ann.whole(ann_variables)
    net, variables = without_batch_norm(snn.net, variables)
    if net is not snn.net:
        measure_snn = Evaluator(dataclasses.replace(snn, net=net))
    tested_snn, predicted = measure_snn.whole(variables)
    if processes.is_main():
        record(experiment, dataset, workdir, net, variables, predicted)
    summary = summarise(experiment, dataset, net, variables, tested_ann, began, tested_snn)
    for phase, seconds in (("ann", ann_seconds), ("snn", snn_seconds)):
        if summary[phase]:
            summary[phase]["seconds"] = seconds
    summary["seconds"] = ann_seconds + snn_seconds
    if processes.is_main():
        files.write_json(workdir / "summary.json", summary)
    return summary


def _prepare(experiment, workdir):
    """(The data, the plans of the phases), once all processes agree on them; the folder is claimed."""
    with processes.raise_on_all():
        config.check(experiment)
        folder.check(experiment, workdir)  # before anything is loaded, so that a typing mistake costs no time
    processes.check_agreement(folder.settings(experiment))
    with processes.raise_on_all():
        dataset = open_data(experiment.data)
        plans = make_plans(experiment, dataset)
    processes.check_agreement({
        "training images": dataset.train.num_examples, "test images": dataset.test.num_examples,
        "classes": dataset.class_names, "mean": dataset.mean, "standard deviation": dataset.std,
        "image shape": dataset.image_shape})
    with processes.raise_on_all():
        folder.claim(experiment, workdir)
    folder.check_shared(workdir)
    return dataset, plans


def make_plans(experiment: Experiment, dataset: data.Dataset) -> dict[str, Plan]:
    """{"ann": how it is trained, "snn": ...}, from scratch without "ann"; all is checked, before a phase has trained
    for hours.

    Raises:
        InputError: a phase cannot run on these devices, or on this data.
    """
    nets = trained_networks(experiment, dataset)
    schedules = {"ann": TimeSchedule(),
                 "snn": TimeSchedule(experiment.timesteps, experiment.chunk, experiment.truncate)}
    shared = {"dataset": dataset, "mesh": make_mesh(experiment.parallel), "augment": experiment.data,
              "seed": experiment.seed}
    plans = {name: Plan(name, net, phase=getattr(experiment, name), schedule=schedules[name],
                        freeze=_frozen(experiment, name), **shared) for name, net in nets.items()}
    if not nets["snn"].batch_norm:  # its thresholds are found from images
        _check_images(experiment, dataset)
    for plan in plans.values():
        plan.check()
    if not nets["snn"].batch_norm:
        settings = config.resolved(experiment).conversion
        steps = settings.timesteps if settings.method in ("percentile", "spikenorm") else 1  # else the ANN is measured
        memory.check_conversion(nets["snn"], settings.images, steps)
    return plans


def open_data(settings: config.Data) -> data.Dataset:
    """The set of an experiment."""
    return data.load(settings.name, settings.dir, image_size=settings.image_size, skip_corrupt=settings.skip_corrupt,
                     threads=settings.threads)


def networks(experiment: Experiment, dataset: data.Dataset) -> tuple[Network, Network]:
    """(ANN, SNN) of an experiment: the same layers but for dropout, other neurons; the SNN has biases where there is
    batch norm, which is folded into them.
    """
    model, neuron = experiment.model, config.resolved(experiment).neuron

    def build(phase, **options):
        conv, classifier = (getattr(model if getattr(phase, name) is None else phase, name)
                            for name in ("conv_dropout", "classifier_dropout"))
        return models.build(model.name, dataset.num_classes, dataset.image_shape, classifier=model.classifier,
                            conv_dropout=conv, classifier_dropout=classifier, width=model.width,
                            dtype=None if experiment.dtype == "float32" else jnp.dtype(experiment.dtype), **options)

    levels = experiment.ann_neuron
    analog = ReLU() if levels.kind == "relu" else QCFS(levels=levels.levels, threshold=levels.threshold)
    lif = LIF(leak=neuron.leak, sharing=neuron.sharing, reset=neuron.reset, surrogate=neuron.surrogate,
              initial_membrane=neuron.initial_membrane)
    encoder = encode.Poisson() if experiment.encoder == "poisson" else encode.Direct()
    return (build(experiment.ann, neuron=analog, batch_norm=model.batch_norm),
            build(experiment.snn, neuron=lif, encoder=encoder, bias=model.batch_norm))


def trained_networks(experiment: Experiment, dataset: data.Dataset) -> dict[str, Network]:
    """{"ann": ..., "snn": ...} as they are trained. From scratch there is no ANN, and batch norm is the SNN's until the
    end, see `without_batch_norm`.
    """
    ann, snn = networks(experiment, dataset)
    if not experiment.from_scratch:
        return {"ann": ann, "snn": snn}
    return {"snn": snn.clone(batch_norm=True, bias=False) if experiment.model.batch_norm else snn}


def without_batch_norm(net: Network, variables: dict) -> tuple[Network, dict]:
    """A trained SNN as it is tested, recorded and handed on."""
    return convert.fold_batch_norm(net, variables) if net.batch_norm else (net, variables)


def convert_ann(experiment: Experiment, ann: Network, variables: dict, snn: Network, dataset: data.Dataset) -> dict:
    """The SNN's variables from the ANN's, by the experiment's method; leaks as the experiment starts them."""
    _check_images(experiment, dataset)
    settings = config.resolved(experiment).conversion
    chosen = data.batch_indices(experiment.seed, dataset.train.num_examples, settings.images, 0)
    images = data.normalise(dataset.train.take(chosen)[0], dataset.mean, dataset.std, jnp.float32)
    if ann.batch_norm:
        ann, variables = convert.fold_batch_norm(ann, variables)
    if settings.method == "match":
        variables = convert.match_activations(snn, variables, images, percentile=settings.percentile,
                                              scale=settings.scale)
    else:
        variables = _balanced(settings, snn, variables, images, jax.random.key(experiment.seed))
        scale = convert.default_scale(experiment.timesteps) if settings.scale is None else settings.scale
        variables = convert.scale_thresholds(variables, scale)
    for layer in variables["params"].values():
        if "neuron" in layer:
            layer["neuron"] = layer["neuron"]._replace(leak=jnp.full_like(layer["neuron"].leak, experiment.neuron.leak))
    return variables


def _balanced(settings, snn, variables, images, key):
    """The SNN's variables, with thresholds that its own currents ask for, or (max) the ANN's largest activations."""
    if settings.method == "max":
        return convert.match_activations(snn, variables, images, percentile=settings.percentile)
    if snn.bias:  # a folded batch norm's biases, on the scale of spikes
        variables = convert.match_activations(snn, variables, images)
    if settings.method == "spikenorm":
        snn = snn.clone(encoder=encode.Poisson())
    return convert.balance_thresholds(snn, variables, images, percentile=settings.percentile,
                                      timesteps=settings.timesteps, key=key)


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
    for phase, net in trained_networks(experiment, dataset).items():
        with Checkpoints(workdir / "checkpoints" / phase) as checkpoints:
            settings = getattr(experiment, phase)
            optimizer = make_optimizer(settings, 1, _frozen(experiment, phase))
            restored = checkpoints.restore(abstract_state(net, optimizer, settings.ema_decay > 0))
        if restored is not None:
            variables = restored[0].evaluated
            found[phase] = without_batch_norm(net, variables) if phase == "snn" else (net, variables)
    if not found:
        raise InputError(f"{workdir} has no checkpoint yet; run dietjax train again, it goes on where it stopped")
    return experiment, dataset, found


def _initial(plan):
    """The variables that a run begins with."""
    return jax.jit(plan.net.init)(jax.random.key(plan.seed), jnp.zeros((1, *plan.dataset.image_shape)))


def _frozen(experiment, phase):
    """What a phase leaves as it is; an ANN has no neurons to freeze."""
    return experiment.neuron.freeze if phase == "snn" else ()


def _train(plan, variables, evaluator, workdir, log, console, teacher=None):
    """(The variables after a phase, its seconds)."""
    def record_line(split, step, values):
        log.write(plan.name, split, step, values)
        if split == "test":
            console.epoch(plan.name, values)

    with (console.phase(plan.name) as advance,
          Checkpoints(workdir / "checkpoints" / plan.name) as checkpoints):
        reporter = Reporter(plan, functools.partial(log.begin, plan.name), record_line, advance,
                            functools.partial(console.warn, plan.name))
        return fit(plan, variables, evaluator, checkpoints, reporter, teacher)


def _measure_converted(experiment, variables, evaluator, workdir, log, console):
    """What converted.json holds. Converting is deterministic given the ANN, so a resumed run repeats it instead of
    keeping a checkpoint of it, and every process computes it for itself; here they check that they agree.
    """
    means = _agreed_means(variables)
    path = workdir / "converted.json"
    measured = processes.broadcast(files.read_text(path))
    if measured:
        return json.loads(measured)
    tested, _ = evaluator.whole(variables)
    log.begin("converted", -1)  # what a killed run logged without finishing
    found = activity.find(tested["spike_rate"], experiment.timesteps)
    warnings = {"warnings": [finding.sentence for finding in found]} if found else {}
    log.write("converted", "test", 0, tested | warnings)
    console.epoch("converted", tested)
    for finding in found:
        console.warn("converted", finding.sentence)
    converted = {**tested, **means}
    if processes.is_main():
        files.write_json(path, converted)
    return converted


def _agreed_means(variables):
    """`neuron_means` of an SNN before its training, which every process computes for itself."""
    means = neuron_means(variables)
    processes.check_agreement({f"initial {field}": value for field, value in means.items()})
    return means


def _check_images(experiment, dataset):
    if experiment.conversion.images > dataset.train.num_examples:
        raise InputError(f"conversion.images={experiment.conversion.images}, but {dataset.name} has "
                         f"{dataset.train.num_examples} training images")
