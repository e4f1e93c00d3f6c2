"""Laws of dietjax.run.recipe: a run leaves what it promises, and however often it is killed, the same."""

import dataclasses
import io
import json
import pathlib
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
import rich.console
import tiny_run

from dietjax import PLIF, data, models
from dietjax.analysis import memory
from dietjax.checkpoint.manager import Checkpoints
from dietjax.config import AnnNeuron, Conversion, Data, Experiment, Model, Neuron, Phase, resolved
from dietjax.core.surrogate import DERIVATIVES
from dietjax.errors import InputError
from dietjax.run import assemble, recipe, summary
from dietjax.run.console import Console
from dietjax.train.optimizer import make_optimizer
from dietjax.train.state import abstract_state

pytestmark = pytest.mark.usefixtures("quick_compile", "narrow_networks")

TRAIN_IMAGES, BATCH = 1437, 64
STEPS = -(-TRAIN_IMAGES // BATCH)  # 23 of the first epoch; each of three epochs ends where its last image is read
TOTAL = -(-3 * TRAIN_IMAGES // BATCH)

DIES = """
import os, signal, sys
import moments, narrow
from dietjax.cli import main as cli
from dietjax.run import assemble

moments.just_after(sys.argv[1], lambda: os.kill(os.getpid(), signal.SIGKILL))
assemble.networks = narrow.networks
sys.exit(cli.main(sys.argv[2:]))
"""
"""The narrow command line, killed by itself (SIGKILL) just after a moment: a line logged, a save begun, a file
written."""


@pytest.fixture(scope="module")
def workplace(tmp_path_factory, digits_folder):
    """A folder with the experiment file, and an environment with the data and what compilations can share."""
    folder = tmp_path_factory.mktemp("recipe")
    (folder / "tiny.py").write_text(tiny_run.EXPERIMENT)
    return folder, tiny_run.environment(digits_folder)


def start(workplace, workdir, moment):
    """`dietjax train` in a process of its own, killed at a moment."""
    folder, environment = workplace
    arguments = [moment, "train", str(folder / "tiny.py"), "--workdir", str(workdir), *tiny_run.OPTIONS]
    return subprocess.run([sys.executable, "-c", DIES, *arguments], env=environment, capture_output=True, text=True)


@pytest.fixture
def train(workplace, digits, capsys):
    """`dietjax train` in this process, to its end: (exit status, stdout, stderr)."""
    def run(workdir, *options):
        capsys.readouterr()
        return tiny_run.train(workplace[0] / "tiny.py", workdir, *options), *capsys.readouterr()

    return run


@pytest.fixture(scope="module")
def uninterrupted(workplace, finished_run):
    """The folder of a run that was never stopped."""
    return pathlib.Path(shutil.copytree(finished_run, workplace[0] / "uninterrupted"))


def final_state(workdir, phase):
    """{path: array} of the last checkpoint of a phase, optimiser included."""
    experiment, _, networks = assemble.open_run(workdir)
    optimizer = make_optimizer(getattr(experiment, phase), 1)
    with Checkpoints(workdir / "checkpoints" / phase) as checkpoints:
        state, _, step = checkpoints.restore(abstract_state(networks[phase][0], optimizer))
    assert step == TOTAL
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(state)}


def metrics_of(workdir):
    """{(phase, split, step): values}, each once."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    keys = [(line["phase"], line["split"], line["step"]) for line in lines]
    assert len(set(keys)) == len(keys), sorted(key for key in keys if keys.count(key) > 1)
    measured = {"images_per_second", "input_wait_share", "process_memory_bytes", "device_memory_bytes"}
    return {key: {name: value for name, value in line.items() if name not in measured}
            for key, line in zip(keys, lines, strict=True)}


def unaltered(workdir):
    return {path: path.stat().st_mtime_ns for path in workdir.rglob("*") if path.is_file()}


@pytest.fixture
def digits(workplace, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", workplace[1]["TFDS_DATA_DIR"])


@pytest.fixture
def few_digits(digits, monkeypatch):
    """Digits cut to two training batches and one test batch."""
    whole = data.load("digits")
    few = (data.Split(*(x[:count] for x in split)) for split, count in ((whole.train, 2 * BATCH), (whole.test, BATCH)))
    cut = dataclasses.replace(whole, **dict(zip(("train", "test"), few, strict=True)))
    monkeypatch.setattr(data, "load", lambda *_, **__: cut)


def tiny(**changes):
    phase = Phase(epochs=1, batch_size=BATCH, learning_rate=1e-3)
    fields = {"timesteps": 2, "model": Model("VGG4", (16,)), "ann": phase, "snn": phase,
              "conversion": Conversion(images=64, timesteps=4)}
    return Experiment("tiny", **{**fields, **changes})


QUIET = Console(rich.console.Console(file=io.StringIO()))


# ---- what a run leaves


def test_a_finished_run_leaves_what_it_promises(uninterrupted):
    summary = json.loads((uninterrupted / "summary.json").read_text())
    for phase in ("ann", "converted", "snn"):
        assert 0 <= summary[phase]["accuracy"] <= 1
    assert summary["snn"]["timesteps"] == tiny_run.TIMESTEPS == len(summary["snn"]["accuracy_by_timestep"])
    energy = summary["energy"]
    assert energy["ratio"] == pytest.approx(
        sum(x["ann_joules"] for x in energy["layers"]) / sum(x["snn_joules"] for x in energy["layers"]), rel=1e-12)
    assert [layer["name"] for layer in summary["layers"]] == ["conv1", "conv2", "fc1"]
    assert [layer["neurons"] for layer in summary["layers"]] == [8 * 8 * 8, 4 * 4 * 16, 16]
    assert summary["parameters"] == 9 * 8 + 9 * 8 * 16 + 64 * 16 + 16 * 10 + 3 * 2
    assert (summary["train_images"], summary["test_images"]) == (TRAIN_IMAGES, 360)
    assert "<html" in (uninterrupted / "report.html").read_text()
    for phase in ("ann", "snn"):
        assert list((uninterrupted / "tensorboard" / phase).glob("events.out.tfevents.*"))
        assert (uninterrupted / "checkpoints" / phase / str(TOTAL)).is_dir()
    keys = {("converted", "test", 0), *((p, s, n) for p in ("ann", "snn") for s in ("train", "test")
                                        for n in (STEPS, 2 * STEPS - 1, TOTAL))}
    assert set(metrics_of(uninterrupted)) == keys


def test_the_processor_is_named_where_the_system_tells_it(tmp_path):
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Make: Model 7\n\nprocessor\t: 1\n")
    (tmp_path / "other").write_text("processor\t: 0\nBogoMIPS\t: 50.00\n")
    assert [summary._processor(str(tmp_path / name)) for name in ("cpuinfo", "other", "none")] == [
        " (Make: Model 7)", "", ""]


def test_a_finished_run_has_learnt(uninterrupted):
    summary = json.loads((uninterrupted / "summary.json").read_text())
    assert summary["snn"]["accuracy"] > 0.3  # chance is 0.1


def test_running_again_does_nothing(uninterrupted, train):
    before = unaltered(uninterrupted)
    status, out, err = train(uninterrupted)
    assert status == 0, err
    assert "finished: nothing to do" in out
    after = unaltered(uninterrupted)
    renewed = {path.name for path in before if after.pop(path) != before[path]}
    assert renewed <= {"config.json", "process.json"}
    assert not after


@pytest.mark.slow
def test_an_opened_run_is_as_good_as_its_summary_says(uninterrupted, digits):
    experiment, dataset, networks = assemble.open_run(uninterrupted)
    said = json.loads((uninterrupted / "summary.json").read_text())
    assert list(networks) == ["ann", "snn"]
    images = data.normalise(dataset.test.images, dataset.mean, dataset.std)
    for phase, timesteps in (("ann", 1), ("snn", experiment.timesteps)):
        net, variables = networks[phase]
        measured, _ = summary.measure(net, variables, dataset, experiment, timesteps)
        assert measured["accuracy"] == said[phase]["accuracy"]
        logits = np.asarray(jax.jit(net.apply, static_argnums=2)(variables, images, timesteps)[0])
        accuracy = np.mean(logits.argmax(-1) == dataset.test.labels)
        assert accuracy == pytest.approx(said[phase]["accuracy"], abs=1.5 / 360)  # another compilation: ties


@pytest.fixture
def compilations():
    """Names of the functions that jax compiles meanwhile."""
    names = []

    def listen(event, seconds, fun_name=None, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(str(fun_name))

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield names
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.slow
def test_a_run_compiles_the_step_and_the_evaluation_of_each_network_once(few_digits, compilations, tmp_path):
    """Each is run again and again: after every epoch, after converting, and at the end."""
    phase = Phase(epochs=2, batch_size=BATCH, learning_rate=1e-3)
    recipe.run(tiny(ann=phase, snn=phase), tmp_path / "run", QUIET)
    for function in ("train_step", "eval_step"):
        assert sum(function in name for name in compilations) == 2, function


# ---- resuming

MOMENTS = [
    f"ann save {2 * STEPS - 1}",  # while that is being written
    "converted test 0",  # logged, converted.json not yet written
    "wrote converted.json",
    f"snn save {TOTAL}",
]


@pytest.mark.slow
def test_killed_at_any_moment_equals_never_stopped(uninterrupted, workplace, train):
    workdir = workplace[0] / "killed"
    for moment in MOMENTS:
        process = start(workplace, workdir, moment)
        assert process.returncode == -9, f"{moment}: {process.stderr}"
        assert not (workdir / "summary.json").exists()
    status, _, err = train(workdir)
    assert status == 0, err

    for phase in ("ann", "snn"):
        expected, found = final_state(uninterrupted, phase), final_state(workdir, phase)
        assert found.keys() == expected.keys()
        for path in expected:
            assert found[path].tobytes() == expected[path].tobytes(), (phase, path)
    assert metrics_of(workdir) == metrics_of(uninterrupted)
    assert (workdir / "converted.json").read_text() == (uninterrupted / "converted.json").read_text()
    summaries = [json.loads((w / "summary.json").read_text()) for w in (workdir, uninterrupted)]
    for found in summaries:
        del found["seconds"], found["seconds_in_all"], found["date"], found["ann"]["seconds"], found["snn"]["seconds"]
    assert summaries[0] == summaries[1]


def test_a_run_is_opened_as_far_as_it_has_got(uninterrupted, digits, tmp_path):
    shutil.copytree(uninterrupted, tmp_path / "half")
    shutil.rmtree(tmp_path / "half" / "checkpoints" / "snn")
    assert list(assemble.open_run(tmp_path / "half")[2]) == ["ann"]
    shutil.rmtree(tmp_path / "half" / "checkpoints")
    with pytest.raises(InputError, match="no checkpoint yet; run dietjax train again"):
        assemble.open_run(tmp_path / "half")
    with pytest.raises(InputError, match="holds no run"):
        assemble.open_run(tmp_path)


# ---- workdirs that are refused


def content(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_workdir_of_another_experiment_is_refused_by_field(digits, tmp_path):
    stored = dataclasses.asdict(tiny(seed=3, ann=Phase(epochs=7, batch_size=BATCH)))
    (tmp_path / "config.json").write_text(json.dumps(stored))
    before = content(tmp_path)
    with pytest.raises(InputError, match=r"ann\.epochs: there 7, asked for 1; seed: there 3, asked for 0\).*nothing"):
        recipe.run(tiny(), tmp_path, QUIET)
    assert content(tmp_path) == before


@pytest.mark.slow
def test_an_ann_serves_another_snn_until_that_is_saved(uninterrupted, workplace, train):
    """What comes after the ANN may change, and is then done anew; the ANN is not touched."""
    workdir = workplace[0] / "other_snn"
    shutil.copytree(uninterrupted, workdir)  # as if it had been killed just before the SNN's first save
    shutil.rmtree(workdir / "checkpoints" / "snn")
    for file in ("summary.json", "recorded.npz", "report.html"):
        (workdir / file).unlink()
    lines = (workdir / "metrics.jsonl").read_text().splitlines(keepends=True)
    (workdir / "metrics.jsonl").write_text("".join(line for line in lines if json.loads(line)["phase"] != "snn"))
    first, ann = (workdir / "converted.json").read_text(), unaltered(workdir / "checkpoints" / "ann")
    options = ("--conversion.percentile", "99", "--snn.epochs", "1", "--snn.accumulate", "2")
    status, _, err = train(workdir, *options)
    assert status == 0, err
    assert unaltered(workdir / "checkpoints" / "ann") == ann
    assert (workdir / "converted.json").read_text() != first
    lines = metrics_of(workdir)
    assert {key: lines[key] for key in lines if key[0] == "ann"} == {
        key: line for key, line in metrics_of(uninterrupted).items() if key[0] == "ann"}
    assert max(step for phase, _, step in lines if phase == "snn") == STEPS
    status, _, err = train(workdir, *options, "--snn.learning-rate", "1")
    assert status == 2 and "snn.learning_rate: there 0.001, asked for 1.0" in err
    status, out, _ = train(workdir, *options[:-1], "1")  # how it lies on the devices may always change
    assert status == 0 and "finished" in out


def test_a_folder_that_is_no_run_is_refused(digits, tmp_path):
    (tmp_path / "thesis.tex").write_text("do not lose me")
    before = content(tmp_path)
    with pytest.raises(InputError, match="no run of dietjax and not empty; nothing was changed"):
        recipe.run(tiny(), tmp_path, QUIET)
    assert content(tmp_path) == before
    with pytest.raises(InputError, match=r"thesis\.tex is no run"):
        recipe.run(tiny(), tmp_path / "thesis.tex", QUIET)
    assert content(tmp_path) == before


def test_a_workdir_that_cannot_be_made_is_refused(digits, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file/run cannot be written: .*choose another --workdir"):
        recipe.run(tiny(), tmp_path / "file" / "run", QUIET)


def test_a_workdir_on_a_read_only_or_full_disk_is_refused(digits, small_disk):
    (small_disk / "filler").write_bytes(bytes(2**20))
    with pytest.raises(InputError, match=r"disk/run cannot be written: No space left on device"):
        recipe.run(tiny(), small_disk / "run", QUIET)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(InputError, match=r"disk/new cannot be written: Read-only file system; choose another"):
        recipe.run(tiny(), small_disk / "new", QUIET)


@pytest.mark.parametrize("text", ["", "[1]", '{"name": "x"'])
def test_a_damaged_config_is_refused(digits, tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    for use in (lambda: recipe.run(tiny(), tmp_path, QUIET), lambda: assemble.open_run(tmp_path)):
        with pytest.raises(InputError, match=r"config\.json"):
            use()
    assert (tmp_path / "config.json").read_text() == text


@pytest.mark.parametrize("changes, says", [
    ({"conversion": Conversion(images=1438)}, "conversion.images=1438, but digits has 1437 training images"),
    ({"model": Model("VGG9")}, "image of 8×8 does not fit"),
    ({"neuron": Neuron(surrogate="arctn")}, "unknown neuron.surrogate 'arctn'; did you mean 'arctan'"),
    ({"timesteps": 0}, "timesteps must be > 0"),
    ({"model": Model("VGG4", width=4.0, whiten=True)}, "32 features, and 3×3 patches of 1 channel .* at most 18; do"),
])
def test_what_only_a_later_phase_needs_is_checked_first(digits, tmp_path, changes, says):
    with pytest.raises(InputError, match=says):
        recipe.run(tiny(**changes), tmp_path / "run", QUIET)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("fits, says", [(1.5, "a training step on 64 images a device at 200 timesteps"),
                                        (None, "use at most --conversion.images 3")])
def test_memory_of_later_phases_is_checked_first(digits, tmp_path, monkeypatch, fits, says):
    ann = assemble.networks(tiny(), data.load("digits"))[0]
    # an SNN of 200 timesteps, or 3 of 64 images over 400 timesteps: three blocks of 8×8 neurons of 8 channels
    limit = int(fits * memory.training_step(ann, BATCH, 1)) if fits else 3 * 3 * 4 * 10**5 * 8 * 8 * 8
    monkeypatch.setattr(memory, "device_memory", lambda: limit)
    asked = {"timesteps": 200} if fits else {"conversion": Conversion(images=64, timesteps=10**5)}
    with pytest.raises(InputError, match=says):
        recipe.run(tiny(**asked), tmp_path / "run", QUIET)
    assert not (tmp_path / "run").exists()


# ---- everything an experiment can ask for runs through

VARIANTS = {
    "max": {"conversion": Conversion("max", images=64), "neuron": Neuron(sharing="channel", surrogate="arctan"),
            "model": Model("VGG4", (16,), batch_norm=True), "data": Data(crop_padding=1, flip=True)},
    "spikenorm": {"conversion": Conversion("spikenorm", images=64, timesteps=4), "encoder": "poisson",
                  "neuron": Neuron(surrogate="stdb"), "chunk": 1, "truncate": True},
    "bfloat16": {"dtype": "bfloat16", "neuron": Neuron(reset="zero", surrogate="rectangular"),
                 "model": Model("VGG4", (16,), batch_norm=True),
                 "conversion": Conversion("percentile", images=64, timesteps=4)},
    "freeze": {"neuron": Neuron(leak=0.9, sharing="neuron", surrogate="fast_sigmoid", freeze=("leak", "threshold")),
              "snn": Phase(1, BATCH, "sgd", 1e-2, weight_decay=1e-3)},
    "batch norm": {"model": Model("VGG4", (16,), batch_norm=True), "neuron": Neuron(surrogate="sigmoid"), "chunk": 1},
    "compact": {"neuron": Neuron(), "ann_neuron": AnnNeuron("qcfs", 2, 2.0),
                "model": Model("Compact8", batch_norm=True, norm_scale=False, whiten=True),
                "data": Data(crop_padding=1, crop_fill="reflect", flip=True, flip_alternates=True),
                "ann": Phase(1, BATCH, "muon", 0.1, momentum=0.6, schedule="linear")},
    "today": {"neuron": Neuron(), "model": Model("VGG4", (16,), batch_norm=True), "data": Data(cutout=2),
              "ann": Phase(1, BATCH, "sgd", 0.1, schedule="one_cycle", warmup_epochs=0.5, nesterov=True, clip_norm=5.0,
                           ema_decay=0.9, label_smoothing=0.1, weight_decay=5e-4),
              "snn": Phase(1, BATCH, "adamw", 1e-4, schedule="steps", milestones=(0.5,), ema_decay=0.9, accumulate=2,
                           tet_weight=0.5, tet_lambda=0.05, distillation=0.5, temperature=2.0, conv_dropout=0.0)},
}


def numbers(tree):
    if isinstance(tree, dict | list):
        return [x for value in (tree.values() if isinstance(tree, dict) else tree) for x in numbers(value)]
    return [tree] if isinstance(tree, float) else []


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_choice_runs_through_with_finite_results(few_digits, tmp_path, variant):
    experiment = tiny(**VARIANTS[variant])
    summary = recipe.run(experiment, tmp_path / "run", QUIET)
    assert np.isfinite(numbers(summary)).all()
    lines = metrics_of(tmp_path / "run")
    assert np.isfinite(numbers([*lines.values()])).all()
    assert len(lines) == 5
    for layer in summary["layers"]:
        assert layer["leak_before"] == pytest.approx(resolved(experiment).neuron.leak, rel=1e-7)
        assert layer["leak_after"] <= 1 and layer["threshold_after"] > 0
        if experiment.neuron.freeze:
            assert layer["leak_after"] == layer["leak_before"]
            assert layer["threshold_after"] == layer["threshold_before"]
    _, _, networks = assemble.open_run(tmp_path / "run")
    assert networks["snn"][1]["params"]["conv1"]["neuron"].threshold.shape == {
        "layer": (), "channel": (8,), "neuron": (8, 8, 8)}[resolved(experiment).neuron.sharing]


@pytest.mark.slow
def test_a_whitened_kernel_and_a_norm_without_scale_stay_as_they_are(few_digits, tmp_path):
    experiment = tiny(**VARIANTS["compact"])
    recipe.run(experiment, tmp_path / "run", QUIET)
    _, dataset, networks = assemble.open_run(tmp_path / "run")
    net, variables = networks["ann"]
    images = data.normalise(dataset.train.images, dataset.mean, dataset.std)[
        data.batch_indices(experiment.seed, len(dataset.train.images), len(dataset.train.images), 0)]
    whitened = models.whiten(net, variables, images)["params"]["conv1"]["kernel"]
    np.testing.assert_array_equal(variables["params"]["conv1"]["kernel"], whitened)
    layers = [layer for layer in variables["params"].values() if "norm" in layer]
    assert len(layers) == 7 and all((layer["norm"]["scale"] == 1).all() for layer in layers)
    assert all((layer["norm"]["bias"] != 0).any() for layer in layers)
    folded = networks["snn"][1]["params"]["conv1"]["kernel"]  # a channel's kernel is multiplied by one number
    factors = folded / whitened
    np.testing.assert_allclose(factors, np.broadcast_to(factors[0, 0, 0], folded.shape), rtol=1e-5)


@pytest.mark.slow
def test_the_averages_are_tested_converted_and_opened(few_digits, tmp_path, monkeypatch):
    converted, original = [], assemble.convert_ann
    monkeypatch.setattr(assemble, "convert_ann", lambda experiment, net, variables, *rest: converted.append(variables)
                        or original(experiment, net, variables, *rest))
    experiment = tiny(**VARIANTS["today"])
    summary = recipe.run(experiment, tmp_path / "run", QUIET)
    lines, (_, _, networks) = metrics_of(tmp_path / "run"), assemble.open_run(tmp_path / "run")
    for phase, (net, variables) in networks.items():
        with Checkpoints(tmp_path / "run" / "checkpoints" / phase) as checkpoints:
            optimizer = make_optimizer(getattr(experiment, phase), 1)
            state, *_ = checkpoints.restore(abstract_state(net, optimizer, averaged=True))
        same = jax.tree.map(lambda a, b: bool(np.array_equal(a, b)), variables, state.average)
        assert all(jax.tree.leaves(same))
        same = jax.tree.map(lambda a, b: bool(np.array_equal(a, b)), variables, state.variables)
        assert not all(jax.tree.leaves(same))
        assert summary[phase]["accuracy"] == lines[phase, "test", 2]["accuracy"]
    jax.tree.map(np.testing.assert_array_equal, converted, [networks["ann"][1]])


def test_a_phase_may_have_dropout_of_its_own(digits):
    """None is the model's. The two networks' layers are the same but for that."""
    model = Model("VGG4", (16,), conv_dropout=0.2, classifier_dropout=0.5)
    changed = dataclasses.replace(tiny().snn, conv_dropout=0.0, classifier_dropout=0.1)
    ann, snn = assemble.networks(tiny(model=model, snn=changed), data.load("digits"))
    model = dataclasses.replace(model, name="VGG6")  # its third convolution is not pooled
    nets = assemble.networks(tiny(model=model, ann=changed), data.load("digits"))
    assert [[layer.dropout for layer in net.layers] for net in (ann, snn)] == [[0, 0, 0.5, 0], [0, 0, 0.1, 0]]
    assert [[layer.dropout for layer in net.layers] for net in nets] == [[0, 0, 0, 0.1, 0], [0, 0.2, 0, 0.5, 0]]
    assert [dataclasses.replace(layer, dropout=0) for layer in ann.layers] == [
        dataclasses.replace(layer, dropout=0) for layer in snn.layers]


def test_every_surrogate_may_be_asked_for(few_digits):
    for name in DERIVATIVES:
        _, snn = assemble.networks(tiny(neuron=Neuron(surrogate=name)), data.load("digits"))
        assert snn.neuron.surrogate.name == name


def test_the_variants_cover_every_method():
    methods = {resolved(tiny(**v)).conversion.method for v in VARIANTS.values()}
    assert methods == {"match", "max", "spikenorm", "percentile"}


def test_mean_leak_and_threshold_of_a_plif_are_those_it_runs_with():
    neuron = PLIF(tau=4.0, threshold=0.5, sharing="channel").init(jax.random.key(0), (3,))
    means = summary.neuron_means({"params": {"fc1": {"kernel": np.ones(2), "neuron": neuron}}})
    assert means["leak"]["fc1"] == pytest.approx(0.75) and means["threshold"]["fc1"] == 0.5
