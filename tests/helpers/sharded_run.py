"""A whole small run in float64, for tests that start it in processes of their own: see test_sharded_run.py.

python sharded_run.py '{"workdir", "data", "data_parallel", "fsdp", "processes", "process", "port", "dies"}'
"dies": "ann" or "snn", where this process kills itself just after that phase's last save has begun.
"""

import dataclasses
import io
import json
import os
import pathlib
import signal
import sys

import jax
import jax.numpy as jnp
import narrow
import rich.console

from dietjax import data
from dietjax.checkpoint import manager as checkpoint
from dietjax.config import Conversion, Experiment, Hosts, Model, Parallel, Phase
from dietjax.parallel.processes import start
from dietjax.run import assemble, recipe
from dietjax.run.console import Console
from dietjax.train import reporter

BATCH, TRAIN_IMAGES, TEST_IMAGES, EPOCHS = 16, 96, 32, 2
STEPS = EPOCHS * TRAIN_IMAGES // BATCH  # of a phase
PHASE = Phase(epochs=EPOCHS, batch_size=BATCH, learning_rate=0.02, weight_decay=1e-3)
EXPERIMENT = Experiment("tiny", timesteps=2, model=Model("VGG4", (16,), classifier_dropout=0.2), ann=PHASE, snn=PHASE,
                        conversion=Conversion(images=64, timesteps=4, scale=0.4))


def few_digits(folder):
    whole = data.load("digits", folder)
    cut = {name: data.Split(*(x[:count] for x in getattr(whole, name)))
           for name, count in (("train", TRAIN_IMAGES), ("test", TEST_IMAGES))}
    return dataclasses.replace(whole, **cut)


def networks64(experiment, dataset):
    return tuple(net.clone(param_dtype=jnp.float64) for net in narrow.networks(experiment, dataset))


class Dying(checkpoint.Checkpoints):
    """Kills the process when the last save of a phase has begun; the one before it is complete then."""

    phase = None

    def save(self, step, *arguments, **options):
        super().save(step, *arguments, **options)
        if self.directory.name == self.phase and step == STEPS:
            os.kill(os.getpid(), signal.SIGKILL)


def main(workdir, data_parallel=1, fsdp=1, processes=1, process=0, port=None, dies=None, **folder):
    if processes > 1:
        start(Hosts(coordinator=f"localhost:{port}", processes=processes, process=process, peer_timeout=60))
    assert jax.local_device_count() * processes == jax.device_count() == data_parallel * fsdp
    dataset = few_digits(folder["data"])
    data.load = lambda *_, **__: dataset
    assemble.networks, recipe.Checkpoints, Dying.phase, reporter.LOG_EVERY = networks64, Dying, dies, 1
    experiment = dataclasses.replace(EXPERIMENT, parallel=Parallel(data=data_parallel, fsdp=fsdp))
    recipe.run(experiment, pathlib.Path(workdir), Console(rich.console.Console(file=io.StringIO())))


if __name__ == "__main__":
    jax.config.update("jax_disable_most_optimizations", True)
    jax.config.update("jax_enable_x64", True)
    main(**json.loads(sys.argv[1]))
