"""Laws of a run without an ANN (ann.epochs 0): one phase, every layer fires from the start, resumed as others."""

import contextlib
import dataclasses
import io
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rich.console

from dietjax import convert, data
from dietjax.analysis import activity
from dietjax.checkpoint.manager import Checkpoints
from dietjax.config import Conversion, Experiment, Model, Phase
from dietjax.errors import InputError
from dietjax.run import assemble, recipe, status, summary
from dietjax.run.console import Console
from dietjax.train.optimizer import make_optimizer
from dietjax.train.state import abstract_state

pytestmark = pytest.mark.usefixtures("quick_compile", "narrow_networks", "few_digits")

BATCH, EPOCHS = 64, 2
NORMED = Experiment("scratch", timesteps=2, model=Model("VGG4", (16,), batch_norm=True),
                    ann=Phase(epochs=0, schedule="one_cycle", warmup_epochs=5), snn=Phase(EPOCHS, BATCH, "adam", 1e-2),
                    conversion=Conversion(images=64, timesteps=4))
BALANCED = dataclasses.replace(NORMED, model=Model("VGG4", (16,)))
WAYS = pytest.mark.parametrize("experiment", [
    pytest.param(NORMED, id="batch norm"), pytest.param(BALANCED, id="balanced", marks=pytest.mark.slow)])


class Killed(BaseException):
    """As SIGKILL: nothing is saved."""


class Dying(Console):
    """A console that dies with the run at a step."""

    def __init__(self, step=None):
        super().__init__(rich.console.Console(file=io.StringIO(), width=200))
        self._step = step

    @contextlib.contextmanager
    def phase(self, name):
        def advance(step, *_):
            if step == self._step:
                raise Killed

        yield advance

    @property
    def said(self):
        return self.console.file.getvalue()


