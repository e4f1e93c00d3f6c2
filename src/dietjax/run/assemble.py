"""From an experiment to what runs it: data, networks, plans of the phases, variables to begin with, converted ones."""

import pathlib
from collections.abc import Collection

import jax
import jax.numpy as jnp

from .. import config, convert, data, models
from ..analysis import memory
from ..checkpoint import Checkpoints
from ..config import Experiment
from ..convert.checks import check_spiking
from ..core import encode
from ..core.neurons import QCFS, ReLU
from ..core.neurons.params import parameters
from ..data.source import StoredImages
from ..errors import InputError, unknown
from ..models import Network
from ..parallel import processes
from ..parallel.mesh import make_mesh
from ..train.optimizer import make_optimizer
from ..train.pace import most_steps_at_once
from ..train.plan import Plan, total_steps
from ..train.state import TimeSchedule, abstract_state
from . import neuron, status
from .data_info import DataInfo

WHITENING_IMAGES = 5000
"""Training images whose patches make a whitened kernel: as in Jordan's program."""
WHITENING_PIXELS = WHITENING_IMAGES * 64 * 64
"""Of larger images fewer are enough."""


def open_data(settings: config.Data, timesteps: int = 1) -> data.Dataset:
    """The set of an experiment; its timesteps say into how many frames recordings of events are cut."""
    return data.load(settings.name, settings.dir, **_opening(settings, timesteps), skip_corrupt=settings.skip_corrupt,
                     threads=settings.threads)


def open_stored(settings: config.Data, timesteps: int = 1) -> StoredImages:
    """The same set as it is stored, nothing decoded: it may be one that `open_data` refuses."""
    return data.open_stored(settings.name, settings.dir, **_opening(settings, timesteps))


def _opening(settings, timesteps):
    framing = data.Framing(timesteps, settings.events_by, settings.events_window, settings.events_binary,
                           settings.sensor_size)
    return {"framing": framing,
            **{name: getattr(settings, name) for name in ("image_size", "channels", "holdout", "holdout_seed")}}


def networks(experiment: Experiment, dataset: data.Dataset | DataInfo) -> tuple[Network, Network]:
    """(ANN, SNN) of an experiment: the same layers but for dropout, other neurons; the SNN has biases where there is
    batch norm, which is folded into them.
    """
    model = experiment.model

    def build(phase, **options):
        conv, classifier = (getattr(model if getattr(phase, name) is None else phase, name)
                            for name in ("conv_dropout", "classifier_dropout"))
        return models.build(model.name, dataset.num_classes, dataset.image_shape, classifier=model.classifier,
                            conv_dropout=conv, classifier_dropout=classifier, width=model.width,
                            dtype=None if experiment.dtype == "float32" else jnp.dtype(experiment.dtype), **options)

    levels = experiment.ann_neuron
    analog = ReLU() if levels.kind == "relu" else QCFS(levels=levels.levels, threshold=levels.threshold)
    encoder = encode.Poisson() if experiment.encoder == "poisson" else encode.Direct()
    return (build(experiment.ann, neuron=analog, batch_norm=model.batch_norm),
            build(experiment.snn, neuron=neuron.make_neuron(experiment), encoder=encoder, bias=model.batch_norm))


def trained_networks(experiment: Experiment, dataset: data.Dataset | DataInfo) -> dict[str, Network]:
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


def make_plans(experiment: Experiment, dataset: data.Dataset) -> dict[str, Plan]:
    """{"ann": how it is trained, "snn": ...}, from scratch without "ann"; all is checked, before a phase has trained
    for hours.

    Raises:
        InputError: a phase cannot run on these devices, or on this data.
    """
    nets = trained_networks(experiment, dataset)
    _check_neuron(experiment, nets["snn"])
    _check_frames(experiment.timesteps, dataset)
    if dataset.frames is not None and experiment.model.whiten:
        raise InputError(f"model.whiten makes the first kernel from images, and {dataset.name} has frames: leave it "
                         "out")
    schedules = {"ann": TimeSchedule(dataset.frames or 1),  # frames pass it one by one
                 "snn": TimeSchedule(experiment.timesteps, experiment.chunk, experiment.truncate)}
    mesh = make_mesh(experiment.parallel)
    shared = {"dataset": dataset, "mesh": mesh, "augment": experiment.data, "seed": experiment.seed,
              "steps_at_once": most_steps_at_once(experiment.parallel, dataset, mesh.devices.flat[0].platform)}
    plans = {name: Plan(name, net, phase=getattr(experiment, name), schedule=schedules[name],
                        freeze=_frozen_names(experiment, net), **shared) for name, net in nets.items()}
    if not nets["snn"].batch_norm:  # its thresholds are found from images
        _check_images(experiment, dataset)
    if experiment.model.whiten:
        models.check_whitening(nets["snn"])
    for plan in plans.values():
        plan.check()
    if not nets["snn"].batch_norm:
        settings = config.resolved(experiment).conversion
        # the ANN is measured by the other methods
        steps = dataset.frames or (settings.timesteps if settings.method in ("percentile", "spikenorm") else 1)
        memory.check_conversion(nets["snn"], settings.images, steps)
    return plans


