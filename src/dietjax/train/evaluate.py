"""The test set through a network: a compiled step over one batch, and the sum over all of them."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from ..core import losses
from ..data import DataError, Dataset, Split, Stream, normalise
from ..errors import naming_shortage
from ..models import Network, largest_block
from ..parallel.mesh import assemble, batch_sharding, distribute, replicated, rows_here
from .plan import Plan
from .state import TimeSchedule

EVENTS = {"magnitude": "spike_rate", "unit_share": "spike_rate", "input_magnitude": "input_rate",
          "input_unit_share": "input_rate"}
"""What a record holds as a mean over events -> how many events there are."""
MEASURED = ("spike_rate", "sent_rate", "sent_size", "input_rate", *EVENTS)
"""What an evaluation keeps of a network's record."""
TOP = 5
"""Where there are more classes, an evaluation also says how often the label is among this many largest logits."""

LESS = ("Test fewer at once: --test-batch of dietjax evaluate, convert and energy; in training a smaller batch_size of "
        "the phase, or more accumulate. Of settings, chunk=1 and dtype=bfloat16 take less too.")


class Interrupted(Exception):
    """An evaluation was stopped before its end."""


class Answers(NamedTuple):
    """What a network answers to every example of a split, in the order they are stored: 12 bytes an example."""

    labels: np.ndarray
    """int32 [N]."""
    classes: np.ndarray
    """int32 [N], those with the largest logit."""
    confidence: np.ndarray
    """float32 [N], the softmax of the logits that decided, of that class."""


def make_eval_step(net: Network, dataset: Dataset, schedule: TimeSchedule, mesh: Mesh) -> Callable:
    """A compiled (variables, images uint8, labels, key) -> what `evaluate` gathers from one batch."""

    @partial(jax.jit, out_shardings=replicated(mesh))  # every process reads it
    def eval_step(variables, images, labels, key):
        variables = jax.lax.with_sharding_constraint(variables, replicated(mesh))
        x = normalise(images, dataset.mean, dataset.std, jnp.float32)
        logits, record = net.apply(variables, x, schedule.timesteps, chunk=schedule.chunk, rngs={"encode": key})
        examples = {"loss": losses.cross_entropy(logits, labels), "label": labels,
                    "predicted": jnp.argmax(logits, axis=-1),
                    "confidence": jax.nn.softmax(logits.astype(jnp.float32)).max(-1),
                    "correct": losses.correct(record["logits"], labels),
                    "finite": jnp.isfinite(x).all(tuple(range(1, x.ndim)))}
        if dataset.num_classes > TOP:
            examples["in_top"] = losses.correct_in_top(logits, labels, TOP)
        return examples, {k: record[k] for k in MEASURED if k in record}

    return eval_step


def evaluate(eval_step: Callable, variables: dict, split: Split | Stream, batch_size: int, mesh: Mesh,
             seed: int = 0, stop: Callable[[], bool] = lambda: False) -> tuple[dict, Answers]:
    """Every example exactly once.

    stop: asked after every batch whether to stop here; must give every process the same answer.

    Returns:
        ({"loss", "accuracy", "accuracy_by_timestep" [T], "top5_accuracy" where there are more than 5 classes, and as
        far as the network records them "spike_rate", "magnitude", "unit_share", "sent_rate", "sent_size" {layer: ...},
        "input_rate", "input_magnitude", "input_unit_share": of all examples, whatever the batches}, the answers).

    Raises:
        Interrupted: `stop` said so.
        DataError: images with NaN or infinity, for which a network would answer class 0.
    """
    def sharding(size):  # the last batch may not divide over the devices: then each takes it whole
        return batch_sharding(mesh) if size % mesh.size == 0 else replicated(mesh)

    examples, records, sizes, count, start = [], [], [], split.num_examples, 0
    for batch in split.batches(batch_size, lambda size: rows_here(sharding(size), size)):
        size = min(batch_size, count - start)
        images, labels = assemble(batch, sharding(size), size)
        key = jax.random.fold_in(jax.random.key(seed), start)
        seen, record = jax.device_get(eval_step(variables, images, labels, key))
        _check_finite(seen.pop("finite"), start)
        examples.append(seen)
        records.append(record)
        sizes.append(size)
        start += size
        if stop():
            raise Interrupted
    gathered = {name: np.concatenate([e[name] for e in examples]) for name in examples[0]}
    by_timestep = gathered["correct"].mean(0).tolist()
    metrics = {"loss": float(gathered["loss"].mean()), "accuracy": by_timestep[-1], "accuracy_by_timestep": by_timestep}
    if "in_top" in gathered:
        metrics["top5_accuracy"] = float(gathered["in_top"].mean())
    answers = Answers(gathered["label"], gathered["predicted"], gathered["confidence"])
    return metrics | _of_all(records, sizes), answers


def _check_finite(finite, start):
    """Refuse a batch of test images from this number on of which some are not finite."""
    wrong = start + np.flatnonzero(~finite)
    if len(wrong):
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise DataError(f"test images {', '.join(map(str, wrong[:3]))}{more} (the first is 0) hold NaN or infinity "
                        "once they are normalised, and what a network answers to them means nothing: repair them or "
                        "leave them out, and see that no standard deviation of the set is 0")


def _of_all(records, sizes):
    """What was measured of batches, of all their examples: sums of events by the share of examples, means over events
    by that of events.
    """
    def mean(values, weights):
        return float(values @ weights / weights.sum()) if weights.sum() != 0 else 0.0  # 0: no event at all

    shares = np.array(sizes) / sum(sizes)
    measured = jax.tree.map(lambda *values: np.array(values, np.float64), *records)
    whole = {}
    for name, found in measured.items():
        events = measured[EVENTS[name]] if name in EVENTS else None
        if isinstance(found, Mapping):
            whole[name] = {layer: mean(values, shares if events is None else shares * events[layer])
                           for layer, values in found.items()}
        else:
            whole[name] = mean(found, shares if events is None else shares * events)
    return whole


class Evaluator:
    """A network of a run on the test set: made once and handed to whoever measures, so that it is compiled once."""

    def __init__(self, plan: Plan):
        self._plan = plan
        self._step = make_eval_step(plan.net, plan.dataset, plan.schedule, plan.mesh)

    def __call__(self, variables: dict, stop: Callable[[], bool] = lambda: False) -> tuple[dict, Answers]:
        """`evaluate` variables that lie on the plan's mesh as in training; others are another program to jit.

        Raises:
            OutOfMemory: the batch is too large to be tested at once.
        """
        plan, timesteps = self._plan, self._plan.schedule.timesteps
        size = min(plan.tested_at_once, plan.dataset.test.num_examples)
        whole = size if size % plan.mesh.size else size // plan.mesh.size
        with naming_shortage(f"the test of {whole} examples a device at {timesteps} timesteps", LESS,
                             partial(largest_block, plan.net, whole, plan.schedule.chunk or timesteps)):
            return evaluate(self._step, variables, plan.dataset.test, plan.tested_at_once, plan.mesh, plan.seed, stop)

    def whole(self, variables: dict) -> tuple[dict, Answers]:
        """`evaluate` variables that every process holds whole."""
        return self(distribute(variables, self._plan.mesh))
