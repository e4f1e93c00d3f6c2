"""What an experiment is: nested frozen dataclasses of plain values.

An experiment file (experiments/*.py) defines one name, `experiment`, an `Experiment`; every field can be overridden on
the command line (`dietjax train FILE --snn.epochs 3`).
"""

import dataclasses
from typing import Literal

from . import names
from .dataset import Data


@dataclasses.dataclass(frozen=True)
class Model:
    """Which network, as `dietjax.models.build` takes it."""

    name: names.Network = "VGG16"
    """ResNet12, 20 and 34 are DIET-SNN's, ResNet18 and 19 the field's; Compact8 is small, for two CPU cores."""
    classifier: tuple[int, ...] | None = None
    """Widths of the hidden fully connected layers; None: the paper's; (): none, the last map goes into the output."""
    conv_dropout: float = 0.2
    """Dropout probability in the convolutional blocks (paper: 0.2)."""
    classifier_dropout: float = 0.5
    """Dropout probability in the classifier (paper: 0.5)."""
    batch_norm: bool = False
    """Batch norm in the ANN; conversion folds it into weights and biases (paper: none). Without an ANN (ann.epochs 0)
    in the SNN, over batch and time (tdBN, Zheng et al., AAAI 2021); it is folded at the end."""
    width: float = 1.0
    """Factor on the features of every layer but the output layer, and of Compact8's first (paper: 1)."""
    norm_scale: bool = True
    """Whether batch norm's scale is trained; else it stays where it starts: 1, from scratch the threshold."""
    whiten: bool = False
    """First kernel: whitened patches of 5,000 training images, left as it is (`dietjax.models.whiten`)."""


@dataclasses.dataclass(frozen=True)
class Neuron:
    """The spiking neuron. Conversion sets the thresholds; other parameters start as they are said here.

    A setting of None is the kind's own default, which for lif is the paper's. A kind that has no such setting refuses
    it.
    """

    kind: names.Kind = "lif"
    """One of the library's (lif: the paper's, `dietjax.LIF`), or MODULE:CLASS, a class of yours with the methods of
    `dietjax.types.Neuron`, in the current folder or installed."""
    parameters: tuple[str, ...] = ()
    """What else the kind's class is made with, NAME=VALUE each: with kind plif, `tau=4`."""
    leak: float | None = None
    """Initial leak: membrane kept per step, in [0, 1] (paper: 1)."""
    sharing: Literal["layer", "channel", "neuron"] | None = None
    """How far a leak and a threshold are shared (paper: layer)."""
    reset: Literal["subtract", "zero", "none"] | None = None
    """What a spike does to the membrane (paper: subtract the threshold). none cannot be converted."""
    surrogate: names.Surrogate | None = None
    """Surrogate derivative, as in `dietjax.surrogate` (paper: piecewise_linear)."""
    freeze: tuple[str, ...] = ()
    """Parameters of the neurons that fine-tuning leaves as they are: with lif `leak threshold` trains the weights only
    (Rathi et al., ICLR 2020)."""
    initial_membrane: float | None = None
    """Where membranes start, as a fraction of the threshold (paper: 0). None: 0.5 after the conversion `match`."""


@dataclasses.dataclass(frozen=True)
class AnnNeuron:
    """The neuron that the ANN is trained with."""

    kind: Literal["relu", "qcfs"] = "relu"
    """relu (paper), or qcfs: clip-floor-shift, of few levels (Bu et al., ICLR 2022), `dietjax.QCFS`."""
    levels: int = 8
    """Of qcfs: activations are multiples of threshold / levels. About as many as the SNN has timesteps, 4 or 8."""
    threshold: float = 8.0
    """Of qcfs: where its trained clip starts (Bu et al.: 8). It becomes the SNN's threshold."""


