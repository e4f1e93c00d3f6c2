"""Several steps in one program are those steps, whatever its pace, and are saved and resumed as single ones are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quadrants import BATCH, init, make_dataset, make_net
from short_training import fit, one_device

from dietjax.config import Data, Parallel, Phase
from dietjax.data import Dataset
from dietjax.errors import InputError
from dietjax.train import pace
from dietjax.train.batches import Teacher, make_batches
from dietjax.train.optimizer import make_optimizer
from dietjax.train.state import TimeSchedule, initial_state
from dietjax.train.step import make_train_step, make_train_steps

ROOM = 4


def assert_close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("taught", [False, True])
def test_a_program_of_several_steps_is_those_steps(taught):
    """Three of the four it has room for, with crops, alternating flips and dropout, from step 5 on."""
    net, phase = make_net(dropout=0.2), Phase(batch_size=BATCH, distillation=0.5 if taught else 0.0)
    optimizer, augment = make_optimizer(phase, 20), Data(crop_padding=1, flip=True, flip_alternates=True)
    teacher = Teacher(make_net(), init(make_net())) if taught else None
    batches = make_batches(make_dataset(), augment, 0, BATCH, one_device(), teacher)
    recipe = net, optimizer, batches.fetch, one_device(), TimeSchedule(2), 0, phase
    one, several = make_train_step(*recipe), make_train_steps(ROOM, *recipe)

    def start():
        state = initial_state(jax.tree.map(jnp.copy, init(make_net())), optimizer, False)
        return state._replace(step=jnp.asarray(5, jnp.int32))

    def at(i, metrics):
        return jax.tree.map(lambda value: value[i], metrics)

    found, metrics = several(start(), 3, *batches.several(5, 3, ROOM))
    single, each = start(), start()
    for i in range(3):
        single, seen = one(single, *batches.arguments(5 + i))
        jax.tree.map(assert_close, at(i, metrics), seen)
        each, seen = several(each, 1, *batches.several(5 + i, 1, ROOM))
        jax.tree.map(np.testing.assert_array_equal, at(i, metrics), at(0, seen))
    jax.tree.map(np.testing.assert_array_equal, found, each)
    jax.tree.map(assert_close, found, single)  # XLA rounds a multiply-add in a loop as it likes


@pytest.mark.slow
def test_a_phase_ends_the_same_and_resumes_exactly(tmp_path, monkeypatch):
    """As with single steps; killed between two programs, and at another pace, bit for bit."""
    net, phase = make_net(dropout=0.2), Phase(epochs=4, batch_size=BATCH, learning_rate=1e-4, checkpoint_every=2)

    def run(name, **options):
        return fit(tmp_path / name, phase, net, init(make_net()), **options)

    single, whole = run("single"), run("whole", steps_at_once=ROOM)
    jax.tree.map(assert_close, whole[:2], single[:2])
    np.testing.assert_allclose(whole[2], single[2], rtol=1e-5)
    monkeypatch.setattr(pace, "SECONDS", 1e-9)  # one step each
    assert run("killed", stops=2, steps_at_once=ROOM) is None
    found = run("killed", steps_at_once=ROOM)
    jax.tree.map(np.testing.assert_array_equal, found[:2], whole[:2])
    assert found[2] == whole[2][1:]  # two epochs were saved, and are not tested again


def test_programs_take_about_as_long_as_a_signal_may_wait():
    steps = pace.Pace(50)
    assert steps.count == 1
    for seconds, count, expected in ((0.02, 1, 25), (0.25, 25, 50), (1.0, 50, 25), (30.0, 25, 1)):
        steps.took(seconds, count)
        assert steps.count == expected


def test_how_many_follows_platform_and_data():
    resident = make_dataset()
    streamed = Dataset("big", None, None, ("a", "b"), (0.5,), (0.5,))
    most = pace.most_steps_at_once
    assert [most(Parallel(), resident, platform) for platform in ("cpu", "gpu", "tpu")] == [1, 50, 50]
    assert most(Parallel(), streamed, "gpu") == most(Parallel(steps_at_once=1), streamed, "gpu") == 1
    assert most(Parallel(steps_at_once=7), resident, "cpu") == 7
    with pytest.raises(InputError, match=r"parallel.steps_at_once=7 is for sets in memory, and big is streamed"):
        most(Parallel(steps_at_once=7), streamed, "gpu")
