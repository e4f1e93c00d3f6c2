"""What the whole training step sends between devices, as compiled for them: nothing runs, so they may be absent."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from ..config import Parallel, Phase
from ..data import normalise, random_crop_flip
from ..models import Network
from ..parallel.collectives import RING, Collective, collectives
from ..parallel.mesh import batch_sharding, make_mesh, state_shardings
from ..parallel.targets import target
from ..train.optimizer import make_optimizer
from ..train.state import TimeSchedule, TrainState, abstract_state
from ..train.step import make_train_step
from .measure import Result, environment, temporary_bytes
from .networks import Subject

Sent = tuple[str, int]
"""(kind of collective, devices in each group that talks)."""
ALL = "all"
"""The kind in the row that has all of them together."""


def sent(subject: Subject, targets: Sequence[str], fsdp: Sequence[int], timesteps: int, dtypes: Sequence[str],
         batch_norm: bool = False) -> Result:
    """Rows by target, split of the weights, dtype, and kind of collective; and one for all of them together.

    "number" counts a step's collectives of that kind, "MB" is what they are of, "types" which part of that is of which
    element type; "sent MB" is what every device sends for them in rings. "ring MB" is the same by hand, see `by_hand`.
    Of all together also "state MB", what a device holds of the train state, and "temporary MB".

    Args:
        subject: the network, and one device's batch.
        targets: names of devices, see `dietjax.parallel.targets`.
        fsdp: over how many devices weights are split; empty: 1 (data parallel) and all.
        timesteps: T.
        dtypes: of activations; weights and what the optimiser keeps are float32.
        batch_norm: whether the network has it.

    Raises:
        InputError: no such target, or its compiler is not installed; `fsdp` does not divide its devices.
    """
    found = [target(name) for name in targets]
    meshes = [(each, make_mesh(Parallel(fsdp=over), each.devices)) for each in found
              for over in (fsdp or sorted({1, len(each.devices)}))]  # before anything is compiled
    rows = []
    for each, mesh in meshes:
        for dtype in dtypes:
            net = subject.networks(dtype)[1].clone(batch_norm=batch_norm)
            lowered, state = lowered_step(net, mesh, subject, timesteps)
            program = lowered.compile(compiler_options=each.options or None)
            labels = {"target": each.name, "devices": mesh.size, "fsdp": mesh.shape["fsdp"], "dtype": dtype}
            described = rows_of(collectives(program.as_text()), by_hand(state, mesh))
            temporary = temporary_bytes(program)
            described[-1] |= {"state MB": held(state) / 1e6,
                              "temporary MB": None if temporary is None else temporary / 1e6}
            rows += [labels | row for row in described]
    return Result(f"what a training step sends; {subject} a device, T={timesteps}", rows, environment())


def lowered_step(net: Network, mesh: Mesh, subject: Subject, timesteps: int) -> tuple[Any, TrainState]:
    """(a training step lowered for a mesh's devices, the state that it takes: shapes and where they lie). The images
    come as a set that is streamed brings them.
    """
    batch = subject.batch * mesh.size
    optimizer = make_optimizer(Phase(batch_size=batch), 10**6)

    def fetch(key, images, labels):
        channels = images.shape[-1]
        flipped = random_crop_flip(key, images, 0, True)
        return normalise(flipped, (0.5,) * channels, (0.25,) * channels, jnp.float32), labels

    step = make_train_step(net, optimizer, fetch, mesh, TimeSchedule(timesteps), 0)
    state = abstract_state(net, optimizer)
    state = jax.tree.map(lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), state,
                         state_shardings(mesh, state))
    images, labels = (jax.ShapeDtypeStruct((batch, *shape), dtype, sharding=batch_sharding(mesh))
                      for shape, dtype in ((subject.image_shape, jnp.uint8), ((), jnp.int32)))
    with jax.default_device(mesh.devices.flat[0]):  # kernels are chosen for it
        return step.lower(state, images, labels), state


def by_hand(state: TrainState, mesh: Mesh) -> dict[Sent, int]:
    """Bytes of the arrays that a step has to send for: {(kind, devices in a group): bytes}.

    Every device needs all parameters, and the sum of all devices' gradients for those that it updates. Of n devices
    that hold all weights: an all-reduce of the gradients. Where f devices share the weights out: these are gathered
    once over the f, and their gradients summed and scattered over the f, then reduced over the n/f that hold the same
    part. All in the parameters' dtype.
    Metrics and statistics of batch norm are not counted.
    """
    split = {True: 0, False: 0}
    for leaf in jax.tree.leaves(state.variables["params"]):
        split[not leaf.sharding.is_fully_replicated] += leaf.size * leaf.dtype.itemsize
    over = mesh.shape["fsdp"]
    needed: dict[Sent, int] = defaultdict(int)
    for kind, group, size in (("all-reduce", mesh.size, split[False]), ("all-gather", over, split[True]),
                              ("reduce-scatter", over, split[True]),
                              ("all-reduce", mesh.size // over, split[True] // over)):
        if size and group > 1:
            needed[kind, group] += size
    return needed


def held(state: TrainState) -> int:
    """Bytes of the state on one device."""
    return sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(state))


def rows_of(found: Sequence[Collective], needed: Mapping[Sent, int]) -> list[dict[str, Any]]:
    """A row for each kind and size of group that is found or needed, and one for all together."""
    kinds: dict[Sent, list[Collective]] = {sent: [] for sent in needed}
    for collective in found:
        kinds.setdefault((collective.kind, collective.group), []).append(collective)
    rows = []
    for (kind, group), those in kinds.items():
        size = needed.get((kind, group), 0)
        rows.append({"kind": kind, "group": group, **_counted(those),
                     "ring MB": RING[kind](group) * size / 1e6})
    together = {"kind": ALL, "group": None, **_counted(found), "ring MB": sum(row["ring MB"] for row in rows)}
    return [*rows, together]


def _counted(found):
    """Number, MB, their types, and MB sent."""
    types: dict[str, float] = defaultdict(float)
    for collective in found:
        for name, size in collective.types:
            types[name] += collective.times * size / 1e6
    return {"number": sum(c.times for c in found), "MB": sum(types.values()),
            "types": ", ".join(f"{name} {size:.4g}" for name, size in types.items()),
            "sent MB": sum(c.sent for c in found) / 1e6}
