"""What a lent machine should measure, the most important first: a list. A suite that is to run there is a row of it."""

import dataclasses
import importlib.util
from typing import Any

from .commands import Inference, Memory, Neuron, Scaling, Speedrun, Step
from .options import Of

EVERYWHERE, ACCELERATORS, SEVERAL = "everywhere", "accelerators", "several devices"
"""Where a suite has something to say."""


@dataclasses.dataclass(frozen=True)
class Planned:
    """One suite of the plan."""

    name: str
    command: Any
    """Of `commands`."""
    least: int
    """Seconds that have to be left for it to begin."""
    limit: int
    """Seconds after which it is ended."""
    where: str = EVERYWHERE


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How large things are: as papers have them, or toys."""

    batch: int = 128
    neurons: tuple[int, int] = (64, 65536)
    timesteps: tuple[int, ...] = (4, 5, 16, 32)
    steps: int = 5
    width: float = 1.0
    shape: tuple[int, int, int] = (32, 32, 3)
    memory: tuple[int, ...] = (5, 20)
    runs: int = 7


LENT = Sizes()
TOY = Sizes(batch=2, neurons=(2, 64), timesteps=(2, 3), steps=2, width=0.0625, memory=(2, 4), runs=1)


def plan(sizes: Sizes, speedrun: Speedrun, accelerator: bool, devices: int) -> list[Planned]:
    """The suites that have something to say here, the most important first.

    Args:
        sizes: `LENT` or `TOY`.
        speedrun: the training that is compared with its bare steps.
        accelerator: whether jax runs on something else than a CPU, which has backends of its own.
        devices: how many there are.
    """
    def step(model, command=Step, **options):
        classifier = (64 if sizes is TOY else 1024,) if model.startswith("VGG") else None
        of = Of(model, sizes.shape, classifier=classifier, batch=sizes.batch, width=sizes.width)
        return command(of, timesteps=(sizes.steps,), runs=sizes.runs, **options)

    def neuron(dtype):
        batch, count = sizes.neurons
        return Neuron(batch, count, sizes.timesteps, ("scan", *ours), (dtype,), runs=sizes.runs)

    ours = ("xla", "pallas") if accelerator else ("xla",)
    backends = ("auto", *ours[::-1]) if accelerator else ("auto",)
    peers = ("spikingjelly",) if importlib.util.find_spec("spikingjelly") else ()
    half, whole = {"dtype": ("bfloat16",)}, {"dtype": ("float32",)}
    scaled = Scaling(Of("VGG16", sizes.shape, classifier=(64,), batch=sizes.batch, width=sizes.width),
                     timesteps=sizes.steps, dtype=("bfloat16",), runs=sizes.runs)
    memory = Memory(Of("VGG16", sizes.shape, classifier=(64,), batch=sizes.batch, width=sizes.width),
                    sizes.memory, chunk=(sizes.steps,), dtype=("bfloat16",))
    found = [
        Planned("step_vgg16_bfloat16", step("VGG16", backend=backends, peer=peers, **half), 60, 240),
        Planned("neuron_bfloat16", neuron("bfloat16"), 30, 150),
        Planned("step_resnet18_bfloat16", step("ResNet18", backend=backends, **half), 60, 240),
        Planned("speedrun", speedrun, 90, 300),
        Planned("step_vgg16_float32", step("VGG16", peer=peers, **whole), 60, 240),
        Planned("neuron_float16", neuron("float16"), 30, 150),
        Planned("scaling_vgg16", scaled, 60, 240, SEVERAL),
        Planned("step_resnet18_float32", step("ResNet18", **whole), 60, 240),
        Planned("neuron_float32", neuron("float32"), 30, 150),
        Planned("inference_vgg16_bfloat16", step("VGG16", Inference, peer=peers, **half), 45, 180),
        Planned("memory_vgg16", memory, 60, 240, ACCELERATORS),
    ]
    here = {EVERYWHERE, *([ACCELERATORS] if accelerator else []), *([SEVERAL] if devices > 1 else [])}
    return [suite for suite in found if suite.where in here]
