"""Laws of dietjax.train: the optimiser, the sharded steps, the loop of one phase."""

import itertools
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from quadrants import BATCH, CLASSES, EXAMPLES, SPIKING, init, make_dataset, make_net

from dietjax.checkpoint.manager import Checkpoints
from dietjax.config import Data, Phase
from dietjax.core.neurons import LIF, LIFParams, ReLU
from dietjax.data import DataError
from dietjax.errors import Stopped
from dietjax.parallel.mesh import make_mesh
from dietjax.train import evaluate as evaluation
from dietjax.train import loop, session
from dietjax.train.batches import ResidentBatches
from dietjax.train.evaluate import evaluate, make_eval_step
from dietjax.train.health import TrainingError, check_health
from dietjax.train.optimizer import make_optimizer
from dietjax.train.plan import Plan
from dietjax.train.reporter import Reporter
from dietjax.train.state import TimeSchedule, TrainState, abstract_state
from dietjax.train.step import make_train_step

pytestmark = pytest.mark.usefixtures("quick_compile")

def fit(net, variables, dataset, folder, phase, name="snn", freeze=(), augment=Data(), seen=None):
    """`loop.fit` with its callbacks recorded: (variables, [(split, step, values)])."""
    seen = [] if seen is None else seen
    plan = Plan(name, net, dataset, phase, TimeSchedule(2 if name == "snn" else 1), make_mesh(), augment, freeze=freeze)
    reporter = Reporter(plan, begin=lambda *_: None, log=lambda *line: seen.append(line),
                        advance=lambda *_: None, warn=lambda sentence: None)
    with Checkpoints(folder) as checkpoints:
        variables, _ = loop.fit(plan, variables, evaluation.Evaluator(plan), checkpoints, reporter)
    return variables, seen


def leaf_bytes(tree):
    return {jax.tree_util.keystr(path): np.asarray(leaf).tobytes()
            for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


# ---- the optimiser


@pytest.mark.slow
def test_weight_decay_acts_on_kernels_alone():
    params = init(make_net(bias=True, batch_norm=True))["params"]
    params = jax.tree.map(lambda x: np.asarray(x) + np.float32(0.5), params)  # so that no leaf is zero by chance
    phase = Phase(optimizer="sgd", momentum=0.0, learning_rate=0.1, weight_decay=0.25)
    optimizer = make_optimizer(phase, 10)
    changes, _ = optimizer.update(jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params)
    kernels = 0
    paths = jax.tree_util.tree_leaves_with_path(changes)
    for (path, change), value in zip(paths, jax.tree.leaves(params), strict=True):
        if jax.tree_util.keystr(path).endswith("['kernel']"):
            kernels += 1
            np.testing.assert_allclose(change, -0.1 * 0.25 * np.asarray(value), rtol=1e-6)
        else:
            assert not np.any(change), jax.tree_util.keystr(path)
    assert kernels == 4  # two convolutions, two fully connected


def test_adam_is_amsgrad_with_the_penalty_in_the_gradient():
    params = {"conv": {"kernel": jnp.array([1.0, -2.0]), "neuron": LIFParams(jnp.array(0.5), jnp.array(2.0))}}
    optimizer = make_optimizer(Phase(learning_rate=0.1, weight_decay=0.01), total_steps=1_000_000_000)  # rate constant
    reference = optax.amsgrad(0.1)
    state, expected_state = optimizer.init(params), reference.init(params)
    for size in (1.0, 0.1, 3.0):
        gradients = jax.tree.map(lambda x, size=size: size * jnp.ones_like(x), params)
        kernel = gradients["conv"]["kernel"] + 0.01 * params["conv"]["kernel"]
        penalised = {"conv": gradients["conv"] | {"kernel": kernel}}
        changes, state = optimizer.update(gradients, state, params)
        expected, expected_state = reference.update(penalised, expected_state, params)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), changes, expected)
        params = optax.apply_updates(params, changes)


def test_learning_rate_follows_a_cosine_to_zero():
    optimizer = make_optimizer(Phase(optimizer="sgd", momentum=0.0, learning_rate=0.5), total_steps=4)
    params = {"kernel": jnp.zeros(())}
    state, rates = optimizer.init(params), []
    for _ in range(6):
        changes, state = optimizer.update({"kernel": jnp.ones(())}, state, params)
        rates.append(-float(changes["kernel"]))
    r = np.sqrt(0.5)  # cos(pi/4)
    np.testing.assert_allclose(rates, [0.5, 0.25 * (1 + r), 0.25, 0.25 * (1 - r), 0, 0], atol=1e-7)


def changed_leaves(before, after):
    before, after = leaf_bytes(before), leaf_bytes(after)
    return {path for path in before if before[path] != after[path]}


