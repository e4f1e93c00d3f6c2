"""What tests run in processes of their own, because a process has the devices that it starts with.

python on_devices.py one                      eight CPU devices
python on_devices.py axes                     the same, meshes with Explicit and with Auto axes
python on_devices.py two PORT I               process I of two, of two CPU devices each
Prints what it found as one line of JSON.
"""

import dataclasses
import functools
import json
import pathlib
import sys
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import quadrants as t
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import dietjax as dj
from dietjax.config import Data, Hosts, Parallel, Phase
from dietjax.core.neurons import LIF, ReLU
from dietjax.data import Stream
from dietjax.data.source import Example
from dietjax.errors import InputError
from dietjax.models import build
from dietjax.parallel import processes
from dietjax.parallel.collectives import collectives
from dietjax.parallel.mesh import batch_sharding, local, make_mesh, place, state_shardings
from dietjax.run import folder
from dietjax.train.batches import Teacher, make_batches
from dietjax.train.evaluate import evaluate, make_eval_step
from dietjax.train.optimizer import make_optimizer
from dietjax.train.state import TimeSchedule, abstract_state, initial_state
from dietjax.train.step import make_train_step

STEPS = 20
PHASE = Phase(learning_rate=0.01, weight_decay=0.01)
PARTS = dataclasses.replace(PHASE, accumulate=2)
TODAY = Phase(learning_rate=0.01, schedule="one_cycle", warmup_epochs=100, clip_norm=0.5, ema_decay=0.9, accumulate=2,
              label_smoothing=0.1, tet_weight=0.5, tet_lambda=0.05, distillation=0.2)
AUGMENT = Data(crop_padding=1, flip=True)
SPIKING = LIF(leak=0.9, threshold=0.04)
"""Its thresholds stay above 0 in these steps: Adam's first ones are about as long as the learning rate."""
SNN, ANN = t.make_net(SPIKING, dropout=0.2), t.make_net(ReLU(), batch_norm=True)
PLAIN = t.make_net(SPIKING)  # nothing random, and nothing that looks at the whole batch: equal however a batch is split


class Run:
    """A network in training on a mesh."""

    def __init__(self, net, mesh, augment=AUGMENT, batch=t.BATCH, phase=PHASE, teacher=None):
        self.net, self.mesh, self.averaged = net, mesh, phase.ema_decay > 0
        self.optimizer = make_optimizer(phase, STEPS)
        self.batches = make_batches(t.make_dataset(), augment, 0, batch, mesh, teacher)
        schedule = TimeSchedule(2) if isinstance(net.neuron, LIF) else TimeSchedule()
        self.step = make_train_step(net, self.optimizer, self.batches.fetch, mesh, schedule, 0, phase)
        self.shardings = state_shardings(mesh, abstract_state(net, self.optimizer, self.averaged))

    def start(self):
        """The state before the first step."""
        return self.put(initial_state(jax.tree.map(np.asarray, t.init(self.net)), self.optimizer, self.averaged))

    def put(self, state):
        """A state of host arrays, on the mesh; a copy, because a step donates it."""
        return jax.tree.map(lambda x, sharding: place(np.array(x), sharding), state, self.shardings)

    def train(self, state, first=0, last=STEPS):
        """(state, losses) of these steps."""
        losses = []
        for i in range(first, last):
            state, metrics = self.step(state, *self.batches.arguments(i))
            losses.append(float(metrics["loss"]))
        return state, losses

    def curve(self):
        """Losses, and a number for each leaf of the variables after them."""
        state, losses = self.train(self.start())
        return {"losses": losses, "leaves": leaf_sums(local(state.evaluated, self.mesh))}

    def collectives(self):
        """Of the compiled step, without its arguments ever being there."""
        state = jax.tree.map(lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
                             abstract_state(self.net, self.optimizer, self.averaged), self.shardings)
        return [c._asdict() | {"bytes": c.bytes, "sent": c.sent}
                for c in collectives(self.step.lower(state, *self.batches.arguments(0)).compile().as_text())]


def leaf_sums(tree):
    return [float(np.abs(x).sum()) for x in jax.tree.leaves(tree)]


def mesh_of(devices, fsdp=1):
    return make_mesh(Parallel(fsdp=fsdp), jax.devices()[:devices])


