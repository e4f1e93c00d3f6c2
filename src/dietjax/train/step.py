"""One training step, compiled and sharded over devices. The ANN's and the SNN's are the same code."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from ..core import losses
from ..core.neurons import clamp_leaks
from ..models import Network
from ..parallel.mesh import replicated, state_shardings
from .health import measure_health
from .state import TimeSchedule, TrainState, abstract_state


def make_train_step(net: Network, optimizer: optax.GradientTransformation, fetch: Callable, mesh: Mesh,
                    schedule: TimeSchedule, seed: int, accumulate: int = 1) -> Callable:
    """A compiled step (state, *arguments) -> (state, metrics), batch and state sharded over the mesh.

    The state is donated. Weights split over "fsdp" are gathered whole for the step and their gradients scattered again.

    Args:
        net: ANN or SNN.
        optimizer: from `make_optimizer`.
        fetch: the pure (key, *arguments) -> (images normalised [B, H, W, C], labels [B]) of `batches.Batches`.
        mesh: from `mesh.make_mesh`.
        schedule: timesteps and chunks.
        seed: of dropout, augmentation and Poisson spikes.
        accumulate: microbatches, whose gradients are computed one after the other and averaged. Without batch norm
            (whose statistics are then each microbatch's), dropout and Poisson spikes that is the whole batch's step, up
            to rounding.
    """
    shardings = state_shardings(mesh, abstract_state(net, optimizer))

    def gradients_of(rest, params, x, y, keys):
        """(batch statistics after these images, (loss, accuracy, spike rates, gradients) of their mean)."""
        def loss_of(params):
            (logits, record), updates = net.apply(
                {"params": params, **rest}, x, schedule.timesteps, train=True, chunk=schedule.chunk,
                truncate=schedule.truncate, remat=schedule.chunk is not None,
                rngs={"dropout": keys[0], "encode": keys[1]}, mutable=["batch_stats"])
            seen = losses.correct(logits, y).mean(), record["spike_rate"], updates
            return losses.cross_entropy(logits, y).mean(), seen

        (loss, (accuracy, rates, updates)), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
        gradients = jax.lax.with_sharding_constraint(gradients, shardings.variables["params"])
        return {**rest, **updates}, (loss, accuracy, rates, gradients)

    def train_step(state, *arguments):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), state.step), 3)
        x, y = fetch(keys[0], *arguments)
        params, rest = state.variables["params"], {k: v for k, v in state.variables.items() if k != "params"}
        # Said explicitly: a partitioner might otherwise split the layer as its weights are, and gather activations.
        whole = jax.lax.with_sharding_constraint(params, replicated(mesh))
        run = gradients_of if accumulate == 1 else partial(_by_microbatches, gradients_of, accumulate)
        rest, (loss, accuracy, rates, gradients) = run(rest, whole, x, y, keys[1:])
        changes, optimizer_state = optimizer.update(gradients, state.optimizer, params)
        new = {"params": clamp_leaks(optax.apply_updates(params, changes)), **rest}
        metrics = {"loss": loss, "accuracy": accuracy, **measure_health(net, new["params"], gradients)}
        if rates:
            metrics["spike_rate"] = jnp.array(list(rates.values()))
        return TrainState(state.step + 1, new, optimizer_state), metrics

    return jax.jit(train_step, donate_argnums=0, out_shardings=(shardings, replicated(mesh)),
                   compiler_options=compiler_options(mesh.devices.flat[0].platform))


def compiler_options(platform: str) -> dict[str, str]:
    """What XLA is told besides its defaults when a training step is compiled for this platform.

    The CPU backend orders operations for concurrency by default, which runs ahead with recomputed spikes and holds them
    all at once: VGG9, batch 128, T=5 then takes 2.4 GB of temporaries instead of 1.0 GB (jax 0.10), and no less time.
    """
    return {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"} if platform == "cpu" else {}


def _by_microbatches(function, count, rest, params, x, y, keys):
    """(rest, mean) of `function(rest, params, x, y, keys) -> (rest, values)` over microbatches, one after the
    other. Neighbours go to different ones, so every device already has its share of each, and no image moves.
    """
    x, y = (jnp.moveaxis(v.reshape(-1, count, *v.shape[1:]), 1, 0) for v in (x, y))
    keys = jax.vmap(partial(jax.random.split, num=count), out_axes=1)(keys)

    def body(carry, microbatch):
        rest, values = function(carry[0], params, *microbatch)
        return (rest, jax.tree.map(jnp.add, carry[1], values)), None

    shapes = jax.eval_shape(function, rest, params, x[0], y[0], keys[0])[1]
    start = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    (rest, total), _ = jax.lax.scan(body, (rest, start), (x, y, keys))
    return rest, jax.tree.map(lambda v: v / count, total)
