"""Which layer, and which part of it, an instruction of a compiled program belongs to."""

import collections
import re
from typing import NamedTuple

from ..parallel.hlo import Computation, Instruction, Module, inside

PARTS = ("neuron", "residual", "dropout", "pool", "norm", "synapse")
"""Scopes that `models.forward` opens in each layer."""


SHARED = {"parameter", "constant", "broadcast", "bitcast", "iota"}
"""What XLA makes once for several layers, and names after one."""


class Place(NamedTuple):
    """Where in the network, and on which way."""

    layer: str
    part: str
    """One of PARTS."""
    backward: bool


def places(module: Module, layers: tuple[str, ...]) -> dict[str, dict[str, Place]]:
    """{computation: {instruction: its place}}, of those that have one.

    By what JAX calls most of what computes in an instruction, or itself. One without a name of ours, which XLA made (a
    copy, a transposition), belongs where the largest array that it reads was made, or else where its result is first
    used, or else where the loop belongs in which it stands.
    """
    scope = re.compile(rf"(?:^|[/(])({'|'.join(map(re.escape, layers))})/({'|'.join(PARTS)})(?=[/)]|$)")
    found = {name: _of(module, computation, scope) for name, computation in module.computations.items()}
    for name, computation in reversed(module.computations.items()):  # whoever runs another stands behind it
        for caller in computation.instructions.values():
            for called in caller.called if caller.name in found[name] else ():
                inherited = dict.fromkeys(module.computations[called].instructions, found[name][caller.name])
                found[called] = inherited | found[called]
    return found


def _of(module, computation, scope):
    found: dict[str, Place] = {}
    users: dict[str, list[str]] = collections.defaultdict(list)
    for instruction in computation.instructions.values():
        sources = [made_by(computation, name) for name in instruction.operands]
        if instruction.opcode == "tuple" or made_by(computation, instruction.name) != instruction.name:
            continue  # a view
        for source in sources:
            users[source].append(instruction.name)
        sources.sort(key=lambda name: -_largest(computation.instructions[name]))
        place = _named(module, instruction, scope) or next((found[s] for s in sources if s in found), None)
        if place:
            found[instruction.name] = place
    for name in reversed(computation.instructions):
        place = next((found[user] for user in users[name] if user in found), None)
        if name not in found and place:
            found[name] = place
    return found


def made_by(computation: Computation, name: str, index: int | None = None) -> str:
    """The instruction that made what another only views: an element of a tuple, a bitcast."""
    instruction = computation.instructions[name]
    if instruction.opcode == "get-tuple-element":
        found = re.search(r"index=(\d+)", instruction.attributes)
        return made_by(computation, instruction.operands[0], int(found[1]) if found else None)
    if instruction.opcode == "tuple" and index is not None:
        return made_by(computation, instruction.operands[index])
    if instruction.opcode in ("bitcast", "opt-barrier") or instruction.opcode.endswith("-done"):
        return made_by(computation, instruction.operands[0], index)
    return name


def _named(module, instruction: Instruction, scope) -> Place | None:
    votes = collections.Counter(place for name in instruction.called if instruction.opcode == "fusion"
                                for i in inside(module, name)
                                if i.opcode not in SHARED and (place := _read(scope, i.op_name)))
    return votes.most_common(1)[0][0] if votes else _read(scope, instruction.op_name)


def _read(scope, op_name):
    found = scope.findall(op_name)
    return Place(*found[-1], "transpose(" in op_name) if found else None


def _largest(instruction):
    return max((a.bytes for a in instruction.results), default=0)