def evaluation(mesh):
    """23 examples are 16 + 7, and 7 does not divide over several devices."""
    dataset = t.make_dataset(tests=23)
    step = make_eval_step(PLAIN, dataset, TimeSchedule(2), mesh)
    metrics, answers = evaluate(step, t.init(PLAIN), dataset.test, 16, mesh)
    return [answers.classes.tolist(), metrics["accuracy_by_timestep"], metrics["spike_rate"]]


class Watched:
    """A split as a source that notes which examples are read."""

    def __init__(self, split):
        self.split, self.read = split, []

    def __len__(self):
        return len(self.split.labels)

    def __getitem__(self, index):
        self.read.append(index)
        return Example(self.split.images[index], int(self.split.labels[index]))

    def where(self, index):
        return f"example {index}"


def streamed_evaluation(mesh):
    """The same, decoded as it is read; and what this process read for it."""
    dataset = t.make_dataset(tests=23)
    source = Watched(dataset.test)
    step = make_eval_step(PLAIN, dataset, TimeSchedule(2), mesh)
    stream = Stream(source, dataset.image_shape, resized=False, num_classes=dataset.num_classes)
    metrics, answers = evaluate(step, t.init(PLAIN), stream, 16, mesh)
    return [answers.classes.tolist(), metrics["accuracy_by_timestep"], metrics["spike_rate"]], sorted(source.read)


@functools.cache  # its step compiles once
def snn_on(devices, fsdp=1):
    return Run(SNN64, mesh_of(devices, fsdp))


def moved():
    """A run that goes from 2·2 devices to 2 and to 1."""
    state, losses = None, []
    for run, first, last in ((snn_on(4, 2), 0, 7), (snn_on(2), 7, 13), (snn_on(1), 13, STEPS)):
        state, seen = run.train(run.start() if state is None else run.put(state), first, last)
        losses += seen
        state = jax.device_get(state)
    return {"losses": losses, "leaves": leaf_sums(state.variables)}


def export(platforms):
    """VGG16 on ImageNet, lowered for other machines: what the program takes and on how many devices."""
    net = build("VGG16", 1000, (224, 224, 3), dtype=jnp.bfloat16)
    mesh = mesh_of(8, 2)
    optimizer = make_optimizer(PHASE, STEPS)

    def fetch(key, images, labels):
        return images.astype(jnp.float32) / 255, labels

    step = make_train_step(net, optimizer, fetch, mesh, TimeSchedule(5), 0)
    state = abstract_state(net, optimizer)
    sharded = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), state,
                           state_shardings(mesh, state))
    batch = batch_sharding(mesh)
    arguments = (jax.ShapeDtypeStruct((256, 224, 224, 3), jnp.uint8, sharding=batch),
                 jax.ShapeDtypeStruct((256,), jnp.int32, sharding=batch))
    exported = jax.export.export(step, platforms=platforms)(sharded, *arguments)
    kernel = next(str(aval) for aval in exported.in_avals if aval.shape == (25088, 4096))
    return {"platforms": exported.platforms, "devices": exported.nr_devices, "kernel": kernel}


def one():
    assert jax.device_count() == 8
    found = {"sent": {}}
    found["curves"] = {"snn 1": snn_on(1).curve(), "snn 4": snn_on(4, 2).curve(), "moved": moved()}
    found["curves"] |= {f"ann {devices}": Run(ANN64, mesh_of(devices)).curve() for devices in (1, 8)}
    found["curves"]["plain 1"] = Run(PLAIN64, mesh_of(1), Data()).curve()
    found["curves"]["plain in 2 parts"] = Run(PLAIN64, mesh_of(2), Data(), phase=PARTS).curve()
    for devices, fsdp in ((1, 1), (4, 2)):
        teacher, augment = Teacher(ANN64, t.init(ANN64)), dataclasses.replace(AUGMENT, cutout=3)
        run = Run(SNN64, mesh_of(devices, fsdp), augment, phase=TODAY, teacher=teacher)
        found["curves"][f"today {devices}"] = run.curve()
    jax.config.update("jax_enable_x64", False)
    found["sent"]["ann"] = Run(ANN, mesh_of(8)).collectives()
    found["sent"] |= {f"weak {n}": Run(PLAIN, mesh_of(n), Data(), batch=2 * n).collectives() for n in (1, 2, 4, 8)}
    found["sent"]["batch"] = Run(PLAIN, mesh_of(8), Data(), batch=48).collectives()
    found["sent"]["fsdp"] = Run(SNN, mesh_of(8, 4)).collectives()
    found["sent"]["parts"] = Run(SNN, mesh_of(4), phase=PARTS).collectives()
    found["evaluation"] = {devices: evaluation(mesh_of(devices)) for devices in (1, 8)}
    found["export"] = export(("tpu", "cuda"))
    return found


