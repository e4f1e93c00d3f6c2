"""The bytes that each instruction of a compiled program reads from the device's memory and writes to it.

What is counted, of a program as XLA schedules it:

- An instruction reads each of its operands once, and writes its result. So does a fusion, whatever happens inside.
- Views (bitcasts, tuples and their elements, parameters, constants) cost nothing.
- Of an operand that an instruction only slices, the slices are read; what is written in place (`dynamic-update-slice`
  into an operand) is the slice that is new.
- A loop's body counts as often as it turns, where the program says that, else once. Of branches the costliest counts.
- What is started and awaited (copies, collectives) counts once, where it is awaited.
- A library's call reads its operands and writes its results; what it moves in its workspace, and how often it reads an
  operand that its caches do not hold, nobody knows, and it counts for nothing.
- Arrays that lie on the chip (a TPU's VMEM) cost nothing, and padding in a layout's tiles does.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from ..parallel.hlo import Array, Computation, Instruction, Module
from ..parallel.loops import runs

FREE = {"parameter", "constant", "bitcast", "tuple", "get-tuple-element", "after-all", "add-dependency", "domain",
        "opt-barrier", "partition-id", "replica-id"}
SLICING = {"slice", "dynamic-slice", "gather"}
REARRANGES = {"concatenate", "pad", "reverse", "broadcast", "reduce", "reduce-window", "select-and-scatter", "sort",
              "scatter", "dot", "convolution", "custom-call", "while", "conditional", "call", "dynamic-update-slice",
              "tuple", "rng", "map"}
"""What needs all of its operands, even where only part of the result is wanted."""
VIEWS = {"AllocateBuffer", "ConcatBitcast"}
"""Custom calls of a TPU's that move nothing."""
LIBRARIES = ("__cudnn$", "__cublas$", "__onednn$")


class Move(NamedTuple):
    """One instruction's reading and writing."""

    instruction: Instruction
    computation: Computation
    """Where it stands."""
    times: int
    """How often it runs."""
    read: tuple[tuple[Array, int], ...]
    """(array, bytes of it) of one run."""
    written: tuple[tuple[Array, int], ...]

    @property
    def bytes(self) -> int:
        """Read and written, of all runs."""
        return self.times * sum(count for _, count in self.read + self.written)

    def bytes_of(self, *dtypes: str) -> int:
        """Those of arrays of these types."""
        return self.times * sum(count for array, count in self.read + self.written if array.dtype in dtypes)

    @property
    def cycles(self) -> int:
        """That a TPU's compiler expects of all runs; 0 where it says none."""
        found = re.search(r'"estimated_cycles":"(\d+)"', self.instruction.attributes)
        return self.times * int(found[1]) if found else 0


def moves(module: Module) -> list[Move]:
    """What every instruction of a program moves, in their order."""
    return list(_moves(module, module.entry, 1))


def unknown_loops(module: Module) -> int:
    """Loops, anywhere in it, of which the program does not say how often they turn."""
    return sum(i.opcode == "while" and runs(module, c, i) is None
               for c in module.computations.values() for i in c.instructions.values())


def _moves(module, name, times) -> Iterator[Move]:
    computation = module.computations[name]
    for instruction in computation.instructions.values():
        opcode = instruction.opcode
        if opcode in FREE or instruction.target in VIEWS:
            continue
        if opcode in ("while", "call") or opcode.endswith("-start"):
            for called in instruction.called:
                yield from _moves(module, called, times * (runs(module, computation, instruction) or 1))
        elif opcode == "conditional":
            branches = [list(_moves(module, called, times)) for called in instruction.called]
            yield from max(branches, key=lambda branch: sum(move.bytes for move in branch), default=[])
        elif opcode.endswith("-done"):
            start = computation.instructions[instruction.operands[0]]
            if not start.called:
                yield _of(module, computation, instruction._replace(
                    operands=start.operands, opcode=opcode.removesuffix("-done")), times)
        else:
            yield _of(module, computation, instruction, times)


