"""Laws of checksum: the stated sum, whoever holds the array, and another one as soon as a bit is another."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from dietjax.checkpoint.checksum import checksums

DTYPES = [np.uint8, np.int16, np.float32, np.float64, np.int64, np.bool_, ml_dtypes.bfloat16, np.complex64]


def mix(x):
    """MurmurHash3's finaliser, in Python's whole numbers."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        x = (x ^ (x >> shift)) * factor % 2**32
    return x ^ (x >> 16)


def expected(array):
    """The definition, word by word."""
    size = min(array.dtype.itemsize, 4)
    content = array.tobytes()
    words = [int.from_bytes(content[i : i + size], "little") for i in range(0, len(content), size)]
    return sum(mix(word ^ mix(i * 0x9E3779B1 % 2**32)) for i, word in enumerate(words)) % 2**32


def random_array(dtype, shape=(3, 5)):
    rng = np.random.default_rng(0)
    if dtype is np.bool_:
        return rng.integers(0, 2, shape).astype(bool)
    return np.frombuffer(rng.bytes(int(np.prod(shape)) * np.dtype(dtype).itemsize), dtype).reshape(shape)


@pytest.mark.parametrize("dtype", DTYPES)
def test_it_is_the_stated_sum_for_numpy_and_jax(dtype):
    with jax.enable_x64(True):
        for shape in ((3, 5), (), (0, 4)):
            array = random_array(dtype, shape)
            assert checksums([array, jnp.asarray(array)]) == [expected(array)] * 2


def test_memory_order_does_not_matter():
    array = random_array(np.float32)
    assert checksums([np.asfortranarray(array)]) == checksums([array])


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_flipped_bit_changes_it(dtype):
    array = random_array(dtype)
    (sound,) = checksums([array])
    flipped = []
    for bit in range(0, array.nbytes * 8, 8 if dtype is np.bool_ else 1):
        content = bytearray(array.tobytes())
        content[bit // 8] ^= 1 << bit % 8
        flipped.append(np.frombuffer(content, array.dtype).reshape(array.shape))
    assert sound not in checksums(flipped)


def test_values_that_change_places_change_it():
    array = random_array(np.float32, (4, 4))
    others = [array[::-1], array.T, np.roll(array, 1), array.reshape(2, 8)[::-1].reshape(4, 4)]
    assert len({*checksums([array, *others])}) == 5