def axes():
    """Losses and gradients of a network and of a cell, on one device and on meshes of eight with axes of either type.

    The batch is split over "data", the largest kernel over "model".
    """
    net = t.make_net(param_dtype=jnp.float64, batch_norm=True)
    images = jnp.asarray(np.random.default_rng(0).normal(size=(t.BATCH, *t.SHAPE)))
    lif = LIF(leak=0.9, threshold=0.5, sharing="channel")
    currents = jnp.asarray(np.random.default_rng(1).normal(size=(t.BATCH, 20, 6)))
    cell = lif.init(jax.random.key(0), (6,), jnp.float64)

    @jax.jit
    @jax.value_and_grad
    def of_network(variables, images):
        (logits, record), _ = net.apply(variables, images, timesteps=3, train=True, mutable=["batch_stats"])
        return (logits**2).mean() + sum(record["spike_rate"].values())

    @jax.jit
    @jax.value_and_grad
    def of_cell(params, currents):
        state, spikes = dj.unroll(lif, params, None, currents)
        return (spikes * jnp.arange(6)).mean() + (state.membrane**2).mean()

    def numbers(variables, images, cell, currents):
        return [np.asarray(x).tolist() for x in
                jax.tree.leaves(jax.device_get((of_network(variables, images), of_cell(cell, currents))))]

    variables = t.init(net)
    found = {"one": numbers(variables, images, cell, currents)}
    for kind in (AxisType.Explicit, AxisType.Auto):
        mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(kind,) * 2)
        batch = NamedSharding(mesh, PartitionSpec("data"))
        split = jax.tree.map(lambda x: jax.device_put(x, NamedSharding(mesh, PartitionSpec())), variables)  # noqa: B023
        split["params"]["conv2"]["kernel"] = jax.device_put(
            variables["params"]["conv2"]["kernel"], NamedSharding(mesh, PartitionSpec(None, None, None, "model")))
        arguments = split, jax.device_put(images, batch), cell, jax.device_put(currents, batch)
        found[kind.name] = numbers(*arguments)
        with jax.set_mesh(mesh):
            found[f"{kind.name}, set"] = numbers(*arguments)
    return found


def two(port, process):
    processes.start(Hosts(coordinator=f"localhost:{port}", processes=2, process=int(process), peer_timeout=60))
    assert jax.device_count() == 4 and jax.local_device_count() == 2
    found = {"curve": snn_on(4, 2).curve()}
    jax.config.update("jax_enable_x64", False)
    found["evaluation"], found["streamed"] = evaluation(mesh_of(4)), streamed_evaluation(mesh_of(4))
    found["from first"] = processes.broadcast(f"said by {process}")
    processes.check_agreement({"seed": 3})
    shared = pathlib.Path(tempfile.gettempdir()) / f"dietjax-{port}"
    shared.mkdir(exist_ok=True)
    folder.check_shared(shared)
    folder.SHARED_WITHIN = 1
    own = shared / process
    own.mkdir()
    try:
        folder.check_shared(own)
    except InputError as error:
        found["own folder"] = str(error)
    for what, settings in (("differs", {"seed": int(process)}), ("lacks", {"flip": 1} if processes.is_main() else {})):
        try:
            processes.check_agreement({"other": 1} | settings)
        except InputError as error:
            found[what] = str(error)
    try:
        with processes.raise_on_all():
            if not processes.is_main():
                raise InputError("no such data")
    except InputError as error:
        found["together"] = str(error)
    return found


if __name__ == "__main__":
    jax.config.update("jax_disable_most_optimizations", True)
    jax.config.update("jax_enable_x64", True)
    SNN64, ANN64, PLAIN64 = (net.clone(param_dtype=jnp.float64) for net in (SNN, ANN, PLAIN))
    print(json.dumps({"one": one, "two": two, "axes": axes}[sys.argv[1]](*sys.argv[2:])))
