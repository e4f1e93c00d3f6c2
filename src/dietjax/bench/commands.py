"""The arguments of the suites of `dietjax bench`. jax loads inside the commands: `--help` answers at once."""

import dataclasses
import pathlib
from typing import Annotated

from tyro.conf import Positional, UseAppendAction

from ..config import load_experiment
from ..errors import InputError, naming_shortage
from .options import Dtype, Inlined, Of, Output, PeerName, positive


@dataclasses.dataclass(frozen=True)
class Step:
    """A training step (loss and gradients), SNN against the ANN on batch × T images, by schedule, backend, dtype, T."""

    of: Annotated[Of, Inlined] = Of()
    timesteps: tuple[int, ...] = (5,)
    chunk: tuple[int, ...] = ()
    """Also in chunks of so many timesteps."""
    remat: bool = False
    """Each chunk size also with recomputation inside its chunks."""
    backend: tuple[str, ...] = ("auto",)
    """What runs the neurons (dietjax.kernels.BACKENDS)."""
    dtype: tuple[Dtype, ...] = ("float32",)
    peer: Annotated[tuple[PeerName, ...], UseAppendAction] = ()
    """Another library on the same network and weights; may be given several times. Needs dietjax[peers]."""
    runs: int = 10
    output: Annotated[Output, Inlined] = Output()

    _train = True

    def __call__(self) -> None:
        """Measure and show."""
        self.output.check()
        self.of.check()
        positive(timesteps=self.timesteps, chunk=self.chunk, runs=self.runs)
        from .networks import compare

        with self.of.naming_shortage(self.timesteps, self.dtype):
            self.output.show(compare(
                self.of.subject(), self.timesteps, train=self._train, chunks=self.chunk, remat=self.remat,
                backends=self.backend, dtypes=self.dtype, peers=self.peer, runs=self.runs), self)


@dataclasses.dataclass(frozen=True)
class Inference(Step):
    """An inference, SNN against the ANN on batch × T images, by schedule, backend, dtype, T."""

    _train = False


@dataclasses.dataclass(frozen=True)
class Neuron:
    """LIF alone, forward and backward, against the bandwidth with which the device copies its currents."""

    batch: int = 64
    neurons: int = 65536
    timesteps: tuple[int, ...] = (4, 16, 32)
    backend: tuple[str, ...] = ("scan", "xla")
    """What runs the neurons (dietjax.kernels.BACKENDS)."""
    dtype: tuple[Dtype, ...] = ("float32",)
    runs: int = 10
    output: Annotated[Output, Inlined] = Output()

    def __call__(self) -> None:
        """Measure and show."""
        self.output.check()
        positive(batch=self.batch, neurons=self.neurons, timesteps=self.timesteps, runs=self.runs)
        from .cells import neuron

        with naming_shortage("a benchmark of LIF",
                             "Give smaller --batch, --neurons or --timesteps, or --dtype bfloat16."):
            self.output.show(neuron(self.batch, self.neurons, self.timesteps, self.backend, self.dtype, self.runs),
                             self)


@dataclasses.dataclass(frozen=True)
class Convolution:
    """A convolution, forward and both gradients, in every form that can compute it; a CPU takes the one with a star."""

    side: tuple[int, ...] = (16, 8, 4)
    """Side of the square map."""
    channels: tuple[int, int] = (256, 256)
    """Channels in and out."""
    images: int = 160
    kernel: tuple[int, int] = (3, 3)
    """Its height and width, odd."""
    stride: tuple[int, int] = (1, 1)
    first: bool = False
    """Of the first layer: without the gradient of its input."""
    pooled: bool = False
    """With a 2×2 average pool behind it, and the form that saves the pool beside them; sides must be even."""
    dtype: tuple[Dtype, ...] = ("float32",)
    runs: int = 10
    output: Annotated[Output, Inlined] = Output()

    def __call__(self) -> None:
        """Measure and show."""
        self.output.check()
        positive(side=self.side, channels=self.channels, images=self.images, kernel=self.kernel, stride=self.stride,
                 runs=self.runs)
        if not all(side % 2 for side in self.kernel):
            raise InputError(f"--kernel must be odd, got {self.kernel}")
        odd = [side for side in self.side if side % 2]
        if self.pooled and odd:
            raise InputError(f"side {odd[0]} cannot be pooled by 2; give even sides, or leave out --pooled")
        if self.pooled and (self.stride != (1, 1) or self.kernel[0] != self.kernel[1]):
            raise InputError(f"--pooled takes a square kernel of stride 1, got --kernel {self.kernel} and --stride "
                             f"{self.stride}")
        from .cells import convolution

        with naming_shortage("a benchmark of convolutions",
                             "Give smaller --images, --channels or --side, or --dtype bfloat16."):
            self.output.show(convolution(self.side, self.channels, self.images, self.dtype, self.runs, self.pooled,
                                         self.kernel, self.stride, self.first), self)


