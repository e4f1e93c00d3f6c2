"""One phase in training, from its last checkpoint on: what the loop in `loop.fit` does at each of its steps."""

import contextlib
import time
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from ..analysis import memory
from ..checkpoint import Checkpoints
from ..data import DataError
from ..errors import InputError, Stopped
from ..parallel.mesh import local, state_shardings
from ..parallel.preemption import Preemption
from .batches import Teacher, make_batches
from .evaluate import Evaluator, Interrupted
from .health import TrainingError, diverged
from .optimizer import make_optimizer
from .pace import Pace
from .plan import Plan
from .reporter import Reporter
from .state import abstract_state, initial_state
from .step import make_train_step, make_train_steps


class Session:
    """The state of a phase on its mesh, the step that changes it, the batches it reads, the checkpoints it goes to.

    Restore it first. On several hosts every process calls the same methods in the same order.
    """

    def __init__(self, plan: Plan, variables: dict, evaluator: Evaluator, checkpoints: Checkpoints, reporter: Reporter,
                 teacher: Teacher | None = None):
        """Of variables that it copies: steps overwrite their state, and the caller's arrays must stay valid."""
        self._plan, self._evaluator, self._checkpoints, self._reporter = plan, evaluator, checkpoints, reporter
        self._teacher, self._preemption = teacher, Preemption()
        self._optimizer = make_optimizer(plan.phase, plan.total_steps, plan.freeze)
        averaged = plan.phase.ema_decay > 0
        shardings = state_shardings(plan.mesh, abstract_state(plan.net, self._optimizer, averaged))
        self._state = jax.jit(lambda v: initial_state(jax.tree.map(jnp.copy, v), self._optimizer, averaged),
                              out_shardings=shardings)(variables)
        self.done = 0
        """Steps that the state has behind it."""
        self.untested = False
        """Whether a checkpoint was restored whose evaluation had been broken off."""
        self._saved: int | None = None
        self._earlier, self._began = 0.0, None  # seconds before this session, and since when it trains

    def restore(self) -> None:
        """Go on from the last checkpoint, if there is one, and tell the reporter from where."""
        gathered: dict[str, list] = {}
        restored = self._checkpoints.restore(self._state)
        if restored is not None:
            self._state, metadata, self.done = restored
            self._saved, self._earlier, gathered = self.done, metadata["seconds"], metadata["gathered"]
            self.untested = metadata.get("untested", False)
        self._reporter.begin(self.done, self.untested, gathered)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to be done."""
        return self.done >= self._plan.total_steps and not self.untested

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Around steps: compiles on demand, notes signals until the state is saved.

        Raises:
            TrainingError: as raised inside, and which checkpoint is kept.
            InputError: the device ran out of memory, in a step or an evaluation; and the same.
        """
        plan = self._plan
        self._batches = make_batches(plan.dataset, plan.augment, plan.seed, plan.phase.batch_size, plan.mesh,
                                     self._teacher)
        recipe = (plan.net, self._optimizer, self._batches.fetch, plan.mesh, plan.schedule, plan.seed, plan.phase,
                  plan.freeze)
        self._pace = Pace(plan.steps_at_once)
        self._train = make_train_step(*recipe) if plan.steps_at_once == 1 else \
            make_train_steps(plan.steps_at_once, *recipe)
        self._began = time.perf_counter()
        try:
            with self._preemption:
                yield
        except TrainingError as error:
            raise TrainingError(f"{error} {self._kept()}") from error
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            said = memory.shortage(plan.net, plan.device_batch, plan.schedule.timesteps, plan.schedule.chunk)
            raise InputError(f"{plan.name}: {said} {self._kept()}") from error

    def step(self) -> None:
        """Train on the next batch, or on several until something is due; the device may still be at it when this
        returns.
        """
        window, most = self._reporter.window, self._plan.steps_at_once
        if most == 1:
            with window.waiting():
                arguments = self._batches.arguments(self.done)
            self._state, metrics = self._train(self._state, *arguments)
            window.add(metrics)
            self.done += 1
            return
        began, count = time.perf_counter(), self._reporter.until_due(self.done, self._pace.count)
        with window.waiting():
            arguments = self._batches.several(self.done, count, most)
        self._state, metrics = self._train(self._state, count, *arguments)
        waited_for = window.add(metrics, count)
        if waited_for:
            self._pace.took(time.perf_counter() - began, waited_for)
        self.done += count

    def test_restored(self) -> None:
        """Evaluate a state that was saved untested; where a signal breaks it off, it is left as it is."""
        try:
            self._test()
        except Interrupted:
            self._stop()

    def test_and_save(self) -> None:
        """Evaluate the state and save it with its accuracy; or without, where the evaluation is broken off.

        Raises:
            Stopped: a signal came.
            DataError: a test image cannot be read. On several hosts the state is not saved then: those that can read
                theirs wait for the one that cannot.
        """
        try:
            self._save(metric=self._test())
        except Interrupted:
            self._save(untested=True)
            self._stop()
        except DataError:
            if jax.process_count() == 1:
                self._save(untested=True)
                self._checkpoints.wait()
            raise
        self._reporter.window.pause()

    def stop_if_asked(self) -> None:
        """Save and stop where a signal came.

        Raises:
            Stopped: it did.
            TrainingError: a step since the last line diverged; then nothing is saved.
        """
        if self._preemption.reached():
            if self._saved != self.done:
                self._reporter.window.collect(self.done)
                self._save()
            self._stop()

    def result(self) -> tuple[dict, float]:
        """(variables, whole and on this process's own device; seconds of training, earlier sessions included)."""
        self._checkpoints.wait()
        return local(self._state.evaluated, self._plan.mesh), self._seconds()

    def _test(self) -> float:
        """The accuracy now."""
        tested, _ = self._evaluator(self._state.evaluated, self._preemption.reached)
        if not np.isfinite(tested["loss"]):  # never saved
            raise diverged(self._plan.name, f"loss on the test set is {tested['loss']:.4g} after step {self.done - 1}")
        self._reporter.tested(self.done, tested)
        return tested["accuracy"]

    def _save(self, metric: float | None = None, untested: bool = False) -> None:
        metadata = {"seconds": self._seconds(), "gathered": self._reporter.window.gathered, "untested": untested}
        self._checkpoints.save(self.done, self._state, metadata, metric=metric)
        self._saved = self.done

    def _kept(self):
        step = self._checkpoints.latest_step()
        return "There is no checkpoint yet." if step is None else f"The checkpoint of step {step} is good, and kept."

    def _stop(self):
        self._checkpoints.wait()
        raise Stopped(f"{self._plan.name} is saved at step {self.done} of {self._plan.total_steps}; the same command "
                      "goes on from there", self._preemption.signal)

    def _seconds(self) -> float:
        return self._earlier + (0.0 if self._began is None else time.perf_counter() - self._began)
