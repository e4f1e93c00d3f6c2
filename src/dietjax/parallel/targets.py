"""Accelerators that are not there: devices to compile for, so that any machine shows what a program becomes on them.

JAX calls this ahead-of-time compilation for a topology. The compilers come as packages and need no accelerator.
"""

import importlib.util
import os
import pathlib
import re
from typing import NamedTuple

import jax
from jax.experimental import topologies

from ..errors import InputError, unknown

H100 = """
gpu_device_info {
  threads_per_block_limit: 1024  threads_per_warp: 32  shared_memory_per_block: 49152
  shared_memory_per_core: 233472  threads_per_core_limit: 2048  core_count: 132  fpus_per_core: 128
  block_dim_limit_x: 2147483647  block_dim_limit_y: 65535  block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000  l2_cache_size: 52428800  clock_rate_ghz: 1.98
  device_memory_size: 84929347584  shared_memory_per_block_optin: 232448
  cuda_compute_capability { major: 9 }
  registers_per_core_limit: 65536  registers_per_block_limit: 65536
}
platform_name: "CUDA"  dnn_version_info { major: 9 minor: 8 }  runtime_version { major: 12 minor: 9 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
"""What XLA asks of a card (an `xla.gpu.GpuTargetConfigProto`; the values are those of XLA's own description)."""

WITHOUT_DEVICE: dict[str, str | bool] = {"xla_gpu_autotune_level": "0", "xla_gpu_enable_triton_gemm": False}
"""Nothing can be tried out: convolutions and matrix products are library calls, whose algorithm is the default one."""

TPU = re.compile(r"(v\d+[a-z]?):\d+(x\d+)+")


class Target(NamedTuple):
    """Devices to compile for, and what the compiler has to be told."""

    name: str
    devices: tuple[jax.Device, ...]
    options: dict[str, str | bool]
    """`compiler_options` of `jax.jit`."""


def target(name: str) -> Target:
    """The devices of this name.

    Args:
        name: "here": this process's own. "h100" or "h100:8": so many NVIDIA H100s in one machine. A TPU's generation
            and topology: "v5e:2x4", "v6e:16x16", "v4:2x2x1".

    Raises:
        InputError: no such target, or its compiler is not installed.
    """
    if name == "here":
        return Target(name, tuple(jax.devices()), {})
    if match := re.fullmatch(r"h100(?::([1-9]\d*))?", name):
        return _cuda(name, int(match[1] or 1))
    if TPU.fullmatch(name):
        return _tpu(name)
    raise unknown("target", name, ("here", "h100", "h100:8", "v5e:2x4", "v6e:2x4", "v4:2x2x1"))


def _cuda(name, count):
    nvcc = importlib.util.find_spec("nvidia.cuda_nvcc") if importlib.util.find_spec("nvidia") else None
    if nvcc is None or importlib.util.find_spec("jax_plugins.xla_cuda12") is None:
        raise InputError(f"compiling for {name} needs XLA's compiler for CUDA, which runs without a GPU: pip install "
                         f"'jax-cuda12-plugin=={jax.__version__}' 'jax-cuda12-pjrt=={jax.__version__}' "
                         "nvidia-cuda-nvcc-cu12, and set JAX_PLATFORMS=cpu")
    folder = pathlib.Path(next(iter(nvcc.submodule_search_locations or ())))
    tools = str(folder / "bin")
    if tools not in os.environ.get("PATH", "").split(os.pathsep):  # XLA looks for ptxas there
        os.environ["PATH"] = os.pathsep.join([tools, os.environ.get("PATH", "")])
    topology = topologies.get_topology_desc(name, "cuda", target_config=H100, topology=f"1x1x{count}")
    return Target(name, tuple(topology.devices), {**WITHOUT_DEVICE, "xla_gpu_cuda_data_dir": str(folder)})


def _tpu(name):
    if importlib.util.find_spec("libtpu") is None:
        raise InputError(f"compiling for {name} needs the TPU's compiler, which runs without a TPU: pip install "
                         f"'jax[tpu]=={jax.__version__}', and set JAX_PLATFORMS=cpu")
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # else it asks the cloud, for a minute, which machine this is
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # others may compile, or use a TPU, at the same time
    try:
        return Target(name, tuple(topologies.get_topology_desc(name, "tpu").devices), {})
    except jax.errors.JaxRuntimeError as error:
        raise InputError(f"the TPU's compiler does not know the topology {name!r}: {error}") from None
