"""What several commands of `dietjax bench` ask for. jax loads inside: `--help` answers at once."""

import dataclasses
import os
import pathlib
import shlex
from contextlib import AbstractContextManager
from typing import Any, Literal

from tyro.conf import Positional, UseAppendAction, arg

from ..config import check_width
from ..errors import InputError, naming_shortage

PeerName = Literal["spyx", "spikingjelly", "snntorch", "norse"]
Dtype = Literal["float32", "bfloat16", "float16"]
Inlined = arg(name="")


@dataclasses.dataclass(frozen=True)
class Output:
    """What is printed and written."""

    json: bool = False
    """Print JSON instead of a table."""
    plot: pathlib.Path | None = None
    """Also draw it into this file (png, svg or pdf)."""

    def show(self, result: Any, command: Any) -> None:
        """Print and draw, the result beside the arguments of the command."""
        from . import show

        settings = {"command": type(command).__name__.lower(), **dataclasses.asdict(command)}
        settings.pop("output")
        result = dataclasses.replace(result, settings=settings, command=typed(command))

        print(show.as_json(result)) if self.json else show.table(result)
        if self.plot is not None:
            show.plot(result, self.plot)

    def refuse_plot(self) -> None:
        """Of a suite that only compiles: refuse a plot."""
        if self.plot is not None:
            raise InputError("--plot draws times and memory, and nothing is timed here: this counts bytes; leave it "
                             "out")

    def check(self) -> None:
        """Refuse a plot that could not be written, before anything is measured."""
        if self.plot is not None and self.plot.suffix not in (".png", ".svg", ".pdf"):
            raise InputError(f"--plot {self.plot} must end in .png, .svg or .pdf")
        if self.plot is not None and not self.plot.absolute().parent.is_dir():
            raise InputError(f"--plot {self.plot}: there is no folder {self.plot.absolute().parent}")
        if self.plot is not None and not os.access(self.plot.absolute().parent, os.W_OK):
            raise InputError(f"--plot {self.plot}: the folder {self.plot.absolute().parent} cannot be written")


@dataclasses.dataclass(frozen=True)
class Of:
    """Which network."""

    model: str = "VGG9"
    """VGG4/6/9/11/13/16/19 or ResNet12/18/19/20/34."""
    image_shape: tuple[int, int, int] = (32, 32, 3)
    """Height, width, channels."""
    num_classes: int = 10
    classifier: tuple[int, ...] | None = None
    """Widths of the hidden fully connected layers; default: the paper's."""
    batch: int = 8
    """Images in a batch."""
    width: float = 1.0
    """Factor on the features of every layer but the output layer."""

    def check(self) -> None:
        """Refuse numbers that no network has, before anything is loaded."""
        positive(batch=self.batch, num_classes=self.num_classes, image_shape=self.image_shape,
                 classifier=self.classifier or ())
        check_width("--width", self.width)

    def naming_shortage(self, timesteps: tuple[int, ...], dtype: tuple[str, ...]) -> AbstractContextManager[None]:
        """`errors.naming_shortage` around a benchmark of this network, at all of these."""
        from ..models import largest_block

        def largest():
            net = self.subject().networks("float32" if "float32" in dtype else dtype[0])[1]
            return largest_block(net, self.batch, max(timesteps))

        return naming_shortage(f"a benchmark of {self.model}, batch {self.batch}, T={max(timesteps)}",
                               "Give a smaller --batch, --width or --timesteps, or --dtype bfloat16.", largest)

    def subject(self) -> Any:
        """As the benchmarks take it."""
        from .networks import Subject

        return Subject(self.model, self.image_shape, self.num_classes, self.classifier, self.batch, self.width)


def positive(**values: int | tuple[int, ...] | None) -> None:
    """Refuse a number, or one of several, below 1, by the name of its option; None is one that was not given."""
    for name, value in values.items():
        if value is not None and any(v < 1 for v in (value if isinstance(value, tuple) else (value,))):
            raise InputError(f"--{name.replace('_', '-')} must be at least 1, got {value}")


def typed(command: Any) -> str:
    """The command as it is typed, without what is a default."""
    return shlex.join(["dietjax", *spelled(command)])


def spelled(command: Any) -> list[str]:
    """What makes this command of a bare `dietjax`: a suite's name, and the options that are not its defaults."""
    return ["bench", type(command).__name__.lower(), *_options(command, type(command))]


def _options(given: Any, defaults: Any) -> list[str]:
    """Of a dataclass, where they differ from those of another, or of its class."""
    words: list[str] = []
    for field in dataclasses.fields(given):
        value, marks = getattr(given, field.name), getattr(field.type, "__metadata__", ())
        default = getattr(defaults, field.name, dataclasses.MISSING)
        option = f"--{field.name.replace('_', '-')}"
        if field.name == "output" or value == default:
            continue
        if dataclasses.is_dataclass(value):
            words += _options(value, default)
        elif Positional in marks:
            words.append(str(value))
        elif isinstance(value, bool):
            words.append(option if value else f"--no-{option[2:]}")
        elif UseAppendAction in marks:
            words += [word for one in value for word in (option, str(one))]
        else:
            words += [option, *map(str, value if isinstance(value, tuple) else (value,))]
    return words
