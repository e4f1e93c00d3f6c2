"""What an evaluation gathers over batches is the whole set's, and images that are not finite stop it and training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quadrants import BATCH, CLASSES, SHAPE, init, make_dataset

from dietjax import ALIF, IF, LIF, ReLU
from dietjax.checkpoint.manager import Checkpoints
from dietjax.config import Phase
from dietjax.data import DataError, Split
from dietjax.models import Layer, Network, Residual
from dietjax.parallel.mesh import make_mesh
from dietjax.train import loop
from dietjax.train.evaluate import Evaluator, evaluate, make_eval_step
from dietjax.train.health import TrainingError, check_health, measure_health
from dietjax.train.plan import Plan
from dietjax.train.reporter import Reporter
from dietjax.train.state import TimeSchedule

pytestmark = pytest.mark.usefixtures("quick_compile")

NET = Network((Layer("fc1", 6, kernel=None), Layer("fc2", CLASSES, kernel=None)), SHAPE, neuron=LIF(threshold=0.01))


# ---- rates over batches

NEURONS, STEPS = 7, 3


def outputs_of(numbers):
    """What the neurons of "a" and "b" and the pixels put out for the examples of these numbers: [layer, B, T, N]."""
    rng = np.random.default_rng(1)
    drawn = rng.normal(size=(23, 3, STEPS, NEURONS)) * (rng.random((23, 3, STEPS, NEURONS)) < 0.3)
    drawn[5:10] = 0  # a whole batch without an event
    drawn[:, 1] = np.sign(drawn[:, 1])
    return np.moveaxis(drawn[numbers], 1, 0)


def record_of(numbers):
    """As a network gives it: by hand, of these examples alone."""
    rate, magnitude = [], []
    for out in outputs_of(numbers):
        events = out[out != 0]
        rate.append(len(events) / len(numbers) / NEURONS)
        magnitude.append(abs(events).mean() if len(events) else 0.0)
    layers = {"spike_rate": rate[:2], "magnitude": magnitude[:2], "sent_rate": rate[1:]}
    return ({name: dict(zip("ab", values, strict=True)) for name, values in layers.items()}
            | {"input_rate": rate[2], "input_magnitude": magnitude[2]})


@pytest.mark.parametrize("batch_size", [1, 5, 8])  # the last batch of 5 and 8 is smaller
def test_rates_and_magnitudes_over_batches_are_the_whole_sets(batch_size):
    """Magnitudes weigh by their events: the mean of batches' means is another number, and an empty batch has none."""
    split = make_dataset(tests=23).test._replace(labels=np.arange(23, dtype=np.int32))

    def step(variables, images, labels, key):
        number = np.asarray(labels)
        examples = {"loss": number * 1.0, "predicted": number, "correct": number[:, None] > 0, "finite": number >= 0,
                    "label": number, "confidence": number}
        return examples, record_of(number)

    found, _ = evaluate(step, {}, split, batch_size, make_mesh(devices=jax.devices()[:1]))
    whole = record_of(np.arange(23))
    assert set(whole) <= set(found) and 0 < whole["magnitude"]["a"] != 1
    for name, expected in whole.items():
        assert found[name] == pytest.approx(expected, rel=1e-12)
    assert whole["magnitude"]["b"] == 1


def test_a_layer_without_an_event_in_any_batch_has_magnitude_0():
    def step(variables, images, labels, key):
        seen = np.asarray(labels)
        examples = {"loss": seen * 1.0, "predicted": seen, "correct": seen[:, None] > 0, "finite": seen >= 0,
                    "label": seen, "confidence": seen}
        return examples, {"spike_rate": {"a": 0.0}, "magnitude": {"a": 0.0}}

    found, _ = evaluate(step, {}, make_dataset().test, 5, make_mesh(devices=jax.devices()[:1]))
    assert (found["spike_rate"], found["magnitude"]) == ({"a": 0.0}, {"a": 0.0})


# ---- images that are not finite


def with_pixel(split, numbers, value):
    """The same images as floating point, one pixel of these another value."""
    images = split.images.astype(np.float32)
    images[list(numbers), 3, 2, 0] = value
    return Split(images, split.labels)


@pytest.mark.parametrize("value, numbers, says", [
    (np.nan, (13,), "test images 13 "), (np.inf, (6, 7, 9, 9, 8), r"test images 6, 7 \(the first is 0\)"),
    (-np.inf, (8, 9, 10, 11, 15), "test images 8, 9, 10 and 1 more ")])  # of the batch that is at hand: 8 to 11
def test_test_images_that_are_not_finite_are_named(value, numbers, says):
    dataset, mesh = make_dataset(), make_mesh(devices=jax.devices()[:1])
    step = make_eval_step(NET, dataset, TimeSchedule(2), mesh)
    with pytest.raises(DataError, match=says + ".*repair them or leave them out"):
        evaluate(step, init(NET), with_pixel(dataset.test, numbers, value), 4, mesh)


def test_training_images_that_are_not_finite_are_said_before_what_follows_from_them():
    metrics = {"loss": np.float32("nan"), "finite": np.array([False, False]), "finite_images": np.float32(0.75)}
    with pytest.raises(TrainingError, match=r"snn: 25 % of the training images of step 3 hold NaN or infinity"):
        check_health(NET, "snn", 3, metrics)


def test_health_is_of_every_populations_neurons_by_name():
    """Whatever the others have: of one layer ALIF, one ReLU, one IF with a projection's beside it."""
    layers = (Layer("a", 3, kernel=1, neuron=ALIF()), Layer("b", 3, kernel=1, neuron=ReLU()),
              Layer("c", 2, kernel=1, neuron=IF(), residual=Residual("c")),
              Layer("out", CLASSES, kernel=None))
    net = Network(layers, SHAPE)
    params = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, *SHAPE)))["params"]
    params = jax.tree.map(lambda x: np.full(x.shape, 0.5, x.dtype), params)
    found = measure_health(net, params, params, jax.tree.map(lambda x: False, params))
    thresholds, adapting = dict.fromkeys(("a", "c", "c_shortcut"), 0.5), {"a": 0.5}
    assert found["neurons"] == {"leak": adapting, "threshold": thresholds, "adaptation": adapting,
                                "adaptation_leak": adapting}
    assert found["least_threshold"] == thresholds and list(found["finite"]) == ["a", "b", "c", "out"]


@pytest.mark.slow
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_training_stops_at_the_step_that_reads_them(tmp_path, value, accumulate):
    dataset = make_dataset()
    object.__setattr__(dataset, "train", with_pixel(dataset.train, (7,), value))
    phase = Phase(epochs=1, batch_size=BATCH, accumulate=accumulate)
    plan = Plan("snn", NET, dataset, phase, TimeSchedule(2), make_mesh(devices=jax.devices()[:1]))
    reporter = Reporter(plan, lambda *_: None, lambda *_: None, lambda *_: None, lambda _: None)
    with (Checkpoints(tmp_path) as checkpoints,
          pytest.raises(TrainingError, match=r"snn: 6.25 % of the training images of step [0-2] hold NaN")):
        loop.fit(plan, init(NET), Evaluator(plan), checkpoints, reporter)