def check_names(experiment: Experiment, settings: Collection[str]) -> None:
    """Refuse a name that nothing has, in these settings ("data.name"): asked of one that differs from a run's, before
    that is taken for another experiment's.

    Raises:
        InputError: no such neuron, parameter or set.
    """
    if any(name.startswith("neuron.") for name in settings):
        _check_freeze(experiment, neuron.make_neuron(experiment), (3,))
    if "data.name" in settings:
        open_stored(experiment.data, experiment.timesteps)


def _check_frames(timesteps, dataset):
    """Refuse another number of timesteps than of the frames that stored examples have, one for each."""
    if dataset.frames not in (None, timesteps):
        raise InputError(f"timesteps are {timesteps}, and the examples of {dataset.name} have "
                         f"{dataset.frames} frames, one for each timestep: set timesteps to {dataset.frames}")


def _check_neuron(experiment, snn):
    """Refuse a neuron whose thresholds cannot be set where they have to be, and to freeze what it has not."""
    kind, shape = experiment.neuron.kind, snn.connections()[0].out_shape
    if not snn.batch_norm:  # trained from scratch with it, every neuron starts as it is
        try:
            check_spiking(snn)
        except InputError as error:
            raise InputError(
                f"neuron.kind {kind} cannot be converted to: {error}. Train it from scratch: set ann.epochs to 0 "
                "(--ann.epochs 0), with model.batch_norm" if not experiment.from_scratch else
                f"thresholds of neuron.kind {kind} cannot be balanced: {error}. Set model.batch_norm") from error
    _check_freeze(experiment, snn.neuron, shape)


def _check_freeze(experiment, cell, shape):
    """Refuse to freeze what neurons [*shape] have not."""
    known = parameters(jax.eval_shape(lambda key: cell.init(key, shape), jax.random.key(0)))
    for name in experiment.neuron.freeze:
        if name not in known:
            raise unknown(f"parameter in neuron.freeze, of neuron.kind {experiment.neuron.kind}:", name, known)


def _frozen_names(experiment, net):
    """Names of the parameters of one of an experiment's networks that training leaves as they are."""
    names = [f"{net.layers[0].name}/kernel"] if experiment.model.whiten else []
    if net.batch_norm and not experiment.model.norm_scale:
        names.append("scale")
    if not is_ann(net):
        names += [f"{layer.name}/neuron/{name}" for layer in net.layers[:-1] for name in experiment.neuron.freeze]
    return tuple(names)


def is_ann(net: Network) -> bool:
    """Whether one of an experiment's networks is its ANN."""
    return isinstance(net.neuron, ReLU | QCFS)


