"""Laws of assemble.convert_ann: an experiment's conversion is the method's, with nothing on top of it."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import narrow
import numpy as np
import pytest

from dietjax import convert, data
from dietjax.config import Conversion, Experiment, Model, Neuron, Phase
from dietjax.errors import InputError
from dietjax.run import assemble, folder

pytestmark = pytest.mark.usefixtures("quick_compile")

PHASE = Phase(epochs=1, batch_size=16)


def experiment(batch_norm, conversion=None, **fields):
    return Experiment("x", timesteps=4, model=Model("VGG4", (16,), batch_norm=batch_norm), ann=PHASE, snn=PHASE,
                      conversion=conversion or Conversion(images=32, timesteps=4), **fields)


@pytest.fixture
def dataset():
    """Noise."""
    rng = np.random.default_rng(0)
    train = data.Split(rng.integers(0, 256, (32, 8, 8, 1), np.uint8), np.zeros(32, np.int32))
    return data.Dataset("noise", train, train, tuple("0123456789"), (0.5,), (0.3,))


def converted(asked, dataset, random_variables):
    """(ANN's variables, the SNN, its variables after `convert_ann`, the images that were measured)."""
    ann, snn = narrow.networks(asked, dataset)
    variables = random_variables(ann)
    chosen = data.batch_indices(asked.seed, 32, asked.conversion.images, 0)
    images = data.normalise(dataset.train.images[chosen], dataset.mean, dataset.std, jnp.float32)
    return ann, variables, snn, assemble.convert_ann(asked, ann, variables, snn, dataset), images


def same(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize("scale", [None, 0.5])
@pytest.mark.slow
def test_batch_norm_is_converted_by_matching_activations_alone(dataset, random_variables, scale):
    asked = experiment(True, Conversion(images=32, scale=scale))
    ann, variables, snn, found, images = converted(asked, dataset, random_variables)
    _, folded = convert.fold_batch_norm(ann, variables)
    same(found, convert.match_activations(snn, folded, images, percentile=99.9, scale=scale or 1.0))
    assert snn.bias and not snn.batch_norm and snn.neuron.initial_membrane == 0.5


@pytest.mark.parametrize("method", [None, "percentile"])
def test_without_batch_norm_it_is_the_papers(dataset, random_variables, method):
    asked = experiment(False, Conversion(method, images=32, timesteps=4))
    _, variables, snn, found, images = converted(asked, dataset, random_variables)
    balanced = convert.balance_thresholds(snn, variables, images, percentile=99.7, timesteps=4)
    same(found, convert.scale_thresholds(balanced, 0.2))  # the authors' at up to 5 timesteps
    assert not snn.bias and snn.neuron.initial_membrane == 0


def test_match_asks_for_no_batch_norm_and_leaks_start_where_they_are_asked_to(dataset, random_variables):
    asked = experiment(False, Conversion("match", 99.0, 32), neuron=Neuron(leak=0.9, initial_membrane=0.25))
    _, variables, snn, found, images = converted(asked, dataset, random_variables)
    expected = convert.match_activations(snn, variables, images, percentile=99.0)
    for layer in expected["params"].values():
        if "neuron" in layer:
            layer["neuron"] = layer["neuron"]._replace(leak=jnp.float32(0.9))
    same(found, expected)
    assert snn.neuron.initial_membrane == 0.25


@pytest.mark.slow
def test_balancing_after_batch_norm_starts_from_matched_biases(dataset, random_variables):
    """Currents and biases then count in one unit; thresholds are balanced on these weights."""
    asked = experiment(True, Conversion("percentile", images=32, timesteps=4, scale=0.4))
    ann, variables, snn, found, images = converted(asked, dataset, random_variables)
    matched = convert.match_activations(snn, convert.fold_batch_norm(ann, variables)[1], images)
    balanced = convert.balance_thresholds(snn, matched, images, percentile=99.7, timesteps=4)
    same(found, convert.scale_thresholds(balanced, 0.4))


def as_before_match(asked, path):
    """What config.json of this experiment held before there was match."""
    stored = dataclasses.asdict(asked)
    del stored["neuron"]["initial_membrane"]
    stored["conversion"] |= {"method": "percentile", "percentile": 99.7}
    path.write_text(json.dumps(stored))


def test_a_run_begun_before_match_goes_on(tmp_path):
    """Its config.json spells out what its file leaves to the default; the paper's default is as it was."""
    (tmp_path / "checkpoints" / "snn" / "23").mkdir(parents=True)
    as_before_match(experiment(False), tmp_path / "config.json")
    folder.check(experiment(False), tmp_path)
    as_before_match(experiment(True), tmp_path / "config.json")
    with pytest.raises(InputError, match=r"conversion\.method: there 'percentile', asked for 'match'"):
        folder.check(experiment(True), tmp_path)
    folder.check(experiment(True, Conversion("percentile", images=32, timesteps=4)), tmp_path)
