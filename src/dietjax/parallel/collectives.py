"""What a compiled program sends between devices, read from its HLO (`jitted.lower(...).compile().as_text()`)."""

import math
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from .loops import trips

RING = {
    "all-reduce": lambda n: 2 * (n - 1) / n,
    "all-gather": lambda n: (n - 1) / n,
    "reduce-scatter": lambda n: (n - 1) / n,
    "all-to-all": lambda n: (n - 1) / n,
    "collective-permute": lambda n: 1.0,
    "collective-broadcast": lambda n: 1.0,
}
"""Kind -> bytes that each of n devices sends in a ring, for every byte of the whole array: an all-reduce is a
reduce-scatter and an all-gather, each n - 1 rounds of 1/n (Patarasuk & Yuan 2009, "Bandwidth optimal all-reduce")."""

BYTES = {"pred": 1, "bf16": 2}
"""Of the element types whose name does not end in their number of bits."""

INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?(?P<name>[\w.\-]+) = (?P<type>.*?) (?P<opcode>[a-z][a-z0-9\-]*)\(")
CALLED = re.compile(r"(?:calls|to_apply|body|condition)=%?([\w.\-]+)")
ARRAY = re.compile(r"\b([a-z]+\d*[a-z0-9]*)\[([\d,]*)\]")


class Collective(NamedTuple):
    """One collective instruction of a program."""

    kind: str
    """A key of `RING`."""
    name: str
    """The instruction's name and, after a colon, the source operation that it comes from."""
    types: tuple[tuple[str, int], ...]
    """(element type as HLO names it, bytes of its arrays), per execution. Of the whole arrays: what goes into an
    all-reduce, what comes out of an all-gather."""
    group: int
    """Devices in each group that talks."""
    times: int
    """Executions per run of the program: inside a loop, as often as that goes round."""

    @property
    def bytes(self) -> int:
        """Of all types together."""
        return sum(size for _, size in self.types)

    @property
    def sent(self) -> float:
        """Bytes that each device sends per run of the program, in a ring."""
        return self.times * RING[self.kind](self.group) * self.bytes if self.group > 1 else 0.0


def collectives(hlo: str) -> list[Collective]:
    """Every collective of a compiled program, in the order of its text.

    Raises:
        ValueError: HLO that this does not know how to count: another collective, a loop of unknown length around one.
    """
    computations, entry = _computations(hlo)
    devices = math.prod(int(n) for n in re.findall(r"\b(?:num_partitions|replica_count)=(\d+)", hlo.split("\n", 1)[0]))
    found: list[Collective] = []
    chained = set()

    def lines(computation):
        return [line for line, *_ in computations[computation]]

    def visit(computation, times):
        for line, name, kind, opcode in computations[computation]:
            if kind in RING:
                # a TPU writes one that runs beside other operations into each of the fusions that it runs beside
                chain = re.search(r"channel_id=(\d+).*chain_id=", line)
                if chain is None or (kind, chain[1]) not in chained:
                    found.append(_read(line, name, _fused(kind, computation), opcode, times, devices))
                if chain:
                    chained.add((kind, chain[1]))
            elif re.match(r"all-|collective-|ragged-|reduce-scatter", kind) and not opcode.endswith("-done"):
                raise ValueError(f"unknown collective {opcode} ({name}); add it to dietjax.parallel.collectives.RING")
            for called, count in _calls(line, opcode, lines, computation):
                before = len(found)
                visit(called, times * (count or 1))
                if count is None and len(found) > before:
                    raise ValueError(f"{found[-1].name} runs inside {name}, which does not say how often")

    visit(entry, 1)
    return found


def _computations(hlo: str) -> tuple[dict[str, list[tuple[str, str, str, str]]], str]:
    """({computation: [(line, instruction's name, kind without -start, opcode)]}, the entry's name)."""
    computations: dict[str, list[tuple[str, str, str, str]]] = {}
    current, entry = None, None
    for line in hlo.splitlines():
        header = re.match(r"(ENTRY )?%?([\w.\-]+) .*\{$", line)
        if header and not line.startswith((" ", "HloModule")):
            current = computations[header[2]] = []
            entry = header[2] if header[1] else entry
        elif current is not None and (instruction := INSTRUCTION.match(line)):
            opcode = instruction["opcode"]
            current.append((line, instruction["name"], opcode.removesuffix("-start"), opcode))
    if entry is None:
        raise ValueError("this is no HLO of a compiled program: it has no ENTRY")
    return computations, entry


def _fused(kind: str, computation: str) -> str:
    """A TPU writes a reduce-scatter as a fusion of an all-reduce and the slice of it that a device keeps."""
    return "reduce-scatter" if kind == "all-reduce" and computation.startswith("all-reduce-scatter") else kind


def _calls(line: str, opcode: str, lines: Callable[[str], list[str]], inside: str) -> Iterator[tuple[str, int | None]]:
    """(computation, times) that an instruction runs; None: not known before it runs."""
    if opcode == "conditional":
        branches = re.search(r"branch_computations=\{([^}]*)\}", line)
        named = re.findall(r"(?:true|false)_computation=%?([\w.\-]+)", line)
        yield from ((name.strip().lstrip("%"), None) for name in (branches[1].split(",") if branches else named))
        return
    count = trips(line, inside, lines) if opcode == "while" else 1
    yield from ((name, count) for name in CALLED.findall(line))


def _read(line: str, name: str, kind: str, opcode: str, times: int, devices: int) -> Collective:
    instruction = INSTRUCTION.match(line)
    assert instruction is not None  # _computations keeps no other line
    arrays = ARRAY.findall(instruction["type"])
    if opcode in ("all-gather-start", "reduce-scatter-start"):  # (operands, results)
        arrays = arrays[len(arrays) // 2:]
    elif opcode == "collective-permute-start":  # (operand, result, two counters)
        arrays = arrays[1:2]
    group = _group(line, devices) if kind != "collective-permute" else devices
    source = re.search(r'op_name="([^"]*)"', line)
    whole = group if opcode.startswith("reduce-scatter") else 1
    types = {element: sum(_size(*array) for array in arrays if array[0] == element) * whole for element, _ in arrays}
    return Collective(kind, f"{name}: {source[1]}" if source else name, tuple(types.items()), group, times)


def _size(kind: str, shape: str) -> int:
    if kind == "token":
        return 0
    bits = re.match(r"[a-z]+(\d+)", kind)  # s32, f32, f8e4m3fn
    if kind in BYTES:
        each = BYTES[kind]
    elif bits:
        each = -(-int(bits[1]) // 8)
    else:
        raise ValueError(f"unknown element type {kind}; add its size to dietjax.parallel.collectives.BYTES")
    return each * math.prod(int(n) for n in shape.split(",") if n)


def _group(line: str, devices: int) -> int:
    """Devices in a group, of the three ways in which XLA writes groups."""
    groups = re.search(r"replica_groups=(.*)", line)
    if groups is None:
        return devices
    listed = re.match(r"\{\{([\d,]*)\}", groups[1])  # {{0,1},{2,3}}
    if listed:
        return len(listed[1].split(","))
    iota = re.match(r"\[\d+,(\d+)\]<=", groups[1])  # [groups,size]<=[devices]
    if iota:
        return int(iota[1])
    mesh = re.match(r"@?\w*\[?(.*?)\](?:, device_ids=\(.*?\)\)?)? \{(.*?)\}", groups[1])  # mesh['a'=2,'b'=4] {'b'}
    if mesh:
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", mesh[1]))
        axes = re.findall(r"'(\w+)'(?::\(\d+\)(\d+))?", mesh[2])  # 'a':(1)2 is a part of an axis
        return math.prod(int(part or sizes[axis]) for axis, part in axes)
    if groups[1].startswith("{}"):
        return devices
    raise ValueError(f"unknown replica groups: {groups[1][:120]}")
