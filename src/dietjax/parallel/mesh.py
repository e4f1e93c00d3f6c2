"""Where arrays lie: a mesh of two axes, and the sharding of the batch and of the train state on it.

"data" devices share out the batch and hold all weights; "fsdp" devices share out the batch and the weights too.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from ..config import Parallel, Phase
from ..errors import InputError

AXES = ("data", "fsdp")


def make_mesh(parallel: Parallel = Parallel(), devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The devices (all there are, of every process) as a mesh [data, fsdp].

    Raises:
        InputError: data · fsdp is not the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    count, data, fsdp = len(devices), parallel.data, parallel.fsdp
    if count % fsdp:
        raise InputError(f"parallel.fsdp={fsdp} does not divide the {count} devices; "
                         f"use one of {', '.join(str(n) for n in range(1, count + 1) if count % n == 0)}")
    if data not in (None, count // fsdp):
        raise InputError(f"parallel.data={data} times parallel.fsdp={fsdp} is {data * fsdp}, but there are {count} "
                         f"devices; use --parallel.data {count // fsdp}, or leave it out to take them all")
    return jax.make_mesh((count // fsdp, fsdp), AXES, devices=devices, axis_types=(AxisType.Auto,) * 2)


def check_batch_size(name: str, phase: Phase, mesh: Mesh) -> None:
    """Every device takes the same share of every microbatch.

    Raises:
        InputError: the phase's batch does not divide.
    """
    shares = mesh.size * phase.accumulate
    if phase.batch_size % shares:
        over = f"{mesh.size} devices" + (f" times {name}.accumulate={phase.accumulate}" if phase.accumulate > 1 else "")
        raise InputError(f"{name}.batch_size {phase.batch_size} does not divide over {over}; "
                         f"use a multiple of {shares}")


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The first axis split over all devices."""
    return NamedSharding(mesh, PartitionSpec(AXES))


def batches_sharding(mesh: Mesh) -> NamedSharding:
    """Several batches, one after the other along the first axis: the second split over all devices."""
    return NamedSharding(mesh, PartitionSpec(None, AXES))


def state_shardings(mesh: Mesh, state: Any) -> Any:
    """How a train state lies on the mesh.

    Weights, and what the optimiser keeps in their shape, are split over "fsdp" along their largest axis that divides
    (of equal axes, the last). The rest is small and replicated: leaks, thresholds, biases, norms, counters.

    Args:
        state: any tree whose weights are leaves called "kernel"; only shapes are looked at.

    Returns:
        The same tree of `NamedSharding`.
    """
    fsdp = mesh.shape["fsdp"]

    def sharding(path, leaf):
        axes = [i for i, size in enumerate(leaf.shape) if size % fsdp == 0]
        if fsdp == 1 or not axes or getattr(path[-1], "key", None) != "kernel":
            return replicated(mesh)
        axis = max(axes, key=lambda i: (leaf.shape[i], i))
        return NamedSharding(mesh, PartitionSpec(*[None] * axis, "fsdp"))

    return jax.tree_util.tree_map_with_path(sharding, state)


def place(tree: Any, sharding: NamedSharding) -> Any:
    """Put arrays that every process holds whole onto the mesh; each copies the parts that its own devices hold."""
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)
    # device_put would first compare the values across processes, over the network
    return jax.tree.map(lambda x: jax.make_array_from_callback(x.shape, sharding, lambda index: x[index]), tree)


def distribute(variables: Any, mesh: Mesh) -> Any:
    """Variables that every process holds whole, on the mesh as a train state has them, see `state_shardings`."""
    return jax.tree.map(place, variables, state_shardings(mesh, variables))


def rows_here(sharding: NamedSharding, count: int) -> np.ndarray:
    """Which of `count` rows this process's devices hold, in order: what it has to read of a batch."""
    here = sharding.addressable_devices_indices_map((count,)).values()
    return np.unique(np.concatenate([np.arange(count)[index] for index in here]))


def assemble(tree: Any, sharding: NamedSharding, count: int) -> Any:
    """Arrays of `count` rows on the mesh, put together from every process's `rows_here`."""
    return jax.tree.map(
        lambda x: jax.make_array_from_process_local_data(sharding, x, (count, *x.shape[1:])), tree)


def local(tree: Any, mesh: Mesh) -> Any:
    """Arrays of the mesh, gathered whole onto this process's own device. Every process must call it."""
    whole = jax.jit(lambda tree: tree, out_shardings=replicated(mesh))(tree)
    return jax.tree.map(jnp.asarray, jax.device_get(whole))
