"""One training step, compiled and sharded over devices. The ANN's and the SNN's are the same code."""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from ..config import Phase
from ..core import losses
from ..core.neurons import clamp_leaks
from ..errors import InputError
from ..models import Network
from ..parallel.mesh import replicated, state_shardings
from ..types import Array
from .health import measure_health
from .optimizer import named
from .state import TimeSchedule, TrainState, abstract_state, update_average


def phase_loss(phase: Phase, logits: Array, labels: Array, teacher: Array | None = None) -> Array:
    """What a step of this phase minimises, the mean over its images:

        (1 - d) [(1 - w) CE(readout after T) + w TET(each timestep's output)] + d KL(teacher || readout / T)

    with d = distillation, w = tet_weight; with the defaults the first cross-entropy alone (Rathi & Roy).

    Args:
        phase: the weights of its terms, and their settings.
        logits: [B, T, K], the readout after each timestep, the sum of what the timesteps add.
        labels: class indices [B].
        teacher: the teacher's logits [B, K], for distillation.

    Raises:
        InputError: distillation without a teacher.
    """
    loss = losses.cross_entropy(logits[:, -1], labels, phase.label_smoothing).mean()
    if phase.tet_weight:
        outputs = losses.increments(logits)
        each = losses.temporal_efficient(outputs, labels, phase.label_smoothing, phase.tet_lambda, phase.tet_mean)
        loss = (1 - phase.tet_weight) * loss + phase.tet_weight * each.mean()
    if phase.distillation:
        if teacher is None:
            raise InputError("distillation learns from a teacher's logits, and none came with the labels: give `fit` a "
                             "Teacher, or set distillation to 0")
        distance = losses.distillation(logits[:, -1] / logits.shape[1], teacher, phase.temperature)
        loss = (1 - phase.distillation) * loss + phase.distillation * distance.mean()
    return loss


def make_train_step(net: Network, optimizer: optax.GradientTransformation, fetch: Callable, mesh: Mesh,
                    schedule: TimeSchedule, seed: int, phase: Phase = Phase(), freeze: Sequence[str] = ()) -> Callable:
    """A compiled step (state, *arguments) -> (state, metrics), batch and state sharded over the mesh.

    The state is donated. Weights split over "fsdp" are gathered whole for the step and their gradients scattered again.

    Args:
        net: ANN or SNN.
        optimizer: from `make_optimizer`.
        fetch: the pure (key, *arguments) -> (images normalised [B, H, W, C], labels [B]) of `batches.Batches`; for
            distillation the teacher's logits [B, K] come third.
        mesh: from `mesh.make_mesh`.
        schedule: timesteps and chunks.
        seed: of dropout, augmentation and Poisson spikes.
        phase: the loss; the average; and `accumulate`, the microbatches, whose gradients are computed one after the
            other and averaged. Without batch norm (whose statistics are then each microbatch's), dropout and Poisson
            spikes that is the whole batch's step, up to rounding.
        freeze: as `make_optimizer` got it; no gradients of these are computed.
    """
    step, shardings = _train_step(net, optimizer, fetch, mesh, schedule, seed, phase, freeze)
    return _compiled(step, mesh, shardings)


def make_train_steps(room: int, net: Network, optimizer: optax.GradientTransformation, fetch: Callable, mesh: Mesh,
                     schedule: TimeSchedule, seed: int, phase: Phase = Phase(), freeze: Sequence[str] = ()) -> Callable:
    """As `make_train_step`, one program for up to `room` steps: (state, count, constant, moving) -> (state, metrics
    [room, ...], of which the first `count` mean something), with what `Batches.several` gives.

    Starting a small network's step, with a hundred arrays, takes an accelerator longer than the step does. On a CPU,
    whose convolutions are slow inside a loop, single steps are faster.
    """
    step, shardings = _train_step(net, optimizer, fetch, mesh, schedule, seed, phase, freeze)

    def steps(state, count, constant, moving):
        def at(i):
            return [x[i] for x in moving]

        def body(i, carry):
            state, metrics = step(carry[0], *constant, *at(i))
            return state, jax.tree.map(lambda all_of_them, one: all_of_them.at[i].set(one), carry[1], metrics)

        shapes = jax.eval_shape(step, state, *constant, *at(0))[1]
        return jax.lax.fori_loop(0, count, body, (state, jax.tree.map(
            lambda x: jnp.zeros((room, *x.shape), x.dtype), shapes)))

    return _compiled(steps, mesh, shardings)


def _compiled(function, mesh, shardings):
    return jax.jit(function, donate_argnums=0, out_shardings=(shardings, replicated(mesh)),
                   compiler_options=compiler_options(mesh.devices.flat[0].platform))