@pytest.mark.parametrize("freeze, moves", [((), ["kernel", "leak", "threshold"]), (("leak",), ["kernel", "threshold"]),
                                          (("threshold",), ["kernel", "leak"]), (("leak", "threshold"), ["kernel"])])
def test_fixed_parameters_have_no_update(freeze, moves):
    params = {"kernel": np.ones(2, np.float32), "neuron": LIFParams(*np.float32([0.5, 2.0]))}
    optimizer = make_optimizer(Phase(weight_decay=0.1), 10, freeze)
    changes, _ = optimizer.update(params, optimizer.init(params), params)
    moving = {"kernel": changes["kernel"], "leak": changes["neuron"].leak, "threshold": changes["neuron"].threshold}
    assert [name for name, change in moving.items() if np.any(change)] == moves


@pytest.mark.slow
def test_fixed_parameters_stay_bit_identical_while_weights_move(tmp_path):
    net, dataset = make_net(), make_dataset()
    before, phase = init(net)["params"], Phase(epochs=1, batch_size=BATCH, weight_decay=0.1)
    after, _ = fit(net, {"params": before}, dataset, tmp_path, phase, freeze=("leak", "threshold"))
    assert changed_leaves(before, after["params"]) == {path for path in leaf_bytes(before) if "kernel" in path}


@pytest.mark.slow
def test_no_leak_exceeds_one_after_an_update():
    """An update that pushes everything up by 0.25: leaks stop at 1, thresholds and weights do not."""
    net, dataset = make_net(), make_dataset()
    rise = optax.stateless(lambda updates, params: jax.tree.map(lambda x: jnp.full_like(x, 0.25), updates))
    before = init(net)
    state = TrainState(jnp.zeros((), jnp.int32), jax.tree.map(jnp.copy, before), rise.init(before["params"]))
    mesh = make_mesh(devices=jax.devices()[:1])
    batches = ResidentBatches(dataset, Data(), 0, BATCH, mesh)
    step = make_train_step(net, rise, batches.fetch, mesh, TimeSchedule(2), 0)
    state, _ = step(state, *batches.arguments(0))
    for name in ("conv1", "conv2", "fc1"):
        assert float(state.variables["params"][name]["neuron"].leak) == 1.0
        assert float(state.variables["params"][name]["neuron"].threshold) == pytest.approx(0.26)
        kernels = [variables["params"][name]["kernel"] for variables in (before, state.variables)]
        np.testing.assert_array_equal(kernels[1], kernels[0] + 0.25)


# ---- precision


@pytest.mark.slow
@pytest.mark.parametrize("name, neuron", [("ann", ReLU()), ("snn", LIF(leak=0.9, threshold=0.5))])
@pytest.mark.thin(1)
def test_bfloat16_learns_what_float32_learns_and_trains_float32_parameters(tmp_path, random_variables, name, neuron):
    dataset, phase = make_dataset(tests=64), Phase(epochs=30, batch_size=BATCH, learning_rate=0.01, checkpoint_every=30)
    accuracy = {}
    for dtype in (None, jnp.bfloat16):
        net, folder = make_net(neuron, dtype=dtype), tmp_path / str(dtype)
        _, seen = fit(net, random_variables(net), dataset, folder, phase, name=name)
        *_, last = (values for split, _, values in seen if split == "test")
        accuracy[dtype] = last["accuracy"]
        with Checkpoints(folder) as checkpoints:
            state, *_ = checkpoints.restore(abstract_state(net, make_optimizer(phase, 1)))
        floats = {x.dtype for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)}
        assert floats == {jnp.dtype("float32")}
    assert accuracy[None] > 0.9
    assert accuracy[jnp.bfloat16] >= accuracy[None] - 2 / 64


# ---- compilation


