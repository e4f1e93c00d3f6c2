"""What changes the parameters: the optimiser of a phase, and its learning rate over the steps."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from ..config import Phase


def learning_rate(phase: Phase, total_steps: int) -> optax.Schedule:
    """The phase's rate at each step, counted from 0: `phase.schedule` over its epochs, which are `total_steps`.

    cosine: from the phase's rate to 0 after the last step (Loshchilov & Hutter, ICLR 2017, equation 5, without
    restarts); one_cycle: Smith & Topin, arXiv 1708.07120, with optax's factors: a 25th at first, a 250,000th at last.
    """
    peak = phase.learning_rate

    def steps(epochs):
        """That many epochs, whole steps."""
        return int(total_steps * epochs / phase.epochs)

    if phase.schedule == "one_cycle":
        # optax rounds the product down: half a step more, so that it comes to ours
        return optax.cosine_onecycle_schedule(total_steps, peak, (steps(phase.warmup_epochs) + 0.5) / total_steps)
    if phase.schedule == "warmup_cosine":
        return optax.warmup_cosine_decay_schedule(0.0, peak, steps(phase.warmup_epochs), total_steps)
    if phase.schedule == "steps":
        falls = Counter(steps(epochs) for epochs in phase.milestones)  # several may come to one step
        return optax.piecewise_constant_schedule(peak, {step: phase.step_factor**n for step, n in falls.items()})
    if phase.schedule == "constant":
        return optax.constant_schedule(peak)
    if phase.schedule == "linear":
        return optax.linear_schedule(peak, 0.0, total_steps)
    return optax.cosine_decay_schedule(peak, total_steps)


def make_optimizer(phase: Phase, total_steps: int, freeze: Sequence[str] = ()) -> optax.GradientTransformation:
    """Adam with amsgrad, AdamW, SGD with momentum or Muon, at the phase's rates; decay acts on weights alone.

    In this order: the gradient's norm is clipped, an L2 penalty is added, the optimiser steps. AdamW (Loshchilov &
    Hutter, ICLR 2019, algorithm 2) has no penalty: it takes rate times `weight_decay` of the weights off.

    Args:
        phase: which, and with what rates.
        total_steps: length of the schedule.
        freeze: names of parameters that stay as they are, in every layer ("leak", "threshold") or in one
            ("conv1/kernel").
    """
    rate, weights = learning_rate(phase, total_steps), partial(named, names=("kernel",))
    still = [optax.masked(optax.set_to_zero(), partial(named, names=tuple(freeze)))] if freeze else []
    # the norm is that of what is trained
    clip = [] if phase.clip_norm is None else [*still, optax.clip_by_global_norm(phase.clip_norm)]
    decay = [optax.add_decayed_weights(phase.weight_decay, mask=weights)] if phase.weight_decay else []
    if phase.optimizer == "adamw":
        return optax.chain(*clip, optax.adamw(rate, weight_decay=phase.weight_decay, mask=weights), *still)
    if phase.optimizer == "muon":
        others = learning_rate(dataclasses.replace(phase, learning_rate=phase.adam_learning_rate), total_steps)
        step = optax.partition({"convolution": _muon(rate, phase.momentum), "other": optax.adam(others)}, _groups)
    elif phase.optimizer == "sgd":
        step = optax.sgd(rate, momentum=phase.momentum, nesterov=phase.nesterov)
    else:
        step = optax.amsgrad(rate)
    return optax.chain(*clip, *decay, step, *still)


MUON_ITERATIONS = 3
"""Newton-Schulz iterations towards an orthogonal step: Jordan's for CIFAR-10."""


def _muon(rate, momentum):
    """Orthogonal steps for kernels [k, k, in, out] as matrices [k·k·in, out], whose norm is then set to √out.

    Behind a kernel stands batch norm, which a kernel's norm does not change; held fast, it does not slow the steps
    down. Jordan, "Muon: an optimizer for hidden layers in neural networks" (2024), and his CIFAR-10 program.
    """
    matrix = optax.contrib.MuonDimensionNumbers((0, 1, 2), 3)

    def keep_norm(change, kernel):
        moved = kernel + change
        return moved * (jnp.sqrt(kernel.shape[-1]) / jnp.linalg.norm(moved)) - kernel

    return optax.chain(
        optax.contrib.scale_by_muon(ns_steps=MUON_ITERATIONS, beta=momentum, nesterov=True,
                                    weight_dimension_numbers=partial(jax.tree.map, lambda _: matrix)),
        optax.scale_by_learning_rate(rate), optax.stateless(partial(jax.tree.map, keep_norm)))


def _groups(params):
    return jax.tree.map(lambda x: "convolution" if x.ndim == 4 else "other", params)


def named(tree: dict, names: Sequence[str]) -> dict:
    """Which leaves of a parameter tree are called one of these names, alone ("leak") or with their layer
    ("conv1/kernel").
    """
    def called(path):
        keys = [getattr(key, "name", getattr(key, "key", None)) for key in path]
        return keys[-1] in names or "/".join(map(str, keys)) in names

    return jax.tree_util.tree_map_with_path(lambda path, _: called(path), tree)
