"""Laws of a step's loss and of a teacher; with the paper's settings a step is the plain one."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from quadrants import BATCH, CLASSES, SPIKING, init, make_dataset, make_net
from short_training import TIMESTEPS, fit, one_device, run_steps

from dietjax.config import Data, Phase
from dietjax.core.neurons import LIF, ReLU, clamp_leaks
from dietjax.data import normalise
from dietjax.errors import InputError
from dietjax.train.batches import Teacher, make_batches
from dietjax.train.step import phase_loss

pytestmark = pytest.mark.usefixtures("quick_compile")


@pytest.mark.slow
def test_the_loss_with_the_papers_settings_is_the_cross_entropy_after_the_last_step():
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(6, 3, 4)), jnp.float32)
    labels = jnp.asarray([0, 3, 1, 2, 2, 0])
    expected = optax.softmax_cross_entropy_with_integer_labels(logits[:, -1], labels).mean()
    np.testing.assert_allclose(phase_loss(Phase(), logits, labels), expected, rtol=1e-6)


@pytest.mark.slow
def test_the_loss_is_the_sum_of_its_weighted_terms(x64):
    """In NumPy: logits after each step are sums; TET is of what each adds, distillation of their mean."""
    rng = np.random.default_rng(1)
    outputs, teacher, labels = rng.normal(size=(6, 3, 4)), rng.normal(size=(6, 4)), np.array([0, 3, 1, 2, 2, 0])
    phase = Phase(label_smoothing=0.1, tet_weight=0.25, tet_lambda=0.05, tet_mean=0.5, distillation=0.7,
                  temperature=2.0)
    target = 0.9 * np.eye(4)[labels] + 0.1 / 4

    def log_softmax(x):
        return x - np.log(np.exp(x).sum(-1, keepdims=True))

    last = -(target * log_softmax(outputs.sum(1))).sum(-1)
    tet = 0.95 * -(target[:, None] * log_softmax(outputs)).sum(-1).mean(1) + 0.05 * ((outputs - 0.5) ** 2).mean((1, 2))
    p, q = log_softmax(teacher / 2), log_softmax(outputs.mean(1) / 2)
    kl = 4 * (np.exp(p) * (p - q)).sum(-1)
    found = phase_loss(phase, jnp.asarray(outputs.cumsum(1)), jnp.asarray(labels), jnp.asarray(teacher))
    np.testing.assert_allclose(found, (0.3 * (0.75 * last + 0.25 * tet) + 0.7 * kl).mean(), rtol=1e-12)


def test_distillation_without_a_teacher_is_refused():
    with pytest.raises(InputError, match="distillation learns from a teacher's logits, and none came"):
        phase_loss(Phase(distillation=0.5), jnp.zeros((2, 3, 4)), jnp.zeros(2, jnp.int32))


@pytest.mark.parametrize("net, timesteps", [(make_net(ReLU()), 1), (make_net(SPIKING, dropout=0.2), TIMESTEPS)],
                         ids=["ann", "snn"])
@pytest.mark.slow
def test_a_step_with_the_papers_settings_is_the_plain_step_bit_for_bit(net, timesteps):
    """Against a step that knows the cross-entropy, amsgrad and the cosine, and nothing else."""
    states, _ = run_steps(net, init(net), Phase(learning_rate=0.01), 3, timesteps)
    optimizer, dataset = optax.chain(optax.amsgrad(optax.cosine_decay_schedule(0.01, 10))), make_dataset()
    batches = make_batches(dataset, Data(), 0, BATCH, one_device())

    @jax.jit
    def step(params, moments, number, *arguments):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(0), number), 3)
        images, labels = batches.fetch(keys[0], *arguments)

        def loss(params):
            logits, _ = net.apply({"params": params}, images, timesteps, train=True,
                                  rngs={"dropout": keys[1], "encode": keys[2]})
            return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], -1).mean()

        changes, moments = optimizer.update(jax.grad(loss)(params), moments, params)
        return clamp_leaks(optax.apply_updates(params, changes)), moments

    params = init(net)["params"]
    moments = optimizer.init(params)
    for i, state in enumerate(states):
        params, moments = step(params, moments, i, *batches.arguments(i))
        assert jax.tree.structure((params, moments)) == jax.tree.structure((state.variables["params"], state.optimizer))
        for found, expected in zip(jax.tree.leaves((state.variables["params"], state.optimizer)),
                                   jax.tree.leaves((params, moments)), strict=True):
            assert found.tobytes() == np.asarray(expected).tobytes()


# ---- a teacher


@pytest.mark.slow
def test_a_teachers_logits_are_those_on_the_images_that_the_student_sees():
    ann, augment = make_net(ReLU(), batch_norm=True, dropout=0.5), Data(crop_padding=1, flip=True, cutout=3)
    batches = make_batches(make_dataset(), augment, 0, BATCH, one_device(), Teacher(ann, init(ann)))
    images, labels, logits = jax.jit(batches.fetch)(jax.random.key(3), *batches.arguments(0))
    plain = make_batches(make_dataset(), augment, 0, BATCH, one_device())
    expected, same = jax.jit(plain.fetch)(jax.random.key(3), *plain.arguments(0))
    np.testing.assert_array_equal(images, expected)
    np.testing.assert_array_equal(labels, same)
    np.testing.assert_allclose(logits, ann.apply(init(ann), images)[0], rtol=1e-5, atol=1e-6)  # no dropout


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.slow
def test_a_step_learns_from_the_teacher_in_microbatches_too(accumulate, random_variables):
    """Distillation alone: the loss reported is the divergence from the teacher, whatever the labels."""
    ann, snn = make_net(ReLU()), make_net(LIF(leak=0.9, threshold=0.5))
    phase = Phase(learning_rate=0.01, distillation=1.0, temperature=2.0, accumulate=accumulate)
    teacher, variables = Teacher(ann, random_variables(ann, seed=1)), random_variables(snn)
    _, (metrics,) = run_steps(snn, variables, phase, 1, teacher=teacher)
    batches = make_batches(make_dataset(), Data(), 0, BATCH, one_device(), teacher)
    images, _, logits = batches.fetch(jax.random.key(0), *batches.arguments(0))
    student, _ = snn.apply(variables, images, TIMESTEPS)
    divergence = optax.losses.kl_divergence(jax.nn.log_softmax(student / TIMESTEPS / 2), jax.nn.softmax(logits / 2))
    assert metrics["loss"] == pytest.approx(4 * float(divergence.mean()), rel=1e-5)
    assert metrics["loss"] > 0.1


@pytest.mark.slow
def test_a_phase_with_a_teacher_learns_what_it_says_against_the_labels(tmp_path, random_variables):
    """A trained ANN with its classes turned by one: it is always wrong, and so is its student."""
    ann, snn = make_net(ReLU()), make_net(LIF(leak=0.9, threshold=0.5))
    phase = Phase(epochs=30, batch_size=BATCH, learning_rate=0.01, checkpoint_every=30)
    trained, *_ = fit(tmp_path / "ann", phase, ann, random_variables(ann))
    readout = {"kernel": jnp.roll(trained["params"]["fc2"]["kernel"], 1, axis=1)}
    teacher = Teacher(ann, {"params": trained["params"] | {"fc2": readout}})
    phase = dataclasses.replace(phase, distillation=1.0)
    taught, *_ = fit(tmp_path / "snn", phase, snn, random_variables(snn), teacher=teacher)
    train = make_dataset().train
    logits, _ = snn.apply(taught, normalise(train.images, (0.3,), (0.3,)), 2)
    assert np.mean(logits.argmax(-1) == (train.labels + 1) % CLASSES) > 0.9
