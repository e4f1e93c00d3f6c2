"""VGG16 on CIFAR-10 at 5 timesteps, the paper's recipe.

Paper:    Rathi & Roy, "DIET-SNN", arXiv 2008.03658. Their learning rates fall in steps (by 5 at 60, 80 and 90 % of
          the epochs) or along a cosine of 64 or 128 epochs that rises again; here one cosine falls to zero. Their
          published command trains this ANN with Adam at 1e-4: should the loss stay at ln 10 = 2.303 for the first
          epochs, pass --ann.learning-rate 1e-4.
Command:  dietjax prepare cifar10
          dietjax train experiments/paper_cifar10_vgg16.py --workdir runs/paper_cifar10_vgg16
Hardware: none yet; meant for one GPU or TPU. Balancing on 512 images over 100 timesteps takes about 40 GB of its memory
          (3 blocks of the largest layer); with less, --conversion.images 128.
Hours:    not measured.
Expected: ANN 93.72 %, SNN 92.70 % at 5 timesteps (paper); energy ratio 3.07 at 20 timesteps (their result sheet).
Obtained: not run yet.
"""

from dietjax.config import Conversion, Data, Experiment, Model, Phase

experiment = Experiment(
    name="paper_cifar10_vgg16",
    timesteps=5,
    data=Data(name="cifar10", crop_padding=4, flip=True),
    model=Model(name="VGG16", conv_dropout=0.2, classifier_dropout=0.5),
    ann=Phase(epochs=300, batch_size=64, learning_rate=1e-3, weight_decay=5e-4, checkpoint_every=5),
    conversion=Conversion(method="percentile", images=512, timesteps=100, percentile=99.7, scale=0.2),
    snn=Phase(epochs=300, batch_size=64, learning_rate=1e-4, weight_decay=0.0, checkpoint_every=5),
)
