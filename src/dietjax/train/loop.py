"""The loop of one training phase: batches in, metrics and checkpoints out."""

from ..checkpoint import Checkpoints
from .batches import Teacher
from .evaluate import Evaluator
from .plan import Plan
from .reporter import Reporter
from .session import Session


def fit(plan: Plan, variables: dict, evaluator: Evaluator, checkpoints: Checkpoints, reporter: Reporter,
        teacher: Teacher | None = None) -> tuple[dict, float]:
    """Train one phase to its end, from its last checkpoint if there is one.

    Args:
        plan: what is trained, on what, how.
        variables: of its network, before the first step; whole, in every process.
        evaluator: of its network.
        checkpoints: where the state is kept; one is written after every `phase.checkpoint_every` epochs, at the end,
            and where a signal stops the phase. A signal that comes during the evaluation at the end of an epoch stops
            that too; it is repeated when the phase resumes.
        reporter: who is told. On several hosts every process calls this, and has one.
        teacher: whose logits a phase with `distillation` learns from.

    Returns:
        (variables after the last step, or their average, whole and on this process's own device; seconds of training
        in all, earlier sessions included).

    Raises:
        Stopped: SIGTERM, SIGHUP or Ctrl-C; the state after the step it came in is saved.
        TrainingError: it diverged; nothing of that is saved.
        InputError: a step cannot fit, or the device ran out of memory; or a test image cannot be read, and then the
            state before it is saved (on several hosts it is not: those that can read theirs wait for the one that
            cannot).
        SaveError: the machine could not write a checkpoint.
    """
    plan.check()
    session = Session(plan, variables, evaluator, checkpoints, reporter, teacher)
    session.restore()
    if session.finished:
        return session.result()
    with session.running():
        if session.untested:
            session.test_restored()
        while session.done < plan.total_steps:
            session.step()
            if reporter.is_due(session.done):
                reporter.line(session.done)
            if plan.is_saved(session.done):
                session.test_and_save()
            session.stop_if_asked()
    return session.result()
