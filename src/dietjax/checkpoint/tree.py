"""The leaves of a checkpoint's pytree: named by path, described for JSON, read and placed as the target has them."""

from typing import Any

import jax
import numpy as np

from ..errors import InputError

PyTree = Any


class CheckpointError(InputError):
    """A checkpoint that cannot be saved, is damaged, or is of another network than its target."""


def by_path(tree: PyTree) -> dict[str, Any]:
    """{path of a leaf: the leaf}, in the order of `jax.tree.leaves`."""
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def describe(path: str, leaf: Any) -> list[Any]:
    """Return [dtype, shape] as JSON has them. A Python number is not the array of the same value.

    Raises:
        CheckpointError: the leaf is neither an array nor a number.
    """
    if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        raise CheckpointError(f"{path} is a random key; save its jax.random.key_data")
    if hasattr(leaf, "dtype"):
        return [str(leaf.dtype), list(leaf.shape)]
    if isinstance(leaf, bool | int | float):
        return [f"Python {type(leaf).__name__}", []]
    raise CheckpointError(f"{path} is a {type(leaf).__name__}; a checkpoint holds arrays and numbers")


def show(described: list[Any] | None) -> str:
    """What `describe` returned, for a message."""
    return "absent" if described is None else f"{described[0]}{described[1]}"


def blank(leaf: Any) -> np.ndarray | jax.ShapeDtypeStruct:
    """What orbax is to read a leaf as: shards where the target says so, else one NumPy array."""
    sharding = getattr(leaf, "sharding", None)
    if sharding is None or not getattr(leaf, "committed", True) or not leaf.size:
        return np.empty(np.shape(leaf), leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype)
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def place(path: str, array: np.ndarray | jax.Array, leaf: Any) -> Any:
    """Return the array as what the target's leaf is: Python number, NumPy or jax.Array, on the same devices.

    Raises:
        CheckpointError: jax would cast it.
    """
    if not hasattr(leaf, "dtype"):
        return array.item()
    if not isinstance(leaf, jax.Array | jax.ShapeDtypeStruct):
        return array if isinstance(leaf, np.ndarray) else array[()]
    # Committing an array that was free to move would make the next jitted call compile again, or fail on a mesh.
    free = isinstance(leaf, jax.Array) and not leaf.committed
    placed = array if isinstance(array, jax.Array) else jax.device_put(array, None if free else leaf.sharding)
    if placed.dtype != leaf.dtype:
        raise CheckpointError(
            f"{path} is {leaf.dtype}, which jax casts to {placed.dtype} unless jax_enable_x64 is set"
        )
    return placed
