"""The bytes that a compiled training step moves, layer by layer, against those that neurons have to: `bench traffic`.

A neuron has to read currents and write spikes; backward it has to read currents and the spikes' cotangents and to write
the currents' cotangents; and for the weights' gradient the spikes are found again and written: six passes over its map.
Behind a pool spikes and their cotangents are smaller, under a constant input the first layer's currents are: three
passes over what comes in and three over what leaves.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import SingleDeviceSharding

from ..core.kernels import check_backend
from ..models import Network
from ..parallel.targets import Target, target
from ..train.step import compiler_options
from .hlo import Module, inside, parse
from .measure import Result, environment, temporary_bytes
from .moved import LIBRARIES, Move, moves, unknown_loops
from .networks import Subject, training
from .places import Place, made_by, places

CARRIES = {"parameter", "constant", "bitcast", "tuple", "get-tuple-element", "copy", "transpose", "reshape", "convert",
           "slice", "dynamic-slice", "dynamic-update-slice", "concatenate", "pad", "reverse", "broadcast", "fusion",
           "copy-start", "copy-done", "all-gather", "iota", "call"}
"""What a copy is made of: no arithmetic."""
WIDE = ("f32", "f64")
ELSEWHERE = "elsewhere"
"""Row of what belongs to no layer: the loss, the images' conversion."""


class Counted(NamedTuple):
    """Bytes of one layer."""

    product: int = 0
    """Of convolutions and matrix products, forms of them included that consist of several instructions."""
    weights: int = 0
    """Of what else touches only arrays of a kernel's size: weights converted and laid out, their gradients too."""
    forward: int = 0
    """Of everything else, on the way forward."""
    backward: int = 0
    copies: int = 0
    """Of these two: of instructions that only carry values from one place to another."""
    wide: int = 0
    """Of these two: of arrays in float32 or float64."""

    def __add__(self, other: "Counted") -> "Counted":  # type: ignore[override]
        return Counted(*(a + b for a, b in zip(self, other, strict=True)))

    @property
    def other(self) -> int:
        """What neurons, pools, dropouts and layouts move."""
        return self.forward + self.backward


class Step(NamedTuple):
    """One compiled training step."""

    text: str
    temporary: int | None
    accessed: float | None
    """XLA's own count of bytes, where the platform has one."""


def traffic(subject: Subject, timesteps: int, dtype: str, where: str = "here", backend: str = "auto") -> Result:
    """A training step (loss and gradients) compiled for a target: bytes by layer, of the SNN beside its ANN's."""
    check_backend(backend)
    subject.networks(dtype)  # an unknown model is refused before the compiler is looked for
    place = target(where)
    rows: list[dict[str, Any]] = []
    notes = []
    for kind in ("ANN", "SNN"):
        net, batch, steps = subject.runs(kind, timesteps, dtype)
        net = net.clone(backend=backend) if kind == "SNN" else net
        step = compiled_for(place, net, batch, steps)
        module = parse(step.text)
        counted, maps = count(module, net), layer_maps(net, batch, steps)
        total = _row(f"{kind}, total", sum(counted.values(), Counted()), sum(m for m, _ in maps.values()),
                     sum(m * passes for m, passes in maps.values()), dtype)
        total["temporary MB"] = None if step.temporary is None else step.temporary / 1e6
        total["XLA's MB"] = None if step.accessed is None else step.accessed / 1e6
        if kind == "SNN":
            by_layer = [_row(name, found, maps.get(name, (0, 0))[0], math.prod(maps.get(name, (0, 0))), dtype)
                        for name, found in counted.items()]
            rows = [*by_layer, total, *rows]
        else:
            rows = [total]
        if unknown_loops(module):
            notes.append(f"{kind}: {unknown_loops(module)} loops of unknown length are counted as one turn")
    title = f"bytes of a training step of {subject}, T={timesteps}, {dtype}, compiled for {where}"
    return Result(title, rows, environment(), tuple(notes))


