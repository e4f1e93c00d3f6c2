"""Laws of run.neuron: a kind by name, or the user's own, is the SNN's; what it cannot be is said before a run."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import quadrants

import dietjax as dj
from dietjax import config, data
from dietjax.analysis import memory
from dietjax.config import Experiment, Model, Neuron, Phase
from dietjax.core.neurons.params import parameters
from dietjax.errors import InputError
from dietjax.run import assemble, folder
from dietjax.run.neuron import make_neuron

MINE = '''
from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

SLOPE = 5.0


@dataclasses.dataclass(frozen=True)
class Mine:
    """Fires above its threshold, which rises with every spike; parameters in a dict, no leak among them."""

    bound: float
    rise: float = 0.5
    soft: bool = True

    def init(self, key, shape, dtype=jnp.float32):
        return {"bound": jnp.full(shape[-1:], self.bound, dtype), "rise": jnp.full((), self.rise, dtype)}

    def initial_state(self, params, shape, dtype=jnp.float32):
        return jnp.zeros(shape, dtype), jnp.zeros(shape, dtype)

    def step(self, params, state, current):
        membrane, raised = state
        membrane = membrane + current
        z = membrane - params["bound"] - params["rise"] * raised
        spikes = (z > 0).astype(current.dtype)
        spikes = spikes + jax.nn.sigmoid(SLOPE * z) - jax.lax.stop_gradient(jax.nn.sigmoid(SLOPE * z))
        return (membrane - spikes * params["bound"], raised + spikes), spikes


class Broken(Mine):
    def step(self, params, state, current):
        return state, params["nothing"]


class Bound(Mine):
    def __init__(self, **_):
        raise ValueError("no bound is good enough")


class Sums(Mine):
    def step(self, params, state, current):
        return state, current.sum(-1)


class NoStep:
    def init(self, key, shape, dtype=None): ...


def function(): ...
'''
TINY = Experiment("tiny", timesteps=3, model=Model("VGG4", (8,), width=0.0625, batch_norm=True), ann=Phase(epochs=0),
                  snn=Phase(1, quadrants.BATCH, learning_rate=1e-2))


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """The current folder holds a module of the user's own, under a name that no other test has loaded."""
    (tmp_path / f"mine_{tmp_path.name}.py").write_text(MINE)
    (tmp_path / "broken_import.py").write_text("import nowhere_to_be_found\n")
    (tmp_path / "failing_import.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    return f"mine_{tmp_path.name}"


def made(*given, timesteps=3, **settings):
    return make_neuron(Experiment("x", timesteps=timesteps, neuron=Neuron(*given, **settings)))


# ---- which neuron it is


NEEDS = {"sliding_psn": ("order=2",)}
"""Parameters of kinds that have no default for them."""


@pytest.mark.parametrize("kind", config.names.NEURONS)
def test_every_name_is_a_neuron_that_runs(kind):
    for timesteps in (1, 3):
        neuron = made(kind, NEEDS.get(kind, ()), timesteps=timesteps)
        assert type(neuron).__name__.lower() == kind.replace("_", "")


def test_settings_and_parameters_are_those_of_the_class():
    """None leaves the class's own: PLIF's reset is to zero, LIF's subtracts."""
    assert made() == dj.LIF()
    assert made(leak=0.5, sharing="channel", reset="zero", surrogate="arctan", initial_membrane=0.25) == dj.LIF(
        leak=0.5, sharing="channel", reset="zero", surrogate="arctan", initial_membrane=0.25)
    assert made("plif") == dj.PLIF() != dj.PLIF(reset="subtract")
    assert made("plif", ("tau=4", "threshold=0.5"), reset="subtract") == dj.PLIF(
        tau=4.0, threshold=0.5, reset="subtract")
    assert made("dietjax:IF", ("forward_mode=True",)) == dj.IF(forward_mode=True)


def test_a_users_class_comes_from_the_current_folder(mine):
    neuron = made(f"{mine}:Mine", ("bound=2", "soft=False"))
    assert (neuron.bound, neuron.rise, neuron.soft) == (2.0, 0.5, False) and isinstance(neuron.bound, float)
    params = neuron.init(jax.random.key(0), (4, 4, 3))
    assert {name: x.shape for name, x in parameters(params).items()} == {"bound": (3,), "rise": ()}


def test_a_class_that_takes_timesteps_gets_the_experiments(tmp_path, monkeypatch):
    timed = MINE.replace("bound: float\n", "timesteps: int\n    bound: float = 1.0\n")
    (tmp_path / "timed_neuron.py").write_text(timed)
    monkeypatch.chdir(tmp_path)
    assert made("timed_neuron:Mine", timesteps=7).timesteps == 7
    assert made("timed_neuron:Mine", ("timesteps=2",), timesteps=7).timesteps == 2


@pytest.mark.parametrize("given, settings, says", [
    (("nowhere:Mine",), {}, "kind nowhere:Mine: there is no module nowhere in .*, nor installed; run the command in"),
    (("dietjax.nowhere:Mine",), {}, "there is no module dietjax.nowhere"),
    (("broken_import:Mine",), {}, "module broken_import needs nowhere_to_be_found, which is not there"),
    (("failing_import:Mine",), {}, "failing_import cannot be imported: ZeroDivisionError: division by zero"),
    (("MINE:Mne",), {}, "unknown class of module MINE 'Mne'; did you mean 'Mine'"),
    (("MINE:NoStep",), {}, r"MINE:NoStep is no neuron: it lacks initial_state\(\), step\(\); see dietjax.types.Neuron"),
    (("MINE:function",), {}, "MINE:function is no neuron: it is no class"),
    (("MINE:Mine",), {}, "has no default for bound: say it in neuron.parameters, as bound=VALUE"),
    (("MINE:Mine", ("bond=1",)), {}, "unknown parameter of neuron.kind MINE:Mine: 'bond'; did you mean 'bound'"),
    (("MINE:Mine", ("bound=high",)), {}, "parameter bound of neuron.kind MINE:Mine must be float, got 'high'"),
    (("MINE:Mine", ("bound=1", "soft=1")), {}, "parameter soft of neuron.kind .* must be bool, got 1"),
    (("MINE:Mine", ("bound=1",)), {"leak": 0.9}, "neuron.leak is set to 0.9, and neuron.kind MINE:Mine has no leak"),
    (("MINE:Broken", ("bound=1",)), {}, "neuron.kind MINE:Broken: KeyError: 'nothing'"),
    (("MINE:Bound",), {}, "neuron.kind MINE:Bound: ValueError: no bound is good enough"),
    (("MINE:Sums", ("bound=1",)), {}, "neuron.kind MINE:Sums: "),
    (("if",), {"leak": 0.9}, "neuron.leak is set to 0.9, and neuron.kind if has no leak: leave it at None"),
    (("plif", ("tau=0.5",)), {}, "neuron.kind plif: tau must be > 1 timestep and finite"),
    (("plif", ("tua=4",)), {}, "unknown parameter of neuron.kind plif: 'tua'; did you mean 'tau'"),
    (("dietjax:ReLU",), {}, "kind dietjax:ReLU: it carries nothing from one timestep to the next, as an ANN's neuron"),
])
def test_what_it_cannot_be_is_said(mine, given, settings, says):
    kind, *rest = given
    with pytest.raises(InputError, match=says.replace("MINE", mine)):
        made(kind.replace("MINE", mine), *rest, **settings)


# ---- before anything runs


@pytest.mark.parametrize("changes, says", [
    ({"ann": Phase(epochs=1, batch_size=16)}, "neuron.kind plif cannot be converted to: .*--ann.epochs 0"),
    ({"model": Model("VGG4", (8,))}, "thresholds of neuron.kind plif cannot be balanced: .*Set model.batch_norm"),
    ({"neuron": Neuron("plif", freeze=("leak",))},
     "unknown parameter in neuron.freeze, of neuron.kind plif: 'leak'.*Known: decay_logit, threshold"),
    ({"neuron": Neuron("lif", freeze=("treshold",))}, "neuron.kind lif: 'treshold'; did you mean 'threshold'"),
])
def test_what_a_kind_cannot_do_is_refused_before_anything_runs(changes, says):
    asked = dataclasses.replace(TINY, **{"neuron": Neuron("plif"), **changes})
    with pytest.raises(InputError, match=says):
        assemble.make_plans(asked, quadrants.make_dataset())


def test_what_is_frozen_are_the_neurons_parameters_alone():
    asked = dataclasses.replace(TINY, neuron=Neuron("plif", freeze=("threshold", "decay_logit")))
    plan = assemble.make_plans(asked, quadrants.make_dataset())["snn"]
    assert set(plan.freeze) == {f"{layer}/neuron/{name}" for layer in ("conv1", "conv2", "fc1")
                                for name in ("threshold", "decay_logit")}


def test_a_run_begun_before_there_were_kinds_goes_on(tmp_path):
    """Its config.json spells out the paper's neuron; another one is named with what is asked for."""
    (tmp_path / "checkpoints" / "snn" / "23").mkdir(parents=True)
    stored = dataclasses.asdict(TINY)
    stored["neuron"] = {"leak": 1.0, "sharing": "layer", "reset": "subtract", "surrogate": "piecewise_linear",
                        "freeze": [], "initial_membrane": None}
    (tmp_path / "config.json").write_text(json.dumps(stored))
    folder.check(TINY, tmp_path)
    folder.check(dataclasses.replace(TINY, neuron=Neuron(leak=1.0, reset="subtract")), tmp_path)
    for neuron, says in ((Neuron(leak=0.9), "neuron.leak: there 1.0, asked for 0.9"),
                         (Neuron("if"), "neuron.kind: there 'lif', asked for 'if'")):
        with pytest.raises(InputError, match=says):
            folder.check(dataclasses.replace(TINY, neuron=neuron), tmp_path)


# ---- a whole run


@pytest.fixture
def run(tmp_path, monkeypatch, dietjax):
    """Options -> the folder of a run of them on the quadrants' images."""
    file = tmp_path / "tiny.py"
    file.write_text(f"from dietjax.config import *\nexperiment = {TINY!r}\n")
    monkeypatch.setattr(data, "load", lambda *_, **__: quadrants.make_dataset())
    monkeypatch.setattr(memory, "device_memory", lambda: 10**10)

    def train(*options):
        status, _, err = dietjax("train", file, "--workdir", tmp_path / "run", *options)
        assert status == 0, err
        return tmp_path / "run"

    return train


def trained_by_name(workdir, names, layers=("conv1", "conv2", "fc1")):
    """The summary's layers hold these parameters before and after, finite; the page shows each, and in its table."""
    found = json.loads((workdir / "summary.json").read_text())
    assert [layer["name"] for layer in found["layers"]] == list(layers)
    for layer in found["layers"]:
        given = {key.rpartition("_")[0] for key in layer if key.endswith(("_before", "_after"))}
        assert given == set(names)
        assert np.isfinite([layer[f"{name}_{when}"] for name in names for when in ("before", "after")]).all()
    page = (workdir / "report.html").read_text(encoding="utf-8")
    for name in names:
        assert f"<th>{name} before</th><th>{name} after</th>" in page
        assert f"{name.capitalize()} before and after training" in page


@pytest.mark.slow
def test_plif_from_scratch(run, dietjax):
    workdir = run("--neuron.kind", "plif", "--neuron.parameters", "tau=4", "--neuron.freeze", "decay_logit")
    trained_by_name(workdir, ("decay_logit", "threshold", "leak"))
    layers = json.loads((workdir / "summary.json").read_text())["layers"]
    for layer in layers:
        assert layer["decay_logit_before"] == layer["decay_logit_after"] == pytest.approx(-np.log(3))
        assert layer["leak_before"] == pytest.approx(0.75) and layer["threshold_before"] == 1
        assert layer["threshold_after"] != 1
    status, out, err = dietjax("evaluate", workdir, "--json")
    assert status == 0 and list(json.loads(out)) == ["snn"], err


@pytest.mark.slow
def test_a_neuron_of_the_users_own_from_scratch(run, mine, dietjax):
    workdir = run("--neuron.kind", f"{mine}:Mine", "--neuron.parameters", "bound=0.25")
    trained_by_name(workdir, ("bound", "rise"))
    assert json.loads((workdir / "config.json").read_text())["neuron"]["parameters"] == ["bound=0.25"]
    for command in ("evaluate", "energy"):
        status, _, err = dietjax(command, workdir, "--json")
        assert status == 0, err
