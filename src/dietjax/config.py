"""What an experiment is: nested frozen dataclasses of plain values. Loads no jax: `--help` answers at once.

An experiment file (experiments/*.py) defines one name, `experiment`, an `Experiment`; every field can be overridden on
the command line (`dietjax train FILE --snn.epochs 3`).
"""

import dataclasses
import json
import math
import operator
import pathlib
import typing
from collections.abc import Mapping
from typing import Any, Literal

from .errors import InputError, unknown


@dataclasses.dataclass(frozen=True)
class Data:
    """Which images."""

    name: str = "digits"
    """A tensorflow-datasets image classification set, digits, folder:PATH (PATH/{train,test}/CLASS/*.png), or npz:PATH
    (train_images, train_labels, test_images, test_labels, uint8; optional class_names)."""
    dir: str | None = None
    """tensorflow-datasets directory, local or gs:// (slow: a request per example); None: $TFDS_DATA_DIR, else
    ~/tensorflow_datasets."""
    crop_padding: int = 0
    """Training augmentation: random crop after padding with this many pixels (CIFAR: 4)."""
    flip: bool = False
    """Training augmentation: random horizontal flip."""
    image_size: int | None = None
    """Side of the squares that images become: random resized crops in training, else central (ImageNet: 224). None: as
    stored."""
    skip_corrupt: bool = False
    """Train on the next readable image in the place of a corrupt one, with a warning."""
    threads: int | None = None
    """Threads that decode images; None: one per CPU core that this process may use."""


@dataclasses.dataclass(frozen=True)
class Model:
    """Which network, as `dietjax.models.build` takes it."""

    name: str = "VGG16"
    """VGG4/6/9/11/13/16/19 or ResNet12/18/19/20/34."""
    classifier: tuple[int, ...] | None = None
    """Widths of the hidden fully connected layers; None: the paper's; (): none, the last map goes into the output."""
    conv_dropout: float = 0.2
    """Dropout probability in the convolutional blocks (paper: 0.2)."""
    classifier_dropout: float = 0.5
    """Dropout probability in the classifier (paper: 0.5)."""
    batch_norm: bool = False
    """Batch norm in the ANN; conversion folds it into weights and biases (paper: none)."""
    width: float = 1.0
    """Factor on the features of every layer but the output layer (paper: 1)."""


@dataclasses.dataclass(frozen=True)
class Neuron:
    """The spiking neuron, as `dietjax.LIF` takes it. The threshold is set by conversion."""

    leak: float = 1.0
    """Initial leak: membrane kept per step, in [0, 1] (paper: 1)."""
    sharing: Literal["layer", "channel", "neuron"] = "layer"
    """How far a leak and a threshold are shared (paper: layer)."""
    reset: Literal["subtract", "zero"] = "subtract"
    """What a spike does to the membrane (paper: subtract the threshold)."""
    surrogate: str = "piecewise_linear"
    """Surrogate derivative, a name in `dietjax.surrogate.DERIVATIVES`."""
    freeze: tuple[Literal["leak", "threshold"], ...] = ()
    """What fine-tuning leaves as it is: `leak threshold` trains the weights only (Rathi et al., ICLR 2020)."""
    initial_membrane: float | None = None
    """Where membranes start, as a fraction of the threshold (paper: 0). None: 0.5 after the conversion `match`, else
    0."""


@dataclasses.dataclass(frozen=True)
class Phase:
    """One phase of training."""

    epochs: int = 300
    batch_size: int = 64
    optimizer: Literal["adam", "sgd"] = "adam"
    """adam: Adam with amsgrad; sgd: with momentum."""
    learning_rate: float = 1e-3
    momentum: float = 0.9
    """Momentum of sgd."""
    weight_decay: float = 0.0
    """L2 penalty, added to the gradient of the weights (not of leaks, thresholds or norms)."""
    checkpoint_every: int = 1
    """Epochs between two checkpoints."""
    accumulate: int = 1
    """Microbatches that a batch is split into, one after the other: activations of one at a time are in memory."""

    @property
    def microbatch_size(self) -> int:
        """Examples in memory at once, over all devices; also of the test set."""
        return self.batch_size // self.accumulate


