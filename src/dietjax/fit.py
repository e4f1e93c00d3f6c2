"""The loop of one training phase: batches in, metrics and checkpoints out."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from . import data
from .checkpoint import Checkpoints
from .config import Phase
from .feed import make_feed
from .models import Network
from .train import (
    Schedule,
    check_batch_size,
    check_health,
    data_mesh,
    diverged,
    evaluate,
    initial_state,
    learning_rate,
    make_eval_step,
    make_optimizer,
    make_train_step,
)

LOG_EVERY = 50
"""Training steps between two looks at their metrics: each look waits for the device."""


def fit(net: Network, variables: dict, dataset: data.Dataset, phase: Phase, *, name: str, schedule: Schedule, seed: int,
        augment: Any, fixed: Sequence[str], checkpoints: Checkpoints, begin: Callable[[int], None],
        log: Callable[[str, int, dict], None], advance: Callable[[int, int, dict], None]) -> tuple[dict, float]:
    """Train one phase to its end, from its last checkpoint if there is one.

    Args:
        net, variables, dataset, phase, schedule: what is trained, from where, on what, how.
        name: of the phase, for messages.
        seed: of the order of examples, dropout and augmentation.
        augment: the `config.Data`.
        fixed: neuron parameters that are not trained.
        checkpoints: where the state is kept; one is written after every `phase.checkpoint_every` epochs and at the end.
        begin: called once with the step that training starts or resumes from.
        log: called with ("train" | "test", step, values).
        advance: called with (step, total steps, latest values) after each look at the metrics.

    Returns:
        (variables after the last step, seconds of training in all, earlier sessions included).
    """
    mesh, count = data_mesh(), dataset.train.num_examples
    check_batch_size(name, phase, mesh.size)
    total_steps = -(-phase.epochs * count // phase.batch_size)
    optimizer = make_optimizer(phase, total_steps, fixed)
    replicated = NamedSharding(mesh, PartitionSpec())
    state = initial_state(variables, optimizer)
    state = jax.tree.map(jnp.copy, jax.device_put(state, replicated))  # steps donate it: the caller keeps what is his
    restored = checkpoints.restore(state)
    start, seconds = 0, 0.0
    if restored is not None:
        state, metadata, start = restored
        seconds = metadata["seconds"]
    begin(start)
    advance(start, total_steps, {})
    if start >= total_steps:
        return state.variables, seconds
    feed = make_feed(dataset, augment, seed, phase.batch_size, mesh)
    train_step = make_train_step(net, optimizer, feed.fetch, mesh, schedule, seed)
    eval_step = make_eval_step(net, dataset, schedule)
    rate = learning_rate(phase, total_steps)
    names = [layer.name for layer in net.layers]
    session = time.perf_counter()
    pending, since, waited = [], None, 0.0

    def look(step):
        """Wait for the pending steps, check and log them."""
        nonlocal pending, since, waited
        seen = jax.device_get(pending)
        for i, metrics in enumerate(seen):
            check_health(net, name, step - len(seen) + i, metrics)
        now = time.perf_counter()
        values = {"epoch": step * phase.batch_size / count} | {
            key: float(np.mean([m[key] for m in seen])) for key in ("loss", "accuracy")}
        values["learning_rate"] = float(rate(step - 1))
        values["images_per_second"] = len(seen) * phase.batch_size / (now - since)
        values["input_wait"] = waited / (now - since)  # the share of these steps' time spent waiting for their images
        for key in ("threshold", "leak"):
            if key in seen[-1]:
                values[key] = dict(zip(names, map(float, seen[-1][key]), strict=False))
        log("train", step, values)
        advance(step, total_steps, values)
        pending, since, waited = [], time.perf_counter(), 0.0

    for step in range(start, total_steps):
        since = since or time.perf_counter()
        asked = time.perf_counter()
        arguments = feed.arguments(step)
        waited += time.perf_counter() - asked
        state, metrics = train_step(state, *arguments)
        pending.append(metrics)
        done = step + 1
        epoch = done * phase.batch_size // count
        epoch_ends = epoch > step * phase.batch_size // count or done == total_steps
        if epoch_ends or len(pending) >= LOG_EVERY:
            look(done)
        if done == total_steps or (epoch_ends and epoch % phase.checkpoint_every == 0):
            tested, _ = evaluate(eval_step, state.variables, dataset.test, phase.batch_size, mesh, seed)
            if not np.isfinite(tested["loss"]):  # never saved
                raise diverged(name, f"loss on the test set is {tested['loss']:.4g} after step {done - 1}")
            log("test", done, {"epoch": done * phase.batch_size / count, **tested})
            checkpoints.save(done, state, {"seconds": seconds + time.perf_counter() - session,
                                           "accuracy": tested["accuracy"]}, metric=tested["accuracy"])
            since = time.perf_counter()
    checkpoints.wait()
    return state.variables, seconds + time.perf_counter() - session
