"""A few steps of the quadrants' network, and a short phase of it, on one device."""

import jax
import jax.numpy as jnp
from quadrants import BATCH, EXAMPLES, make_dataset

from dietjax.checkpoint.manager import Checkpoints
from dietjax.config import Data
from dietjax.parallel.mesh import make_mesh
from dietjax.train import evaluate, loop
from dietjax.train.batches import make_batches
from dietjax.train.optimizer import make_optimizer
from dietjax.train.plan import Plan
from dietjax.train.reporter import Reporter
from dietjax.train.state import TimeSchedule, abstract_state, initial_state
from dietjax.train.step import make_train_step

TIMESTEPS = 3


def one_device():
    return make_mesh(devices=jax.devices()[:1])


def run_steps(net, variables, phase, count, timesteps=TIMESTEPS, teacher=None):
    """(The states after each of so many steps, their metrics)."""
    optimizer = make_optimizer(phase, 10)
    batches = make_batches(make_dataset(), Data(), 0, BATCH, one_device(), teacher)
    step = make_train_step(net, optimizer, batches.fetch, one_device(), TimeSchedule(timesteps), 0, phase)
    state = jax.tree.map(jnp.copy, initial_state(variables, optimizer, phase.ema_decay > 0))
    states, metrics = [], []
    for i in range(count):
        state, seen = step(state, *batches.arguments(i))
        states.append(jax.device_get(state))
        metrics.append(jax.device_get(seen))
    return states, metrics


def fit(folder, phase, net, variables, stops=None, teacher=None, steps_at_once=1):
    """(Variables of `loop.fit`, the checkpoint's state, [(step, test accuracy, loss)], the evaluator).

    stops: killed where it first says how far it is after so many epochs; then None.
    """
    plan = Plan("snn", net, make_dataset(tests=32), phase, TimeSchedule(2), one_device(), steps_at_once=steps_at_once)
    tested = []

    def log(split, step, values):
        if split == "test":
            tested.append((step, values["accuracy"], values["loss"]))

    def advance(done, *_):
        if stops is not None and done > stops * EXAMPLES // BATCH:
            raise KeyboardInterrupt

    reporter = Reporter(plan, lambda *_: None, log, advance, warn=lambda sentence: None)
    evaluator = evaluate.Evaluator(plan)
    with Checkpoints(folder) as checkpoints:
        try:
            variables, _ = loop.fit(plan, variables, evaluator, checkpoints, reporter, teacher)
        except KeyboardInterrupt:
            return None
        target = abstract_state(net, make_optimizer(phase, 1), phase.ema_decay > 0)
        state, *_ = checkpoints.restore(target)
    return variables, state, tested, evaluator