def _of(module, computation, instruction, times):
    operands = [computation.instructions[name] for name in dict.fromkeys(instruction.operands)]
    if instruction.opcode == "fusion":
        read, written = _of_fusion(module, instruction, operands)
    elif instruction.opcode == "dynamic-update-slice":
        update, array = _update(computation, instruction), instruction.results[0]
        read, written = [(update, update.bytes)], [(array, _bytes(array, update.size))]
    elif instruction.opcode in SLICING:
        array = operands[0].results[0]
        share = _bytes(array, instruction.results[0].size)
        read = [(array, share), *((a, a.bytes) for operand in operands[1:] for a in operand.results)]
        written = [(a, a.bytes) for a in instruction.results]
    else:
        results = instruction.results
        if instruction.target.startswith(LIBRARIES) and len(results) > 1 and results[-1].dtype in ("s8", "u8"):
            results = results[:-1]  # its workspace
        read = [(a, a.bytes) for operand in operands for a in operand.results]
        written = [(a, a.bytes) for a in results]
    return Move(instruction, computation, times, tuple(read), tuple(written))


def _bytes(array: Array, elements: int) -> int:
    """So many elements of an array, at most all of it."""
    return min(array.bytes, round(elements * array.bytes / array.size)) if array.size else 0


# ---- fusions


def _of_fusion(module, instruction, operands):
    inner = module.computations[instruction.called[0]]
    read: dict[str, list[tuple[Array, int]]] = {}
    for name, parameter in zip(instruction.operands, inner.parameters(), strict=True):
        found = [(a, _wanted(module, inner, parameter.name, a)) for a in parameter.results]
        read[name] = max(read.get(name, found), found, key=lambda pairs: sum(count for _, count in pairs))
    return [pair for pairs in read.values() for pair in pairs], _written(inner)


def _written(inner):
    written = []
    for output in _outputs(inner):
        chain = _in_place(inner, output)
        written += [(a, a.bytes) for a in output.results] if chain is None else [
            (step.results[0], _bytes(output.results[0], _update(inner, step).size)) for step in chain]
    return written


def _outputs(inner):
    root = inner.instructions[inner.root]
    return [inner.instructions[name] for name in root.operands] if root.opcode == "tuple" else [root]


def _in_place(inner, output) -> list[Instruction] | None:
    """The updates, last first, by which an output is a parameter, or memory without contents, that is changed in place;
    None: it is no such output.
    """
    chain = []
    output = _seen_through(inner, output)
    while output.opcode == "dynamic-update-slice":
        chain.append(output)
        output = _seen_through(inner, inner.instructions[output.operands[0]])
    return chain if chain and (output.opcode == "parameter" or output.target == "AllocateBuffer") else None


def _update(computation, step) -> Array:
    """What a `dynamic-update-slice` writes."""
    return computation.instructions[step.operands[1]].results[0]


def _seen_through(inner, instruction):
    while instruction.opcode in ("bitcast", "copy"):
        instruction = inner.instructions[instruction.operands[0]]
    return instruction


def _wanted(module: Module, inner: Computation, name: str, array: Array) -> int:
    """Bytes of a fusion's parameter that it reads."""
    parts = _parts(module, inner, name, array.size)
    return array.bytes if parts is None else _bytes(array, sum(parts.values()))


def _parts(module, inner, name, size) -> dict[tuple, int] | None:
    """{slice: its elements} of all that is wanted of a value of so many elements; None: all of it."""
    found: dict[tuple, int] = {}
    if name == inner.root:
        return None
    changed = {step.name for output in _outputs(inner) for step in _in_place(inner, output) or ()}
    for user in inner.users()[name]:
        if user.opcode in SLICING and user.operands[0] == name:
            where = user.attributes.split("metadata=")[0], user.operands[1:]
            parts: dict[tuple, int] | None = {(where, user.results[0].shape): user.results[0].size}
        elif user.name in changed and user.operands[0] == name:
            parts = {}
        elif user.opcode == "fusion":
            parts = _of_inner(module, user, name, size)
        elif user.opcode in REARRANGES or user.results[0].size != size:
            parts = None
        else:
            parts = _parts(module, inner, user.name, size)
        if parts is None:
            return None
        found |= parts
    return found


def _of_inner(module, fusion, name, size):
    inner = module.computations[fusion.called[0]]
    found: dict[tuple, int] = {}
    for operand, parameter in zip(fusion.operands, inner.parameters(), strict=True):
        if operand == name:
            parts = _parts(module, inner, parameter.name, size)
            if parts is None:
                return None
            found |= parts
    return found
