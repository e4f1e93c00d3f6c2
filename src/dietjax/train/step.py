"""Training: the state and the sharded steps. The ANN's and the SNN's are the same code."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from . import data, readout
from .config import Phase
from .errors import InputError
from .mesh import assemble, batch_sharding, replicated, rows_here, state_shardings
from .models import Network
from .neurons import clamp_leaks
from .types import Array

TOP = 5
"""An evaluation says how often the label is among so many classes, where there are more."""


class TrainState(NamedTuple):
    """Everything that a step changes; random keys follow from the seed and the step."""

    step: Array
    variables: dict
    """{"params", and with batch norm "batch_stats"}."""
    optimizer: optax.OptState


class Schedule(NamedTuple):
    """How the network runs over time."""

    timesteps: int = 1
    chunk: int | None = None
    truncate: bool = False


class TrainingError(InputError):
    """Training diverged; says at which step and what went wrong first."""


class Interrupted(Exception):
    """An evaluation was left off."""


def learning_rate(phase: Phase, total_steps: int) -> optax.Schedule:
    """The phase's rate at the first step, along a cosine to 0 after the last."""
    return optax.cosine_decay_schedule(phase.learning_rate, total_steps)


def make_optimizer(phase: Phase, total_steps: int, fixed: Sequence[str] = ()) -> optax.GradientTransformation:
    """Adam with amsgrad or SGD with momentum, cosine to 0; an L2 penalty on weights alone.

    Args:
        phase: which, and with what rates.
        total_steps: length of the cosine.
        fixed: names of neuron parameters that stay as they are ("leak", "threshold").
    """
    rate = learning_rate(phase, total_steps)
    step = optax.amsgrad(rate) if phase.optimizer == "adam" else optax.sgd(rate, momentum=phase.momentum)
    decay = optax.add_decayed_weights(phase.weight_decay, mask=partial(_named, names=("kernel",)))
    still = optax.masked(optax.set_to_zero(), partial(_named, names=tuple(fixed)))
    return optax.chain(*([decay] if phase.weight_decay else []), step, *([still] if fixed else []))


def initial_state(variables: dict, optimizer: optax.GradientTransformation) -> TrainState:
    """The state before the first step."""
    return TrainState(jnp.zeros((), jnp.int32), variables, optimizer.init(variables["params"]))


def abstract_state(net: Network, optimizer: optax.GradientTransformation) -> TrainState:
    """Shapes and dtypes of the state that trains this network, without computing anything: what a checkpoint holds."""
    def build(key):
        return initial_state(net.init(key, jnp.zeros((1, *net.image_shape))), optimizer)

    return jax.eval_shape(build, jax.random.key(0))


def _named(tree, names):
    """Which leaves of a tree are called one of these names."""
    def called(path):
        return getattr(path[-1], "name", getattr(path[-1], "key", None))

    return jax.tree_util.tree_map_with_path(lambda path, _: called(path) in names, tree)


