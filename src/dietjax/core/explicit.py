"""Meshes with Explicit axes, as `jax.make_mesh` makes them: there every reshape must say how its result is split.

Neurons and networks leave that to XLA: where their arrays lie on such a mesh, they run inside `jax.sharding.auto_axes`,
and say only how what comes out is split.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, auto_axes


def explicit_mesh(*arguments: Any) -> Mesh | None:
    """The mesh with Explicit axes that arrays among the arguments lie on; None: there is none."""
    for leaf in jax.tree.leaves(arguments):
        mesh = getattr(jax.typeof(leaf).sharding, "mesh", None)
        if mesh is not None and not mesh.empty and AxisType.Explicit in mesh.axis_types:
            return mesh
    return None


def run_automatically(function: Callable[..., tuple[Any, Any]], batch: jax.Array, *arguments: Any) -> tuple[Any, Any]:
    """`function(*arguments)`, on a mesh with Explicit axes inside `auto_axes`.

    Args:
        function: pure, from trees of arrays to (a tree of arrays [B, ...] or scalars, a tree of others).
        batch: one of the arguments' arrays, [B, ...]: the first tree is split along B as it is, the second not at all.
        *arguments: of the function.
    """
    mesh = explicit_mesh(batch, arguments)
    if mesh is None:
        return function(*arguments)
    split = jax.typeof(batch).sharding.spec[:1]

    def shape_of(leaf):  # without its sharding: of the result only the shapes are wanted
        return jax.ShapeDtypeStruct(jnp.shape(leaf), leaf.dtype if hasattr(leaf, "dtype") else jnp.result_type(leaf))

    along_batch, others = jax.eval_shape(function, *jax.tree.map(shape_of, arguments))
    shardings = (jax.tree.map(lambda x: NamedSharding(mesh, PartitionSpec(*split if x.ndim else ())), along_batch),
                 jax.tree.map(lambda _: NamedSharding(mesh, PartitionSpec()), others))
    return auto_axes(function, out_sharding=shardings)(*arguments)