def _train_step(net, optimizer, fetch, mesh, schedule, seed, phase, freeze):
    """(One step as a function, how the state that it takes and gives lies on the mesh)."""
    shardings = state_shardings(mesh, abstract_state(net, optimizer, phase.ema_decay > 0))

    def gradients_of(rest, params, x, targets, keys):
        """(batch statistics after these images, (loss, accuracy, share of finite images, spike rates, gradients) of
        their mean).
        """
        def loss_of(params):
            params = jax.tree.map(lambda x, still: jax.lax.stop_gradient(x) if still else x, params,
                                  named(params, freeze))
            (logits, record), updates = net.apply(
                {"params": params, **rest}, x, schedule.timesteps, train=True, chunk=schedule.chunk,
                truncate=schedule.truncate, remat=schedule.chunk is not None,
                rngs={"dropout": keys[0], "encode": keys[1]}, mutable=["batch_stats"])
            seen = losses.correct(logits, targets[0]).mean(), record["spike_rate"], updates
            return phase_loss(phase, record["logits"], *targets), seen

        (loss, (accuracy, rates, updates)), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
        gradients = jax.lax.with_sharding_constraint(gradients, shardings.variables["params"])
        finite = jnp.isfinite(x).all(tuple(range(1, x.ndim))).mean()  # a sum over devices as the loss is, and with it
        return {**rest, **updates}, (loss, accuracy, finite, rates, gradients)

    def train_step(state, *arguments):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), state.step), 3)
        x, *targets = fetch(keys[0], *arguments)
        params, rest = state.variables["params"], {k: v for k, v in state.variables.items() if k != "params"}
        whole = _gathered(net, params, shardings.variables["params"], mesh)
        run = gradients_of if phase.accumulate == 1 else partial(_by_microbatches, gradients_of, phase.accumulate)
        rest, (loss, accuracy, finite, rates, gradients) = run(rest, whole, x, targets, keys[1:])
        changes, optimizer_state = optimizer.update(gradients, state.optimizer, params)
        new = {"params": clamp_leaks(optax.apply_updates(params, changes)), **rest}
        metrics = {"loss": loss, "accuracy": accuracy, "finite_images": finite,
                   **measure_health(net, new["params"], gradients, named(params, freeze))}
        if rates:
            metrics["spike_rate"] = rates
        average = update_average(state, new, phase.ema_decay)
        return TrainState(state.step + 1, new, optimizer_state, average), metrics

    return train_step, shardings


def _gathered(net, params, shardings, mesh):
    """The parameters, whole on every device.

    Said explicitly: a partitioner might otherwise split the layer as its weights are, and gather activations. Weights
    that are split travel in the dtype in which the network computes with them, to which it rounds them in any case:
    half the bytes in bfloat16. (A TPU's compiler would do so by itself, a GPU's does not, and without the barrier would
    take it back.)
    """
    def whole(leaf, sharding):
        if net.dtype is None or sharding.is_fully_replicated:
            return jax.lax.with_sharding_constraint(leaf, replicated(mesh))
        narrow = jax.lax.with_sharding_constraint(leaf.astype(net.dtype), replicated(mesh))
        return jax.lax.optimization_barrier(narrow).astype(leaf.dtype)

    return jax.tree.map(whole, params, shardings)


def compiler_options(platform: str) -> dict[str, str]:
    """What XLA is told besides its defaults when a training step is compiled for this platform.

    The CPU backend orders operations for concurrency by default, which runs ahead with recomputed spikes and holds them
    all at once: VGG9, batch 128, T=5 then takes 2.4 GB of temporaries instead of 1.0 GB (jax 0.10), and no less time.
    """
    return {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"} if platform == "cpu" else {}


def _by_microbatches(function, count, rest, params, x, targets, keys):
    """(rest, mean) of `function(rest, params, x, targets, keys) -> (rest, values)` over microbatches, one after the
    other. Neighbours go to different ones, so every device already has its share of each, and no image moves.
    """
    x, *targets = (jnp.moveaxis(v.reshape(-1, count, *v.shape[1:]), 1, 0) for v in (x, *targets))
    keys = jax.vmap(partial(jax.random.split, num=count), out_axes=1)(keys)

    def body(carry, microbatch):
        rest, values = function(carry[0], params, *microbatch)
        return (rest, jax.tree.map(jnp.add, carry[1], values)), None

    shapes = jax.eval_shape(function, rest, params, x[0], [v[0] for v in targets], keys[0])[1]
    start = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    (rest, total), _ = jax.lax.scan(body, (rest, start), (x, targets, keys))
    return rest, jax.tree.map(lambda v: v / count, total)
