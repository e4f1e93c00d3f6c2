"""Training: the state and the sharded steps. The ANN's and the SNN's are the same code."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from . import data, readout
from .config import Phase
from .errors import InputError
from .models import Network
from .neurons import clamp_leaks
from .types import Array


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


def data_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """All devices along one axis, "data": each takes its share of every batch."""
    devices = jax.devices() if devices is None else devices
    return jax.make_mesh((len(devices),), ("data",), devices=devices, axis_types=(AxisType.Auto,))


def check_batch_size(name: str, phase: Phase, devices: int) -> None:
    """Every device takes the same share of a batch.

    Raises:
        InputError: the phase's batch does not divide over the devices.
    """
    if phase.batch_size % devices:
        raise InputError(f"{name}.batch_size {phase.batch_size} does not divide over {devices} devices; "
                         f"use a multiple of {devices}")


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
                    schedule: Schedule, seed: int) -> Callable:
    """A compiled step (state, *arguments) -> (state, metrics), the batch sharded over the mesh.

    Args:
        net: ANN or SNN.
        optimizer: from `make_optimizer`.
        fetch: a feed's pure (key, *arguments) -> (images normalised [B, H, W, C], labels [B]), see `feed.Resident`.
        mesh: from `data_mesh`.
        schedule: timesteps and blocks.
        seed: of dropout, augmentation and Poisson spikes.
    """
    def train_step(state, *arguments):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), state.step), 3)
        x, y = fetch(keys[0], *arguments)
        params, rest = state.variables["params"], {k: v for k, v in state.variables.items() if k != "params"}

        def loss_of(params):
            (logits, _), updates = net.apply(
                {"params": params, **rest}, x, schedule.timesteps, train=True, chunk=schedule.chunk,
                truncate=schedule.truncate, remat=schedule.chunk is not None,
                rngs={"dropout": keys[1], "encode": keys[2]}, mutable=["batch_stats"])
            return readout.cross_entropy(logits, y).mean(), (readout.correct(logits, y).mean(), updates)

        (loss, (accuracy, updates)), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
        changes, optimizer_state = optimizer.update(gradients, state.optimizer, params)
        new = {"params": clamp_leaks(optax.apply_updates(params, changes)), **updates}
        metrics = {"loss": loss, "accuracy": accuracy, **_health(net, new["params"], gradients)}
        return TrainState(state.step + 1, new, optimizer_state), metrics

    return jax.jit(train_step, donate_argnums=0, out_shardings=NamedSharding(mesh, PartitionSpec()))


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
    return TrainingError(f"{phase}: {what}{': ' if wrong else ''}{'; '.join(wrong)}. The last good checkpoint is kept. "
                         f"Lower {phase}.learning_rate and train into a new workdir.")


def make_eval_step(net: Network, dataset: data.Dataset, schedule: Schedule) -> Callable:
    """A compiled (variables, images uint8, labels, key) -> what `evaluate` gathers from one batch."""

    @jax.jit
    def eval_step(variables, images, labels, key):
        x = data.normalise(images, dataset.mean, dataset.std, jnp.float32)
        logits, record = net.apply(variables, x, schedule.timesteps, chunk=schedule.chunk, rngs={"encode": key})
        examples = {"loss": readout.cross_entropy(logits, labels), "predicted": jnp.argmax(logits, axis=-1),
                    "correct": readout.correct(record["logits"], labels)}
        return examples, {k: record[k] for k in ("spike_rate", "input_rate") if k in record}

    return eval_step


def evaluate(eval_step: Callable, variables: dict, split: data.Split | data.Stream, batch_size: int, mesh: Mesh,
             seed: int = 0) -> tuple[dict, np.ndarray]:
    """Every example exactly once.

    Returns:
        ({"loss", "accuracy", "accuracy_by_timestep" [T], "spike_rate" {layer: ...}, "input_rate" under Poisson},
        predicted classes [N]).
    """
    examples, rates, count, start = [], [], split.num_examples, 0
    for images, labels in split.batches(batch_size):
        even = len(labels) % mesh.size == 0  # the last batch may not divide over the devices: then each takes it whole
        sharding = NamedSharding(mesh, PartitionSpec("data") if even else PartitionSpec())
        key = jax.random.fold_in(jax.random.key(seed), start)
        seen, rate = jax.device_get(eval_step(variables, *jax.device_put((images, labels), sharding), key))
        examples.append(seen)
        rates.append(jax.tree.map(lambda r, size=len(labels): float(r) * size / count, rate))
        start += len(labels)
    gathered = {name: np.concatenate([e[name] for e in examples]) for name in examples[0]}
    by_timestep = gathered["correct"].mean(0).tolist()
    metrics = {"loss": float(gathered["loss"].mean()), "accuracy": by_timestep[-1], "accuracy_by_timestep": by_timestep}
    return metrics | jax.tree.map(lambda *r: sum(r), *rates), gathered["predicted"]
