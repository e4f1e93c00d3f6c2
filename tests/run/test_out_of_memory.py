"""A device that runs out of memory: wherever a program runs on somebody's batch, the layer and what helps there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dietjax import LIF, errors
from dietjax.analysis import early_exit
from dietjax.bench import cells
from dietjax.cli import commands
from dietjax.cli import main as cli
from dietjax.config import Experiment, Phase
from dietjax.convert import balance_thresholds, match_activations
from dietjax.data import Dataset, Split
from dietjax.errors import InputError, OutOfMemory
from dietjax.models import Layer, Network
from dietjax.run import summary
from dietjax.run.load import Run
from dietjax.train import evaluate

pytestmark = pytest.mark.usefixtures("quick_compile")

T, SAID = 3, "RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes."
LAYERS = (Layer("hidden", 5, kernel=None), Layer("out", 2, kernel=None))
NET = Network(LAYERS, (2, 2, 1), neuron=LIF(threshold=0.2))
EXPERIMENT = Experiment("mine", T, snn=Phase(batch_size=4))


def variables(net=NET):
    return net.init(jax.random.key(0), jnp.zeros((1, *net.image_shape)))


def dataset():
    rng = np.random.default_rng(0)
    split = Split(rng.integers(0, 256, (7, 2, 2, 1), np.uint8), rng.integers(0, 2, 7).astype(np.int32))
    return Dataset("mine", split, split, ("a", "b"), (0.5,), (0.25,))


def failing(*_, **__):
    raise jax.errors.JaxRuntimeError(SAID)


def measured(patch):
    patch.setattr(evaluate, "make_eval_step", lambda *_: failing)
    summary.measure(NET, variables(), dataset(), EXPERIMENT, T)


def left_early(patch):
    patch.setattr(early_exit, "_run_chunk", failing)
    early_exit.measure(NET, variables(), dataset(), (0.5,), T, batch_size=4)


def predicted(patch):
    run = Run(EXPERIMENT, NET, variables(), T, ("a", "b"), (0.5,), (0.25,))
    patch.setitem(run.__dict__, "_answer", failing)
    run.predict(dataset().test.images)


@pytest.mark.parametrize("attempt, says", [
    # 4 · 3 timesteps · 5 neurons · 4 bytes, in GB; of 7 at once, or of one chunk of a timestep
    (measured, ("the test of 4 examples a device at 3 timesteps", "2.4e-07 GB", "--test-batch", "batch_size")),
    (left_early, ("early exit on 4 images at once", "8e-08 GB", "--batch-size")),
    (predicted, ("the prediction of 7 examples at 3 timesteps", "4.2e-07 GB", "fewer examples at once")),
], ids=lambda x: getattr(x, "__name__", ""))
def test_the_layer_and_the_setting_of_the_place_are_named(monkeypatch, attempt, says):
    with pytest.raises(OutOfMemory) as caught:
        attempt(monkeypatch)
    said, position = str(caught.value), 0
    for part in ("the device ran out of memory in", *says[:1], "largest block is that of hidden, 5 neurons", *says[1:]):
        assert part in said[position:], (part, said)
        position = said.index(part, position)


def wide(neurons):
    """(A network of so many neurons on one input, its variables)."""
    net = Network((Layer("hidden", neurons, kernel=None), Layer("out", 1, kernel=None)), (1,), neuron=LIF())
    return net, {"params": {"hidden": {"kernel": jnp.ones((1, neurons))}, "out": {"kernel": jnp.ones((neurons, 1))}}}


def test_an_impossible_conversion_really_fails_so():
    with pytest.raises(OutOfMemory, match="conversion on 500 images at 50000 timesteps.*hidden, 1000000 neurons, 1e.05"
                                          r".*fewer images \(conversion.images of an experiment\) or fewer timesteps"):
        balance_thresholds(*wide(10**6), jnp.ones((500, 1)), timesteps=50_000)  # 10**14 bytes


@pytest.mark.parametrize("convert", [balance_thresholds, match_activations])
def test_more_than_can_be_ranked_is_refused(convert):
    with pytest.raises(InputError, match=r"3000 images and 1,000,000 neurons .* use at most 2147 images"):
        convert(*wide(10**6), jnp.ones((3000, 1)))


def told(*arguments):
    """What a command says on stderr, and its status."""
    return cli.main([*arguments])


def test_a_command_names_its_own_settings_and_any_other_says_what_it_can(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(cells, "neuron", failing)
    assert told("bench", "neuron") == 2
    assert "memory in a benchmark of LIF. Give smaller --batch, --neurons" in capsys.readouterr().err
    monkeypatch.setattr("dietjax.bench.networks.compare", failing)
    assert told("bench", "step", "--model", "VGG4", "--image-shape", "8", "8", "1", "--batch", "1000",
                "--timesteps", "4", "2") == 2
    said = capsys.readouterr().err  # 1000 · 4 · 4096 · 4 bytes
    assert "VGG4, batch 1000, T=4. The largest block is that of conv1, 8 x 8 x 64 neurons, 0.066 GB. Give" in said
    monkeypatch.setattr(commands.Status, "__call__", failing)
    assert told("status", str(tmp_path)) == 2
    assert capsys.readouterr().err.startswith("error: the device ran out of memory in this command. Use a smaller")


def test_the_first_who_knows_is_heard_and_other_errors_pass():
    with pytest.raises(OutOfMemory, match=r"^this machine ran out of memory in here\. Do less\.$"), \
            errors.naming_shortage("there", "Do more."), errors.naming_shortage("here", lambda: "Do less."):
        raise MemoryError
    for error in (RuntimeError("INTERNAL: other"), InputError(SAID), ValueError(SAID)):
        with pytest.raises(type(error)) as caught, errors.naming_shortage("here", "Do less."):
            raise error
        assert caught.value is error


@pytest.mark.parametrize("size", [1, 3, 100])
def test_a_test_in_other_batches_finds_the_same(size):
    whole, in_parts = (summary.measure(NET, variables(), dataset(), EXPERIMENT, T, test_batch)[0]
                       for test_batch in (None, size))
    for found, expected in zip(*map(jax.tree.leaves, (in_parts, whole)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6)
