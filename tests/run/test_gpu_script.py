"""experiments/gpu: what a lent GPU is given and what comes back, at toy size, where the same is lacking."""

import json
import os
import pathlib
import runpy
import subprocess
import sys

import numpy as np
import pytest

from dietjax import data

GPU = pathlib.Path(__file__).parents[2] / "experiments" / "gpu"
READER = """
import numpy as np

def load(path):
    with np.load(path) as pack:
        labels = pack["y"]
        return pack["x"], labels if "cifar10_" in path else {"coarse": labels // 5, "fine": labels}, {
            "classes": [f"class {i}" for i in range(10 if "cifar10_" in path else 100)]}
"""
LACKS = """
# as on a machine that has neither these, nor those but where the script has put them
import importlib.machinery, os, sys

class Lacking:
    def find_spec(self, name, path=None, target=None):
        if name in ("tensorflow_datasets", "grain", "array_record", "cv2", "sklearn"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        if name in ("tyro", "docstring_parser", "typeguard", "tensorboardX"):
            spec = importlib.machinery.PathFinder.find_spec(name, [os.environ["KEEP"] + "/site"])
            if spec is None:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
            return spec

sys.meta_path.insert(0, Lacking())
"""
SMALL = ("--model.width=0.03125", "--ann.epochs=1", "--ann.warmup-epochs=0.2", "--ann.batch-size=32", "--snn.epochs=1",
         "--snn.warmup-epochs=0.2", "--snn.batch-size=32", "--conversion.images=32")


@pytest.fixture
def packs(tmp_path):
    """(set, classes) -> a folder with its parts, of 40, 24 and 16 images, and {part: (images, labels)}."""
    def write(name, classes):
        folder, rng, parts = tmp_path / "packs", np.random.default_rng(0), {}
        folder.mkdir()
        (folder / "imgpack.py").write_text(READER)
        for part, count in (("train_a", 40), ("train_b", 24), ("test", 16)):
            parts[part] = rng.integers(0, 256, (count, 32, 32, 3), np.uint8), rng.integers(0, classes, count, np.uint8)
            with open(folder / f"{name}_{part}.imgpack.xz", "wb") as file:
                np.savez(file, x=parts[part][0], y=parts[part][1])
        return folder, parts

    return write


