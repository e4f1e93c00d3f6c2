"""Hostile cases of many chips: what a step sends, and how long it takes on paper."""

import importlib.util
from unittest import mock

import pytest
from hostile import Case, check

from dietjax.analysis.scaling import CHIPS, Traffic, step
from dietjax.bench.collectives import sent
from dietjax.bench.compiled import Collectives
from dietjax.bench.options import Of, Output


def asked(**options):
    """`bench collectives`, which must refuse before it compiles."""
    def attempt(folder):
        with mock.patch("dietjax.bench.collectives.lowered_step", side_effect=AssertionError("it compiles")):
            if "output" in options:
                return Collectives(output=Output(plot=folder / options["output"]))()
            return Collectives(**options)()

    return attempt


def without(module, target):
    """A compiler that is not installed."""
    def attempt(folder):
        find = importlib.util.find_spec
        with mock.patch("importlib.util.find_spec", lambda name: None if name.split(".")[0] == module else find(name)):
            return sent(Of(batch=1).subject(), (target,), (), 5, ("bfloat16",))

    return attempt


def modelled(name="H100", **change):
    """A step on paper."""
    arguments = {"chips": 8, "batch": 16, "operations": 300, "traffic": (), "share": 0.5} | change
    return lambda folder: step(CHIPS[name], **arguments)


CASES = [
    Case("bench collectives --target v5x", asked(target=("here", "v5x")), ("error", "unknown target 'v5x'")),
    Case("bench collectives --target h100:0", asked(target=("h100:0",)), ("error", "unknown target 'h100:0'")),
    Case("bench collectives --target ''", asked(target=("",)), ("error", "unknown target ''")),
    Case("bench collectives --fsdp 3 on one device", asked(fsdp=(3,)),
         ("error", "fsdp=3 does not divide the 1 devices")),
    Case("bench collectives --fsdp 0", asked(fsdp=(0,)), ("error", "--fsdp must be at least 1")),
    Case("bench collectives --timesteps 0", asked(timesteps=0), ("error", "--timesteps must be at least 1")),
    Case("bench collectives --batch 0", asked(of=Of(batch=0)), ("error", "--batch must be at least 1")),
    Case("bench collectives --plot", asked(output="a.png"),
         ("error", "--plot draws times and memory, and nothing is timed")),
    Case("a TPU's compiler that is not installed", without("libtpu", "v5e:2x4"), ("error", "v5e:2x4", "jax[tpu]")),
    Case("CUDA's compiler that is not installed", without("nvidia", "h100:8"),
         ("error", "h100:8", "jax-cuda12-plugin")),
    Case("a batch of 12 over 8 chips", modelled(batch=12),
         ("error", "12 does not divide over 8 chips; use a multiple of 8")),
    Case("a batch of nothing", modelled(batch=0), ("error", "batch must be at least 1, got 0")),
    Case("no chips", modelled(chips=0), ("error", "chips must be at least 1, got 0")),
    Case("no images at once", modelled(most=0), ("error", "most must be at least 1, got 0")),
    Case("12 chips in islands of 8", modelled(chips=12, batch=24),
         ("error", "12 chips are no whole number of islands of 8")),
    Case("a slice of 24 v5e", modelled("TPU v5e", chips=24, batch=24), ("error", "chips in a slice '24'", "16, 32")),
    Case("300 v5e in pods of 256", modelled("TPU v5e", chips=300, batch=300), ("error", "islands of 256 TPU v5e")),
    Case("no share of peak", modelled(share=0), ("error", "share must be in (0, 1], a share of peak, got 0")),
    Case("more than the peak", modelled(share=1.5), ("error", "share must be in (0, 1]", "1.5")),
    Case("a share that is NaN", modelled(share=float("nan")), ("error", "share must be in (0, 1]", "nan")),
    Case("a collective misspelled", modelled(traffic=(Traffic("all-redcue", 1),)),
         ("error", "unknown collective 'all-redcue'; did you mean 'all-reduce'")),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_is_odd_is_named(case, tmp_path):
    check(case, tmp_path)
