"""Some images of a batch at a time, on a CPU: what is made besides a layer's maps stays small, and in the cache."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from ..types import Array


def images_at_once(count: int, image_bytes: int, part_bytes: int) -> int:
    """How many of N images are taken at a time, of which each needs so many bytes: a divisor of N.

    All of them where these are few. All of them with several devices, too: each holds a share of the images, and parts
    of all images would have to be sent from one to another. And all of a batch whose size is a symbol (`jax.export`).
    """
    if jax.device_count() > 1 or not isinstance(count, int):
        return count
    return max(n for n in range(1, count + 1) if count % n == 0 and (n == 1 or n * image_bytes <= part_bytes))


def shares(count: int, least: int = 1) -> int:
    """Into how many shares N images are divided, of which a sum over images is found apart: at least so many, and one
    for each device that holds some. 1 where they cannot be divided, or N is a symbol.
    """
    wanted = max(least, jax.device_count())
    return wanted if isinstance(count, int) and count % wanted == 0 else 1


def in_parts(form: Callable[[Array, Array], Array], x: Array, kernel: Array, size: int) -> Array:
    """A form of convolution over [N, H, W, in], so many images at a time.

    The kernel's gradient adds up over the parts, in float32 or wider, and is rounded to the kernel's dtype once.
    """
    if size == x.shape[0]:
        return form(x, kernel)
    kernel = kernel.astype(jnp.promote_types(kernel.dtype, jnp.float32))
    _, y = jax.lax.scan(lambda _, part: (None, form(part, kernel)), None, x.reshape(-1, size, *x.shape[1:]))
    return y.reshape(-1, *y.shape[2:])


def sum_of_parts(form: Callable[[Array, Array], Array], x: Array, y: Array, size: int) -> Array:
    """A form's value for two batches [N, ...] that is a sum over the images, so many of them at a time."""
    if size == x.shape[0]:
        return form(x, y)
    x, y = (a.reshape(-1, size, *a.shape[1:]) for a in (x, y))
    whole = jax.eval_shape(form, x[0], y[0])
    nothing = jnp.zeros(whole.shape, whole.dtype)
    total, _ = jax.lax.scan(lambda total, part: (total + form(*part), None), nothing, (x, y))
    return total
