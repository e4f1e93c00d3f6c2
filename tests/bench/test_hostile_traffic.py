"""Hostile cases of `dietjax bench traffic`."""

import importlib.util

import pytest
from hostile import Case, check

from dietjax.bench.compiled import Traffic
from dietjax.bench.options import Of, Output

TINY = Of("VGG4", (8, 8, 1), classifier=(8,), batch=1)


def asked(of=TINY, without=(), **options):
    """`bench traffic`, refused before anything is compiled; `without` are packages that are not installed."""
    def attempt(folder):
        find = importlib.util.find_spec
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(importlib.util, "find_spec", lambda name: None if name in without else find(name))
            Traffic(of, **options)()

    return attempt


CASES = [
    Case("bench traffic --batch 0", asked(Of(batch=0)), ("error", "--batch must be at least 1, got 0")),
    Case("bench traffic --timesteps 0", asked(timesteps=0), ("error", "--timesteps must be at least 1, got 0")),
    Case("bench traffic --model VGG17", asked(Of("VGG17")), ("error", "unknown network 'VGG17'; did you mean 'VGG1")),
    Case("bench traffic --image-shape that cannot be pooled", asked(Of("VGG4", (9, 8, 1))),
         ("error", "image of 9×8 does not fit")),
    Case("bench traffic --backend cuda", asked(backend="cuda"), ("error", "unknown backend 'cuda'")),
    Case("bench traffic --target h200", asked(target="h200"), ("error", "unknown target 'h200'; did you mean 'h100'?")),
    Case("bench traffic --target h100:0", asked(target="h100:0"), ("error", "unknown target 'h100:0'")),
    Case("bench traffic --target h100 without its compiler", asked(target="h100", without=["jax_plugins.xla_cuda12"]),
         ("error", "compiling for h100 needs XLA's compiler for CUDA", "pip install 'jax-cuda12-plugin==")),
    Case("bench traffic --target v5e:2x4 without its compiler", asked(target="v5e:2x4", without=["libtpu"]),
         ("error", "compiling for v5e:2x4 needs the TPU's compiler", "pip install 'jax[tpu]==")),
    Case("bench traffic --plot", asked(output=Output(plot="a.png")), ("error", "--plot", "this counts bytes")),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_is_odd_is_named(case, tmp_path):
    check(case, tmp_path)
