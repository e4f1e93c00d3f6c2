"""SpikingJelly (Fang et al., Science Advances 2023), multi-step: every layer runs once over [T·B, ...], neurons over T.

Its LIFNode without input decay and with a soft, detached reset is our neuron, leak = 1 − 1/τ; leak 1 is its IFNode.
It fires at u ≥ θ, we at u > θ. Which kernels run (torch on the CPU; native CUDA, Triton or torch on a GPU) it decides
itself. Thresholds cannot be trained there, and leaks only in a slower neuron, so neither is.
"""

import torch
from spikingjelly.activation_based import functional, memopt, neuron, surrogate
from spikingjelly.activation_based import layer as layers

from ...errors import InputError
from . import on_torch


def build(net, stages, variables, images, labels, timesteps, dtype, memory_level):
    """See `dietjax.bench.peers.build`."""
    if memory_level not in range(5):
        raise InputError(f"memory_level must be 0, 1, 2, 3 or 4, got {memory_level!r}")
    if memory_level > 1 and on_torch.device().type == "cpu":
        raise InputError(f"memory_level={memory_level} searches by measuring GPU memory; use 0 or 1 on the CPU")
    synapses = on_torch.synapses(net, stages, variables, dtype, layers.Conv2d, layers.Linear)
    model = _Network(stages, synapses, timesteps, on_torch.wide(dtype))
    first = stages[0].neuron
    mode, shares_surrogate = _mode(first, memory_level), _surrogate(first)[1]
    peer = on_torch.peer("spikingjelly", mode, True, shares_surrogate, model, synapses, images, labels, dtype)
    if memory_level:
        # the example decides which inputs are spikes and become bits, so zeros would not do
        example = on_torch.to_nchw(images, dtype)
        memopt.optimize_memory(model, _Block, lambda model: model(example), level=memory_level,
                               split_fn=lambda block: (block[:-1], block[-1]),
                               can_chunk=lambda module: isinstance(module, neuron.BaseNode))
    return peer


def layer(lif, inputs, kernel, dtype):
    """See `dietjax.bench.peers.layer`."""
    synapse = on_torch.dense(kernel, dtype, layers.Linear)
    model = _FromRest(torch.nn.Sequential(synapse, _neuron(lif)))
    functional.set_step_mode(model, "m")
    return on_torch.peer_layer("spikingjelly", _mode(lif), True, _surrogate(lif)[1], model, synapse, inputs, dtype)


class _Block(torch.nn.Sequential):
    """(pool, flatten) -> synapse -> neuron, what `memopt` checkpoints: its inputs are spikes, which become bits."""


class _FromRest(torch.nn.Module):
    """Its modules keep their state from call to call; here every call starts from rest."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        functional.reset_net(self)
        return self.model(x)


class _Network(torch.nn.Module):
    def __init__(self, stages, synapses, timesteps, wide):
        super().__init__()
        self.timesteps, self.wide = timesteps, wide
        blocks = []
        for stage, synapse in zip(stages, synapses, strict=True):
            pool = [layers.AvgPool2d(2)] if stage.pool else []
            flatten = [layers.Flatten()] if stage.flatten else []
            fires = [_neuron(stage.neuron)] if stage.neuron else []
            blocks.append((_Block if fires else torch.nn.Sequential)(*pool, *flatten, synapse, *fires))
        self.first = blocks[0].pop(len(blocks[0]) - 2)
        self.blocks = _FromRest(torch.nn.Sequential(*blocks))
        functional.set_step_mode(self.blocks, "m")

    def forward(self, images):
        current = self.first(images)
        currents = self.blocks(current.expand(self.timesteps, *current.shape))
        return currents.sum(0, dtype=self.wide)


def _neuron(lif):
    common = {"v_threshold": lif.threshold, "v_reset": None, "detach_reset": True,
              "surrogate_function": _surrogate(lif)[0]}
    if lif.leak == 1:
        return neuron.IFNode(**common)
    if lif.leak == 0:
        raise InputError("SpikingJelly's leak is 1 − 1/τ with τ > 1, so it cannot be 0; use a leak in (0, 1]")
    return neuron.LIFNode(tau=1 / (1 - lif.leak), decay_input=False, **common)


def _surrogate(lif):
    """(its surrogate, whether the derivative is ours). Its argument is u − θ, ours u/θ − 1."""
    ours = lif.surrogate
    name, parameters = getattr(ours, "name", None), getattr(ours, "parameters", ())
    if name == "arctan":
        return surrogate.ATan(parameters[0] / lif.threshold), True
    if name == "sigmoid":
        return surrogate.Sigmoid(parameters[0] / lif.threshold), True
    if name == "piecewise_linear":  # its triangle has the area 1, ours γ
        return surrogate.PiecewiseQuadratic(1 / lif.threshold), parameters[0] == 1
    return surrogate.Sigmoid(), False


def _mode(lif, memory_level=0):
    kind = "if" if lif.leak == 1 else "lif"
    kernels = functional.neuron_implementation(kind, on_torch.device())["implementation"]
    memory = f", memopt level {memory_level}" if memory_level else ""
    return f"multi-step, {kernels} kernels, {type(_surrogate(lif)[0]).__name__}{memory}"
