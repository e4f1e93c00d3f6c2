"""A compiled program as XLA prints it: computations, their instructions, the arrays that these read and write."""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

WIDTH = {"pred": 8, "s4": 4, "u4": 4, "token": 0, "opaque": 0}
"""Bits of the types whose name does not end in them."""
ARRAY = re.compile(r"([a-z]\w*)\[([\d,<=]*)\](?:\{([\d,]*)(?::([^}]*))?\})?")
HEADER = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\{$")
LINE = re.compile(r"\s+(ROOT )?%?([\w.\-]+) = (.*)$")
NAMES = re.compile(r"%([\w.\-]+)")
COMMENT = re.compile(r"/\*.*?\*/")


class Array(NamedTuple):
    """One array in the device's memory."""

    dtype: str
    shape: tuple[int, ...]
    bytes: int
    """With the padding that its layout's tiles bring; 0 where it lies on the chip, in no memory that is shared."""

    @property
    def size(self) -> int:
        """Its elements."""
        return math.prod(self.shape)

    @property
    def unpadded(self) -> int:
        """Bytes of these alone, wherever they lie."""
        return -(-self.size * bits(self.dtype) // 8)


class Instruction(NamedTuple):
    """One line of a computation."""

    name: str
    opcode: str
    results: tuple[Array, ...]
    """Leaves, where it gives a tuple."""
    operands: tuple[str, ...]
    arguments: str
    """What stands between the parentheses, as it is printed."""
    attributes: str
    """What stands behind them."""

    @property
    def op_name(self) -> str:
        """What JAX calls it: transformations, scopes, primitive."""
        found = re.search(r'op_name="((?:[^"\\]|\\.)*)"', self.attributes)
        return found[1] if found else ""

    @property
    def called(self) -> tuple[str, ...]:
        """Computations that it runs: of a fusion, call, loop or branch, not those of a reduction's elements."""
        found = re.search(r"branch_computations=\{([^}]*)\}", self.attributes)
        if found:
            return tuple(NAMES.findall(found[1]))
        return tuple(re.findall(r"\b(?:calls|body|true_computation|false_computation"
                                + ("|to_apply" if self.opcode == "call" else "") + r")=%?([\w.\-]+)", self.attributes))

    @property
    def condition(self) -> str:
        """Of a loop: the computation that says whether it turns again."""
        found = re.search(r"\bcondition=%?([\w.\-]+)", self.attributes)
        return found[1] if found else ""

    @property
    def target(self) -> str:
        """Of a custom call."""
        found = re.search(r'custom_call_target="([^"]*)"', self.attributes)
        return found[1] if found else ""


class Computation(NamedTuple):
    """Instructions in their order."""

    instructions: dict[str, Instruction]
    root: str

    def users(self) -> dict[str, list[Instruction]]:
        """{instruction: those that take its result}."""
        found: dict[str, list[Instruction]] = {name: [] for name in self.instructions}
        for instruction in self.instructions.values():
            for operand in dict.fromkeys(instruction.operands):
                found[operand].append(instruction)
        return found

    def parameters(self) -> list[Instruction]:
        """Its parameters, in their order."""
        found = [i for i in self.instructions.values() if i.opcode == "parameter"]
        return sorted(found, key=lambda i: int(i.arguments))


class Module(NamedTuple):
    """A program."""

    computations: dict[str, Computation]
    entry: str


def parse(text: str) -> Module:
    """The program that `compiled.as_text()` printed.

    Raises:
        ValueError: a line inside a computation is none of HLO's, or there is no entry.
    """
    computations: dict[str, Computation] = {}
    entry = name = ""
    for line in text.splitlines():
        if not line.startswith(" "):
            if header := HEADER.match(line):
                name = header[2]
                computations[name] = Computation({}, "")
                entry = name if header[1] else entry
            elif line.startswith("}"):
                name = ""
        elif name:
            instruction, is_root = _instruction(line)
            computations[name].instructions[instruction.name] = instruction
            if is_root:
                computations[name] = computations[name]._replace(root=instruction.name)
    if not entry:
        raise ValueError("this is no HLO of a compiled program: it has no ENTRY")
    return Module(computations, entry)


def arrays(shape: str) -> tuple[Array, ...]:
    """The leaves of a printed shape, "f32[2,3]{1,0}" or a tuple of them."""
    return tuple(_array(*found.groups("")) for found in ARRAY.finditer(shape))


def _instruction(line: str) -> tuple[Instruction, bool]:
    """(instruction, whether it is the root) of a line."""
    found = LINE.match(COMMENT.sub("", line) if "/*" in line else line)
    if found is None:
        raise ValueError(f"no instruction of HLO: {line.strip()[:120]}")
    rest = found[3]
    end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
    shape, rest = rest[:end], rest[end:].lstrip()
    start = rest.index("(")
    end = _closing(rest, start)
    arguments = rest[start + 1:end]
    return Instruction(found[2], rest[:start], arrays(shape), tuple(NAMES.findall(arguments)), arguments,
                       rest[end + 1:]), bool(found[1])


def _closing(text: str, start: int) -> int:
    """Where the parenthesis that opens at `start` is closed."""
    depth = 0
    for match in re.compile(r"[()]").finditer(text, start):
        depth += 1 if match[0] == "(" else -1
        if depth == 0:
            return match.start()
    raise ValueError(f"a parenthesis is not closed: {text[:120]}")


def _array(dtype: str, dims: str, order: str, tiling: str) -> Array:
    shape = tuple(int(n.lstrip("<=")) for n in dims.split(",") if n)
    if tiling and re.search(r"S\([1-9]", tiling) and "S(5)" not in tiling:
        return Array(dtype, shape, 0)
    padded = list(shape)
    if tiling and (tile := re.match(r"T\(([\d,]+)\)", tiling)):
        minor = [int(axis) for axis in order.split(",") if axis]
        for axis, side in zip(minor, reversed([int(n) for n in tile[1].split(",")]), strict=False):
            padded[axis] = -(-padded[axis] // side) * side
    return Array(dtype, shape, -(-math.prod(padded) * bits(dtype) // 8))


def bits(dtype: str) -> int:
    """Of one element."""
    if dtype in WIDTH:
        return WIDTH[dtype]
    found = re.match(r"[a-z]+?(\d+)", dtype)
    if found is None:
        raise ValueError(f"no type of HLO's: {dtype}")
    return int(found[1])


def inside(module: Module, name: str) -> Iterator[Instruction]:
    """All instructions of a computation and of those that it runs."""
    for instruction in module.computations[name].instructions.values():
        yield instruction
        for called in instruction.called:
            yield from inside(module, called)
