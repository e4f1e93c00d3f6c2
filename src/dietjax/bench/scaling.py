"""The whole training step on more and more devices, each with the same batch: time, and the bytes that they send."""

import os
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ..config import Data, Parallel, Phase
from ..data import Dataset, Split
from ..errors import InputError
from ..models import Network
from ..parallel.collectives import collectives
from ..parallel.mesh import make_mesh, state_shardings
from ..train.batches import ResidentBatches
from ..train.optimizer import make_optimizer
from ..train.state import TimeSchedule, abstract_state, initial_state
from ..train.step import make_train_step
from .amortise import Repeatable
from .measure import Call, Result, alternate, environment, temporary_bytes
from .networks import Subject

USUAL = (1, 2, 4, 8)


def scaling(subject: Subject, devices: Sequence[int], timesteps: int, dtypes: Sequence[str], runs: int) -> Result:
    """Weak scaling, data parallel: rows by number of devices, each compared with one device.

    "efficiency" is one device's time over the row's. "sent MB" is what every device sends in a step, as its compiled
    program says; "ring MB" what a ring must send for the gradients, 2(n - 1)/n of the parameters.

    Args:
        subject: the network, and one device's batch.
        devices: numbers of them; empty: 1, 2, 4, 8 of those there are. One device is always among them.
        timesteps: T.
        dtypes: of activations; weights and gradients are float32.
        runs: timed turns.

    Raises:
        InputError: more devices than there are.
    """
    there = jax.device_count()
    if max(devices, default=1) > there:
        raise InputError(f"{max(devices)} devices asked for, {jax.default_backend()} has {there}; virtual CPU devices "
                         f"come with XLA_FLAGS=--xla_force_host_platform_device_count={max(devices)} JAX_PLATFORMS=cpu")
    counts = sorted({1, *(devices or (n for n in USUAL if n <= there))})
    calls, sent = [], []
    for dtype in dtypes:
        for count in counts:
            net = subject.networks(dtype)[1]
            run, temporary, traffic = _training(net, subject, count, timesteps)
            calls.append(Call({"devices": count, "dtype": dtype, "T": timesteps}, run, temporary, base=count == 1))
            sent.append(traffic)
    rows = alternate(calls, runs)
    for row, traffic in zip(rows, sent, strict=True):
        row["images/s"] = row["devices"] * subject.batch / row["ms"] * 1e3
        row["efficiency"] = 1 / row["ratio"]
        row |= traffic
    notes = (f"the {there} devices share {os.cpu_count()} CPU cores: times and efficiency here say nothing about "
             "scaling, only the bytes do",) if jax.default_backend() == "cpu" else ()
    return Result(f"training step, weak scaling; {subject} a device", rows, environment(), notes)


def _training(net: Network, subject: Subject, count: int,
              timesteps: int) -> tuple[Repeatable, int | None, dict[str, float]]:
    """(one step of a training on the first `count` devices, bytes of its temporaries, what a device sends in it)."""
    mesh, batch = make_mesh(Parallel(), jax.devices()[:count]), subject.batch * count
    batches = ResidentBatches(_dataset(subject, batch), Data(), 0, batch, mesh)
    optimizer = make_optimizer(Phase(batch_size=batch), 10**6)

    def start(key):
        return initial_state(net.init(key, jnp.zeros((1, *subject.image_shape))), optimizer)

    state = jax.jit(start, out_shardings=state_shardings(mesh, abstract_state(net, optimizer)))(jax.random.key(0))
    step = make_train_step(net, optimizer, batches.fetch, mesh, TimeSchedule(timesteps), 0)
    program = step.lower(state, *batches.arguments(0)).compile()
    weights = sum(leaf.nbytes for leaf in jax.tree.leaves(state.variables["params"]))
    traffic = {"sent MB": sum(c.sent for c in collectives(program.as_text())) / 1e6,
               "ring MB": 2 * (count - 1) / count * weights / 1e6}
    done = 0

    def run(count=1):
        nonlocal state, done
        for _ in range(count):  # each needs the state that the one before it gives
            state, metrics = program(state, *batches.arguments(done))
            done += 1
        return state, metrics

    return Repeatable(run, lambda count: partial(run, count)), temporary_bytes(program), traffic


def _dataset(subject: Subject, count: int) -> Dataset:
    """So many random images, the same ones for the same count."""
    rng = np.random.default_rng(0)
    split = Split(rng.integers(0, 256, (count, *subject.image_shape), np.uint8),
                       rng.integers(0, subject.num_classes, count, np.int32))
    channels = subject.image_shape[-1]
    return Dataset("random", split, split, tuple(map(str, range(subject.num_classes))), (0.5,) * channels,
                        (0.25,) * channels)