def initial_variables(experiment: Experiment, net: Network, dataset: data.Dataset) -> dict:
    """A network's variables before its first step. Every process calls it.

    Raises:
        InputError: a first layer that cannot be whitened, or processes that found other kernels.
    """
    variables = jax.jit(net.init)(jax.random.key(experiment.seed), jnp.zeros((1, *dataset.image_shape)))
    if not experiment.model.whiten:
        return variables
    height, width, _ = dataset.image_shape
    count = min(WHITENING_IMAGES, WHITENING_PIXELS // (height * width) + 1, dataset.train.num_examples)
    variables = models.whiten(net, variables, _training_images(experiment, dataset, count))
    kernel = variables["params"][net.layers[0].name]["kernel"]
    processes.check_agreement({"whitened kernel": [float(x) for x in kernel.ravel()]})
    return variables


def convert_ann(experiment: Experiment, ann: Network, variables: dict, snn: Network, dataset: data.Dataset) -> dict:
    """The SNN's variables from the ANN's, by the experiment's method; all but thresholds start as it says."""
    _check_images(experiment, dataset)
    settings = config.resolved(experiment).conversion
    images = _training_images(experiment, dataset, settings.images)
    if ann.batch_norm:
        ann, variables = convert.fold_batch_norm(ann, variables)
    if settings.method == "match":
        variables = convert.match_activations(snn, variables, images, percentile=settings.percentile,
                                              scale=settings.scale)
    else:
        variables = _balanced(settings, snn, variables, images, jax.random.key(experiment.seed))
        variables = convert.scale_thresholds(variables, settings.scale)
    initial = convert.with_neurons(snn, variables)["params"]
    for name, layer in variables["params"].items():
        if "neuron" in layer:
            layer["neuron"] = neuron.reset_but_threshold(layer["neuron"], initial[name]["neuron"])
    return variables


def _balanced(settings, snn, variables, images, key):
    """The SNN's variables, with thresholds that its own currents ask for, or (max) the ANN's largest activations."""
    if settings.method == "max":
        return convert.match_activations(snn, variables, images, percentile=settings.percentile)
    if snn.bias:  # a folded batch norm's biases, on the scale of spikes
        variables = convert.match_activations(snn, variables, images)
    if settings.method == "spikenorm":
        snn = snn.clone(encoder=encode.Poisson())
    timesteps = settings.timesteps if images.ndim == 4 else None  # frames have their own
    return convert.balance_thresholds(snn, variables, images, percentile=settings.percentile, timesteps=timesteps,
                                      key=key)


def _training_images(experiment, dataset, count):
    """The first images that training reads, normalised [count, H, W, C]."""
    chosen = data.batch_indices(experiment.seed, dataset.train.num_examples, count, 0)
    return data.normalise(dataset.train.take(chosen)[0], dataset.mean, dataset.std, jnp.float32)


def _check_images(experiment, dataset):
    if experiment.conversion.images > dataset.train.num_examples:
        raise InputError(f"conversion.images={experiment.conversion.images}, but {dataset.name} has "
                         f"{dataset.train.num_examples} training images: set it to that at most")


def progress(workdir: pathlib.Path, experiment: Experiment, dataset: data.Dataset) -> dict[str, tuple[int, int]]:
    """{phase: (step of its latest checkpoint, or 0; steps in all)} of a run's phases."""
    phases = ("snn",) if experiment.from_scratch else ("ann", "snn")
    return {phase: (max(status.saved_steps(workdir, phase), default=0),
                    total_steps(getattr(experiment, phase), dataset.train.num_examples)) for phase in phases}


def open_run(workdir: pathlib.Path, timesteps: int | None = None
             ) -> tuple[Experiment, data.Dataset, dict[str, tuple[Network, dict]]]:
    """A run's experiment, data and trained networks: {"ann": (net, variables), "snn": ...}, as far as it has got.

    timesteps: at which the networks are to be run; None: the experiment's. Recordings of events are cut into as many
        frames.

    Raises:
        InputError: the folder holds no run, the run has no checkpoint yet, or its examples have another number of
            frames.
    """
    experiment = config.read_run(workdir)
    timesteps = experiment.timesteps if timesteps is None else timesteps
    dataset = open_data(experiment.data, timesteps)
    _check_frames(timesteps, dataset)
    return experiment, dataset, restore_networks(workdir, experiment, dataset)


def restore_networks(workdir: pathlib.Path, experiment: Experiment, dataset: data.Dataset | DataInfo
                     ) -> dict[str, tuple[Network, dict]]:
    """A run's trained networks, {"ann": (net, variables), "snn": ...}, as far as it has got.

    Raises:
        InputError: the run has no checkpoint yet.
    """
    found = {}
    for phase, net in trained_networks(experiment, dataset).items():
        with Checkpoints(workdir / "checkpoints" / phase) as checkpoints:
            settings = getattr(experiment, phase)
            optimizer = make_optimizer(settings, 1, _frozen_names(experiment, net))
            restored = checkpoints.restore(abstract_state(net, optimizer, settings.ema_decay > 0))
        if restored is not None:
            variables = restored[0].evaluated
            found[phase] = without_batch_norm(net, variables) if phase == "snn" else (net, variables)
    if not found:
        raise InputError(f"{workdir} has no checkpoint yet; run dietjax train again, it goes on where it stopped")
    return found
