"""A spiking network from scratch on real images: no ANN, no conversion; VGG6 on scikit-learn's digits, 20 % held out.

Paper:    Rathi & Roy, "DIET-SNN", arXiv 2008.03658, trains leaks and thresholds with the weights, as here, but starts
          from an ANN. Here batch norm over batch and time makes every layer fire from the first step (tdBN, Zheng et
          al., AAAI 2021, arXiv 2011.05280); at the end it is folded into weights and biases. Classifier of
          one hidden layer of 256, dropout 0.1 and 0.2, crops after padding with one pixel.
Command:  dietjax train experiments/digits_scratch.py --workdir runs/digits_scratch
Hardware: two CPU cores (AMD EPYC), which other work shared.
Hours:    0.045 (163 seconds, of them 85 of this run's own CPU time); two timesteps (--timesteps 2) 0.031 (110 seconds,
          70 of CPU time).
Expected: SNN at least 98.5 % at 4 timesteps, and at 2.
Obtained: 4 timesteps: SNN 100.00 %, energy ratio 7.07; 2 timesteps: SNN 99.44 %, ratio 15.28 (seed 0, jax 0.10.2).
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