@dataclasses.dataclass(frozen=True)
class Layer:
    """The public benchmark of one n × n linear layer with LIF, forward and backward, every call waited for."""

    features: tuple[int, ...] = (4096, 8192, 16384)
    """n."""
    batch: int = 16
    timesteps: int = 500
    backend: tuple[str, ...] = ("auto",)
    """What runs the neurons (dietjax.kernels.BACKENDS)."""
    dtype: tuple[Dtype, ...] = ("float32",)
    peer: Annotated[tuple[PeerName, ...], UseAppendAction] = ()
    """Another library; may be given several times. Needs dietjax[peers]."""
    runs: int = 5
    output: Annotated[Output, Inlined] = Output()

    def __call__(self) -> None:
        """Measure and show."""
        self.output.check()
        positive(features=self.features, batch=self.batch, timesteps=self.timesteps, runs=self.runs)
        from .cells import layer

        with naming_shortage("a benchmark of a layer",
                             "Give smaller --features, --batch or --timesteps, or --dtype bfloat16."):
            self.output.show(layer(self.features, self.batch, self.timesteps, self.backend, self.dtype, self.peer,
                                   self.runs), self)


@dataclasses.dataclass(frozen=True)
class Scaling:
    """Weak scaling of the whole training step (input, gradients, optimiser): the same batch on each of more devices."""

    of: Annotated[Of, Inlined] = Of()
    """The batch is one device's."""
    devices: tuple[int, ...] = ()
    """Numbers of devices; default: 1, 2, 4, 8, as far as there are so many. One device always runs."""
    timesteps: int = 5
    dtype: tuple[Dtype, ...] = ("float32",)
    runs: int = 10
    output: Annotated[Output, Inlined] = Output()

    def __call__(self) -> None:
        """Measure and show."""
        self.output.check()
        self.of.check()
        positive(devices=self.devices, timesteps=self.timesteps, runs=self.runs)
        from .scaling import scaling

        with self.of.naming_shortage((self.timesteps,), self.dtype):
            self.output.show(scaling(self.of.subject(), self.devices, self.timesteps, self.dtype, self.runs), self)


@dataclasses.dataclass(frozen=True)
class Input:
    """Training batches from image files (decoding, cropping, resizing), against OpenCV's decoding alone."""

    name: str | None = None
    """A set of images to be resized, as in --data.name; default: JPEGs of ImageNet's usual size, made for this."""
    data_dir: str | None = None
    """A tensorflow-datasets directory, as in --data.dir."""
    image_size: int = 224
    batch: int = 128
    """Images in a batch."""
    threads: int | None = None
    """Threads that decode; default: one per CPU core that this process may use."""
    runs: int = 10
    output: Annotated[Output, Inlined] = Output()

    def __call__(self) -> None:
        """Measure and show."""
        self.output.check()
        positive(image_size=self.image_size, batch=self.batch, threads=self.threads or 1, runs=self.runs)
        from .input import pipeline

        self.output.show(pipeline(self.name, self.data_dir, self.image_size, self.batch, self.threads, self.runs), self)


@dataclasses.dataclass(frozen=True)
class Speedrun:
    """An experiment from a cold start: seconds to a test accuracy, compiling apart, and speed against bare steps."""

    file: Positional[pathlib.Path]
    """Python file that defines `experiment`. What it trains on is there already."""
    workdir: pathlib.Path
    """A new folder, for the run."""
    accuracy: float
    """On the test set, in (0, 1]."""
    output: Annotated[Output, Inlined] = Output()

    def __call__(self) -> None:
        """Run, measure and show."""
        if self.output.plot is not None:
            raise InputError("--plot draws times of calls, and this is one run: its report.html has curves")
        experiment = load_experiment(self.file)
        from .speedrun import speedrun

        self.output.show(speedrun(experiment, self.workdir, self.accuracy), self)
