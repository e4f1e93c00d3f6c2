"""Laws of the estimate of a training step's memory, and of the refusal that rests on it."""

import jax
import jax.numpy as jnp
import pytest

from dietjax.analysis import memory
from dietjax.bench import measure, networks
from dietjax.config import Phase
from dietjax.data import Dataset, Split
from dietjax.errors import InputError
from dietjax.models import Layer, Network, Residual, build
from dietjax.parallel.mesh import make_mesh
from dietjax.train import loop
from dietjax.train.plan import Plan
from dietjax.train.state import TimeSchedule

pytestmark = pytest.mark.usefixtures("quick_compile")


def vgg4(**options):
    """Neurons: 64·8·8, 128·4·4, 8 and the readout's 10."""
    return build("VGG4", 10, (8, 8, 1), classifier=(8,), **options)


NEURONS = 64 * 8 * 8 + 128 * 4 * 4 + 8 + 10
TILES = 2 * 4 * 4 * 4 * 4 * (64 + 128)
"""For an image and timestep in conv2, Winograd's 16 values for four pixels, in float32, and their cotangents."""
WORKING = 3 * 128 * 4 * 4 * 4 + TILES
"""And three blocks of float32."""


@pytest.mark.parametrize("schedule, expected", [
    ({}, 3 * (4 * NEURONS * 4 - 4 * 4096 * 3 + 4 * WORKING)),  # the first layer's current is the same at all timesteps
    ({"chunk": 2}, 3 * (4 * NEURONS * 4 - 4 * 4096 * 3 + 2 * NEURONS * 4 + 2 * WORKING)),
    ({"chunk": 2, "remat": True}, 3 * (2 * NEURONS * 4 - 4 * 4096 * 1 + 2 * NEURONS * 4 + 2 * WORKING)),
    ({"chunk": 1, "remat": True}, 3 * (1 * NEURONS * 4 + 4 * NEURONS * 4 + 1 * WORKING)),
])
def test_the_estimate_is_what_a_hand_counts(schedule, expected):
    if jax.default_backend() != "cpu":  # nothing of Winograd's there, and conv1 is the largest
        expected += 3 * schedule.get("chunk", 4) * (3 * 4096 * 4 - WORKING)
    assert memory.training_step(vgg4(), 3, 4, **schedule) == expected


def test_what_a_residual_brings_is_kept_beside_the_current():
    """A map of 8×8×4 for three images and five timesteps, in float32."""
    def net(residual):
        layers = Layer("a", 4), Layer("b", 4), Layer("c", 4, residual=residual), Layer("fc", 10, kernel=None)
        return Network(layers, (8, 8, 1))

    alone, with_residual = (memory.training_step(net(r), 3, 5) for r in (None, Residual("b")))
    assert with_residual - alone == 3 * 5 * 8 * 8 * 4 * 4


def test_batch_norm_keeps_its_inputs_too():
    plain, normed = (memory.training_step(vgg4(batch_norm=on), 1, 1) for on in (False, True))
    assert normed - plain == NEURONS * 4


def test_recomputed_chunks_never_need_more_than_kept_ones():
    for dtype in (None, jnp.bfloat16):
        net = build("VGG16", 10, (32, 32, 3), dtype=dtype)
        for steps in (1, 5, 16, 64):
            for chunk in (c for c in range(1, steps + 1) if steps % c == 0):
                kept, recomputed = (memory.training_step(net, 8, steps, chunk, remat) for remat in (False, True))
                assert recomputed <= kept


@pytest.mark.slow
@pytest.mark.parametrize("schedule", [{}, {"chunk": 1, "remat": True}])
def test_the_estimate_is_near_what_xla_plans(schedule):
    net = build("VGG4", 10, (32, 32, 3), classifier=(64,), conv_dropout=0, classifier_dropout=0)
    jax.config.update("jax_disable_most_optimizations", False)
    try:
        images = jax.ShapeDtypeStruct((32, 32, 32, 3), jnp.float32)
        variables = jax.eval_shape(net.init, jax.random.key(0), images)
        _, planned = measure.compiled(networks.training(net, 4, schedule), variables, images,
                                      jax.ShapeDtypeStruct((32,), jnp.int32))
    finally:
        jax.config.update("jax_disable_most_optimizations", True)
    assert 0.5 < memory.training_step(net, 32, 4, **schedule) / planned < 2


