"""Targets to compile for: which names there are, and what is said where a compiler is not installed."""

import importlib.util

import jax
import pytest

from dietjax.errors import InputError
from dietjax.parallel import targets
from dietjax.parallel.targets import target


@pytest.fixture
def without(monkeypatch):
    """Makes packages look as if they were not installed."""
    find = importlib.util.find_spec

    def hide(*hidden):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in hidden else find(name))

    return hide


def test_here_are_the_devices_of_this_process():
    found = target("here")
    assert found == ("here", tuple(jax.devices()), {})


@pytest.mark.parametrize("name", ["", "Here", "h100:0", "h100:", "h100:-1", "h100:2x4", "v5e", "v5e:", "v5e:2*4",
                                  "5e:2x4", "v5e:2x4x", " v5e:2x4", "cpu"])
def test_other_names_are_refused(name):
    with pytest.raises(InputError, match="unknown target"):
        target(name)


@pytest.mark.parametrize("name, hidden, installs", [
    ("h100", "nvidia", "nvidia-cuda-nvcc-cu12"),
    ("h100:8", "jax_plugins.xla_cuda12", f"'jax-cuda12-pjrt=={jax.__version__}'"),
    ("v5e:2x4", "libtpu", f"'jax[tpu]=={jax.__version__}'"),
    ("v4:2x2x1", "libtpu", f"'jax[tpu]=={jax.__version__}'"),
])
def test_a_missing_compiler_is_named_with_what_to_install(without, name, hidden, installs):
    without(hidden)
    with pytest.raises(InputError) as refused:
        target(name)
    assert f"compiling for {name} needs" in str(refused.value) and installs in str(refused.value)
    assert "JAX_PLATFORMS=cpu" in str(refused.value)


@pytest.fixture
def tpu(monkeypatch):
    """A TPU's compiler that knows one topology; its environment is this test's own."""
    def describe(name, platform):
        if name != "v5e:2x4":
            raise jax.errors.JaxRuntimeError("INVALID_ARGUMENT: bounds")
        return type("Topology", (), {"devices": [f"{platform} {i}" for i in range(8)]})

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(targets.topologies, "get_topology_desc", describe)
    monkeypatch.setattr(targets.os, "environ", {})
    return targets.os.environ


def test_a_tpu_s_topology(tpu):
    found = target("v5e:2x4")
    assert found == ("v5e:2x4", tuple(f"tpu {i}" for i in range(8)), {})
    assert tpu["TPU_SKIP_MDS_QUERY"] == "1" and tpu["ALLOW_MULTIPLE_LIBTPU_LOAD"] == "1"


def test_a_topology_that_the_compiler_does_not_know_is_refused(tpu):
    with pytest.raises(InputError, match="does not know the topology 'v5e:999x9': INVALID_ARGUMENT: bounds"):
        target("v5e:999x9")


def test_an_h100_is_described_in_text(monkeypatch, tmp_path):
    """The compiler is told where nvcc's tools are, which stand first on the path, once."""
    def describe(name, platform, target_config, topology):
        assert "H100" in target_config and platform == "cuda"
        return type("Topology", (), {"devices": [topology]})

    nvcc = type("Spec", (), {"submodule_search_locations": [str(tmp_path)]})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: nvcc)
    monkeypatch.setattr(targets.topologies, "get_topology_desc", describe)
    monkeypatch.setattr(targets.os, "environ", {"PATH": "/usr/bin"})
    for name, topology in (("h100", "1x1x1"), ("h100:8", "1x1x8")):
        found = target(name)
        assert found.devices == (topology,) and found.options["xla_gpu_cuda_data_dir"] == str(tmp_path)
        assert targets.os.environ["PATH"] == f"{tmp_path}/bin:/usr/bin"
