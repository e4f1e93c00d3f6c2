"""Processes with several CPU devices, because a process has the devices that it starts with; and what they send."""

import os
import re
import subprocess
import sys

import numpy as np


def environment(devices):
    """Of a process with so many CPU devices, which imports what this one does."""
    return os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}", "JAX_PLATFORMS": "cpu",
                         "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def run_script(devices, script, *arguments, timeout=None):
    """What a Python script prints in such a process."""
    done = subprocess.run([sys.executable, "-c", script, *arguments], env=environment(devices), capture_output=True,
                          text=True, timeout=timeout)
    assert done.returncode == 0, done.stderr
    return done.stdout


def largest_float32_sum(program):
    """Numbers in the largest float32 array that devices of a compiled program add up; they gather nothing."""
    sent = " ".join(line.partition("metadata")[0] for line in program.splitlines() if " all-reduce(" in line)
    assert sent and "all-gather" not in program
    return max(np.prod([int(n) for n in shape.split(",") if n]) for shape in re.findall("f32.([0-9,]*)]", sent))
