"""One experiment of seconds, as the file that the command line is given, and its run in this process."""

import contextlib
import os
import sys

import jax
import narrow
import pytest

from dietjax.cli import main as cli
from dietjax.run import assemble

EXPERIMENT = """
from dietjax.config import Conversion, Experiment, Model, Phase

experiment = Experiment(
    name="tiny", timesteps=2, model=Model("VGG4", (16,)),
    ann=Phase(epochs=3, batch_size=64, learning_rate=3e-3),
    conversion=Conversion(images=64, timesteps=4, scale=0.4), snn=Phase(epochs=3, batch_size=64, learning_rate=1e-3))
"""
TIMESTEPS = 3
OPTIONS = ("--timesteps", str(TIMESTEPS))
"""What every run of it is given besides: the file says two."""


def environment(digits):
    """Of a process that runs it: with the data, and what compilations can share."""
    return os.environ | {
        "TFDS_DATA_DIR": str(digits), "JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "PYTHONPATH": os.pathsep.join([os.path.dirname(narrow.__file__), *sys.path])}


@contextlib.contextmanager
def as_in_a_process(digits):
    """What helpers/narrow.py and the environment of a child process set there."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(assemble, "networks", narrow.networks)
            patch.setenv("TFDS_DATA_DIR", str(digits))
            yield
    finally:
        jax.config.update("jax_disable_most_optimizations", before)


def train(file, workdir, *options):
    """`dietjax train` in this process: its exit status."""
    return cli.main(["train", str(file), "--workdir", str(workdir), *OPTIONS, *options])
