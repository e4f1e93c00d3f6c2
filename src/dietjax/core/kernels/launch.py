"""How a hand-written kernel is started on Hopper, and how GSPMD cuts it where devices share the batch."""

from collections.abc import Callable
from typing import Any

import jax
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding, PartitionSpec


def on_hopper(body: Callable[..., None], grid: tuple[int, int], inputs: Any, outputs: Any) -> Any:
    """`body(group, tile, *refs)` by Mosaic GPU for each of a grid (groups of the batch, tiles of neurons).

    Each is a warpgroup, which fills its registers straight from device memory. There are no barriers: no address may be
    both read and written.
    """
    from jax.experimental.pallas import mosaic_gpu as plgpu

    def kernel(*refs):
        body(jax.lax.axis_index("group"), jax.lax.axis_index("tile"), *refs)

    kernel.__name__ = body.__name__
    return plgpu.kernel(
        kernel, out_type=outputs, grid=grid, grid_names=("group", "tile"),
        compiler_params=plgpu.CompilerParams(lowering_semantics=plgpu.LoweringSemantics.Warpgroup,
                                             unsafe_no_auto_barriers=True))(*inputs)


def cut_by_batch(call: custom_partitioning, shared: int, factors: Callable[[str, int], str]) -> None:
    """Say how GSPMD cuts a call whose last argument is a tree of arrays, of which the first one has the batch in front.

    Of what it takes and gives, arrays of one axis are sums over the batch, which devices add up; those of up to
    `shared` axes are replicated; all others have the batch in front, which may be sharded.

    factors: (a prefix for factors of this array's own, its rank) -> its axes in the sharding rule.
    """
    def partition(*given):
        *static, mesh, arguments, results = given
        batch = arguments[0][0].sharding.spec[0]

        def sharding(x):
            return NamedSharding(mesh, PartitionSpec(batch) if x.ndim > shared else PartitionSpec())

        def local(inputs):
            outputs = call.fun(*static, inputs)
            if batch is None:
                return outputs
            return jax.tree.map(lambda x: jax.lax.psum(x, batch) if x.ndim == 1 else x, outputs)

        return mesh, local, jax.tree.map(sharding, results), jax.tree.map(sharding, arguments)

    def rule(*given):
        *_, inputs, outputs = given
        return " -> ".join(", ".join(factors(f"{side}{i}", x.rank) for i, x in enumerate(arrays))
                           for side, arrays in (("i", inputs), ("o", outputs)))

    call.def_partition(partition, sharding_rule=rule)
