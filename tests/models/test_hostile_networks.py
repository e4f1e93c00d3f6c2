"""Hostile cases of networks: input, variables, neurons and questions as they should not be."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hostile import Case, check

from dietjax import LIF, QCFS, LIFParams, MembraneState, ReLU, unroll
from dietjax.analysis import early_exit, energy
from dietjax.convert import balance_thresholds, match_activations
from dietjax.core import losses
from dietjax.data import Dataset, Split
from dietjax.models import Layer, Network
from dietjax.parallel.mesh import make_mesh
from dietjax.train.evaluate import evaluate, make_eval_step
from dietjax.train.health import check_health
from dietjax.train.state import TimeSchedule

pytestmark = pytest.mark.usefixtures("quick_compile")

T = 3
LAYERS = (Layer("hidden", 3, kernel=None), Layer("out", 2, kernel=None))
NET, ANN = Network(LAYERS, (4,), neuron=LIF(threshold=0.2)), Network(LAYERS, (4,), neuron=ReLU())
MAP = Network(LAYERS, (2, 2, 1), neuron=LIF(threshold=0.2))


@functools.cache
def variables(net=NET):
    return net.init(jax.random.key(0), jnp.zeros((1, *net.image_shape)))


def images(*shape, wrong=None):
    """All 1, `wrong` in the last number."""
    found = np.ones(shape or (2, 4), np.float32)
    if wrong is not None:
        found.flat[-1] = wrong
    return jnp.asarray(found)


def apply(x=None, net=NET, of=None, **options):
    """The logits of a network, as text."""
    x = images() if x is None else x
    return np.asarray(net.apply(variables(net) if of is None else of, x, **options)[0]).tolist()


def compiled(x, **options):
    """The same of what can only be told once it runs."""
    return np.asarray(jax.jit(lambda of, x: NET.apply(of, x, **options)[0])(variables(), x)).tolist()


def dataset(std=1.0):
    split = Split(np.zeros((2, 4), np.uint8), np.zeros(2, np.int32))
    return Dataset("mine", split, split, ("a", "b"), (0.0,) * 4, (std,) * 4)


def evaluated(std):
    mesh = make_mesh(devices=jax.devices()[:1])
    return evaluate(make_eval_step(NET, dataset(std), TimeSchedule(T), mesh), variables(), dataset(std).test, 2, mesh)


@dataclasses.dataclass(frozen=True)
class Mine:
    """A neuron of somebody's, whose step returns what it should not."""

    returns: Callable

    def init(self, key, shape, dtype=jnp.float32):
        return ()

    def initial_state(self, params, shape, dtype=jnp.float32):
        return {"u": jnp.zeros(shape), "trace": jnp.zeros(shape)}

    def step(self, params, state, current):
        return self.returns(state, current)


def mine(returns):
    """What a network of it says."""
    return apply(net=Network(LAYERS, (4,), neuron=Mine(returns)), timesteps=T)


def early(margins, **options):
    return early_exit.measure(NET, variables(), dataset(), margins, T, **options)