@pytest.fixture
def script(tmp_path):
    """Runs it in a folder of its own as on such a machine, with an nvidia-smi that says 100 W at once, three times."""
    (tmp_path / "lacks").mkdir()
    (tmp_path / "lacks" / "sitecustomize.py").write_text(LACKS)
    for name, lines in (("python", f'PYTHONPATH="$PYTHONPATH:{tmp_path}/lacks" exec {sys.executable} "$@"'),
                        ("nvidia-smi", 'case "$*" in *power*) echo 100; echo 100; echo 100; exec sleep 60;; esac')):
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{lines}\n")
        (tmp_path / name).chmod(0o755)
    there = os.environ | {"KEEP": f"{tmp_path}/keep", "OUT": f"{tmp_path}/out", "PYTHON": f"{tmp_path}/python",
                          "PATH": f"{tmp_path}:{os.environ['PATH']}", "JAX_PLATFORMS": "cpu",
                          "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}

    def run(*arguments, **environment):
        return subprocess.run(["bash", str(GPU / "cifar10.sh"), *map(str, arguments)], cwd=tmp_path,
                              env=there | environment, capture_output=True, text=True)

    return run


@pytest.mark.slow
def test_two_calls_bring_back_a_summary_and_a_page(script, packs, tmp_path):
    folder, _ = packs("cifar10", 10)
    packed = script("pack", folder, PYTHON=sys.executable)  # here, where everything is
    assert packed.returncode == 0, packed.stderr
    images = {lent: sorted(path.name for path in (tmp_path / lent).glob("*.xz")) for lent in ("lent1", "lent2")}
    assert images == {"lent1": ["cifar10_train_a.imgpack.xz"],
                      "lent2": ["cifar10_test.imgpack.xz", "cifar10_train_b.imgpack.xz"]}
    early = script("unpack", "lent2")
    assert early.returncode and "unpack lent1 first: it has the packages" in early.stderr
    for lent in ("lent1", "lent2"):
        call = script("unpack", lent)
        assert call.returncode == 0 and "CpuDevice" in call.stdout, call.stderr
    call = script("train", "cifar10_vgg16", *SMALL)
    assert call.returncode == 0, call.stderr
    back = tmp_path / "out" / "cifar10_vgg16"
    assert {path.name for path in back.iterdir()} == {"summary.json", "report.html", "metrics.jsonl", "config.json",
                                                      "joules.txt"}
    assert (back / "joules.txt").read_text() == "300 J of the GPU in 3 s\n"
    summary = json.loads((back / "summary.json").read_text())
    assert (summary["dataset"], summary["train_images"], summary["test_images"]) == ("cifar10", 64, 16)
    assert summary["settings"]["data"]["name"] == "npz:cifar10.npz" and len(summary["layers"]) == 14


@pytest.mark.filterwarnings("ignore:.* have no training images")  # a few images cannot be of 100 classes
@pytest.mark.parametrize(("name", "classes"), [("cifar10", 10), ("cifar100", 100)])
def test_parts_become_the_set_that_they_are_of(packs, tmp_path, name, classes):
    """Of CIFAR-100 with its fine labels."""
    images, (folder, parts) = runpy.run_path(str(GPU / "images.py")), packs(name, classes)
    images["unpack"](folder, tmp_path / "keep")
    found = data.load(f"npz:{images['join'](tmp_path / 'keep', name)}")
    for i, (split, names) in enumerate(((found.train, ("train_a", "train_b")), (found.test, ("test",)))):
        for kept, field in ((split.images, 0), (split.labels, 1)):
            np.testing.assert_array_equal(kept, np.concatenate([parts[part][field] for part in names]), err_msg=str(i))
    assert found.class_names == tuple(f"class {i}" for i in range(classes)) and found.name == name


@pytest.mark.slow
def test_a_set_that_lies_there_whole_needs_no_packs(script, tmp_path):
    """It is handed on as it is: its few arrays, and the options, are what `dietjax train` refuses here."""
    (tmp_path / "keep").mkdir()
    np.savez(tmp_path / "keep" / "cifar10.npz", train_images=np.zeros((2, 32, 32, 3), np.uint8))
    call = script("train", "cifar10_vgg16", PYTHON=sys.executable)
    assert call.returncode == 2 and "keep/cifar10.npz" in call.stderr and "unpack" not in call.stderr


def test_what_is_missing_is_named(script, packs, tmp_path):
    folder, _ = packs("cifar10", 10)
    assert script("pack", folder, "cifar100").stderr.startswith(f"there is no {folder}/cifar100_train*.imgpack.xz")
    (folder / "cifar10_test.imgpack.xz").unlink()
    assert "there is no" in script("pack", folder).stderr and not (tmp_path / "lent1").exists()
    assert "has no cifar10_train*.npz, cifar10_test.npz: unpack" in script("train", "cifar10_vgg16").stderr
    nothing = script()
    assert nothing.returncode == 2 and "call 2:" in nothing.stderr


@pytest.mark.slow
def test_one_call_brings_back_what_the_machine_should_measure(script, tmp_path):
    """It has only the packages that were packed; children too."""
    assert script("bench").returncode  # without them
    packed = script("packages", PYTHON=sys.executable)
    assert packed.returncode == 0 and (tmp_path / "lent1/site/tyro").is_dir(), packed.stderr
    call = script("bench", "--toy", "--minutes", "0.5")
    assert call.returncode == 0, call.stdout + call.stderr
    assert "not for lack of time" in call.stdout and "the same command goes on" in call.stdout
    back = tmp_path / "out" / "bench"
    assert json.loads((back / "environment.json").read_text())["backend"] == "cpu"
    for path in back.glob("[!e]*.json"):
        found = json.loads(path.read_text())
        assert found["rows"] and found["command"].startswith("dietjax bench ")
