"""A file system of its own, which can be full."""

import contextlib
import subprocess
import sys

import pytest


@contextlib.contextmanager
def mounted(folder, size):
    """A new file system of this size ("1m"), mounted in a folder inside the given one; skips where nobody may."""
    disk = folder / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
    if sys.platform != "linux" or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a file system")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)