def compiled_for(place: Target, net: Network, batch: int, timesteps: int) -> Step:
    """The training step of `networks.training`, for one of a target's devices; nothing runs."""
    lies = SingleDeviceSharding(place.devices[0])

    def array(leaf):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=lies)

    images = array(jax.ShapeDtypeStruct((batch, *net.image_shape), jnp.float32))
    labels = array(jax.ShapeDtypeStruct((batch,), jnp.int32))
    variables = jax.tree.map(array, jax.eval_shape(net.init, jax.random.key(0), images))
    options = {**compiler_options(place.devices[0].platform), **place.options}
    program = jax.jit(training(net, timesteps, {}), compiler_options=options).lower(variables, images, labels).compile()
    accessed = (program.cost_analysis() or {}).get("bytes accessed")
    return Step(program.as_text(), temporary_bytes(program), accessed)


def layer_maps(net: Network, batch: int, timesteps: int) -> dict[str, tuple[int, float]]:
    """{layer: (bytes of its map in the compute dtype over the batch and all timesteps, passes that it has to make)}, of
    all layers but the readout.
    """
    itemsize = jnp.dtype(net.dtype or net.param_dtype).itemsize
    connections = net.connections()
    leaves = {c.source: math.prod(c.in_shape) for c in connections if c.source is not None and not c.recurrent}
    found = {}
    for connection in connections:
        if connection.name == connection.layer != net.layers[-1].name:
            size = math.prod(connection.out_shape)
            comes = 1 / timesteps if connection.source is None and net.encoder.constant else 1
            found[connection.layer] = (batch * timesteps * size * itemsize,
                                       3 * comes + 3 * leaves[connection.layer] / size)
    return found


def count(module: Module, net: Network) -> dict[str, Counted]:
    """{layer, or ELSEWHERE: its bytes}."""
    kernels = {math.prod(c.kernel) for c in net.connections()}
    names = tuple(layer.name for layer in net.layers)
    where = places(module, names)
    of = {id(computation): where[name] for name, computation in module.computations.items()}
    found = {name: Counted() for name in (*names, ELSEWHERE)}
    for move in moves(module):
        place = of[id(move.computation)].get(made_by(move.computation, move.instruction.name))
        name = place.layer if place else ELSEWHERE
        found[name] = found[name] + _counted(module, move, place, kernels)
    return found


def _counted(module: Module, move: Move, place: Place | None, kernels: set[int]) -> Counted:
    sizes = {array.size for array, _ in move.read + move.written if array.size > 1}
    carries = is_copy(module, move)
    if is_product(module, move):
        return Counted(product=move.bytes)
    if place and place.part == "synapse":
        if sizes <= kernels:
            return Counted(weights=move.bytes)
        if not (carries and len(sizes) == 1):  # parts of a form of it
            return Counted(product=move.bytes)
    way = {"backward" if place and place.backward else "forward": move.bytes}
    return Counted(**way, copies=move.bytes if carries else 0, wide=move.bytes_of(*WIDE))


def is_product(module: Module, move: Move) -> bool:
    """Whether it is, or has in it, a convolution or a matrix product."""
    instruction = move.instruction
    within = [instruction, *(i for name in instruction.called for i in inside(module, name))]
    return any(i.opcode in ("convolution", "dot") or i.target.startswith(LIBRARIES) for i in within)


def is_copy(module: Module, move: Move) -> bool:
    """Whether it carries values from an array to another, and computes nothing."""
    instruction = move.instruction
    within = [instruction, *(i for name in instruction.called for i in inside(module, name))]
    return any(array.size > 1 for array, _ in move.read) and all(i.opcode in CARRIES for i in within)


def _row(name, counted, size, floor, dtype):
    row = {"layer": name, "map MB": size / 1e6 or None, "products MB": counted.product / 1e6,
           "weights MB": counted.weights / 1e6, "others MB": counted.other / 1e6,
           "forward": counted.forward / size if size else None,
           "backward": counted.backward / size if size else None,
           "passes": counted.other / size if size else None, "floor": floor / size if size else None,
           "copies MB": counted.copies / 1e6}
    return row if dtype in ("float32", "float64") else row | {"float32 MB": counted.wide / 1e6}