@dataclasses.dataclass(frozen=True)
class Conversion:
    """ANN to SNN, as `dietjax.convert` does it."""

    method: Literal["match", "percentile", "max", "spikenorm"] | None = None
    """match: spikes worth the ANN's activations, which keeps its function (`dietjax.convert.match_activations`);
    percentile: of the spiking network's own currents (paper); spikenorm: their maximum under Poisson input
    (Sengupta 2019); max: the ANN's largest activations (Diehl 2015). None: match where the ANN has batch norm, whose
    biases the others cannot follow, else percentile."""
    percentile: float | None = None
    """Percentile that becomes the threshold, of activations (match) or currents (percentile); None: 99.9 for match,
    99.7 for percentile. The other methods take the largest."""
    images: int = 512
    """Training images measured."""
    timesteps: int = 100
    """Timesteps over which currents are measured (percentile, spikenorm)."""
    scale: float | None = None
    """Factor on every threshold. With match a spike's worth changes with it, so that the ANN's function stays and only
    what lies above the thresholds is cut off; None: 1. With the others weights stay as they are; None: by timesteps, as
    in the paper (`dietjax.convert.default_scale`)."""


@dataclasses.dataclass(frozen=True)
class Parallel:
    """How a run is spread over devices. Results do not depend on it, so a run may be resumed with other values."""

    data: int | None = None
    """Groups of devices over which the batch is split; None: the number of devices divided by fsdp."""
    fsdp: int = 1
    """Devices in a group: weights and their optimiser state are split over them, and so is the group's share of the
    batch (fully sharded data parallel)."""


@dataclasses.dataclass(frozen=True)
class Hosts:
    """The processes that run one experiment together, each started with the same command; not part of it."""

    distributed: bool = False
    """Several processes, as JAX finds them in the cluster's environment (Cloud TPU, SLURM, Kubernetes, Open MPI)."""
    coordinator: str | None = None
    """Several processes without such a cluster: HOST:PORT of process 0, the same for all."""
    processes: int | None = None
    """With --coordinator: how many there are."""
    process: int | None = None
    """With --coordinator: which one this is, from 0."""
    peer_timeout: int = 100
    """Seconds without a sign of life from a process after which the others stop."""


@dataclasses.dataclass(frozen=True)
class Experiment:
    """The three phases of DIET-SNN on one data set: train an ANN, convert it, fine-tune the SNN."""

    name: str
    timesteps: int = 5
    """Timesteps of the spiking network."""
    seed: int = 0
    data: Data = Data()
    model: Model = Model()
    encoder: Literal["direct", "poisson"] = "direct"
    """direct: the analog image at every timestep (paper); poisson: rate-coded spikes."""
    neuron: Neuron = Neuron()
    ann: Phase = Phase()
    conversion: Conversion = Conversion()
    snn: Phase = Phase(learning_rate=1e-4)
    chunk: int | None = None
    """Timesteps per chunk: None = all (fastest); 1 = step by step; between them memory against speed."""
    truncate: bool = False
    """Cut the gradient between chunks (truncated BPTT)."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Compute dtype; parameters and membranes stay float32."""
    parallel: Parallel = Parallel()


RENAMED: dict[type, dict[str, str]] = {Neuron: {"per": "sharing", "fixed": "freeze"}}
"""Class -> {a field as earlier versions stored it: its name now}: their runs go on."""


def from_dict(cls: type, values: Mapping[str, Any]) -> Any:
    """The config that `dataclasses.asdict` turned into these values, as read back from JSON; see `RENAMED`."""
    for old, new in RENAMED.get(cls, {}).items():
        if old in values and new not in values:
            values = {new if name == old else name: value for name, value in values.items()}
    fields = {f.name: typing.get_type_hints(cls)[f.name] for f in dataclasses.fields(cls)}
    for name in values:
        if name not in fields:
            raise unknown(f"{cls.__name__} field", name, fields)

    def restore(kind, value):
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            return from_dict(kind, value)
        return tuple(value) if isinstance(value, list) else value  # JSON has no tuples

    return cls(**{name: restore(fields[name], value) for name, value in values.items()})


