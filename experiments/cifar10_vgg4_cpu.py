"""CIFAR-10 on two CPU cores: VGG4 on 10,000 of its training images, tested on 2,000 of its test images.

Paper:    Rathi & Roy, "DIET-SNN", arXiv 2008.03658; classifier of one hidden layer of 256, less dropout than the
          paper's 0.2 / 0.5, flips without crops, few epochs; thresholds scaled by 0.4 (the paper: 0.2 at 5 timesteps).
Command:  dietjax prepare cifar10
          python -c "import numpy as np; from dietjax import data; d = data.load('cifar10'); np.savez(
          'cifar10_part.npz', train_images=d.train.images[:10000], train_labels=d.train.labels[:10000],
          test_images=d.test.images[:2000], test_labels=d.test.labels[:2000], class_names=d.class_names)"
          dietjax prepare cifar10_part.npz
          dietjax train experiments/cifar10_vgg4_cpu.py --workdir runs/cifar10_part
          All of CIFAR-10, in about five times the hours: --data.name cifar10.
Hardware: two CPU cores (AMD EPYC).
Hours:    0.09 (320 seconds, of which ANN 171 and SNN 108).
Expected: ANN and SNN above 55 % (chance: 10 %); the authors give no figure for this network.
Obtained: ANN 62.70 %; converted 57.65 %, SNN 61.50 % at 5 timesteps, ratio 4.92 (seed 0, jax 0.10.2). Another
          form of the convolutions, which differs in its rounding alone, gave 62.25, 56.90 and 62.60 %, ratio 4.94.
"""

from dietjax.config import Conversion, Data, Experiment, Model, Phase

experiment = Experiment(
    name="cifar10_vgg4_cpu",
    timesteps=5,
    data=Data(name="cifar10_part", flip=True),
    model=Model(name="VGG4", classifier=(256,), conv_dropout=0.1, classifier_dropout=0.2),
    ann=Phase(epochs=8, batch_size=32, learning_rate=1e-3, weight_decay=5e-4, checkpoint_every=2),
    conversion=Conversion(method="percentile", images=128, timesteps=20, percentile=99.7, scale=0.4),
    snn=Phase(epochs=1, batch_size=32, learning_rate=1e-3, weight_decay=5e-4),
)
