"""Out of memory names the layer and what helps, and programs of several steps end where something is due."""

import jax
import pytest
from quadrants import BATCH, EXAMPLES, init, make_dataset, make_net
from short_training import fit, one_device

from dietjax.analysis import memory
from dietjax.config import Phase
from dietjax.errors import InputError
from dietjax.models import build
from dietjax.train import session
from dietjax.train.plan import Plan
from dietjax.train.reporter import Reporter
from dietjax.train.state import TimeSchedule


def failing(says):
    def step(*_):
        raise jax.errors.JaxRuntimeError(says)

    return lambda *_: step


@pytest.mark.slow
def test_out_of_memory_in_a_step_is_an_input_error(tmp_path, monkeypatch):
    net, phase = make_net(), Phase(epochs=1, batch_size=BATCH)
    monkeypatch.setattr(session, "make_train_step", failing("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes"))
    with pytest.raises(InputError, match=r"snn: the device ran out of memory.*largest block is that of .*batch_size"
                                         r".*There is no checkpoint yet"):
        fit(tmp_path / "memory", phase, net, init(net))
    monkeypatch.setattr(session, "make_train_step", failing("INTERNAL: something else"))
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        fit(tmp_path / "other", phase, net, init(net))


def test_the_largest_block_and_the_remedies_are_what_a_hand_counts():
    said = memory.shortage(build("VGG4", 10, (8, 8, 1), classifier=(8,)), 1000, 4, None)
    assert "that of conv1, 8 x 8 x 64 neurons, 0.066 GB" in said  # 1000 · 4 · 4096 · 4 bytes
    assert "chunk=1" in said and "dtype=bfloat16" in said and "half the batch_size" in said
    assert memory.shortage(build("VGG4", 10, (8, 8, 1), classifier=(8,)), 1, 1, None).count("batch_size") == 0


@pytest.mark.parametrize("most", [2, 3, 5, 50])
def test_programs_end_with_an_epoch_and_with_the_phase_wherever_they_begin(most):
    phase = Phase(epochs=3, batch_size=BATCH)
    plan = Plan("snn", make_net(), make_dataset(), phase, TimeSchedule(2), one_device(), steps_at_once=most)
    reporter = Reporter(plan, None, None, None, None)
    assert plan.total_steps == 3 * EXAMPLES // BATCH
    for begun in range(plan.total_steps):  # as after a resume
        done = begun
        while done < plan.total_steps:
            count = reporter.until_due(done, most)
            assert 1 <= count <= most and not any(plan.ends_epoch(done + i) for i in range(1, count))
            done += count
        assert done == plan.total_steps
