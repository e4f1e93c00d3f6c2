"""The loop of one training phase: batches in, metrics and checkpoints out."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from .. import data
from ..analysis import memory
from ..checkpoint import Checkpoints
from ..config import Parallel, Phase
from ..errors import Stopped
from ..models import Network
from ..parallel.mesh import check_batch_size, local, make_mesh, state_shardings
from ..parallel.preemption import Preemption
from .evaluate import Interrupted, evaluate, make_eval_step
from .feed import make_feed
from .health import TrainingError, diverged
from .optimizer import learning_rate, make_optimizer
from .state import TimeSchedule, abstract_state, initial_state
from .step import make_train_step
from .window import MetricWindow

LOG_EVERY = 50
"""Training steps that a line of the log covers; an epoch's last line covers what is left of it."""


def check(net: Network, phase: Phase, name: str, schedule: TimeSchedule, parallel: Parallel) -> Mesh:
    """The mesh that a phase runs on.

    Raises:
        InputError: the devices do not divide so, the batch does not divide over them, or a step cannot fit.
    """
    mesh = make_mesh(parallel)
    check_batch_size(name, phase, mesh)
    memory.check(net, phase.microbatch_size // mesh.size, schedule.timesteps, schedule.chunk,
                 remat=schedule.chunk is not None)
    return mesh


def fit(net: Network, variables: dict, dataset: data.Dataset, phase: Phase, *, name: str, schedule: TimeSchedule, seed: int,
        augment: Any, freeze: Sequence[str], checkpoints: Checkpoints, begin: Callable[[int, bool], None],
        log: Callable[[str, int, dict], None], advance: Callable[[int, int, dict], None],
        parallel: Parallel = Parallel()) -> tuple[dict, float]:
    """Train one phase to its end, from its last checkpoint if there is one.

    Args:
        net, variables, dataset, phase, schedule: what is trained, from where, on what, how.
        name: of the phase, for messages.
        seed: of the order of examples, dropout and augmentation.
        augment: the `config.Data`.
        freeze: neuron parameters that are not trained.
        checkpoints: where the state is kept; one is written after every `phase.checkpoint_every` epochs, at the end,
            and where a signal stops the phase. A signal that comes during the evaluation at the end of an epoch stops
            that too; it is repeated when the phase resumes.
        begin: called once with the step that training starts or resumes from, and whether that is saved untested.
        log: called with ("train" | "test", step, values).
        advance: called with (step, total steps, latest values) after each look at the metrics.
        parallel: the mesh. On several hosts every process calls this, and each of the callbacks.

    Returns:
        (variables after the last step, whole and on this process's own device; seconds of training in all, earlier
        sessions included).

    Raises:
        Stopped: SIGTERM, SIGHUP or Ctrl-C; the state after the step it came in is saved.
        TrainingError: it diverged; nothing of that is saved.
        InputError: a step cannot fit; or a test image cannot be read, and then the state before it is saved (on
            several hosts it is not: those that can read theirs wait for the one that cannot).
        SaveError: the machine could not write a checkpoint.
    """
    mesh, count = check(net, phase, name, schedule, parallel), dataset.train.num_examples
    total_steps = -(-phase.epochs * count // phase.batch_size)
    optimizer = make_optimizer(phase, total_steps, freeze)
    shardings = state_shardings(mesh, abstract_state(net, optimizer))
    # a copy, because steps donate it: the caller keeps what is his
    state = jax.jit(lambda v: initial_state(jax.tree.map(jnp.copy, v), optimizer), out_shardings=shardings)(variables)
    restored = checkpoints.restore(state)
    start, seconds, gathered = 0, 0.0, {}
    if restored is not None:
        state, metadata, start = restored
        seconds, gathered = metadata["seconds"], metadata["gathered"]
    untested = restored is not None and metadata.get("untested", False)
    begin(start, untested)
    advance(start, total_steps, {})
    if start >= total_steps and not untested:
        return local(state.variables, mesh), seconds
    feed = make_feed(dataset, augment, seed, phase.batch_size, mesh)
    train_step = make_train_step(net, optimizer, feed.fetch, mesh, schedule, seed, phase.accumulate)
    eval_step = make_eval_step(net, dataset, schedule, mesh)
    rate = learning_rate(phase, total_steps)
    session = time.perf_counter()
    meter = MetricWindow(net, name, phase.batch_size, gathered)

    def save(done, metric, untested=False):
        metadata = {"seconds": seconds + time.perf_counter() - session, "gathered": meter.gathered,
                    "untested": untested}
        checkpoints.save(done, state, metadata, metric=metric)

    def test(done):
        """The accuracy after so many steps."""
        tested, _ = evaluate(eval_step, state.variables, dataset.test, phase.microbatch_size, mesh, seed, preemption.reached)
        if not np.isfinite(tested["loss"]):  # never saved
            raise diverged(name, f"loss on the test set is {tested['loss']:.4g} after step {done - 1}")
        log("test", done, {"epoch": done * phase.batch_size / count, **tested})
        return tested["accuracy"]

    def stop(done):
        checkpoints.wait()
        raise Stopped(f"{name} is saved at step {done} of {total_steps}; the same command goes on from there",
                      preemption.signal)

    try:
        with Preemption() as preemption:
            if untested:
                try:
                    test(start)
                except Interrupted:
                    stop(start)
            for step in range(start, total_steps):
                with meter.waiting():
                    arguments = feed.arguments(step)
                state, metrics = train_step(state, *arguments)
                meter.add(metrics)
                done = step + 1
                epoch = done * phase.batch_size // count
                epoch_ends = epoch > step * phase.batch_size // count or done == total_steps
                if epoch_ends or len(meter) >= LOG_EVERY:
                    values = {"epoch": done * phase.batch_size / count, "learning_rate": float(rate(step)),
                              **meter.line(done)}
                    log("train", done, values)
                    advance(done, total_steps, values)
                ends = done == total_steps or (epoch_ends and epoch % phase.checkpoint_every == 0)
                if ends:
                    try:
                        save(done, test(done))
                    except Interrupted:
                        save(done, None, untested=True)
                        stop(done)
                    except data.DataError:
                        if jax.process_count() == 1:
                            save(done, None, untested=True)
                            checkpoints.wait()
                        raise
                    meter.pause()
                if preemption.reached():
                    if not ends:
                        meter.collect(done)
                        save(done, None)
                    stop(done)
    except TrainingError as error:
        kept = checkpoints.latest_step()
        kept = "There is no checkpoint yet." if kept is None else f"The checkpoint of step {kept} is good, and kept."
        raise TrainingError(f"{error} {kept}") from error
    checkpoints.wait()
    return local(state.variables, mesh), seconds + time.perf_counter() - session