def make_train_step(net: Network, optimizer: optax.GradientTransformation, fetch: Callable, mesh: Mesh,
                    schedule: Schedule, seed: int, accumulate: int = 1) -> Callable:
    """A compiled step (state, *arguments) -> (state, metrics), batch and state sharded over the mesh.

    The state is donated. Weights split over "fsdp" are gathered whole for the step and their gradients scattered again.

    Args:
        net: ANN or SNN.
        optimizer: from `make_optimizer`.
        fetch: a feed's pure (key, *arguments) -> (images normalised [B, H, W, C], labels [B]), see `feed.Resident`.
        mesh: from `mesh.make_mesh`.
        schedule: timesteps and blocks.
        seed: of dropout, augmentation and Poisson spikes.
        accumulate: parts of the batch whose gradients are computed one after the other and averaged. Without batch norm
            (whose statistics are then each part's), dropout and Poisson spikes that is the whole batch's step, up to
            rounding.
    """
    shardings = state_shardings(mesh, abstract_state(net, optimizer))

    def part_of_step(rest, params, x, y, keys):
        """(batch statistics after these images, (loss, accuracy, spike rates, gradients) of their mean)."""
        def loss_of(params):
            (logits, record), updates = net.apply(
                {"params": params, **rest}, x, schedule.timesteps, train=True, chunk=schedule.chunk,
                truncate=schedule.truncate, remat=schedule.chunk is not None,
                rngs={"dropout": keys[0], "encode": keys[1]}, mutable=["batch_stats"])
            seen = readout.correct(logits, y).mean(), record["spike_rate"], updates
            return readout.cross_entropy(logits, y).mean(), seen

        (loss, (accuracy, rates, updates)), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
        gradients = jax.lax.with_sharding_constraint(gradients, shardings.variables["params"])
        return {**rest, **updates}, (loss, accuracy, rates, gradients)

    def train_step(state, *arguments):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), state.step), 3)
        x, y = fetch(keys[0], *arguments)
        params, rest = state.variables["params"], {k: v for k, v in state.variables.items() if k != "params"}
        # Asked for, so that no partitioner takes a split weight for a reason to split the layer and gather activations.
        whole = jax.lax.with_sharding_constraint(params, replicated(mesh))
        run = part_of_step if accumulate == 1 else partial(_in_parts, part_of_step, accumulate)
        rest, (loss, accuracy, rates, gradients) = run(rest, whole, x, y, keys[1:])
        changes, optimizer_state = optimizer.update(gradients, state.optimizer, params)
        new = {"params": clamp_leaks(optax.apply_updates(params, changes)), **rest}
        metrics = {"loss": loss, "accuracy": accuracy, **_health(net, new["params"], gradients)}
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


def _in_parts(function, count, rest, params, x, y, keys):
    """(rest, mean) of `function(rest, params, x, y, keys) -> (rest, values)` over parts of the batch, one after the
    other. Neighbours go to different parts: so a device's images are always of its own share, and none move.
    """
    x, y = (jnp.moveaxis(v.reshape(-1, count, *v.shape[1:]), 1, 0) for v in (x, y))
    keys = jax.vmap(partial(jax.random.split, num=count), out_axes=1)(keys)

    def body(carry, part):
        rest, values = function(carry[0], params, *part)
        return (rest, jax.tree.map(jnp.add, carry[1], values)), None

    shapes = jax.eval_shape(function, rest, params, x[0], y[0], keys[0])[1]
    start = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    (rest, total), _ = jax.lax.scan(body, (rest, start), (x, y, keys))
    return rest, jax.tree.map(lambda v: v / count, total)


def _health(net, params, gradients):
    """Per layer, in order, after the step: mean leak and threshold, and whether everything is what it must be."""
    names = [layer.name for layer in net.layers]
    neurons = [params[name]["neuron"] for name in names if "neuron" in params[name]]
    finite = [jnp.all(jnp.array([jnp.isfinite(x).all() for x in jax.tree.leaves((gradients[name], params[name]))]))
              for name in names]
    found = {"finite": jnp.array(finite)}
    if neurons and hasattr(neurons[0], "threshold"):
        found["threshold"] = jnp.array([n.threshold.mean() for n in neurons])
        found["least_threshold"] = jnp.array([n.threshold.min() for n in neurons])
    if neurons and hasattr(neurons[0], "leak"):
        found["leak"] = jnp.array([n.leak.mean() for n in neurons])
    return found


