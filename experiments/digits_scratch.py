"""A spiking network from scratch on real images: no ANN, no conversion; VGG6 on scikit-learn's digits, 20 % held out.

Paper:    Rathi & Roy, "DIET-SNN", arXiv 2008.03658, trains leaks and thresholds with the weights, as here, but starts
          from an ANN. Here batch norm over batch and time makes every layer fire from the first step (tdBN, Zheng et
          al., AAAI 2021, arXiv 2011.05280); at the end it is folded into weights and biases. Classifier of
          one hidden layer of 256, dropout 0.1 and 0.2, crops after padding with one pixel.
Command:  dietjax train experiments/digits_scratch.py --workdir runs/digits_scratch
Hardware: two CPU cores (AMD EPYC).
Hours:    0.011 (38 seconds); two timesteps (--timesteps 2) 0.009 (31 seconds).
Expected: SNN at least 98.5 % at 4 timesteps, and at 2.
Obtained: SNN 99.72 % at 4 timesteps, energy ratio 7.06, spikes per neuron and step 0.176 (0.152 to 0.275) (seed 0).
          --timesteps 2: SNN 98.89 % at 2 timesteps, energy ratio 15.53, spikes per neuron and step 0.148 (0.131 to
          0.296) (seed 0).
"""

from dietjax.config import Data, Experiment, Model, Phase

experiment = Experiment(
    name="digits_scratch",
    timesteps=4,
    data=Data(name="digits", crop_padding=1),
    model=Model(name="VGG6", classifier=(256,), conv_dropout=0.1, classifier_dropout=0.2, batch_norm=True),
    ann=Phase(epochs=0),
    snn=Phase(epochs=12, batch_size=32, learning_rate=3e-3, weight_decay=5e-4, checkpoint_every=4),
)