@pytest.fixture
def limit(monkeypatch):
    """Sets what a device has."""
    return lambda size: monkeypatch.setattr(memory, "device_memory", lambda: size)


def test_a_step_that_does_not_fit_is_refused_with_the_largest_chunk_that_would(limit):
    sizes = {c: memory.training_step(vgg4(), 100, 8, c, remat=True) for c in (1, 2, 4, 8)}
    for chunk in (4, 2):
        limit(sizes[chunk])
        assert sizes[chunk] < sizes[2 * chunk]
        memory.check(vgg4(), 100, 8, chunk, remat=True)
        with pytest.raises(InputError, match=f"on 100 images a device at 8 timesteps takes about "
                                             f"{sizes[8] / 1e9:.1f} GB.*; chunk={chunk} would fit"):
            memory.check(vgg4(), 100, 8, None, remat=False)
    limit(min(sizes.values()) - 1)
    with pytest.raises(InputError, match="no chunk would fit; use a smaller batch, more microbatches"):
        memory.check(vgg4(), 100, 8, None, remat=False)


def test_the_chunk_that_would_fit_may_be_a_larger_one(limit):
    """Every block leaves its states behind: the least memory is in between."""
    net = build("VGG16", 10, (32, 32, 3))
    sizes = {c: memory.training_step(net, 8, 64, c, remat=True) for c in (1, 8)}
    assert sizes[8] < sizes[1]
    limit(sizes[8])
    with pytest.raises(InputError, match="; chunk=8 would fit"):
        memory.check(net, 8, 64, 1, remat=True)


def test_no_chunk_is_proposed_where_batch_norm_needs_every_timestep(limit):
    """What one chunk of all timesteps saves may still be proposed."""
    net = vgg4(batch_norm=True)
    whole, chunked = memory.training_step(net, 100, 8), memory.training_step(net, 100, 8, 4, remat=True)
    assert chunked < memory.training_step(net, 100, 8, 8, remat=True) <= whole
    limit(chunked)
    with pytest.raises(InputError, match="no chunk would fit; use a smaller batch, more microbatches"):
        memory.check(net, 100, 8, None, remat=False)


def test_a_chunk_that_costs_more_than_it_saves_is_to_be_left_out(limit, monkeypatch):
    """The states between chunks are float32, currents that are kept may be halves; as on a GPU, without Winograd."""
    monkeypatch.setattr(memory, "_transforms", lambda connection, images: 0)
    net = build("ResNet34", 10, (32, 32, 3), dtype=jnp.bfloat16)
    whole, chunked = memory.training_step(net, 8, 2), memory.training_step(net, 8, 2, 1, remat=True)
    assert whole < chunked
    limit(whole)
    with pytest.raises(InputError, match="; without a chunk it would fit"):
        memory.check(net, 8, 2, 1, remat=True)


def test_training_asks_before_it_touches_anything(limit):
    split = Split(jnp.zeros((8, 8, 8, 1), jnp.uint8), jnp.zeros((8,), jnp.int32))
    limit(10**5)
    with pytest.raises(InputError, match=r"on 8 images a device at 2 timesteps takes about .*; no chunk would fit"):
        plan = Plan("snn", vgg4(), Dataset("none", split, split, ("a", "b"), (0.5,), (0.5,)),
                    Phase(batch_size=8 * jax.device_count()), TimeSchedule(2), make_mesh())
        loop.fit(plan, None, evaluator=None, checkpoints=None, reporter=None)


def test_a_conversion_that_does_not_fit_is_refused_with_the_images_that_would(limit):
    """Three float32 blocks of the largest layer, conv1: 8×8×64 neurons of one image over 10 timesteps."""
    image = 3 * 4 * 10 * 8 * 8 * 64
    limit(5 * image)
    memory.check_conversion(vgg4(), 5, 10)
    with pytest.raises(InputError, match=r"6 images over 10 timesteps .*; use at most --conversion\.images 5"):
        memory.check_conversion(vgg4(), 6, 10)


def test_a_device_has_its_share_of_the_machine():
    assert 10**8 < memory.device_memory() < 10**13
