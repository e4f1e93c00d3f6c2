"""The arguments of the suites of `dietjax bench` that read compiled programs. jax loads inside the commands."""

import dataclasses
from typing import Annotated, Literal

from tyro.conf import UseAppendAction

from .options import Dtype, Inlined, Of, Output, PeerName, positive


@dataclasses.dataclass(frozen=True)
class Memory:
    """Memory of a training step over T, predicted and as compiled; with --peer also as it runs, beside theirs."""

    of: Annotated[Of, Inlined] = Of(batch=128)
    timesteps: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    chunk: tuple[int, ...] = (1, 4, 16)
    """Also in chunks of so many timesteps, with and without recomputation, where they divide T."""
    dtype: tuple[Dtype, ...] = ("float32",)
    peer: Annotated[tuple[PeerName, ...], UseAppendAction] = ()
    """Another library on the same network and weights; may be given several times. Needs dietjax[peers]."""
    memory_level: tuple[Literal[0, 1, 2, 3, 4], ...] = (0,)
    """How hard SpikingJelly saves memory; from 2 on it needs a GPU."""
    output: Annotated[Output, Inlined] = Output()

    def __call__(self) -> None:
        """Compile and show."""
        self.output.check()
        self.of.check()
        positive(timesteps=self.timesteps, chunk=self.chunk)
        from .memory import sweep

        with self.of.naming_shortage(self.timesteps, self.dtype):
            self.output.show(sweep(self.of.subject(), self.timesteps, self.chunk, self.dtype, self.peer,
                                   self.memory_level), self)


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Bytes that a compiled training step moves, by layer, against the passes over memory that neurons need."""

    of: Annotated[Of, Inlined] = Of()
    timesteps: int = 5
    dtype: Dtype = "bfloat16"
    backend: str = "auto"
    """What runs the neurons (dietjax.kernels.BACKENDS)."""
    target: str = "here"
    """What it is compiled for: here, or a device that need not be there, such as h100 or v5e:2x4
    (dietjax.parallel.targets)."""
    as_trained: bool = False
    """With what training adds to loss and gradients: the model's own dropout, and the rates of spikes for the log."""
    output: Annotated[Output, Inlined] = Output()

    def __call__(self) -> None:
        """Compile, count and show."""
        self.output.refuse_plot()
        self.of.check()
        positive(timesteps=self.timesteps)
        from .traffic import traffic

        self.output.show(traffic(self.of.subject(), self.timesteps, self.dtype, self.target, self.backend,
                                 self.as_trained), self)


@dataclasses.dataclass(frozen=True)
class Collectives:
    """What the whole training step sends between devices, from its compiled program: nothing runs, and the devices need
    not be there.
    """

    of: Annotated[Of, Inlined] = Of(batch=1)
    """The batch is one device's; what is sent does not depend on it."""
    target: tuple[str, ...] = ("here",)
    """Devices to compile for: here, h100:8, v5e:4x4, v6e:16x16, v4:2x2x1 (dietjax.parallel.targets)."""
    fsdp: tuple[int, ...] = ()
    """Over how many devices weights are split; default: 1, which is data parallel, and all of them."""
    timesteps: int = 5
    batch_norm: bool = False
    """Whether the network has batch norm, whose statistics are the whole batch's."""
    dtype: tuple[Dtype, ...] = ("bfloat16",)
    output: Annotated[Output, Inlined] = Output()

    def __call__(self) -> None:
        """Compile and show."""
        self.output.refuse_plot()
        self.of.check()
        positive(fsdp=self.fsdp, timesteps=self.timesteps)
        from .collectives import sent

        self.output.show(sent(self.of.subject(), self.target, self.fsdp, self.timesteps, self.dtype, self.batch_norm),
                         self)
