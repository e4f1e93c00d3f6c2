"""Laws of models.whiten: currents of one direction are uncorrelated, of variance 1, and come with both signs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dietjax import ReLU
from dietjax.errors import InputError
from dietjax.models import Layer, Network, whiten
from dietjax.models.operations import synapse


def network(features=8, kernel=3, **options):
    layers = (Layer("first", features, kernel=kernel), Layer("fc", 3, kernel=None))
    return Network(layers, (9, 9, 2), neuron=ReLU(), **options)


def pictures(seed=0):
    """Neighbours resemble one another, and so do the colours."""
    noise = np.random.default_rng(seed).normal(size=(200, 11, 11, 2))
    smooth = sum(noise[:, i:i + 9, j:j + 9] for i in range(3) for j in range(3))
    return smooth + 0.5 * smooth[..., ::-1] + 0.3


def test_currents_are_white_and_come_with_both_signs(x64, random_variables):
    net, images = network(param_dtype=jnp.float64), pictures()
    found = whiten(net, random_variables(net, dtype=jnp.float64), images)
    current = np.asarray(synapse(found["params"]["first"]["kernel"], jnp.asarray(images)[:, None]))[:, 0, 1:-1, 1:-1]
    seen = current[:, ::3, ::3].reshape(-1, 8)  # the patches that were measured
    # ε = 5e-4 takes a little off directions of variance v: v / (v + ε)
    np.testing.assert_allclose(np.cov(seen[:, :4].T), np.eye(4), atol=1e-3)
    np.testing.assert_array_equal(seen[:, 4:], -seen[:, :4])


def test_directions_are_the_strongest(x64, random_variables):
    """Of data with two strong directions, four features are these and their negatives."""
    rng = np.random.default_rng(0)
    net = Network((Layer("first", 4, kernel=1), Layer("fc", 3, kernel=None)), (3, 3, 3), neuron=ReLU())
    basis = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    images = rng.normal(size=(500, 3, 3, 3)) * np.array([3.0, 2.0, 0.1]) @ basis.T
    kernel = whiten(net, random_variables(net), images)["params"]["first"]["kernel"]
    directions = np.asarray(kernel[0, 0]) / np.linalg.norm(kernel[0, 0], axis=0)
    np.testing.assert_allclose(np.abs(directions.T @ basis)[:, 2], 0, atol=0.02)


def test_only_the_first_kernel_changes(random_variables):
    net, images = network(), pictures()
    before = random_variables(net)
    after = whiten(net, before, images)
    same = jax.tree.map(lambda a, b: bool((a == b).all()), before, after)
    assert not same["params"]["first"]["kernel"] and all(
        x for path, x in jax.tree_util.tree_leaves_with_path(same) if "first" not in jax.tree_util.keystr(path))


@pytest.mark.parametrize("net, says", [
    (network(features=7), "layer 'first' has 7 features, and 3×3 patches of 2 channels make an even number of at most"),
    (network(features=38), "has 38 features, .* at most 36; do without whitening, or give the layer so many"),
    (network(kernel=None), "whitening needs a convolution as first layer, and 'first' is fully connected"),
])
def test_what_cannot_be_whitened_is_refused(net, says):
    with pytest.raises(InputError, match=says):
        whiten(net, jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 9, 9, 2))), pictures())
