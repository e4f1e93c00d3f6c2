"""Every file in experiments/ can run and says what came out, and the paper's say what the paper does."""

import ast
import pathlib
import re

import jax
import numpy as np
import pytest

from dietjax.analysis import memory
from dietjax.config import Data, Experiment, Model, check, load_experiment, resolved
from dietjax.data import Dataset, Split
from dietjax.run import assemble
from dietjax.train.optimizer import make_optimizer
from dietjax.train.state import abstract_state

FILES = sorted((pathlib.Path(__file__).parents[2] / "experiments").glob("*.py"))
SECTIONS = ["Paper", "Command", "Hardware", "Hours", "Expected", "Obtained"]
SETS = {  # (H, W, C) as stored, of events (T, H, W, 2), classes, training images
    "digits": ((8, 8, 1), 10, 1437), "saccade_digits": ((6, 16, 16, 2), 10, 1437), "cifar10": ((32, 32, 3), 10, 50_000),
    "mnist": ((28, 28, 1), 10, 60_000), "cifar100": ((32, 32, 3), 100, 50_000),
    "imagenet2012": ((None, None, 3), 1000, 1_281_167)}
PAPER = {  # file -> what the authors call ANN and SNN, per cent
    "paper_cifar10_vgg16": ("93.72", "92.70"), "paper_cifar10_resnet20": ("92.79", "91.78"),
    "paper_cifar100_vgg16": ("71.82", "69.67"), "paper_imagenet_vgg16": ("70.08", "69.00"), "imagenet_resnet34": ()}
FOR_A_GPU = {"cifar10_vgg16": "cifar10", "cifar10_resnet18": "cifar10", "cifar100_vgg16": "cifar100"}
every_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
of_the_paper = pytest.mark.parametrize("path", [p for p in FILES if p.stem in PAPER], ids=lambda path: path.stem)


def sections(path):
    """{section: its text} of a file's docstring, in order."""
    _, *found = re.split(r"^(\w+): +", ast.get_docstring(ast.parse(path.read_text())), flags=re.MULTILINE)
    return dict(zip(found[::2], found[1::2], strict=True))


def stand_in(settings):
    """A set of the right shape and number of classes that takes no memory."""
    shape, classes, count = SETS[settings.name]
    if settings.image_size is not None:
        shape = (settings.image_size, settings.image_size, shape[2])
    split = Split(np.broadcast_to(np.uint8(0), (count, *shape)), np.broadcast_to(np.int32(0), count))
    return Dataset(settings.name, split, split, tuple(map(str, range(classes))), *[(0.5,) * shape[-1]] * 2)


def test_the_papers_files_and_a_gpus_are_there():
    names = {path.stem for path in FILES}
    assert PAPER.keys() | FOR_A_GPU.keys() <= names
    assert {name for name in names if name.startswith("paper_")} <= PAPER.keys()


@every_file
@pytest.mark.thin(4)
def test_an_experiment_loads_and_its_networks_build(path, monkeypatch):
    experiment = load_experiment(path)
    check(experiment)
    assert experiment.name == path.stem
    dataset = stand_in(experiment.data)
    monkeypatch.setattr(memory, "device_memory", lambda: 80 * 10**9)
    for plan in assemble.make_plans(experiment, dataset).values():
        state = abstract_state(plan.net, make_optimizer(plan.phase, 1))
        images = jax.numpy.zeros((2, *dataset.image_shape))
        logits, _ = jax.eval_shape(lambda v, plan=plan, images=images: plan.net.apply(
            v, images, plan.schedule.timesteps), state.variables)
        assert logits.shape == (2, dataset.num_classes)


def test_both_networks_have_the_width_and_the_classifier_that_are_asked_for():
    model = Model("VGG6", classifier=(), width=0.25)
    for net in assemble.networks(Experiment("x", model=model), stand_in(Data("cifar10"))):
        assert [layer.features for layer in net.layers] == [16, 32, 32, 10]


@every_file
def test_its_docstring_says_what_is_needed_and_what_came_out(path):
    found = sections(path)
    assert list(found) == SECTIONS
    assert all(text.strip() for text in found.values())
    assert "arXiv 2008.03658" in found["Paper"]
    assert f"dietjax train experiments/{path.name} --workdir " in found["Command"]
    run = "not run yet" not in found["Obtained"]
    assert run == ("not measured" not in found["Hours"]) == ("none yet" not in found["Hardware"])
    before = "" if load_experiment(path).from_scratch else r"ANN \d+\.\d+ %.*"
    assert not run or re.search(before + r"SNN \d+\.\d+ %", found["Obtained"], re.DOTALL)


@of_the_paper
def test_the_papers_experiments_follow_the_paper(path):
    e, expected = load_experiment(path), sections(path)["Expected"]
    assert (e.timesteps, e.encoder) == (5, "direct")
    neuron = resolved(e).neuron
    assert (neuron.kind, neuron.leak, neuron.sharing, neuron.reset, neuron.surrogate, neuron.freeze) == (
        "lif", 1.0, "layer", "subtract", "piecewise_linear", ())
    assert (e.model.width, e.model.classifier, e.model.conv_dropout, e.model.classifier_dropout,
            e.model.batch_norm) == (1.0, None, 0.2, 0.5, False)
    assert (e.conversion.method, e.conversion.percentile, e.conversion.scale) == ("percentile", 99.7, 0.2)
    assert (e.ann.weight_decay, e.snn.optimizer, e.snn.learning_rate) == (5e-4, "adam", 1e-4)
    assert 0 <= e.snn.weight_decay <= 5e-4
    assert e.data.flip
    for figure in PAPER[path.stem]:
        assert f"{figure} %" in expected
    if e.data.name == "imagenet2012":
        assert (e.data.image_size, e.data.crop_padding, e.snn.accumulate) == (224, 0, 32)
        assert 20 <= e.snn.epochs <= 30
    else:
        assert (e.data.image_size, e.data.crop_padding) == (None, 4)
        assert (e.conversion.images, e.conversion.timesteps) == (512, 100)
        assert (e.ann.optimizer, e.ann.learning_rate, e.ann.epochs) == ("adam", 1e-3, 300)
        assert 64 <= e.ann.batch_size <= 128
        assert (e.snn.batch_size, e.snn.epochs) == (64, 300)


@pytest.mark.parametrize("name", FOR_A_GPU)
def test_a_gpus_experiments_fit_ten_minutes_and_keep_the_anns_function(name):
    """At the images per second that one H100 trained of VGG16, by the neurons here; six of the ten minutes train."""
    e = load_experiment(pathlib.Path(__file__).parents[2] / "experiments" / f"{name}.py")
    assert (e.data.name, e.timesteps, e.ann_neuron.kind, e.ann_neuron.levels) == (FOR_A_GPU[name], 4, "qcfs", 4)
    assert (e.model.batch_norm, resolved(e).conversion.method, resolved(e).conversion.scale) == (True, "match", 1.0)
    ann, snn = assemble.networks(e, stand_in(e.data))
    usual = assemble.networks(Experiment("x", model=Model("VGG16")), stand_in(e.data))[0]
    work, reference = (sum(np.prod(c.out_shape) for c in net.connections()) for net in (ann, usual))
    assert work * 50_000 * (e.ann.epochs / 34_000 + e.snn.epochs / 16_300) < 360 * reference
    assert snn.neuron.initial_membrane == 0.5
