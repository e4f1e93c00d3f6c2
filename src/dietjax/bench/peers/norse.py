"""Norse (Pehle & Pedersen 2021), step by step: cells in a SequentialState.

Its LIFBox (its LIF without a synaptic current) integrates v ← v + dt/τ·(I − v) and fires in the same step. With
dt/τ = 1 − λ its membrane is ours times 1 − λ, so with thresholds times 1 − λ it gives our spikes. Its reset carries a
gradient and its surrogate is SuperSpike of v − θ, so gradients are not ours. At leak 1 it would take in nothing, so
its IAF is used there, which resets to 0 and is not our neuron. Leaks and thresholds are constants.
"""

import torch
from norse.torch import IAFCell, LIFBoxCell, SequentialState
from norse.torch.functional.iaf import IAFParameters
from norse.torch.functional.lif_box import LIFBoxParameters
from norse.torch.functional.reset import reset_subtract

from . import on_torch

MODE = "step by step, SuperSpike"


def build(net, stages, variables, images, labels, timesteps, dtype):
    """See `dietjax.bench.peers.build`."""
    synapses = on_torch.synapses(net, stages, variables, dtype)
    model = _Network(stages, synapses, timesteps, dtype)
    exact = all(stage.neuron.leak < 1 for stage in stages[:-1])
    return on_torch.peer("norse", MODE, exact, False, model, synapses, images, labels, dtype)


def layer(lif, inputs, kernel, dtype):
    """See `dietjax.bench.peers.layer`; the synapse runs once over [T, B, in]."""
    synapse = on_torch.dense(kernel, dtype)
    return on_torch.peer_layer("norse", MODE, lif.leak < 1, False, _Layer(synapse, _cell(lif, dtype)), synapse, inputs,
                               dtype)


class _Network(torch.nn.Module):
    def __init__(self, stages, synapses, timesteps, dtype):
        super().__init__()
        self.timesteps, self.wide = timesteps, on_torch.wide(dtype)
        self.first, *others = synapses
        modules = []
        for stage, following, synapse in zip(stages, stages[1:], others, strict=False):
            modules.append(_cell(stage.neuron, dtype))
            modules += [torch.nn.AvgPool2d(2)] if following.pool else []
            modules += [torch.nn.Flatten()] if following.flatten else []
            modules.append(synapse)
        self.others = SequentialState(*modules)

    def forward(self, images):
        current = self.first(images)
        logits, state = 0, None
        for _ in range(self.timesteps):
            out, state = self.others(current, state)
            logits = logits + out.to(self.wide)
        return logits


class _Layer(torch.nn.Module):
    def __init__(self, synapse, cell):
        super().__init__()
        self.synapse, self.cell = synapse, cell

    def forward(self, inputs):
        state = None
        spikes = []
        for current in self.synapse(inputs):
            spike, state = self.cell(current, state)
            spikes.append(spike)
        return torch.stack(spikes)


def _cell(lif, dtype):
    def scalar(value):
        return on_torch.scalar(value, dtype)

    if lif.leak == 1:
        return IAFCell(IAFParameters(v_th=scalar(lif.threshold), v_reset=scalar(0.0)))
    parameters = LIFBoxParameters(
        tau_mem_inv=scalar(1 - lif.leak), v_leak=scalar(0.0), v_th=scalar((1 - lif.leak) * lif.threshold),
        v_reset=scalar(0.0), reset_method=reset_subtract)
    return LIFBoxCell(parameters, dt=1.0)
