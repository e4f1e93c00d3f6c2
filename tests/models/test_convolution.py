"""Laws of the forms of a convolution: each equals XLA's own, and a CPU takes the one that the rules name."""

import collections
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dietjax.core import parts
from dietjax.models import direct
from dietjax.models.columns import columns_in_parts
from dietjax.models.convolution import FORMS, convolve, form_on_cpu, suits, with_stride
from dietjax.models.direct import direct_with_products
from dietjax.models.winograd import winograd_in_parts

pytestmark = pytest.mark.usefixtures("quick_compile")

SHAPES = (  # images, map, channels in and out, kernel, stride
    (1, (5, 4), (1, 3), (3, 3), (1, 1)),
    (6, (4, 7), (3, 40), (3, 3), (1, 1)),
    (4, (6, 6), (33, 32), (3, 3), (1, 1)),
    (3, (5, 6), (2, 5), (3, 3), (2, 2)),
    (4, (7, 5), (5, 1), (1, 1), (2, 2)),
    (2, (3, 3), (4, 2), (5, 5), (1, 1)),
    (2, (1, 1), (3, 2), (3, 3), (1, 1)),
    (6, (9, 1), (2, 3), (5, 1), (2, 1)),
    (1, (9, 8), (3, 4), (7, 7), (2, 2)),
    (5, (6, 4), (2, 3), (5, 3), (1, 1)),
    (3, (6, 5), (9, 3), (5, 3), (1, 1)),
)

FORMS_MODULES = "dietjax.models.columns", "dietjax.models.direct", "dietjax.models.winograd"
STABLE_HLO = re.compile(r"stablehlo\.(convolution|dot_general|while|slice|concatenate|pad)\b")


