"""What a compiled program sends between devices, read from its HLO (`jitted.lower(...).compile().as_text()`)."""

import math
import re
from typing import NamedTuple

from .hlo import Instruction, parse
from .loops import runs

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
    module = parse(hlo)
    devices = math.prod(int(n) for n in re.findall(r"\b(?:num_partitions|replica_count)=(\d+)", hlo.split("\n", 1)[0]))
    found: list[Collective] = []
    chained = set()

    def visit(computation, times):
        for instruction in module.computations[computation].instructions.values():
            kind, name = instruction.opcode.removesuffix("-start"), instruction.name
            if kind in RING:
                # a TPU writes one that runs beside other operations into each of the fusions that it runs beside
                chain = re.search(r"channel_id=(\d+).*chain_id=", instruction.attributes)
                if chain is None or (kind, chain[1]) not in chained:
                    found.append(_read(instruction, _fused(kind, computation), times, devices))
                if chain:
                    chained.add((kind, chain[1]))
            elif re.match(r"all-|collective-|ragged-|reduce-scatter", kind) and not kind.endswith("-done"):
                raise ValueError(f"unknown collective {instruction.opcode} ({name}); add it to "
                                 "dietjax.parallel.collectives.RING")
            count, before = runs(module, module.computations[computation], instruction), len(found)
            for called in filter(None, (*instruction.called, instruction.condition)):
                visit(called, times * (count or 1))
            if count is None and len(found) > before:
                raise ValueError(f"{found[-1].name} runs inside {name}, which does not say how often")

    visit(module.entry, 1)
    return found


def _fused(kind: str, computation: str) -> str:
    """A TPU writes a reduce-scatter as a fusion of an all-reduce and the slice of it that a device keeps."""
    return "reduce-scatter" if kind == "all-reduce" and computation.startswith("all-reduce-scatter") else kind


def _read(instruction: Instruction, kind: str, times: int, devices: int) -> Collective:
    arrays, opcode, name = instruction.results, instruction.opcode, instruction.name
    if opcode in ("all-gather-start", "reduce-scatter-start"):  # (operands, results)
        arrays = arrays[len(arrays) // 2:]
    elif opcode == "collective-permute-start":  # (operand, result, two counters)
        arrays = arrays[1:2]
    group = _group(instruction.attributes, devices) if kind != "collective-permute" else devices
    whole = group if opcode.startswith("reduce-scatter") else 1
    types = {a.dtype: sum(b.unpadded for b in arrays if b.dtype == a.dtype) * whole for a in arrays}
    named = f"{name}: {instruction.op_name}" if instruction.op_name else name
    return Collective(kind, named, tuple(types.items()), group, times)


def _group(attributes: str, devices: int) -> int:
    """Devices in a group, of the three ways in which XLA writes groups."""
    groups = re.search(r"replica_groups=(.*)", attributes)
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
