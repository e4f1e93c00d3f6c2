"""Values of settings: what fits a type, and what the text NAME=VALUE says."""

import ast
import dataclasses
import types
import typing
from collections.abc import Sequence
from typing import Any, Literal

from ..errors import InputError

LARGEST = 2**63 - 1
"""Of whole numbers: no array holds a larger one."""
PLAIN = (int, float, bool, str, tuple, type(None))


def fits(value: Any, kind: Any) -> bool:
    """Whether a value is of the type that a field is annotated with; of a type that is none of plain values, nothing
    is known, and True is said.
    """
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return any(value == choice and type(value) is type(choice) for choice in inside)
    if origin is tuple and len(inside) == 2 and inside[1] is Ellipsis:  # tuple[kind, ...]
        return isinstance(value, tuple) and all(fits(v, inside[0]) for v in value)
    if origin is tuple:
        return isinstance(value, tuple) and len(value) == len(inside) and all(map(fits, value, inside))
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, k) for k in inside)
    if kind not in PLAIN and not dataclasses.is_dataclass(kind):
        return True
    if kind in (int, float) and isinstance(value, int) and abs(value) > LARGEST:
        return False
    return isinstance(value, (int, float) if kind is float else kind) and (kind is bool or not isinstance(value, bool))


def named_kind(kind: Any) -> str:
    """A type as a message calls it: "int", "str or None", "tuple of int", "one of adam, sgd"."""
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return f"one of {', '.join(map(str, inside))}"
    if origin is tuple:
        return f"tuple of {named_kind(inside[0])}" if Ellipsis in inside else f"({', '.join(map(named_kind, inside))})"
    if origin in (typing.Union, types.UnionType):
        # of names, or any other text, the text says all
        return " or ".join(named_kind(k) for k in inside if not (str in inside and typing.get_origin(k) is Literal))
    return "None" if kind is type(None) else getattr(kind, "__name__", str(kind))


def named_values(given: Sequence[str]) -> dict[str, Any]:
    """{NAME: VALUE} of texts NAME=VALUE: the value as Python writes it, else the text itself.

    Raises:
        InputError: a text of another form, or a name given twice.
    """
    found: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier() or not value:
            raise InputError(f"neuron.parameters are NAME=VALUE each, such as tau=4, got {text!r}")
        if name in found:
            raise InputError(f"neuron.parameters say {name} twice, got {' '.join(given)}")
        try:
            found[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found[name] = value
    return found
