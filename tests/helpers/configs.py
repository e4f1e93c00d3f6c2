"""Experiments with every field set, and how one is changed."""

import dataclasses

from dietjax.config import Conversion, Data, Experiment, Model, Neuron, Phase

FULL = Experiment(
    name="λ", timesteps=20, seed=3, data=Data("cifar10", "/data", 4, True, 224, True, 3),
    model=Model("ResNet20", (10, 20), 0.1, 0.3, True, 0.5), encoder="poisson",
    neuron=Neuron("lif", (), 0.5, "channel", "zero", "arctan", ("leak", "threshold"), 0.25),
    ann=Phase(1, 2, "sgd", 0.5, 0.8, 0.25, 3), conversion=Conversion("spikenorm", 99.0, 7, 8, 0.7), snn=Phase(2),
    chunk=5, truncate=True, dtype="bfloat16")

TODAY = Experiment(
    name="today", data=Data("cifar10", crop_padding=4, flip=True, cutout=8),
    ann=Phase(40, 256, "sgd", 0.1, 0.9, 5e-4, schedule="one_cycle", warmup_epochs=8.5, nesterov=True, clip_norm=5.0,
              ema_decay=0.999, conv_dropout=0.0, classifier_dropout=0.1, label_smoothing=0.1),
    snn=Phase(12, 256, "adamw", 1e-4, schedule="steps", milestones=(6, 9.5), step_factor=0.1, tet_weight=0.5,
              tet_lambda=0.05, tet_mean=0.5, distillation=0.9, temperature=4.0))


def changed(experiment, field, value):
    """The experiment with another value at a dotted path."""
    first, _, rest = field.partition(".")
    value = changed(getattr(experiment, first), rest, value) if rest else value
    return dataclasses.replace(experiment, **{first: value})
