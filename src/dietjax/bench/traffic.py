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
from ..parallel.hlo import Instruction, Module, inside, parse
from ..parallel.targets import Target, target
from ..train.step import compiler_options
from .measure import Result, environment, temporary_bytes
from .moved import LIBRARIES, VIEWS, Move, moves, unknown_loops
from .networks import Subject, training, training_logged
from .places import Place, made_by, places

CARRIES = {"parameter", "constant", "bitcast", "tuple", "get-tuple-element", "copy", "transpose", "reshape", "convert",
           "slice", "dynamic-slice", "dynamic-update-slice", "concatenate", "pad", "reverse", "broadcast", "fusion",
           "copy-start", "copy-done", "all-gather", "iota", "call"}
"""What a copy is made of: no arithmetic."""
WIDE = ("f32", "f64")
ELSEWHERE = "elsewhere"
"""Row of what belongs to no layer: the loss, the images' conversion."""


class Counted(NamedTuple):
    """Bytes of one layer, and cycles."""

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
    cycles: int = 0
    """That a TPU's compiler expects of all of it."""

    def __add__(self, other: "Counted") -> "Counted":  # type: ignore[override]
        return Counted(*(a + b for a, b in zip(self, other, strict=True)))

    @property
    def other(self) -> int:
        """What neurons, pools, dropouts and layouts move."""
        return self.forward + self.backward


def traffic(subject: Subject, timesteps: int, dtype: str, where: str = "here", backend: str = "auto",
            as_trained: bool = False) -> Result:
    """A training step (loss and gradients) compiled for one device of a target, where nothing runs: the bytes of each
    of the SNN's layers, their sum, and the sum of the ANN on batch × T images.

    as_trained: with what training adds, the model's own dropout and the rates of spikes for the log.

    Columns: "map MB", a layer's outputs before a pool, over batch and timesteps in the compute dtype; "products MB" and
    "weights MB" (`Counted`); "others MB", all else; "forward", "backward" and their sum "passes", the others in maps;
    "floor", how many there have to be; "copies MB" and, where the compute dtype is half, "float32 MB" of the others. On
    a TPU also "Mcycles", the time of all of it as the compiler estimates it, in millions of cycles.

    Raises:
        InputError: no such model, backend or target, or the target's compiler is not installed.
    """
    check_backend(backend)
    ann, snn = subject.networks(dtype, dropout=as_trained)  # refuses before a compiler is looked for
    place = target(where)
    runs = {"SNN": (snn.clone(backend=backend), subject.batch, timesteps), "ANN": (ann, subject.batch * timesteps, 1)}
    rows: list[dict[str, Any]] = []
    notes = []
    for kind, (net, batch, steps) in runs.items():
        program = compiled_for(place, net, batch, steps, as_trained)
        module = parse(program.as_text())
        found, maps = count(module, net), layer_maps(net, batch, steps)
        if kind == "SNN":
            rows += [_row(name, counted, *maps.get(name, (0, 0)), dtype) for name, counted in found.items()
                     if name != ELSEWHERE or any(counted)]
        size = sum(size for size, _ in maps.values())
        floor = sum(size * passes for size, passes in maps.values()) / size
        rows.append(_row(f"{kind}, total", sum(found.values(), Counted()), size, floor, dtype))
        notes.append(f"{kind}: {_planned(program)}")
        if loops := unknown_loops(module):
            notes.append(f"{kind}: {loops} loops whose turns the compiler does not know are counted once")
    what = "training step with dropout and rates" if as_trained else "training step"
    title = f"bytes of a {what} of {subject}, T={timesteps}, {dtype}, compiled for {where}"
    return Result(title, rows, environment(), tuple(notes))


