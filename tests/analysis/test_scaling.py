"""Laws of dietjax.analysis.scaling: each term by hand; more chips never take longer; what does not divide is named."""

import math

import pytest

from dietjax.analysis import scaling
from dietjax.analysis.scaling import CHIPS, Chip, Level, Step, Switch, Torus, Traffic, gather_seconds, operations, step
from dietjax.core.neurons import LIF, ReLU
from dietjax.errors import InputError
from dietjax.models import build

INNER, OUTER = Level(8, 100.0, 7, 0.5), Level(4, 10.0, 3, 2.0)
TOY = Chip("toy", 1000.0, 0.0, 0.0, 8, Switch(100.0, 0.5), Switch(10.0, 2.0), "made up")


def test_a_gather_by_hand():
    assert gather_seconds(800, (INNER,)) == pytest.approx(7 / 8 * 800 / 100 + 7 * 0.5)
    outer = 3 / 4 * (800 / 8) / 10 + 3 * 2.0  # every chip's eighth goes round the four islands
    assert gather_seconds(800, (INNER, OUTER)) == pytest.approx(7 + 3.5 + outer)
    assert gather_seconds(800, ()) == 0


def test_a_gather_of_two_levels_sends_what_a_ring_over_all_does():
    """With equal rates and no latency, whatever the levels are: (n - 1)/n of the array."""
    for inner, outer in ((2, 16), (8, 4), (16, 2)):
        levels = Level(inner, 10.0, 0, 0.0), Level(outer, 10.0, 0, 0.0)
        assert gather_seconds(640, levels) == pytest.approx(31 / 32 * 640 / 10)


def test_an_all_reduce_is_two_gathers_and_each_collective_pays_its_latency():
    assert Traffic("all-gather", 800).seconds((INNER,)) == pytest.approx(10.5)
    assert Traffic("reduce-scatter", 800).seconds((INNER,)) == pytest.approx(10.5)
    assert Traffic("all-reduce", 800).seconds((INNER,)) == pytest.approx(21)
    assert Traffic("all-reduce", 800, 4).seconds((INNER,)) == pytest.approx(2 * (7 + 4 * 3.5))
    assert Traffic("all-reduce", 0, 0).seconds((INNER,)) == 0
    with pytest.raises(InputError, match="unknown collective 'all-redcue'; did you mean 'all-reduce'"):
        Traffic("all-redcue", 800).seconds(())


@pytest.mark.parametrize("chips, rate, hops", [
    (4, 2 * 50.0, 2),  # (2, 2): neither axis closes, one link on each, one hop on each
    (8, 2 * 50.0, 1 + 3), (128, 50.0 + 100.0, 7 + 8), (256, 200.0, 8 + 8)])
def test_an_axis_that_closes_to_a_ring_sends_both_ways(chips, rate, hops):
    torus = Torus(50.0, 16, 1e-6, {4: (2, 2), 8: (2, 4), 128: (8, 16), 256: (16, 16)})
    assert torus.level(chips) == Level(chips, rate, hops, 1e-6)


def test_the_levels_of_a_chip_s_network():
    h100, v5e, v5p = CHIPS["H100"], CHIPS["TPU v5e"], CHIPS["TPU v5p"]
    assert h100.levels(1) == ()
    assert h100.levels(8) == (Level(8, 450e9, 7, 3.4e-6),)
    assert h100.levels(64) == (Level(8, 450e9, 7, 3.4e-6), Level(8, 50e9, 7, 14e-6))
    assert [level.size for level in v5e.levels(1024)] == [256, 4]
    assert v5e.levels(512)[1].rate == pytest.approx(3.125e9)  # 6.4 Tb/s over 256 chips
    assert v5p.levels(1024) == (Level(1024, 600e9, 4 + 4 + 8, 1e-6),)
    with pytest.raises(InputError, match="12 chips are no whole number of islands of 8 H100; use a multiple of 8"):
        h100.levels(12)
    with pytest.raises(InputError, match="unknown number of chips in a slice '24'"):
        v5e.levels(24)


@pytest.mark.parametrize("name", CHIPS)
def test_links_add_up_to_what_their_makers_say_of_a_chip(name):
    """Bytes per second both ways of a chip in a whole pod or island, and of its pods' network."""
    both_ways = {"TPU v5e": 400e9, "TPU v6e": 800e9, "TPU v5p": 1200e9, "H100": 900e9}[name]
    chip = CHIPS[name]
    assert 2 * chip.levels(min(chip.island, 1024))[0].rate == both_ways
    assert chip.source and 0 < chip.bandwidth < chip.peak and math.log2(chip.memory) > 33


def test_every_chip_has_every_power_of_two_to_1024():
    for chip in CHIPS.values():
        for n in (8, 16, 32, 64, 128, 256, 512, 1024):
            assert math.prod(level.size for level in chip.levels(n)) == n


# ---- operations


def test_operations_of_a_small_network_by_hand():
    net = build("VGG4", 10, (8, 8, 3), classifier=(16,), neuron=LIF())
    image, second = 64 * 27 * 64, 16 * 9 * 64 * 128  # 8x8 map, then 4x4
    dense = 4 * 128 * 16 + 16 * 10
    assert operations(net, 5) == 2 * (2 * image + 5 * 3 * (second + dense))
    assert operations(net.clone(neuron=ReLU()), 1) == 2 * (2 * image + 3 * (second + dense))


def test_the_share_is_operations_per_second_over_the_peak():
    assert scaling.share_of_peak(0.5, 10, 20, TOY) == pytest.approx(10 * 20 / 0.5 / 1000)


# ---- a step


def test_a_step_by_hand():
    gathered, scattered = Traffic("all-gather", 800), Traffic("reduce-scatter", 400)
    found = step(TOY, 8, 16, 300, (gathered, scattered), 0.5)
    assert found == Step(16, 2 * 300 / 500, 10.5, 3.5 + 3.5)
    assert found.serial == pytest.approx(1.2 + 17.5)
    assert found.hidden == pytest.approx(10.5 + 7)  # both take longer than the pass that they run beside
    assert found.efficiency(found.serial) == pytest.approx(1.2 / 18.7)


@pytest.mark.parametrize("before, after, hidden", [(0, 0, 9), (2, 5, 9), (4, 5, 10), (2, 8, 11)])
def test_what_is_hidden(before, after, hidden):
    """A third of 9 seconds is forward, two thirds are backward."""
    assert Step(1, 9, before, after).hidden == pytest.approx(hidden)


def test_one_chip_sends_nothing():
    found = step(TOY, 1, 4, 300, (Traffic("all-reduce", 800, 3),), 0.5)
    assert found.serial == found.hidden == found.compute == 4 * 300 / 500


def test_microbatches_each_send():
    traffic = (Traffic("all-reduce", 800),)
    whole, parts = (step(TOY, 8, 80, 300, traffic, 0.5, most) for most in (None, 4))
    assert parts.after == pytest.approx(3 * whole.after)  # ten images in parts of four
    assert parts.compute == whole.compute and step(TOY, 8, 80, 300, traffic, 0.5, 10) == whole


@pytest.mark.parametrize("name", CHIPS)
def test_more_chips_never_take_longer_over_the_same_batch(name):
    traffic = (Traffic("all-reduce", 276e6, 3),)
    times = [step(CHIPS[name], n, 4096, 462_000_000_000, traffic, 0.2, 32).hidden for n in (8, 16, 32, 64, 128, 256)]
    assert times == sorted(times, reverse=True)
