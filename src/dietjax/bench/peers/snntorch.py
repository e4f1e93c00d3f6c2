"""snnTorch (Eshraghian et al., Proceedings of the IEEE 2023), step by step, as its documentation runs a network.

Its Leaky with reset_mechanism="subtract" keeps the membrane before the reset and takes the threshold off at the next
step: u ← β·u + I − θ·o, o its last spike. With leak β = 1 that is our neuron; below 1 its reset does not leak and ours
does (u ← β·(u − θ·o) + I), so logits differ. `reset_delay=False` is no remedy: it agrees only while no membrane stays
above θ after its reset. Leak and threshold could be trained there; they are not, which is faster.
"""

import snntorch
import torch
from snntorch import surrogate

from . import on_torch


def build(net, stages, variables, images, labels, timesteps, dtype):
    """See `dietjax.bench.peers.build`."""
    synapses = on_torch.synapses(net, stages, variables, dtype)
    model = _Network(stages, synapses, timesteps, dtype)
    exact = all(stage.neuron.leak == 1 for stage in stages[:-1])
    spike_grad, ours = _surrogate(stages[0].neuron)
    return on_torch.peer("snntorch", _mode(spike_grad), exact, exact and ours, model, synapses, images, labels, dtype)


def layer(lif, inputs, kernel, dtype):
    """See `dietjax.bench.peers.layer`; the synapse runs once over [T, B, in]."""
    synapse = on_torch.dense(kernel, dtype)
    model = _Layer(synapse, _neuron(lif, dtype))
    exact = lif.leak == 1
    spike_grad, ours = _surrogate(lif)
    return on_torch.peer_layer("snntorch", _mode(spike_grad), exact, exact and ours, model, synapse, inputs, dtype)


class _Network(torch.nn.Module):
    def __init__(self, stages, synapses, timesteps, dtype):
        super().__init__()
        self.timesteps, self.wide = timesteps, on_torch.wide(dtype)
        self.pools = [stage.pool for stage in stages]
        self.synapses = torch.nn.ModuleList(
            torch.nn.Sequential(torch.nn.Flatten(), synapse) if stage.flatten else synapse
            for stage, synapse in zip(stages, synapses, strict=True))
        self.neurons = torch.nn.ModuleList(_neuron(stage.neuron, dtype) for stage in stages[:-1])

    def forward(self, images):
        constant = self.synapses[0](images)
        membranes = [neuron.reset_mem() for neuron in self.neurons]
        logits = 0
        for _ in range(self.timesteps):
            current = constant
            for i, neuron in enumerate(self.neurons):
                spikes, membranes[i] = neuron(current, membranes[i])
                spikes = spikes.to(current.dtype)  # snnTorch's spikes are float32 whatever the dtype
                if self.pools[i + 1]:
                    spikes = torch.nn.functional.avg_pool2d(spikes, 2)
                current = self.synapses[i + 1](spikes)
            logits = logits + current.to(self.wide)
        return logits


class _Layer(torch.nn.Module):
    def __init__(self, synapse, neuron):
        super().__init__()
        self.synapse, self.neuron = synapse, neuron

    def forward(self, inputs):
        membrane = self.neuron.reset_mem()
        spikes = []
        for current in self.synapse(inputs):
            spike, membrane = self.neuron(current, membrane)
            spikes.append(spike)
        return torch.stack(spikes)


def _neuron(lif, dtype):
    return snntorch.Leaky(on_torch.scalar(lif.leak, dtype), on_torch.scalar(lif.threshold, dtype),
                          spike_grad=_surrogate(lif)[0], reset_mechanism="subtract")


def _surrogate(lif):
    """(its surrogate, whether the derivative is ours). Its argument is u − θ, ours u/θ − 1."""
    ours = lif.surrogate
    name, parameters = getattr(ours, "name", None), getattr(ours, "parameters", ())
    if name == "sigmoid":
        return surrogate.sigmoid(parameters[0] / lif.threshold), True
    if name == "arctan":
        return surrogate.atan(parameters[0] / lif.threshold), True
    return surrogate.atan(), False


def _mode(spike_grad):
    return f"step by step, {spike_grad.__qualname__.split('.')[0]}"
