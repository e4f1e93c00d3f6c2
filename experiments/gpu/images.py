"""CIFAR where there is no tensorflow-datasets: packed parts of a set -> one .npz, as `--data.name npz:PATH` reads it.

    python images.py unpack FOLDER KEEP   every FOLDER/*.imgpack.xz -> KEEP/NAME.npz
    python images.py join KEEP SET        KEEP/SET_train*.npz and KEEP/SET_test.npz -> KEEP/SET.npz

The reader of the packs, imgpack.py, lies beside them: `load(path)` returns (images uint8 [N, H, W, C], labels [N], or a
dict of them with the key "fine", and a dict with the classes' names under "classes").
"""

import importlib.util
import pathlib
import sys

import numpy as np

PACK = ".imgpack.xz"


def unpack(folder: pathlib.Path, keep: pathlib.Path) -> None:
    """Write each pack of a folder as an .npz of x, y and classes."""
    spec = importlib.util.spec_from_file_location("imgpack", folder / "imgpack.py")
    reader = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reader)
    keep.mkdir(parents=True, exist_ok=True)
    packs = sorted(folder.glob(f"*{PACK}"))
    if not packs:
        sys.exit(f"{folder} holds no *{PACK}")
    for path in packs:
        images, labels, about = reader.load(str(path))
        labels = labels["fine"] if isinstance(labels, dict) else labels
        np.savez(keep / f"{path.name.removesuffix(PACK)}.npz", x=images, y=labels, classes=np.array(about["classes"]))
        print(f"{path.name}: {len(images):,} images")


def join(keep: pathlib.Path, name: str) -> pathlib.Path:
    """Write the set's parts, unpacked before, as one file."""
    train, test = sorted(keep.glob(f"{name}_train*.npz")), keep / f"{name}_test.npz"
    missing = [] if train else [f"{name}_train*.npz"]
    missing += [] if test.exists() else [test.name]
    if missing:
        sys.exit(f"{keep} has no {', '.join(missing)}: unpack them first")
    parts = []
    for path in (*train, test):
        with np.load(path) as part:
            parts.append(dict(part))
    images, labels = (np.concatenate([part[key] for part in parts[:-1]]) for key in "xy")
    written = keep / f"{name}.npz"
    np.savez(written, train_images=images, train_labels=labels, test_images=parts[-1]["x"], test_labels=parts[-1]["y"],
             class_names=parts[-1]["classes"])
    return written


if __name__ == "__main__":
    command, first, second = sys.argv[1:]
    if command == "unpack":
        unpack(pathlib.Path(first), pathlib.Path(second))
    else:
        print(join(pathlib.Path(first), second))