@pytest.mark.slow
def test_train_step_does_not_recompile_nor_after_resuming(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(session, "make_train_step",
                        lambda *arguments: made.append(make_train_step(*arguments)) or made[-1])
    net, dataset, augment = make_net(dropout=0.2), make_dataset(), Data(crop_padding=1, flip=True)
    for epochs in (1, 2):  # the second resumes from a checkpoint
        fit(net, init(make_net()), dataset, tmp_path, Phase(epochs=epochs, batch_size=BATCH), augment=augment)
    assert [step._cache_size() for step in made] == [1, 1]


def test_equal_networks_are_one_to_jit():
    count = jax.jit(lambda net, x: x + len(net.layers), static_argnums=0)
    for _ in range(2):
        net = make_net(LIF(leak=0.5, surrogate="arctan"))
        assert net == make_net(LIF(leak=0.5, surrogate="arctan"))
        assert hash(net) == hash(make_net(LIF(leak=0.5, surrogate="arctan")))
        count(net, 1)
    assert count._cache_size() == 1
    count(make_net(LIF(leak=0.25, surrogate="arctan")), 1)
    assert count._cache_size() == 2


# ---- evaluation


def test_evaluation_counts_every_example_once():
    """With a network that says what it sees: the mean pixel's last two bits."""
    split = make_dataset(tests=23).test  # batches of 5 do not divide
    batches = []

    def step(variables, images, labels, key):
        batches.append(len(labels))
        seen = np.asarray(images, int).sum((1, 2, 3)) % CLASSES
        right = np.stack([np.zeros_like(seen, bool), seen == labels], 1)  # wrong at the first of two timesteps
        examples = {"loss": seen.astype(float), "predicted": seen, "correct": right, "finite": seen >= 0,
                    "label": labels, "confidence": seen / 8}
        return examples, {"spike_rate": {"a": seen.mean()}}

    metrics, answers = evaluate(step, {}, split, 5, make_mesh(devices=jax.devices()[:1]))
    expected = split.images.astype(int).sum((1, 2, 3)) % CLASSES
    accuracy = np.mean(expected == split.labels)
    assert sum(batches) == 23 and len(batches) == 5
    np.testing.assert_array_equal(answers.classes, expected)
    np.testing.assert_array_equal(answers.labels, split.labels)
    np.testing.assert_array_equal(answers.confidence, expected / 8)
    assert metrics["accuracy"] == pytest.approx(accuracy, rel=1e-12)
    assert metrics["accuracy_by_timestep"] == pytest.approx([0, accuracy], rel=1e-12)
    assert metrics["loss"] == pytest.approx(expected.mean(), rel=1e-12)
    assert metrics["spike_rate"]["a"] == pytest.approx(expected.mean(), rel=1e-12)


@pytest.mark.slow
def test_evaluation_in_batches_equals_one_whole_batch():
    net, dataset = make_net(), make_dataset(tests=23)
    variables, mesh = init(net), make_mesh(devices=jax.devices()[:1])
    step = make_eval_step(net, dataset, TimeSchedule(3), mesh)
    whole, answers_whole = evaluate(step, variables, dataset.test, 23, mesh)
    parts, answers_parts = evaluate(step, variables, dataset.test, 7, mesh)
    for one, other in zip(answers_parts[:2], answers_whole[:2], strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(answers_parts.confidence, answers_whole.confidence, rtol=1e-5)
    assert parts.get("top5_accuracy") == whole.get("top5_accuracy")
    assert parts["accuracy_by_timestep"] == whole["accuracy_by_timestep"]
    assert parts["loss"] == pytest.approx(whole["loss"], rel=1e-6)
    assert list(parts["spike_rate"]) == ["conv1", "conv2", "fc1"]
    for name, rate in whole["spike_rate"].items():
        assert rate > 0
        assert parts["spike_rate"][name] == pytest.approx(rate, rel=1e-6)

    images = (dataset.test.images / np.float32(255) - np.float32(0.3)) / np.float32(0.3)
    logits, record = net.apply(variables, jnp.asarray(images), 3)
    np.testing.assert_array_equal(answers_whole.classes, np.argmax(logits, -1))
    powers = np.exp(np.asarray(logits, np.float64))
    np.testing.assert_allclose(answers_whole.confidence, powers.max(-1) / powers.sum(-1), rtol=1e-5)
    correct = np.asarray(record["logits"]).argmax(-1) == dataset.test.labels[:, None]
    assert whole["accuracy_by_timestep"] == pytest.approx(correct.mean(0).tolist(), rel=1e-12)


# ---- divergence


@pytest.mark.slow
@pytest.mark.parametrize("name, neuron", [("ann", ReLU()), ("snn", SPIKING)])
def test_divergence_names_step_and_layer_and_keeps_the_last_good_checkpoint(tmp_path, name, neuron):
    net, dataset = make_net(neuron), make_dataset()
    good, _ = fit(net, init(net), dataset, tmp_path, Phase(epochs=1, batch_size=BATCH), name)
    wild = Phase(epochs=3, batch_size=BATCH, learning_rate=1e30)
    reason = {"ann": r"not finite in conv1", "snn": r"(threshold|leak) of (conv1|conv2|fc1) is (-|nan)"}[name]
    with pytest.raises(TrainingError, match=rf"^{name}: loss is .* at step [345]: .*{reason}.*{name}\.learning_rate"
                       ".* The checkpoint of step 3 is good, and kept"):
        fit(net, init(net), dataset, tmp_path, wild, name)
    with Checkpoints(tmp_path) as checkpoints:
        optimizer = make_optimizer(wild, 1)
        state, _, step = checkpoints.restore(abstract_state(net, optimizer))
    assert step == EXAMPLES // BATCH == 3
    assert leaf_bytes(state.variables) == leaf_bytes(good)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))


