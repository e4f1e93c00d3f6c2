"""How often a compiled program runs a computation, read from its HLO."""

import re

from .hlo import Computation, Instruction, Module


def runs(module: Module, computation: Computation, instruction: Instruction) -> int | None:
    """How often an instruction of a computation runs each computation that it calls: once, but for loops and branches.

    A loop runs its body as often as XLA notes, else as a counter says that starts at a constant, is raised by a
    constant and compared with one, as in the rings of permutations that a TPU runs beside its products. None: another
    loop, or branches, of which it is not known before which one runs.
    """
    if instruction.opcode == "conditional":
        return None
    if instruction.opcode != "while":
        return 1
    if known := re.search(r'"known_trip_count":\{"n":"(\d+)"', instruction.attributes):
        return int(known[1])
    condition, body = (module.computations[name] for name in (instruction.condition, *instruction.called))
    before = computation.instructions.get(instruction.operands[0])
    after, compared = body.instructions.get(body.root), condition.instructions.get(condition.root)
    if not (before and after and compared and before.opcode == after.opcode == "tuple"
            and compared.opcode == "compare" and "direction=LT" in compared.attributes):
        return None
    index, end = _element(condition, compared.operands[0]), _constant(condition, compared.operands[1])
    if index is None or end is None or index >= min(len(before.operands), len(after.operands)):
        return None
    start, raised = _constant(computation, before.operands[index]), body.instructions.get(after.operands[index])
    if start is None or raised is None or raised.opcode != "add" or _element(body, raised.operands[0]) != index:
        return None
    step = _constant(body, raised.operands[1])
    return -(-(end - start) // step) if step else None


def _constant(computation: Computation, name: str) -> int | None:
    """The whole number of a constant, or of a copy of it."""
    found = computation.instructions.get(name)
    if found is not None and found.opcode == "copy":
        return _constant(computation, found.operands[0])
    return int(found.arguments) if found and found.opcode == "constant" and found.arguments.isdecimal() else None


def _element(computation: Computation, name: str) -> int | None:
    """Which element of the loop's tuple."""
    found = computation.instructions.get(name)
    index = re.search(r"index=(\d+)", found.attributes) if found and found.opcode == "get-tuple-element" else None
    return int(index[1]) if index else None