def compiled_for(place: Target, net: Network, batch: int, timesteps: int, as_trained: bool) -> jax.stages.Compiled:
    """`networks.training`, or `networks.training_logged`, for one of a target's devices."""
    lies = SingleDeviceSharding(place.devices[0])

    def array(leaf):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=lies)

    images = array(jax.ShapeDtypeStruct((batch, *net.image_shape), jnp.float32))
    labels = array(jax.ShapeDtypeStruct((batch,), jnp.int32))
    variables = jax.tree.map(array, jax.eval_shape(net.init, jax.random.key(0), images))
    options = {**compiler_options(place.devices[0].platform), **place.options}
    key = [array(jax.eval_shape(jax.random.key, 0))] if as_trained else []
    step = training_logged(net, timesteps) if as_trained else training(net, timesteps, {})
    with jax.default_device(place.devices[0]):  # kernels are chosen for it
        return jax.jit(step, compiler_options=options).lower(variables, images, labels, *key).compile()


def _planned(program):
    """What XLA says of a program."""
    temporary, costs = temporary_bytes(program), program.cost_analysis() or {}
    said = [] if temporary is None else [f"{temporary / 1e6:.1f} MB of temporaries"]
    said += [f"{costs['bytes accessed'] / 1e6:.1f} MB accessed"] if "bytes accessed" in costs else []
    return f"XLA plans for {', and counts '.join(said)}" if said else "XLA plans for nothing that it tells"


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
        instruction = asked_by(move)
        place = of[id(move.computation)].get(made_by(move.computation, instruction.name))
        name = place.layer if place else ELSEWHERE
        found[name] = found[name] + _counted(module, move, instruction, place, kernels)._replace(cycles=move.cycles)
    return found


def asked_by(move: Move) -> Instruction:
    """The instruction itself; of a copy onto the chip that whose operand it brings, of one from there that whose result
    it takes.
    """
    computation, instruction = move.computation, move.instruction
    if not computation.instructions[instruction.name].opcode.endswith("-done"):
        return instruction
    if not any(count for _, count in move.read):
        return computation.instructions[made_by(computation, instruction.operands[0])]
    users = computation.users()
    while not any(count for _, count in move.written) and len(users[instruction.name]) == 1:
        instruction = users[instruction.name][0]
        if instruction.opcode != "bitcast" and instruction.target not in VIEWS:
            break
    return instruction


def _counted(module: Module, move: Move, instruction: Instruction, place: Place | None, kernels: set[int]) -> Counted:
    sizes = {array.size for array, _ in move.read + move.written if array.size > 1}
    carries = is_copy(module, move)
    if is_product(module, instruction):
        return Counted(product=move.bytes)
    if place and place.part == "synapse":
        if sizes <= kernels:
            return Counted(weights=move.bytes)
        if not (carries and len(sizes) == 1):  # parts of a form of it
            return Counted(product=move.bytes)
    way = {"backward" if place and place.backward else "forward": move.bytes}
    return Counted(**way, copies=move.bytes if carries else 0, wide=move.bytes_of(*WIDE))


def is_product(module: Module, instruction: Instruction) -> bool:
    """Whether it is, or has in it, a convolution or a matrix product."""
    within = [instruction, *(i for name in instruction.called for i in inside(module, name))]
    return any(i.opcode in ("convolution", "dot") or i.target.startswith(LIBRARIES) for i in within)


def is_copy(module: Module, move: Move) -> bool:
    """Whether it carries values from an array to another, and computes nothing."""
    instruction = move.instruction
    within = [instruction, *(i for name in instruction.called for i in inside(module, name))]
    return any(array.size > 1 for array, _ in move.read) and all(i.opcode in CARRIES for i in within)


def _row(name, counted, size, floor, dtype):
    """size: of its map, 0 where there is none."""
    passes = [part / size if size else None for part in (counted.forward, counted.backward, counted.other)]
    row = {"layer": name, "map MB": size / 1e6 or None, "products MB": counted.product / 1e6,
           "weights MB": counted.weights / 1e6, "others MB": counted.other / 1e6,
           **dict(zip(("forward", "backward", "passes"), passes, strict=True)), "floor": floor or None,
           "copies MB": counted.copies / 1e6}
    row |= {"Mcycles": counted.cycles / 1e6} if counted.cycles else {}
    return row if dtype in ("float32", "float64") else row | {"float32 MB": counted.wide / 1e6}