NAN = float("nan")
FRAMES = images(2, T, 4)
OTHER_STATE = {"hidden": MembraneState(jnp.zeros((3, 3))), "out": MembraneState(jnp.zeros((3, 2)))}
CASES = [
    # ---- NaN
    Case("NaN in one of two images", lambda _: compiled(images(wrong=NAN), timesteps=T), ("taken", "[nan, nan]]")),
    Case("NaN beyond a sequence's end", lambda _: np.isfinite(compiled(
        images(2, T, 4, wrong=NAN), lengths=np.array([3, 2]))).all(), ("taken", "True")),
    Case("a standard deviation of 0: evaluate", lambda _: evaluated(0.0),
         ("error", "test images 0, 1", "NaN or infinity", "no standard deviation of the set is 0")),
    Case("NaN in a training step's images", lambda _: check_health(NET, "snn", 7, {"finite_images": 0.5}),
         ("error", "50 % of the training images of step 7 hold NaN")),
    Case("NaN in images: balance_thresholds", lambda _: balance_thresholds(NET, variables(ANN), images(wrong=NAN)),
         ("error", "1 of 2 images hold NaN or infinity, the first of them images[1]")),
    Case("infinity in images: match_activations",
         lambda _: match_activations(NET, variables(ANN), images(wrong=np.inf)), ("error", "images[1]")),
    Case("NaN in images: early exit", lambda _: early_exit.predict(
        NET, variables(), images(wrong=NAN), (1.0,), timesteps=T), ("error", "no class leads, the readout is NaN")),
    Case("a record with a rate of NaN: energy", lambda _: energy.estimate(NET, {"spike_rate": {"hidden": NAN}}),
         ("error", "'hidden'", "must be a finite number >= 0")),
    # ---- variables
    Case("an ANN's variables in a spiking network", lambda _: apply(of=variables(ANN), timesteps=T),
         ("error", "layer 'hidden' has no parameters for LIF", "An ANN's are converted first")),
    Case("a spiking network's variables in an ANN", lambda _: apply(net=ANN, of=variables()),
         ("error", "'hidden' has a neuron's parameters", "variables are of another network")),
    Case("a QCFS ANN's variables in a spiking network",
         lambda _: apply(of=variables(Network(LAYERS, (4,), neuron=QCFS())), timesteps=T),
         ("error", "QCFSParams", "An ANN's are converted first")),
    Case("parameters in the place of variables", lambda _: apply(of=variables()["params"], timesteps=T),
         ("error", "variables have no 'params'", "{'params': ...}")),
    Case("variables of layers of other names", lambda _: apply(of={"params": {"fc": {}}}),
         ("error", "no parameters for hidden, out, and have fc")),
    Case("variables without a kernel", lambda _: apply(of={"params": {"hidden": {}, "out": {}}}),
         ("error", "layer 'hidden' has no kernel")),
    # ---- input
    Case("one image without a batch axis", lambda _: apply(images(4)),
         ("error", "without a batch axis", "images[None]")),
    Case("a map without a batch axis", lambda _: apply(images(2, 2, 1), net=MAP),
         ("error", "images[None]", "[1, 2, 2, 1]")),
    Case("a list of images", lambda _: apply([[1.0] * 4]), ("error", "images are a list", "jax.numpy.asarray")),
    Case("whole numbers as images", lambda _: apply(jnp.ones((2, 4), jnp.int32)), ("error", "int32", "floating point")),
    Case("channels first", lambda _: apply(images(2, 1, 2, 2), net=MAP), ("error", "(2, 1, 2, 2)", "(2, 2, 1)")),
    Case("no image", lambda _: apply(jnp.zeros((0, 4))), ("error", "images have shape (0, 4): there is no example")),
    Case("3 frames and 5 timesteps", lambda _: apply(FRAMES, timesteps=5),
         ("error", "timesteps are 5, and there are 3 frames")),
    Case("timesteps of 0", lambda _: apply(timesteps=0), ("error", "timesteps must be a whole number of at least 1")),
    Case("timesteps of 2.5", lambda _: apply(timesteps=2.5), ("error", "timesteps must be a whole number", "2.5")),
    Case("a length over T", lambda _: apply(FRAMES, lengths=np.array([3, 4])),
         ("error", "a length is 4", "between 1 and the 3 timesteps")),
    Case("a length of 0", lambda _: apply(FRAMES, lengths=np.array([0, 3])), ("error", "a length is 0")),
    Case("lengths of images", lambda _: apply(lengths=np.array([1, 1])), ("error", "how many frames each example has")),
    Case("lengths of 1.0", lambda _: apply(FRAMES, lengths=np.ones(2)), ("error", "whole numbers", "float")),
    Case("one length for two examples", lambda _: apply(FRAMES, lengths=np.array([2])),
         ("error", "each of 2 examples")),
    Case("a length over T in a loss", lambda _: losses.last_step(FRAMES, np.array([9, 1])), ("error", "a length is 9")),
    Case("a length over T in a conversion", lambda _: balance_thresholds(
        NET, variables(ANN), FRAMES, lengths=np.array([9, 1])), ("error", "a length is 9")),
    Case("a length over T in early exit", lambda _: early_exit.predict(
        NET, variables(), FRAMES, (1.0,), lengths=np.array([9, 1])), ("error", "a length is 9")),
    Case("a state of another batch", lambda _: apply(timesteps=1, state=OTHER_STATE), ("error", "(3, 3)", "(2, 3)")),
    Case("a chunk that does not divide T", lambda _: apply(timesteps=T, chunk=2), ("error", "chunk must divide")),
    Case("record as one string", lambda _: apply(timesteps=T, record="spikes"), ("error", "record=('spikes',)")),
    # ---- neurons
    Case("a step that loses a leaf of its state", lambda _: mine(lambda s, i: ({"u": s["u"]}, i)),
         ("error", "Mine.step does not keep its state", "['trace'] is missing")),
    Case("a step that adds a leaf", lambda _: mine(lambda s, i: ({**s, "more": i}, i)), ("error", "['more'] is new")),
    Case("a step that changes a dtype", lambda _: mine(lambda s, i: ({**s, "u": s["u"].astype(jnp.float16)}, i)),
         ("error", "['u'] came as float32[2, 3] and leaves as float16[2, 3]")),
    Case("a step that changes a shape", lambda _: mine(lambda s, i: ({**s, "trace": s["trace"].sum()}, i)),
         ("error", "['trace'] came as float32[2, 3] and leaves as float32[]")),
    Case("a step that returns spikes alone", lambda _: mine(lambda s, i: i),
         ("error", "returns two, (state, outputs)")),
    Case("a step that returns its outputs first", lambda _: mine(lambda s, i: (i, s)),
         ("error", "the output of Mine.step is a dict")),
    Case("a step of other outputs", lambda _: mine(lambda s, i: (s, i.sum(-1))), ("error", "(2,)", "(2, 3)")),
    Case("a step that returns nothing", lambda _: mine(lambda s, i: None), ("error", "Mine.step returns a NoneType")),
    Case("outputs of another dtype", lambda _: mine(lambda s, i: (s, i.astype(jnp.float16))),
         ("error", "layer 'hidden'", "makes outputs float16")),
    Case("a class in the place of a neuron", lambda _: apply(net=Network(LAYERS, (4,), neuron=LIF), of=variables()),
         ("error", "the class LIF", "LIF()")),
    Case("a threshold of 0 among the parameters", lambda _: unroll(
        LIF(), LIFParams(jnp.ones(()), jnp.zeros(())), None, FRAMES), ("error", "a threshold is 0, and must be > 0")),
    # ---- early exit
    *(Case(f"early exit with a batch size of {size}", lambda _, size=size: early((1.0,), batch_size=size),
           ("error", "batch_size must be a whole number of at least 1", str(size))) for size in (0, -1, 1.5)),
    Case("early exit with a number as margins", lambda _: early(0.5), ("error", "margins must be a sequence", "0.5")),
    Case("early exit without a margin", lambda _: early(()), ("error", "margins must be one or more numbers >= 0")),
    Case("early exit with a negative margin", lambda _: early((1.0, -0.5)), ("error", "numbers >= 0", "-0.5")),
    Case("early exit with a margin of NaN", lambda _: early((NAN,)), ("error", "numbers >= 0", "nan")),
    Case("early exit with a word as margins", lambda _: early("much"), ("error", "margins must be a sequence", "much")),
    Case("early exit with words as margins", lambda _: early(("much",)), ("error", "numbers >= 0", "much")),
    Case("early exit at 0 timesteps", lambda _: early_exit.predict(NET, variables(), images(), (1.0,), timesteps=0),
         ("error", "timesteps must be a whole number of at least 1")),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_hostile_networks(case, tmp_path):
    check(case, tmp_path)
