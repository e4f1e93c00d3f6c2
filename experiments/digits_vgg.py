"""DIET-SNN on real images in a minute: VGG6 on scikit-learn's digits (1,797 images of 8×8), 20 % held out.

Paper:    Rathi & Roy, "DIET-SNN", arXiv 2008.03658; classifier of one hidden layer of 256, less dropout than the
          paper's 0.2 / 0.5, random crops after padding with one pixel; thresholds scaled by 0.4
          (the paper: 0.2 at 5 timesteps): fewer spikes and a better start here.
Command:  dietjax train experiments/digits_vgg.py --workdir runs/digits
Hardware: two CPU cores (AMD EPYC).
Hours:    0.029 (106 seconds); two timesteps (--timesteps 2) 0.018 (64 seconds).
Expected: ANN and SNN at least 98.5 % at 5 timesteps, SNN at least 98 % at 2, energy ratio at least 3.
Obtained: ANN 99.44 %, converted 96.67 %, SNN 99.17 % at 5 timesteps, energy ratio 10.78, spikes per neuron and step
          0.093 (0.041 to 0.133) (seed 0). Two timesteps, on another AMD EPYC, version 0.1.0: ANN 99.44 %, converted
          94.72 %, SNN 98.61 %, ratio 23.88.
"""

from dietjax.config import Conversion, Data, Experiment, Model, Phase

experiment = Experiment(
    name="digits_vgg",
    timesteps=5,
    data=Data(name="digits", crop_padding=1),
    model=Model(name="VGG6", classifier=(256,), conv_dropout=0.1, classifier_dropout=0.2),
    ann=Phase(epochs=40, batch_size=32, learning_rate=3e-3, weight_decay=5e-4, checkpoint_every=5),
    conversion=Conversion(method="percentile", images=256, timesteps=50, percentile=99.7, scale=0.4),
    snn=Phase(epochs=15, batch_size=32, learning_rate=2e-3, weight_decay=1e-3, checkpoint_every=5),
)
