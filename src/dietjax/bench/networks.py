"""A network's training step and inference, beside its ANN's and other libraries'."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import models
from ..analysis import memory
from ..core import losses
from ..core.kernels import check_backend
from ..core.neurons import LIF, ReLU
from ..errors import InputError
from ..models import Network
from ..models.wiring import feeds
from .measure import Call, Result, alternate, compiled, environment, matrix_product

LAYERWISE = "layer by layer"
GAIN = 3
"""Factor on the SNN's initial kernels: without it the last layers of a VGG never spike, and logits that are all 0 would
agree with every peer's."""


@dataclasses.dataclass(frozen=True)
class Subject:
    """Which network, on what."""

    model: str
    image_shape: tuple[int, int, int]
    num_classes: int
    classifier: tuple[int, ...] | None
    batch: int
    width: float = 1.0

    def networks(self, dtype: str, dropout: bool = False) -> tuple[Network, Network]:
        """(ANN, SNN), without the model's dropout unless it is asked for: other libraries draw other random numbers."""
        compute = None if dtype == "float32" else jnp.dtype(dtype)
        shares = {} if dropout else {"conv_dropout": 0.0, "classifier_dropout": 0.0}
        snn = models.build(self.model, self.num_classes, self.image_shape, classifier=self.classifier, width=self.width,
                           dtype=compute, neuron=LIF(leak=0.9, threshold=0.5, surrogate="arctan"), **shares)
        return snn.clone(neuron=ReLU()), snn

    def runs(self, kind: str, timesteps: int, dtype: str) -> tuple[Network, int, int]:
        """(network, images in its batch, its timesteps) of the "ANN" or "SNN"."""
        ann, snn = self.networks(dtype)
        return (ann, self.batch * timesteps, 1) if kind == "ANN" else (snn, self.batch, timesteps)

    def variables(self, net: Network) -> dict[str, Any]:
        """Initial ones, the same for the same network."""
        return jax.jit(net.init)(jax.random.key(0), jnp.zeros((1, *self.image_shape)))

    def examples(self, count: int) -> tuple[jax.Array, jax.Array]:
        """(images normal, labels), the same ones for the same count."""
        key = jax.random.key(0)
        return (jax.random.normal(key, (count, *self.image_shape)),
                jax.random.randint(key, (count,), 0, self.num_classes))

    def __str__(self):
        size = "×".join(map(str, self.image_shape))
        width = "" if self.width == 1 else f" of {self.width:g} times the width"
        return f"{self.model}{width}, images of {size}, batch {self.batch}"


def schedules(timesteps: int, chunks: Sequence[int], remat: bool) -> dict[str, dict[str, Any]]:
    """Name -> arguments of `Network`: the whole block, and every chunk with and without recomputation."""
    found: dict[str, dict[str, Any]] = {LAYERWISE: {}}
    for chunk in chunks:
        if chunk < 1 or timesteps % chunk:
            raise InputError(f"chunk {chunk} does not divide {timesteps} timesteps; "
                             f"use one of {[c for c in range(1, timesteps + 1) if timesteps % c == 0]}")
        found[f"chunk {chunk}"] = {"chunk": chunk}
        if remat:
            found[f"chunk {chunk}, remat"] = {"chunk": chunk, "remat": True}
    return found


def check_memory(subject: Subject, kind: str, schedule: dict[str, Any], timesteps: int, dtype: str) -> None:
    """Refuse a training step of the "ANN" or "SNN" that cannot fit, before anything is compiled."""
    net, batch, timesteps = subject.runs(kind, timesteps, dtype)
    memory.check(net, batch, timesteps, schedule.get("chunk"), schedule.get("remat", False))


def training(net: Network, timesteps: int, schedule: dict[str, Any]):
    """A pure (variables, images, labels) -> (loss, gradients of every parameter)."""
    def loss(variables, images, labels):
        logits, _ = net.apply(variables, images, timesteps, train=True, **schedule)
        return losses.cross_entropy(logits, labels).mean()

    return jax.value_and_grad(loss)


def training_logged(net: Network, timesteps: int):
    """The same with dropout and rates: (variables, images, labels, key of dropout) -> ((loss, rates), gradients)."""
    def loss(variables, images, labels, key):
        logits, record = net.apply(variables, images, timesteps, train=True, rngs={"dropout": key})
        return losses.cross_entropy(logits, labels).mean(), record["spike_rate"]

    return jax.value_and_grad(loss, has_aux=True)


def inference(net: Network, timesteps: int, schedule: dict[str, Any]):
    """A pure (variables, images, labels) -> logits."""
    return lambda variables, images, labels: net.apply(variables, images, timesteps, **schedule)[0]