def read_stored(path: pathlib.Path) -> Experiment:
    """The experiment that a run's config.json holds.

    Raises:
        InputError: the file is damaged, or does not describe an experiment.
    """
    try:
        stored = json.loads(path.read_text())
        if not isinstance(stored, dict):
            raise ValueError("no JSON object")
        return from_dict(Experiment, stored)
    except (ValueError, TypeError) as error:
        raise InputError(f"{path} is damaged or no dietjax config ({error}); nothing was changed. "
                         "Choose another folder") from error


def resolved(experiment: Experiment) -> Experiment:
    """The experiment with what None stands for in its conversion: the method, its percentile and its scale (of match;
    the other methods' is `dietjax.convert.default_scale`), and where membranes start after it.
    """
    conversion = experiment.conversion
    method = conversion.method or ("match" if experiment.model.batch_norm else "percentile")
    percentile, scale, membrane = conversion.percentile, conversion.scale, experiment.neuron.initial_membrane
    if method in ("max", "spikenorm"):
        percentile = 100.0
    elif percentile is None:
        percentile = 99.9 if method == "match" else 99.7
    if scale is None and method == "match":
        scale = 1.0
    if membrane is None:
        membrane = 0.5 if method == "match" else 0.0
    return dataclasses.replace(
        experiment, conversion=dataclasses.replace(conversion, method=method, percentile=percentile, scale=scale),
        neuron=dataclasses.replace(experiment.neuron, initial_membrane=membrane))


def _of_phases(*fields):
    return tuple(f"{phase}.{field}" for phase in ("ann", "snn") for field in fields)


LIMITS = {
    "> 0": (("timesteps", "model.classifier", "model.width", "conversion.images", "conversion.timesteps",
             "conversion.scale", "parallel.data", "parallel.fsdp", "data.image_size", "data.threads",
             *_of_phases("epochs", "batch_size", "learning_rate", "checkpoint_every", "accumulate")),
            lambda x: 0 < x < math.inf),
    ">= 0": (("seed", "data.crop_padding", *_of_phases("weight_decay")), lambda x: 0 <= x < math.inf),
    "in [0, 1)": (("model.conv_dropout", "model.classifier_dropout", "neuron.initial_membrane",
                   *_of_phases("momentum")), lambda x: 0 <= x < 1),
    "in [0, 1]": (("neuron.leak",), lambda x: 0 <= x <= 1),
    "in (0, 100]": (("conversion.percentile",), lambda x: 0 < x <= 100),
}
"""What a number must be -> (the fields it holds for, the test)."""


def check(experiment: Experiment) -> None:
    """Every field against its type and its limits, before any work is done.

    Raises:
        InputError: a value that no run could use, named with its field.
    """
    _check_kinds(experiment)
    for limit, (names, holds) in LIMITS.items():
        for name in names:
            value = operator.attrgetter(name)(experiment)
            if any(not holds(v) for v in (value if isinstance(value, tuple) else [value]) if v is not None):
                raise InputError(f"{name} must be {limit}, got {value}")
    if experiment.chunk is not None and (experiment.chunk < 1 or experiment.timesteps % experiment.chunk):
        raise InputError(f"chunk must divide timesteps, got chunk={experiment.chunk}, timesteps={experiment.timesteps}")


def _check_kinds(config, prefix=""):
    for name, kind in typing.get_type_hints(type(config)).items():
        value = getattr(config, name)
        if isinstance(kind, type) and dataclasses.is_dataclass(kind) and isinstance(value, kind):
            _check_kinds(value, f"{prefix}{name}.")
        elif not _fits(value, kind):
            kinds = typing.get_args(kind) if type(None) in typing.get_args(kind) else (kind,)
            if typing.get_origin(kinds[0]) is Literal:
                raise unknown(f"{prefix}{name}", str(value), typing.get_args(kinds[0]))
            wanted = kind.__name__ if isinstance(kind, type) else kind
            raise InputError(f"{prefix}{name} must be {wanted}, got {value!r}")


def _fits(value, kind):
    inside = typing.get_args(kind)
    if typing.get_origin(kind) is Literal:
        return value in inside
    if typing.get_origin(kind) is tuple:  # tuple[kind, ...]
        return isinstance(value, tuple) and all(_fits(v, inside[0]) for v in value)
    if inside:  # a union
        return any(_fits(value, k) for k in inside)
    return isinstance(value, (int, float) if kind is float else kind) and (kind is bool or not isinstance(value, bool))
