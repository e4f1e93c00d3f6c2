"""A spiking network from scratch on events over time: VGG6 of half width on a simulated event camera's digits.

Paper:    Rathi & Roy, "DIET-SNN", arXiv 2008.03658, trains leaks and thresholds with the weights, as here, but starts
          from an ANN and from images. Here every timestep has a frame of events of its own, of 0 and 1, so the first
          layer too accumulates; batch norm over batch and time is folded at the end (tdBN, Zheng et al., AAAI 2021,
          arXiv 2011.05280). The events are made as N-MNIST's were recorded (Orchard et al., Frontiers in Neuroscience
          9:437, 2015), from scikit-learn's digits (`dietjax.data.saccade_digits`).
Command:  dietjax train experiments/events_digits.py --workdir runs/events_digits
Hardware: two cores of an AMD EPYC, 2026-11-29.
Hours:    0.024 (87 seconds, starting included, of three seeds 82 to 87); as images 39 to 43 seconds.
Expected: SNN at least 98 % at 6 timesteps, in two minutes of two CPU cores.
Obtained: SNN 98.33 % (98.06 to 98.89) at 6 timesteps, energy ratio 36.54 (36.09 to 36.79), spikes per neuron and step
          0.147 (0.114 to 0.207) (seeds 0, 1, 2).
          --data.name digits --data.no-events-binary --data.drop-events 0.0: SNN 99.26 % (98.89 to 99.72) at 6
          timesteps, energy ratio 5.21 (5.05 to 5.31), spikes per neuron and step 0.202 (0.126 to 0.299) (seeds 0, 1,
          2).
"""

from dietjax.config import Data, Experiment, Model, Phase

experiment = Experiment(
    name="events_digits",
    timesteps=6,
    data=Data(name="saccade_digits", events_binary=True, crop_padding=2, drop_events=0.3),
    model=Model(name="VGG6", classifier=(), conv_dropout=0.1, batch_norm=True, width=0.5),
    ann=Phase(epochs=0),
    snn=Phase(epochs=12, batch_size=32, optimizer="muon", learning_rate=0.05, momentum=0.6, adam_learning_rate=3e-3,
              checkpoint_every=4),
)
