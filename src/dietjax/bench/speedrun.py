"""Time to accuracy: an experiment from a cold start, and its phases' speed against that of their bare steps."""

import json
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import rich.console

from ..config import Experiment
from ..errors import InputError
from ..run import assemble, recipe
from ..run.console import NAMES, Console
from ..train.batches import make_batches
from ..train.optimizer import make_optimizer
from ..train.plan import Plan
from ..train.state import initial_state
from ..train.step import make_train_step, make_train_steps
from .measure import Result, environment

COMPILING = "/jax/core/compile/backend_compile_duration"
"""What jax calls XLA's own share of a compilation."""
STEPS = 20
"""Of the bare step, timed together after two that are not."""


class Watch(Console):
    """A console that notes when each test accuracy was known."""

    def __init__(self, began: float):
        super().__init__(rich.console.Console(stderr=True, highlight=False))  # a table or JSON goes to stdout
        self._began = began
        self.tests: list[tuple[str, float, float]] = []
        """(Phase, accuracy, seconds since the start)."""

    def epoch(self, phase: str, values: Mapping[str, Any]) -> None:
        """One line, and its time."""
        self.tests.append((phase, values["accuracy"], time.perf_counter() - self._began))
        super().epoch(phase, values)


def speedrun(experiment: Experiment, workdir: pathlib.Path, accuracy: float) -> Result:
    """Run an experiment to its end in a new folder; rows by phase of training.

    "images/s" is what the phase's lines say, between the first and the last; "bare images/s" what its compiled step
    alone does, one after another on the same data (on an accelerator in one program), and "share" their ratio. "to
    accuracy" are the seconds from the start, imports included (as CPU time of this process), until a test of the phase
    reached the accuracy; None: none did.

    Args:
        experiment: what to run.
        workdir: a folder that is not there yet.
        accuracy: on the test set, in (0, 1].

    Raises:
        InputError: a folder that is there, or an accuracy that is none; and what `recipe.run` refuses.
    """
    if not 0 < accuracy <= 1:
        raise InputError(f"--accuracy is a share of the test set in (0, 1], got {accuracy}")
    if workdir.exists():
        raise InputError(f"--workdir {workdir} is there already: a cold start needs a new folder")
    compiling: list[float] = []
    imported = time.process_time()
    listener = _listen(compiling)
    began = time.perf_counter() - imported
    watch = Watch(began)
    try:
        summary = recipe.run(experiment, workdir, watch)
    finally:
        jax.monitoring.unregister_event_duration_listener(listener)
    whole = time.perf_counter() - began
    dataset = assemble.open_data(experiment.data, experiment.timesteps)
    rows = [_row(plan, workdir, accuracy, watch.tests) for plan in assemble.make_plans(experiment, dataset).values()]
    notes = (f"{whole:.1f} s from a cold start to the end, of which compiling {sum(compiling):.1f} s in "
             f"{len(compiling)} programs and imports {imported:.1f} s; training {summary['seconds']:.1f} s",)
    return Result(f"{experiment.name}: seconds to {accuracy:.2%} on {dataset.name}", rows, environment(), notes)


def _listen(durations: list[float]) -> Any:
    def listener(event: str, seconds: float, **_: Any) -> None:
        if event == COMPILING:
            durations.append(seconds)

    jax.monitoring.register_event_duration_secs_listener(listener)
    return listener


def _row(plan: Plan, workdir: pathlib.Path, accuracy: float, tests: list[tuple[str, float, float]]) -> dict[str, Any]:
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    # the first has the compilation in it
    speeds = [line["images_per_second"] for line in lines if (line["phase"], line["split"]) == (plan.name, "train")][1:]
    reached = [seconds for phase, found, seconds in tests if phase == plan.name and found >= accuracy]
    bare = _bare_images_per_second(plan)
    in_run = float(np.median(speeds)) if speeds else None
    return {"phase": NAMES[plan.name], "best accuracy": max(found for phase, found, _ in tests if phase == plan.name),
            "to accuracy, s": reached[0] if reached else None, "images/s": in_run, "bare images/s": bare,
            "share": in_run and in_run / bare}


def _bare_images_per_second(plan: Plan) -> float:
    """Of the step alone, its batches ready on the device; where training does several in a program, so many in one."""
    optimizer = make_optimizer(plan.phase, plan.total_steps, plan.freeze)
    batches = make_batches(plan.dataset, plan.augment, plan.seed, plan.phase.batch_size, plan.mesh)
    recipe = (plan.net, optimizer, batches.fetch, plan.mesh, plan.schedule, plan.seed, plan.phase, plan.freeze)
    if plan.steps_at_once == 1:
        run = _one_by_one(make_train_step(*recipe), batches.arguments(0))
    else:
        program, arguments = make_train_steps(STEPS, *recipe), batches.several(0, STEPS, STEPS)

        def run(state, count):
            return program(state, count, *arguments)[0]

    shape = (1, *plan.dataset.image_shape)
    state = initial_state(jax.jit(plan.net.init)(jax.random.key(0), jnp.zeros(shape)), optimizer,
                          plan.phase.ema_decay > 0)
    state = jax.block_until_ready(run(state, 2))
    began = time.perf_counter()
    jax.block_until_ready(run(state, STEPS))
    return STEPS * plan.phase.batch_size / (time.perf_counter() - began)


def _one_by_one(step: Callable, arguments: Sequence[jax.Array]) -> Callable:
    """(state, count) -> the state after so many steps on the same batch."""
    def run(state, count):
        for _ in range(count):
            state, _ = step(state, *arguments)
        return state

    return run
