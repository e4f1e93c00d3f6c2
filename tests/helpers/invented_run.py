"""What a finished run leaves behind, with invented but plausible numbers: for tests of the page that reads it."""

import json
import pathlib

import numpy as np


def make_run(
    folder: pathlib.Path,
    layers: int = 7,
    timesteps: int = 5,
    classes: int = 10,
    wrong: int = 12,
    channels: int = 3,
    size: int = 32,
    epochs: int = 30,
    class_names: list[str] | None = None,
    layer_names: list[str] | None = None,
) -> pathlib.Path:
    """Write config.json, metrics.jsonl, summary.json and recorded.npz into the folder, and return it."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    names = layer_names or [f"conv{i + 1}" if i < max(1, layers - 2) else f"fc{i + 3 - layers}" for i in range(layers)]
    (folder / "config.json").write_text(json.dumps(_config(timesteps, epochs)))
    before, leak_after = rng.uniform(0.1, 1.5, len(names)), rng.uniform(0.15, 1, len(names))
    after, rates = before * rng.uniform(0.9, 1.6, len(names)), rng.uniform(0.05, 1.2, len(names)) * timesteps / 3
    by_layer = {"threshold": after, "leak": leak_after, "spike_rate": rates}
    by_layer = {key: dict(zip(names, values, strict=True)) for key, values in by_layer.items()}
    lines = _log(rng, epochs, by_layer)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    trained = [
        {"name": name, "neurons": 4096, "threshold_before": before[i], "threshold_after": after[i],
         "leak_before": 1.0, "leak_after": leak_after[i], "spike_rate": rates[i]} for i, name in enumerate(names)
    ]  # fmt: skip
    (folder / "summary.json").write_text(json.dumps(_summary(rng, timesteps, wrong, names, rates, trained)))
    np.savez(folder / "recorded.npz", **_recorded(rng, timesteps, classes, wrong, channels, size, class_names),
             **{f"spikes/{name}": rng.random((timesteps, 128)) < rates[i] / timesteps for i, name in enumerate(names)})
    return folder


def _config(timesteps, epochs):
    phase = {"epochs": epochs, "batch_size": 2500, "optimizer": "adam", "learning_rate": 1e-3}
    return {
        "name": "vgg9_cifar10", "timesteps": timesteps, "seed": 0,
        "data": {"name": "cifar10", "dir": None}, "model": {"name": "VGG9", "classifier": [4096, 4096]},
        "neuron": {"leak": 1.0, "sharing": "layer", "reset": "subtract", "surrogate": "piecewise_linear"},
        "ann": phase, "snn": phase | {"learning_rate": 1e-4},
        "conversion": {"method": "percentile", "percentile": 99.7, "images": 512, "timesteps": 100, "scale": None},
    }  # fmt: skip


def _log(rng, epochs, by_layer):
    """Twenty steps an epoch, a test after each; the SNN's with what its layers do."""
    lines = []
    for name, low, high in (("ann", 0.3, 0.937), ("snn", 0.885, 0.926)):
        for step in range(1, 20 * epochs + 1):
            epoch = step / 20
            accuracy = high - (high - low) * np.exp(-4 * epoch / epochs)
            noise = rng.normal(0, 0.012)
            row = {"phase": name, "split": "train", "step": step, "epoch": epoch, "learning_rate": 1e-3,
                   "loss": 2.3 * (1 - accuracy) + noise, "accuracy": min(1.0, accuracy + 0.03 + noise),
                   "images_per_second": 900.0}  # fmt: skip
            if name == "snn":
                row |= {"threshold": by_layer["threshold"], "leak": by_layer["leak"]}
            lines.append(row)
            if step % 20 == 0:
                row = {"phase": name, "split": "test", "step": step, "epoch": epoch,
                       "loss": 2.6 * (1 - accuracy) + 0.05, "accuracy": accuracy}  # fmt: skip
                lines.append(row | ({"spike_rate": by_layer["spike_rate"]} if name == "snn" else {}))
        if name == "ann":
            lines.append({"phase": "converted", "split": "test", "step": 0, "epoch": 0, "loss": 0.9, "accuracy": 0.77})
    return lines


def _summary(rng, timesteps, wrong, names, rates, trained):
    steps = np.arange(1, timesteps + 1) / timesteps
    macs = rng.integers(1, 38, len(names) + 1) * 1_000_000
    spent = [
        {"name": name, "macs": int(macs[i]), "rate": float(rates[i - 1]) if i else None,
         "ann_joules": 4.6e-12 * macs[i], "snn_joules": (0.9e-12 * rates[i - 1] if i else 4.6e-12) * macs[i]}
        for i, name in enumerate([*names, "output"])
    ]  # fmt: skip
    ann_joules, snn_joules = (sum(layer[key] for layer in spent) for key in ("ann_joules", "snn_joules"))
    return {
        "experiment": "vgg9_cifar10", "model": "VGG9", "dataset": "cifar10", "parameters": 33_640_000,
        "train_images": 50_000, "test_images": 10_000, "ann": {"accuracy": 0.937, "seconds": 5000.0},
        "converted": {"accuracy": 0.77, "accuracy_by_timestep": (0.1 + 0.67 * steps**2).tolist()},
        "snn": {"accuracy": 0.926 if wrong else 1.0, "timesteps": timesteps, "seconds": 9000.0,
                "accuracy_by_timestep": (0.926 - 0.4 * (1 - steps) ** 2).tolist()},
        "layers": trained,
        "energy": {"ratio": ann_joules / snn_joules, "ann_joules": ann_joules, "snn_joules": snn_joules,
                   "layers": spent},
        "seconds": 14_100.0, "machine": "1 NVIDIA H200", "versions": {"dietjax": "0.1.0", "jax": "0.10.0"},
    }  # fmt: skip


def _confusion(rng, classes, mistakes):
    """Of 10,000 test images; some pairs of classes are confused more often than others."""
    weights = np.diag(np.full(classes, 12.5)) + mistakes * rng.exponential(1, (classes, classes)) ** 4 / classes / 24
    return rng.multinomial(10_000, (weights / weights.sum()).ravel()).reshape(classes, classes).astype(np.int32)


def _recorded(rng, timesteps, classes, wrong, channels, size, class_names):
    row, column = np.mgrid[:size, :size] / size
    images = np.stack([np.sin(6 * row + k) * np.cos(5 * column - k) for k in range(wrong + 1)])
    images = (127 + 127 * images[..., None] * np.linspace(1, -0.5, channels)).astype(np.uint8)
    labels = rng.integers(0, classes, wrong)
    drift = rng.normal(0, 1, classes)
    drift[3] = 6  # the answer
    noise = rng.normal(0, 0.5, (timesteps, classes))
    return {
        "class_names": np.array(class_names or [f"class {i}" for i in range(classes)]),
        "image": images[0], "image_label": 3, "image_prediction": 3,
        "logits_by_timestep": np.cumsum(drift / timesteps + noise / timesteps, axis=0),
        "wrong_images": images[1:], "wrong_labels": labels, "wrong_predictions": (labels + 1) % classes,
        "wrong_confidence": rng.uniform(1 / classes, 1, wrong), "confusion": _confusion(rng, classes, bool(wrong)),
    }  # fmt: skip