def drawn(images, sides, channels, kernel, stride, dtype=None):
    rng = np.random.default_rng(0)
    out = [-(-side // step) for side, step in zip(sides, stride, strict=True)]
    shapes = (images, *sides, channels[0]), (*kernel, *channels), (images, *out, channels[1])
    return [jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes]


def xla(x, kernel, stride):
    pads = [(side // 2, side // 2) for side in kernel.shape[:2]]
    return jax.lax.conv_general_dilated(x, kernel, stride, pads, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def with_gradients(form, x, kernel, g):
    y, pull = jax.vjp(form, x, kernel)
    return y, *pull(g)


@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-11), ("float32", 1e-4)])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.thin(1)
def test_every_form_is_the_convolution_in_values_and_gradients(x64, monkeypatch, shape, dtype, tolerance):
    """One image at a time too, where a part may hold so little. In either dtype against float64."""
    arrays, stride = drawn(*shape), shape[-1]
    want = jax.jit(lambda *a: with_gradients(functools.partial(xla, stride=stride), *a))(*arrays)
    for module in FORMS_MODULES:
        monkeypatch.setattr(f"{module}.PART_BYTES", 1)
    suiting = {name: with_stride(form, stride) for name, form in FORMS.items() if suits(form, shape[3], stride)}
    suiting["convolve"] = functools.partial(convolve, stride=stride)

    def all_forms(*arrays):
        return {name: with_gradients(form, *arrays) for name, form in suiting.items()}

    for name, found in jax.jit(all_forms)(*(a.astype(dtype) for a in arrays)).items():
        for got, expected in zip(found, want, strict=True):
            assert got.dtype == dtype, name
            np.testing.assert_allclose(got, expected, tolerance, tolerance * abs(expected).max(), err_msg=name)


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
@pytest.mark.parametrize("shape", SHAPES[1:5], ids=str)
@pytest.mark.thin(3)
def test_other_platforms_have_xlas_own_alone(shape, platform):
    """Forwards and backwards the lowered module has the operations of XLA's own, and no others."""
    stride = shape[-1]

    def lowered(form):
        step = jax.jit(lambda *arrays: with_gradients(functools.partial(form, stride=stride), *arrays))
        return step.trace(*drawn(*shape, "float32")).lower(lowering_platforms=(platform,)).as_text()

    ours, own = (collections.Counter(STABLE_HLO.findall(lowered(form))) for form in (convolve, xla))
    assert (ours == own) == (platform != "cpu")


@pytest.mark.parametrize("shape", SHAPES[1:5], ids=str)
@pytest.mark.thin(1)
def test_time_is_an_axis_of_its_own_on_a_tpu_and_folded_elsewhere(x64, shape):
    """[B, T, H, W, C]: the same numbers; lowered for a TPU nothing is reshaped, elsewhere it is what N images take."""
    stride = shape[-1]
    x, kernel, g = drawn(*shape)
    blocks = [jnp.stack([a, 2 * a, -a], axis=1) for a in (x, g)]
    folded = [a.reshape(-1, *a.shape[2:]) for a in blocks]
    want = with_gradients(functools.partial(xla, stride=stride), folded[0], kernel, folded[1])
    for form in (convolve, direct.direct):
        found = with_gradients(functools.partial(form, stride=stride), blocks[0], kernel, blocks[1])
        for got, expected in zip(found, want, strict=True):
            np.testing.assert_allclose(got.reshape(expected.shape), expected, rtol=1e-10, atol=1e-10)

    def convolutions(x, platform):
        traced = jax.jit(lambda x: convolve(x, kernel, stride)).trace(x)
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        return text.count("[b, 0, 1, 2, f]x[0, 1, 2, i, o]"), text.count("[b, 0, 1, f]x[0, 1, i, o]")

    assert convolutions(blocks[0], "tpu") == (1, 0) and convolutions(blocks[0], "cuda") == (0, 1)
    assert convolutions(blocks[0][:, :1], "tpu") == (0, 1), "one timestep is nothing to keep apart"


@pytest.mark.slow
def test_drawn_shapes_give_what_xla_gives(x64):
    hypothesis = pytest.importorskip("hypothesis")
    st = hypothesis.strategies
    odd, small = st.sampled_from((1, 3, 5)), st.integers(1, 9)

    @hypothesis.settings(max_examples=20, deadline=None, derandomize=True)
    @hypothesis.given(st.tuples(st.integers(1, 6), st.tuples(small, small),
                                st.tuples(st.integers(1, 40), st.integers(1, 40)), st.tuples(odd, odd),
                                st.tuples(st.integers(1, 3), st.integers(1, 3))))
    def check(shape):
        arrays, stride = drawn(*shape), shape[-1]
        want = with_gradients(functools.partial(xla, stride=stride), *arrays)
        found = with_gradients(functools.partial(convolve, stride=stride), *arrays)
        for got, expected in zip(found, want, strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-10)

    check()


@pytest.mark.parametrize("sides, kernel, stride, form", [
    ((32, 32), (3, 3, 3, 16), (1, 1), direct_with_products),
    ((32, 32), (3, 3, 31, 64), (1, 1), direct_with_products),
    ((32, 32), (3, 3, 48, 48), (1, 1), winograd_in_parts),
    ((16, 16), (3, 3, 47, 64), (1, 1), direct_with_products),
    ((15, 16), (3, 3, 32, 32), (1, 1), winograd_in_parts),
    ((15, 16), (3, 3, 31, 64), (1, 1), direct_with_products),
    ((2, 2), (3, 3, 16, 16), (1, 1), columns_in_parts),
    ((2, 2), (3, 3, 64, 64), (1, 1), winograd_in_parts),
    ((4, 4), (5, 5, 64, 64), (1, 1), columns_in_parts),
    ((8, 8), (5, 5, 64, 64), (1, 1), direct_with_products),
    ((32, 32), (3, 3, 64, 64), (2, 2), columns_in_parts),
    ((32, 32), (1, 1, 64, 64), (1, 1), columns_in_parts),
    ((99, 1), (5, 1, 64, 64), (1, 1), columns_in_parts),
])
def test_the_choice(sides, kernel, stride, form):
    assert form_on_cpu(sides, kernel, stride) is form
    assert form_on_cpu(sides, kernel, stride, groups=2) is direct.direct


@pytest.mark.parametrize("kernel, stride", [((3, 3), (1, 1)), ((3, 3), (2, 2))])
@pytest.mark.thin(1)
def test_a_first_layer_computes_no_gradient_of_its_images(kernel, stride):
    """Of stride 1 it would be the only convolution in the program; of stride 2 the only map of the image's shape."""
    x, kernel, g = drawn(4, (12, 10), (3, 8), kernel, stride, jnp.float32)

    def compiled(step):
        return jax.jit(step).lower(kernel, x, g).compile().as_text()

    trace = " convolution(" if stride == (1, 1) else " = f32[4,12,10,3]{3,2,1,0} "
    without, copies = (text.replace("parameter(", "").count(trace) for text in (
        compiled(lambda kernel, x, g: jax.vjp(lambda k: convolve(x, k, stride), kernel)[1](g)[0]),
        compiled(lambda kernel, x, g: jax.vjp(lambda x, k: convolve(x, k, stride), x, kernel)[1](g))))
    assert without < copies and (without == 0 or stride != (1, 1))


@pytest.mark.parametrize("form", [direct_with_products, columns_in_parts, winograd_in_parts])
@pytest.mark.slow
def test_a_kernel_gradient_of_many_parts_is_rounded_once(monkeypatch, form):
    """bfloat16: 64 parts added up in bfloat16 would be off by more than a rounding."""
    x, kernel, g = drawn(64, (3, 3), (32, 33), (3, 3), (1, 1), jnp.bfloat16)
    x, g = abs(x), abs(g)  # sums grow
    wide = [a.astype(jnp.float32) for a in (x, kernel, g)]
    exact = with_gradients(functools.partial(xla, stride=(1, 1)), *wide)[2]
    for module in FORMS_MODULES:
        monkeypatch.setattr(f"{module}.PART_BYTES", 1)
    found = jax.vjp(lambda k: form(x, k), kernel)[1](g)[0]
    np.testing.assert_allclose(found.astype(jnp.float32), exact, rtol=2**-8)


@pytest.mark.slow
def test_columns_have_derivatives_in_forward_mode(x64):
    x, kernel, _ = drawn(4, (5, 6), (2, 3), (3, 3), (2, 2))
    tangents = x[::-1], kernel[::-1]
    found = jax.jvp(lambda x, k: columns_in_parts(x, k, (2, 2)), (x, kernel), tangents)[1]
    np.testing.assert_allclose(found, jax.jvp(lambda x, k: xla(x, k, (2, 2)), (x, kernel), tangents)[1], rtol=1e-11)


def test_a_part_divides_the_batch():
    assert [parts.images_at_once(12, 10, size) for size in (5, 10, 45, 60, 1000)] == [1, 1, 4, 6, 12]


def test_shares_divide_the_batch():
    assert [parts.shares(*given) for given in ((12,), (12, 2), (12, 5), (11, 2))] == [1, 2, 1, 1]