@pytest.mark.slow
@pytest.mark.parametrize("name, neuron", [("ann", ReLU()), ("snn", SPIKING)])
def test_a_diverged_state_is_never_saved(tmp_path, name, neuron):
    """One step an epoch: the update that may ruin the network is followed at once by the time to save."""
    net, dataset = make_net(neuron), make_dataset()
    phase = Phase(epochs=2, batch_size=EXAMPLES, learning_rate=1e30)
    with pytest.raises(TrainingError, match=rf"^{name}: loss ") as raised:
        fit(net, init(net), dataset, tmp_path, phase, name)
    with Checkpoints(tmp_path) as checkpoints:
        saved = checkpoints.restore(abstract_state(net, make_optimizer(phase, 1)))
    assert ("There is no checkpoint yet." in str(raised.value)) == (saved is None)
    if name == "ann":
        assert saved is None
    elif saved is not None:  # thresholds may all have gone up: silent, but sound
        neurons = [layer["neuron"] for layer in saved[0].variables["params"].values() if "neuron" in layer]
        assert all(neuron.threshold > 0 for neuron in neurons)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(saved))


# ---- evaluations that do not come to their end


def evaluations_that(monkeypatch, happens):
    """The second evaluation does this before it begins."""
    count, original = itertools.count(1), evaluation.evaluate

    def evaluate(*arguments):
        if next(count) == 2:
            happens()
        return original(*arguments)

    monkeypatch.setattr(evaluation, "evaluate", evaluate)


def corrupt():
    raise DataError("one.png is corrupt")


@pytest.mark.parametrize("happens, error, says", [
    (lambda: os.kill(os.getpid(), signal.SIGTERM), Stopped, "snn is saved at step 6 of 9; the same command"),
    (corrupt, DataError, "one.png is corrupt"),
])
@pytest.mark.thin(1)
@pytest.mark.slow
def test_an_epoch_whose_evaluation_is_broken_off_is_saved_and_evaluated_on_resuming(tmp_path, monkeypatch, happens,
                                                                                   error, says):
    net, dataset, phase = make_net(), make_dataset(), Phase(epochs=3, batch_size=BATCH)
    whole, expected = fit(net, init(net), dataset, tmp_path / "whole", phase)
    seen = []
    with monkeypatch.context() as patch:
        evaluations_that(patch, happens)
        with pytest.raises(error, match=says):
            fit(net, init(net), dataset, tmp_path / "broken", phase, seen=seen)
    assert Checkpoints(tmp_path / "broken").latest_step() == 2 * EXAMPLES // BATCH
    resumed, _ = fit(net, init(net), dataset, tmp_path / "broken", phase, seen=seen)
    assert leaf_bytes(resumed) == leaf_bytes(whole)
    assert [(split, step, values["loss"]) for split, step, values in seen] == [
        (split, step, values["loss"]) for split, step, values in expected]


def sound_metrics(**changes):
    def by_layer(*values):
        return dict(zip(("conv1", "conv2", "fc1", "fc2"), values, strict=False))

    values = {"loss": np.float32(1), "finite": by_layer(True, True, True, True),
              "neurons": {"threshold": by_layer(1.0, 2.0, 3.0), "leak": by_layer(1.0, 0.5, 0.25)},
              "least_threshold": by_layer(1.0, 2.0, 3.0)}
    return values | changes


def test_healthy_metrics_pass():
    check_health(make_net(), "snn", 3, sound_metrics())


@pytest.mark.parametrize("changes, says", [
    ({"loss": np.float32("nan")}, "loss is nan at step 3: leaks and thresholds are in range"),
    ({"least_threshold": {"conv1": 1, "conv2": -0.25}}, r"at step 3: threshold of conv2 is -0\.25 \(must be > 0\)"),
    ({"least_threshold": {"conv1": 1, "fc1": 0.0}}, r"threshold of fc1 is 0 "),
    ({"least_threshold": {"conv1": np.nan, "conv2": 2}}, r"threshold of conv1 is nan"),
    ({"neurons": {"leak": {"conv1": 1, "fc1": np.nan}}}, r"leak of fc1 is nan"),
    ({"neurons": {"adaptation": {"conv2": np.inf}}}, r"adaptation of conv2 is inf"),
    ({"finite": {"conv1": True, "conv2": False, "fc1": True, "fc2": False}}, r"not finite in conv2, fc2"),
])
def test_each_fault_is_named(changes, says):
    with pytest.raises(TrainingError, match=says):
        check_health(make_net(), "snn", 3, sound_metrics(**changes))
