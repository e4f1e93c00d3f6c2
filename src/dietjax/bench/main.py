"""The arguments of `dietjax bench`: one suite, or all that a lent machine should measure."""

import dataclasses
import pathlib
from typing import Annotated

from tyro.conf import OmitSubcommandPrefixes, subcommand

from ..config import load_experiment
from ..errors import InputError
from .commands import Convolution, Inference, Input, Layer, Memory, Neuron, Scaling, Speedrun, Step
from .everything import run_all


@dataclasses.dataclass(frozen=True)
class All:
    """What a lent machine should measure, the most important first, each in a process of its own. The same command
    goes on where it ended.
    """

    out: pathlib.Path
    """Folder for NAME.json of each suite, environment.json, and what each printed."""
    minutes: float = 12.0
    """After which nothing runs any more."""
    experiment: pathlib.Path | None = None
    """Python file that defines `experiment`, whose training is compared with its bare steps; default: VGG16 on random
    images, made for this."""
    toy: bool = False
    """The same on networks of toy size, to see that everything runs."""

    def __call__(self) -> None:
        """Measure, and say what failed and what is left."""
        if not 0 < self.minutes < float("inf"):
            raise InputError(f"--minutes must be > 0, got {self.minutes:g}")
        if self.experiment is not None:
            load_experiment(self.experiment)
        if not run_all(self.out, self.minutes, self.experiment, self.toy):
            raise SystemExit(1)


Suite = OmitSubcommandPrefixes[
    Annotated[Step, subcommand("step")]
    | Annotated[Inference, subcommand("inference")]
    | Annotated[Neuron, subcommand("neuron")]
    | Annotated[Layer, subcommand("layer")]
    | Annotated[Convolution, subcommand("convolution")]
    | Annotated[Memory, subcommand("memory")]
    | Annotated[Scaling, subcommand("scaling")]
    | Annotated[Input, subcommand("input")]
    | Annotated[Speedrun, subcommand("speedrun")]
    | Annotated[All, subcommand("all")]
]


@dataclasses.dataclass(frozen=True)
class Bench:
    """Measure speed and memory: ratios between things that run in turn in one process."""

    suite: Suite

    def __call__(self) -> None:
        """Run the chosen suite."""
        self.suite()
