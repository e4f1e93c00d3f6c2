"""MNIST at 4 timesteps on two CPU cores: VGG6 of half width, on all 60,000 and 10,000 images.

Obtained: not run yet.
"""

from dietjax.config import AnnNeuron, Conversion, Data, Experiment, Model, Phase

experiment = Experiment(
    name="mnist_vgg",
    timesteps=4,
    data=Data(name="mnist", crop_padding=2),
    model=Model(name="VGG6", classifier=(), conv_dropout=0.0, batch_norm=True, width=0.5),
    ann_neuron=AnnNeuron(kind="qcfs", levels=4, threshold=2.0),
    ann=Phase(epochs=6, batch_size=200, optimizer="muon", learning_rate=0.1, momentum=0.6, adam_learning_rate=3e-3,
              schedule="linear", label_smoothing=0.1),
    conversion=Conversion(images=512),
    snn=Phase(epochs=1, batch_size=200, learning_rate=2e-4, schedule="linear", clip_norm=1.0),
)