def operations(net: Network, images: int, timesteps: int, train: bool) -> int:
    """Multiplications and additions that the synapses of a step need, by definition, two for each weight's use.

    Forward and both gradients, but for that of the image; a constant image passes its synapse once.
    """
    of_image = {name for _, name in feeds(net.layers)[None]}
    once = of_image if net.encoder.constant else set()
    return sum(2 * c.macs * images * (1 if c.name in once else timesteps) * (3 - (c.name in of_image) if train else 1)
               for c in net.connections())


def compare(subject: Subject, timesteps: Sequence[int], *, train: bool, chunks: Sequence[int] = (), remat: bool = False,
            backends: Sequence[str] = ("auto",), dtypes: Sequence[str] = ("float32",), peers: Sequence[str] = (),
            runs: int = 10) -> Result:
    """A training step (loss and gradients) or an inference: the SNN in every asked way, against the ANN and peers.

    The ANN runs on batch × T images, which is the synapses' work in T timesteps. The SNN saves none of it, except in
    the first layer when its input is constant. "GFLOP/s": `operations` over time, everything in the step included;
    "of matmul": as a share of the rate of a matrix product, which runs in turn with them.
    """
    if peers:
        from . import peers as libraries

        libraries.check(*peers)  # before anything is compiled
    make = training if train else inference
    for backend in backends:
        check_backend(backend)
    for dtype, steps in itertools.product(dtypes, timesteps):
        wanted = [*(("SNN", schedule) for schedule in schedules(steps, chunks, remat).values()), ("ANN", {})]
        for kind, schedule in wanted if train else ():
            check_memory(subject, kind, schedule, steps, dtype)
    calls, notes = [], []
    for dtype, steps in itertools.product(dtypes, timesteps):
        ann, snn = subject.networks(dtype)
        variables = subject.variables(snn)
        weights = {"params": {name: {part: leaf for part, leaf in layer.items() if part != "neuron"}
                              for name, layer in variables["params"].items()}}
        variables = lively(variables)
        many, few = subject.examples(subject.batch * steps), subject.examples(subject.batch)
        labels = {"dtype": dtype, "T": steps}
        calls.append(matrix_product(network="matrix product", **labels))
        run, temporary = compiled(make(ann, 1, {}), weights, *many)
        calls.append(Call({"network": f"ANN, {len(many[0])} images", **labels}, run, temporary, base=True,
                          operations=operations(ann, len(many[0]), 1, train)))
        needed = operations(snn, len(few[0]), steps, train)
        for backend in backends:
            for name, schedule in schedules(steps, chunks, remat).items():
                run, temporary = compiled(make(snn.clone(backend=backend), steps, schedule), variables, *few)
                backend_name = "" if backend == "auto" else f", {backend}"
                calls.append(Call({"network": f"SNN, {name}{backend_name}", **labels}, run, temporary,
                                  operations=needed))
        for name in peers:
            peer = libraries.build(name, snn, variables, *map(np.asarray, few), steps, dtype)
            calls.append(Call({"network": f"{name} {peer.version}", **labels},
                              peer.training_step if train else peer.inference, operations=needed))
            notes.append(f"{name}, T={steps}, {dtype}: {peer.mode}; {agreement(name, subject, variables, steps)}")
    what = "training step: loss and gradients" if train else "inference"
    return Result(f"{what}; {subject}", alternate(calls, runs), environment(*peers), tuple(notes))


def lively(variables: dict[str, Any], gain: float = GAIN) -> dict[str, Any]:
    """The same with all kernels times `gain`."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: gain * leaf if getattr(path[-1], "key", None) == "kernel" else leaf, variables)


def agreement(name: str, subject: Subject, variables: dict[str, Any], timesteps: int) -> str:
    """How far a peer's logits are from ours in float64: speeds can be compared only if both compute the same.

    In float32 a membrane close to its threshold may fire in one library and not in the other, and later layers differ.
    """
    from . import peers

    with jax.enable_x64(True):
        net, (images, labels) = subject.networks("float64")[1], subject.examples(2)
        variables = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), variables)
        peer = peers.build(name, net, variables, *map(np.asarray, (images, labels)), timesteps, "float64")
        if not peer.exact:
            return "its neuron is not ours, logits are not compared"
        ours = np.asarray(jax.jit(inference(net, timesteps, {}))(variables, images, labels))
        if not ours.any():
            return "all our logits are 0, which compares nothing"
        difference = np.abs(ours - peer.logits(np.asarray(images))).max()
        return f"in float64 its logits differ from ours by at most {difference:.1e} of {np.abs(ours).max():.1e}"
