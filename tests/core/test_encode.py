"""Laws of dietjax.core.encode."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dietjax.core.encode import Direct, Poisson

pytestmark = pytest.mark.usefixtures("quick_compile")



def encode(rate, images, start, timesteps, seed=3):
    run = jax.jit(Poisson(rate), static_argnums=3)
    return run(jax.random.key(seed), images, start, timesteps)


def images(value=None, shape=(4, 16, 16, 3), dtype=jnp.float32):
    return jnp.full(shape, value, dtype) if value is not None else jax.random.normal(jax.random.key(0), shape, dtype)


def test_direct_is_the_image_as_a_block_of_one():
    x = images()
    np.testing.assert_array_equal(Direct()(None, x, 0, 7), np.asarray(x)[:, None])
    assert Direct().constant and not Poisson().constant


def test_poisson_spikes_are_the_sign_or_nothing():
    x = images()
    spikes = np.asarray(encode(0.5, x, 0, 10))
    assert spikes.shape == (4, 10, 16, 16, 3) and spikes.dtype == x.dtype
    assert set(np.unique(spikes)) == {-1, 0, 1}
    assert (np.asarray(x)[:, None] * spikes >= 0).all()


def test_poisson_always_fires_from_one_on_and_never_at_zero():
    assert (encode(1.0, images(1.0), 0, 5) == 1).all()
    assert (encode(2.0, images(-0.5), 0, 5) == -1).all()
    assert (encode(1.0, images(0.0), 0, 5) == 0).all()


@pytest.mark.parametrize("value, rate", [(-0.3, 0.5), (0.004, 1.0)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_poisson_fires_at_rate_times_the_value(value, rate, dtype):
    spikes = np.asarray(encode(rate, images(value, (50, 16, 16, 1), dtype), 0, 10), np.float32)
    p = rate * abs(float(jnp.asarray(value, dtype)))
    assert abs(np.abs(spikes).mean() - p) < 5 * np.sqrt(p * (1 - p) / spikes.size)


@pytest.mark.slow
def test_poisson_does_not_depend_on_the_chunk():
    x = images()
    whole = encode(1.0, x, 0, 4)
    for chunk in (1, 2):
        parts = [encode(1.0, x, start, chunk) for start in range(0, 4, chunk)]
        np.testing.assert_array_equal(jnp.concatenate(parts, 1), whole)
    assert (whole[:, 0] != whole[:, 1]).any()
    assert (encode(1.0, x, 0, 4, seed=4) != whole).any()


@pytest.mark.parametrize("rate", [0, -1.0, float("nan")])
def test_poisson_rate_must_be_positive(rate):
    with pytest.raises(ValueError, match=f"rate must be > 0, got {rate}"):
        Poisson(rate)