@pytest.fixture(scope="module")
def digits(digits_folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TFDS_DATA_DIR", str(digits_folder))
        yield data.load("digits")


@pytest.fixture(scope="module")
def few_digits(digits):
    """Digits cut to two training batches and one test batch."""
    cut = dataclasses.replace(digits, train=data.Split(*(x[:2 * BATCH] for x in digits.train)),
                              test=data.Split(*(x[:BATCH] for x in digits.test)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "load", lambda *_, **__: cut)
        yield cut


@pytest.fixture(scope="module")
def runs(tmp_path_factory, few_digits):
    """Experiment -> the folder of its run, that was never stopped."""
    folders = {}

    def of(experiment):
        if experiment not in folders:
            folders[experiment] = tmp_path_factory.mktemp("scratch") / "run"
            recipe.run(experiment, folders[experiment], Dying())
        return folders[experiment]

    return of


def initial(experiment, dataset):
    """The variables that training begins with, by the library's own parts."""
    snn = assemble.networks(experiment, dataset)[1]
    net = snn.clone(batch_norm=True, bias=False) if experiment.model.batch_norm else snn
    variables = jax.jit(net.init)(jax.random.key(experiment.seed), jnp.zeros((1, *dataset.image_shape)))
    if not experiment.model.batch_norm:
        chosen = data.batch_indices(experiment.seed, dataset.train.num_examples, experiment.conversion.images, 0)
        images = data.normalise(dataset.train.images[chosen], dataset.mean, dataset.std, jnp.float32)
        variables = convert.balance_thresholds(net, variables, images, percentile=99.7, timesteps=4)
        variables = convert.scale_thresholds(variables, 0.2)  # the authors' at up to 5 timesteps
        variables = convert.unit_thresholds(net, variables)
    return net, variables


# ---- where it begins, what it leaves


@WAYS
def test_every_layer_fires_before_the_first_step(few_digits, experiment):
    net, variables = initial(experiment, few_digits)
    images = data.normalise(few_digits.train.images[:BATCH], few_digits.mean, few_digits.std)
    (_, record), _ = jax.jit(lambda v: net.apply(v, images, experiment.timesteps, train=True, mutable=["batch_stats"],
                                                 rngs={"dropout": jax.random.key(0)}))(variables)
    assert len(record["spike_rate"]) == 3
    assert not activity.find({name: float(rate) for name, rate in record["spike_rate"].items()}, experiment.timesteps)


@WAYS
@pytest.mark.slow
def test_a_run_from_scratch_is_one_phase_and_says_so(runs, few_digits, experiment):
    workdir = runs(experiment)
    found = json.loads((workdir / "summary.json").read_text())
    assert found["ann"] is None and found["converted"] is None
    assert found["seconds"] == found["snn"]["seconds"] > 0
    assert found["snn"]["timesteps"] == 2 == len(found["snn"]["accuracy_by_timestep"])
    assert not (workdir / "converted.json").exists() and not (workdir / "checkpoints" / "ann").exists()
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert {(line["phase"], line["split"], line["step"]) for line in lines} == {
        ("snn", split, step) for split in ("train", "test") for step in (2, 4)}
    _, variables = initial(experiment, few_digits)
    before = summary.neuron_means(variables)
    for layer in found["layers"]:
        assert layer["threshold_before"] == before["threshold"][layer["name"]]
        assert layer["leak_before"] == 1
        assert layer["threshold_before"] == 1
    assert status.read(workdir)["phase"] == "snn" and status.read(workdir)["state"] == "finished"


@pytest.mark.slow
@WAYS
def test_what_is_handed_on_has_no_batch_norm_and_is_what_was_measured(runs, few_digits, experiment):
    """The network of the last checkpoint has; both give the same numbers."""
    workdir = runs(experiment)
    found = json.loads((workdir / "summary.json").read_text())
    opened, dataset, networks = assemble.open_run(workdir)
    assert opened == experiment and list(networks) == ["snn"]
    net, variables = networks["snn"]
    assert not net.batch_norm and set(variables) == {"params"}
    assert net == assemble.networks(experiment, dataset)[1]
    measured, _ = summary.measure(net, variables, dataset, experiment, experiment.timesteps)
    assert measured["accuracy"] == found["snn"]["accuracy"]
    assert [measured["spike_rate"][layer["name"]] for layer in found["layers"]] == [
        layer["spike_rate"] for layer in found["layers"]]

    trained, first = initial(experiment, dataset)
    state = last_state(workdir, trained, experiment)
    assert not np.array_equal(state.variables["params"]["conv1"]["kernel"], first["params"]["conv1"]["kernel"])
    images = data.normalise(dataset.test.images, dataset.mean, dataset.std)
    with jax.enable_x64(True):  # where a rounded current does not cross a threshold
        wide = jax.tree.map(lambda x: np.asarray(x, np.float64), (state.variables, np.asarray(images)))
        folded, without = assemble.without_batch_norm(trained, wide[0])
        run = jax.jit(lambda net, v: net.apply(v, wide[1], 2, record=("spikes",)), static_argnums=0)
        (logits, seen), (expected, before) = run(folded, without), run(trained, wide[0])
    np.testing.assert_allclose(logits, expected, rtol=1e-9)
    for name, spikes in before["spikes"].items():
        np.testing.assert_array_equal(seen["spikes"][name], spikes)


def last_state(workdir, net, experiment):
    with Checkpoints(workdir / "checkpoints" / "snn") as checkpoints:
        return checkpoints.restore(abstract_state(net, make_optimizer(experiment.snn, 1)))[0]


@pytest.mark.slow
@WAYS
def test_killed_in_its_second_epoch_it_ends_in_the_same_bits(runs, few_digits, tmp_path, experiment):
    expected = runs(experiment)
    with pytest.raises(Killed):
        recipe.run(experiment, tmp_path / "run", Dying(step=4))
    assert not (tmp_path / "run" / "summary.json").exists()
    assert status.read(tmp_path / "run")["checkpoint"]["step"] == 2
    recipe.run(experiment, tmp_path / "run", Dying())
    net, _ = initial(experiment, few_digits)
    for a, b in zip(*(jax.tree.leaves(last_state(w, net, experiment)) for w in (tmp_path / "run", expected)),
                    strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
    summaries = [json.loads((w / "summary.json").read_text()) for w in (tmp_path / "run", expected)]
    for found in summaries:
        del found["seconds"], found["seconds_in_all"], found["date"], found["snn"]["seconds"]
    assert summaries[0] == summaries[1]


# ---- every command on its folder


FILE = f"""
from dietjax.config import *
experiment = {NORMED!r}
"""


@pytest.mark.slow
def test_train_says_what_there_was(runs, dietjax, tmp_path):
    (tmp_path / "scratch.py").write_text(FILE)
    code, out, err = dietjax("train", tmp_path / "scratch.py", "--workdir", runs(NORMED))
    assert code == 0, err
    found = json.loads((runs(NORMED) / "summary.json").read_text())
    assert "finished: nothing to do" in out
    assert (f"trained from scratch: SNN {found['snn']['accuracy']:.2%} at 2 timesteps, "
            f"{found['energy']['ratio']:.2f} times less energy than an ANN of the same layers") in out


@pytest.mark.slow
def test_the_commands_that_read_it_do(runs, dietjax):
    workdir = runs(NORMED)
    found = json.loads((workdir / "summary.json").read_text())
    code, out, _ = dietjax("status", workdir)
    assert code == 0 and "scratch in" in out and "SNN, step 4 of 4, epoch 2.0 of 2" in out
    code, out, _ = dietjax("evaluate", workdir)
    assert code == 0 and f"{found['snn']['accuracy']:.2%}" in out
    assert "no ANN, the SNN was trained from scratch" in " ".join(out.split())
    code, out, _ = dietjax("evaluate", workdir, "--json", "--margin", "1")
    assert code == 0 and list(json.loads(out)) == ["snn"]
    code, out, _ = dietjax("energy", workdir, "--json")
    assert code == 0 and json.loads(out)["ratio"] == pytest.approx(found["energy"]["ratio"], rel=1e-6)
    code, out, _ = dietjax("report", workdir)
    assert code == 0 and "trained from scratch" in (workdir / "report.html").read_text("utf-8")


@pytest.mark.slow
def test_there_is_nothing_to_convert(runs, dietjax):
    code, _, err = dietjax("convert", runs(NORMED))
    assert code == 2
    assert err == (f"error: {runs(NORMED)} has no ANN to convert: its SNN was trained from scratch (ann.epochs 0); "
                   "train a run with an ANN into another folder\n")


def test_before_its_first_checkpoint_there_is_nothing_to_read(dietjax, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(dataclasses.asdict(NORMED)))
    code, out, _ = dietjax("status", tmp_path)
    assert code == 0 and "SNN, step 0, epoch 0.0 of 2" in out and "no checkpoint yet" in out
    for command, says in (("evaluate", "has no checkpoint yet; run dietjax train again"),
                          ("energy", "has no checkpoint yet"), ("convert", "has no ANN to convert")):
        code, _, err = dietjax(command, tmp_path)
        assert code == 2 and says in err


# ---- what it needs, and what it does not


@pytest.mark.parametrize("changes, says", [
    ({"model": Model("VGG4", (16,))}, "conversion.images=1438, but digits has 128 training images"),
    ({"snn": Phase(1, 60, accumulate=7)}, "snn.batch_size 60 does not divide"),
])
def test_what_cannot_run_is_refused_before_anything_is_written(few_digits, tmp_path, changes, says):
    asked = dataclasses.replace(NORMED, conversion=Conversion(images=1438), **changes)
    with pytest.raises(InputError, match=says):
        recipe.run(asked, tmp_path / "run", Dying())
    assert not (tmp_path / "run").exists()


def test_nobody_asks_for_an_ann_that_is_not_trained(few_digits):
    """Neither the ANN's batch size nor a conversion that batch norm makes needless has to fit."""
    asked = dataclasses.replace(NORMED, ann=Phase(epochs=0, batch_size=7, accumulate=3),
                                conversion=Conversion(images=1438))
    assert list(assemble.make_plans(asked, few_digits)) == ["snn"]