@dataclasses.dataclass(frozen=True)
class Phase:
    """One phase of training."""

    epochs: int = 300
    """How often every training image is read. ann.epochs 0: no ANN and no conversion, the SNN is trained from its
    initial weights, with model.batch_norm or at thresholds that are balanced on them, as conversion says."""
    batch_size: int = 64
    optimizer: Literal["adam", "adamw", "sgd", "muon"] = "adam"
    """adam: Adam with amsgrad (paper); adamw: Adam with decoupled weight decay; sgd: with momentum; muon: orthogonal
    steps for the kernels of convolutions under batch norm, Adam for everything else (Jordan 2024)."""
    learning_rate: float = 1e-3
    """The largest one of the schedule."""
    momentum: float = 0.9
    """Momentum of sgd and muon."""
    weight_decay: float = 0.0
    """L2 penalty, added to the gradient of the weights (not of leaks, thresholds or norms). With adamw: a step takes
    learning rate times this share of the weights off."""
    checkpoint_every: int = 1
    """Epochs between two checkpoints."""
    accumulate: int = 1
    """Microbatches that a batch is split into, one after the other: activations of one at a time are in memory (but
    those of the ANN that distillation learns from, which sees the whole batch)."""
    schedule: Literal["cosine", "linear", "one_cycle", "warmup_cosine", "steps", "constant"] = "cosine"
    """Of the learning rate. cosine, linear: falls to 0; one_cycle: rises from a 25th along a cosine, then falls along
    one; warmup_cosine: rises from 0 in a line, then falls as cosine; steps: falls at the milestones."""
    warmup_epochs: float = 0.0
    """Epochs in which one_cycle and warmup_cosine rise."""
    milestones: tuple[float, ...] = ()
    """Epochs after which the rate of steps falls."""
    step_factor: float = 0.2
    """Factor on the rate at each milestone."""
    nesterov: bool = False
    """Nesterov's momentum, of sgd; muon's always is."""
    clip_norm: float | None = None
    """Largest norm of the gradient of all that is trained together; a longer one is shortened to it. None: any."""
    ema_decay: float = 0.0
    """Share of the exponential average of the weights that a step keeps: evaluation, conversion and the best checkpoint
    take the average, training goes on from the weights. 0: no average; else near 1 (0.999)."""
    conv_dropout: float | None = None
    """Dropout of this phase in the place of model.conv_dropout; None: that."""
    classifier_dropout: float | None = None
    """Dropout of this phase in the place of model.classifier_dropout; None: that."""
    label_smoothing: float = 0.0
    """Share of the label's probability that is spread over all classes (usual: 0.1)."""
    tet_weight: float = 0.0
    """Share, in the loss, of every timestep's own output (TET, Deng et al. 2022); the rest is that of their sum."""
    tet_lambda: float = 0.0
    """Share, in TET's loss, of the outputs' mean squared distance from tet_mean (their lambda: 0.05, 0.001)."""
    tet_mean: float = 1.0
    """What TET draws the outputs to (theirs: the threshold, 1)."""
    distillation: float = 0.0
    """Share, in the SNN's loss, of its distance from the run's ANN (Hinton et al. 2015)."""
    temperature: float = 1.0
    """Divides the logits that distillation compares: the larger, the more the unlikely classes count."""
    adam_learning_rate: float = 1e-3
    """Of muon: the rate of Adam for all but kernels of convolutions, on the same schedule."""

    @property
    def microbatch_size(self) -> int:
        """Examples in memory at once, over all devices; also of the test set."""
        return self.batch_size // self.accumulate


@dataclasses.dataclass(frozen=True)
class Conversion:
    """ANN to SNN, as `dietjax.convert` does it. Without an ANN (ann.epochs 0): how thresholds are balanced on the SNN's
    initial weights, by percentile or spikenorm; with batch norm it is not used.
    """

    method: Literal["match", "percentile", "max", "spikenorm"] | None = None
    """match: spikes worth the ANN's activations, which keeps its function (`dietjax.convert.match_activations`);
    percentile: of the spiking network's own currents (paper); spikenorm: their maximum under Poisson input
    (Sengupta 2019); max: the ANN's largest activations (Diehl 2015). None: match where the ANN has batch norm, whose
    biases the others cannot follow, or trained levels (qcfs), else percentile."""
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
    steps_at_once: int | None = None
    """Training steps, at most, in one program that the host starts. None: on an accelerator, for a set in memory, as
    many as take half a second, up to 50; else 1."""


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
    """The three phases of DIET-SNN on one data set: train an ANN, convert it, fine-tune the SNN. Or, with ann.epochs 0,
    an SNN trained from scratch.
    """

    name: str
    timesteps: int = 5
    """Timesteps of the spiking network."""
    seed: int = 0
    data: Data = Data()
    model: Model = Model()
    encoder: Literal["direct", "poisson"] = "direct"
    """direct: the analog image at every timestep (paper); poisson: rate-coded spikes."""
    neuron: Neuron = Neuron()
    ann_neuron: AnnNeuron = AnnNeuron()
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

    @property
    def from_scratch(self) -> bool:
        """Whether the SNN is trained without an ANN before it."""
        return self.ann.epochs == 0
