"""How often a loop of a compiled program goes round, read from its HLO."""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = .*? ([a-z][a-z0-9\-]*)\((.*?)\)(?:, |$)")


class Instruction(NamedTuple):
    """One line of a computation."""

    opcode: str
    operands: tuple[str, ...]
    """Names; of a constant its value."""
    line: str


def trips(line: str, inside: str, lines: Callable[[str], Sequence[str]]) -> int | None:
    """Turns of a loop: those that XLA notes, else those of a counter that starts at a constant, is raised by a constant
    and compared with one, as in the rings of permutations that a TPU runs beside its products; None: another loop.

    Args:
        line: of the loop.
        inside: the computation that it stands in.
        lines: from a computation's name to its lines.
    """
    if known := re.search(r'"known_trip_count":\{"n":"(\d+)"', line):
        return int(known[1])
    names = dict(re.findall(r"\b(condition|body)=%?([\w.\-]+)", line))
    (condition, test), (body, root), (outside, _) = (_read(lines(name)) for name in (
        names["condition"], names["body"], inside))
    carried = re.search(r" while\(%?([\w.\-]+)\)", line)
    before, after = outside.get(carried[1] if carried else ""), body.get(root)
    compared = condition.get(test)
    if not (before and after and compared and before.opcode == after.opcode == "tuple"
            and compared.opcode == "compare" and "direction=LT" in compared.line):
        return None
    index, end = _element(condition, compared.operands[0]), _constant(condition, compared.operands[1])
    if index is None or end is None or index >= min(len(before.operands), len(after.operands)):
        return None
    start, raised = _constant(outside, before.operands[index]), body.get(after.operands[index])
    if start is None or raised is None or raised.opcode != "add" or _element(body, raised.operands[0]) != index:
        return None
    step = _constant(body, raised.operands[1])
    return -(-(end - start) // step) if step else None


def _read(lines):
    """({name: instruction}, name of the root)."""
    found, root = {}, ""
    for line in lines:
        if instruction := INSTRUCTION.match(line):
            is_root, name, opcode, operands = instruction.groups()
            found[name] = Instruction(opcode, tuple(re.sub(r"/\*.*?\*/|.*%", "", operand).strip()
                                                    for operand in operands.split(",")), line)
            root = name if is_root else root
    return found, root


def _constant(instructions, name):
    """The whole number of a constant, or of a copy of it."""
    found = instructions.get(name)
    if found is not None and found.opcode == "copy":
        return _constant(instructions, found.operands[0])
    return int(found.operands[0]) if found and found.opcode == "constant" and found.operands[0].isdecimal() else None


def _element(instructions, name):
    """Which element of the loop's tuple."""
    found = instructions.get(name)
    index = re.search(r"index=(\d+)", found.line) if found and found.opcode == "get-tuple-element" else None
    return int(index[1]) if index else None
