"""The law that lets split weights travel rounded: a network in bfloat16 rounds its kernels before anything else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quadrants as t

from dietjax.core.neurons import LIF
from dietjax.models import build

pytestmark = pytest.mark.usefixtures("quick_compile")

SPIKING = LIF(leak=0.9, threshold=0.1)
SMALL = t.make_net(SPIKING, dtype=jnp.bfloat16)
STRIDED = build("ResNet12", 10, (16, 16, 3), neuron=SPIKING, dtype=jnp.bfloat16, batch_norm=True, conv_dropout=0,
                classifier_dropout=0, width=1 / 16)


@pytest.mark.slow
@pytest.mark.parametrize("net", [SMALL, STRIDED], ids=["small", "strided"])
def test_rounded_kernels_give_the_same_loss_and_gradients_to_the_bit(net):
    """Convolutions, strides, shortcuts and dense layers; what batch norm has travels as it is. Where XLA may compute
    more exactly than it is asked to, a CPU's leaves the rounding out.
    """
    images = jax.random.normal(jax.random.key(1), (2, *net.image_shape))
    variables = jax.jit(net.init)(jax.random.key(0), images)

    @jax.value_and_grad
    def loss(params, rest):
        (logits, record), _ = net.apply({"params": params, **rest}, images, 2, train=True, mutable=["batch_stats"])
        return (logits**2).sum() + sum(record["spike_rate"].values())

    params = variables.pop("params")
    rounded = jax.tree_util.tree_map_with_path(
        lambda path, x: x.astype(net.dtype).astype(x.dtype) if getattr(path[-1], "key", None) == "kernel" else x,
        params)
    program = jax.jit(loss).lower(params, variables).compile({"xla_allow_excess_precision": False})
    exact, travelled = program(params, variables), program(rounded, variables)
    assert float(exact[0]) > 0 and any(np.asarray(leaf).any() for leaf in jax.tree.leaves(exact[1]))
    assert not all(np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (params, rounded)), strict=True))
    jax.tree.map(np.testing.assert_array_equal, exact, travelled)