def check_health(net: Network, phase: str, step: int, metrics: dict) -> None:
    """Stop at the first step whose loss, gradients, thresholds or leaks are not what they must be.

    Raises:
        TrainingError: naming the step and every layer concerned, from input to output.
    """
    names = np.array([layer.name for layer in net.layers])
    wrong = [f"threshold of {name} is {value:.4g} (must be > 0)" for name, value in
             zip(names, metrics.get("least_threshold", ()), strict=False) if not value > 0]  # true for NaN too
    wrong += [f"leak of {name} is {value:.4g}" for name, value in
              zip(names, metrics.get("leak", ()), strict=False) if not np.isfinite(value)]
    broken = names[~metrics["finite"]]
    if len(broken):
        wrong.append(f"weights or their gradient are not finite in {', '.join(broken)}")
    if not wrong and np.isfinite(metrics["loss"]):
        return
    if "threshold" in metrics and not wrong:
        wrong.append("leaks and thresholds are in range")
    raise diverged(phase, f"loss is {metrics['loss']:.4g} at step {step}", wrong)


def diverged(phase: str, what: str, wrong: Sequence[str] = ()) -> TrainingError:
    """The error of a phase that cannot go on, and what to do."""
    return TrainingError(f"{phase}: {what}{': ' if wrong else ''}{'; '.join(wrong)}. "
                         f"Lower {phase}.learning_rate and train into a new workdir.")


def make_eval_step(net: Network, dataset: data.Dataset, schedule: Schedule, mesh: Mesh) -> Callable:
    """A compiled (variables, images uint8, labels, key) -> what `evaluate` gathers from one batch."""

    @partial(jax.jit, out_shardings=replicated(mesh))  # every process reads it
    def eval_step(variables, images, labels, key):
        variables = jax.lax.with_sharding_constraint(variables, replicated(mesh))
        x = data.normalise(images, dataset.mean, dataset.std, jnp.float32)
        logits, record = net.apply(variables, x, schedule.timesteps, chunk=schedule.chunk, rngs={"encode": key})
        examples = {"loss": readout.cross_entropy(logits, labels), "predicted": jnp.argmax(logits, axis=-1),
                    "correct": readout.correct(record["logits"], labels)}
        if dataset.num_classes > TOP:
            examples["in_top"] = readout.correct_in_top(logits, labels, TOP)
        return examples, {k: record[k] for k in ("spike_rate", "input_rate") if k in record}

    return eval_step


def evaluate(eval_step: Callable, variables: dict, split: data.Split | data.Stream, batch_size: int, mesh: Mesh,
             seed: int = 0, stop: Callable[[], bool] = lambda: False) -> tuple[dict, np.ndarray]:
    """Every example exactly once.

    stop: asked after every batch whether to leave off, by every process with the same answer.

    Returns:
        ({"loss", "accuracy", "accuracy_by_timestep" [T], "top5_accuracy" where there are more than 5 classes,
        "spike_rate" {layer: ...}, "input_rate" under Poisson}, predicted classes [N]).

    Raises:
        Interrupted: `stop` said so.
    """
    def sharding(size):  # the last batch may not divide over the devices: then each takes it whole
        return batch_sharding(mesh) if size % mesh.size == 0 else replicated(mesh)

    examples, rates, count, start = [], [], split.num_examples, 0
    for batch in split.batches(batch_size, lambda size: rows_here(sharding(size), size)):
        size = min(batch_size, count - start)
        images, labels = assemble(batch, sharding(size), size)
        key = jax.random.fold_in(jax.random.key(seed), start)
        seen, rate = jax.device_get(eval_step(variables, images, labels, key))
        examples.append(seen)
        rates.append(jax.tree.map(lambda r, size=size: float(r) * size / count, rate))
        start += size
        if stop():
            raise Interrupted
    gathered = {name: np.concatenate([e[name] for e in examples]) for name in examples[0]}
    by_timestep = gathered["correct"].mean(0).tolist()
    metrics = {"loss": float(gathered["loss"].mean()), "accuracy": by_timestep[-1], "accuracy_by_timestep": by_timestep}
    if "in_top" in gathered:
        metrics["top5_accuracy"] = float(gathered["in_top"].mean())
    return metrics | jax.tree.map(lambda *r: sum(r), *rates), gathered["predicted"]
