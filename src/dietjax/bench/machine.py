"""What machine and what version of dietjax a figure was measured on, as far as they say."""

import pathlib
import platform
import subprocess
from collections.abc import Sequence

import jax

from .. import __version__

HERE = pathlib.Path(__file__).parent


def version() -> str:
    """Of dietjax, and in a checkout its commit."""
    commit = _said(["git", "-C", str(HERE), "rev-parse", "--short", "HEAD"])
    inside = _said(["git", "-C", str(HERE), "ls-files", "--error-unmatch", "machine.py"])  # else another project's
    changed = _said(["git", "-C", str(HERE), "status", "--porcelain", "--untracked-files=no", "--", "."])
    return f"{__version__}, commit {commit}{' and changes' if changed else ''}" if commit and inside else __version__


def cpu() -> str:
    """The processor's name."""
    known = pathlib.Path("/proc/cpuinfo")
    lines = known.read_text(encoding="utf-8").splitlines() if known.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def accelerator(platform: str) -> dict[str, str]:
    """A GPU's driver and CUDA, or what else the platform's runtime says of itself; of a CPU nothing."""
    if platform == "cpu":
        return {}
    runtime = {"runtime": " ".join(jax.devices()[0].client.platform_version.split())}
    driver = _said(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]) if platform == "gpu" else ""
    return runtime | ({"driver": driver.splitlines()[0]} if driver else {})


def _said(command: Sequence[str]) -> str:
    """What a program prints; "" where it is not there or fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
