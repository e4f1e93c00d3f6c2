"""CIFAR-10 on two CPU cores: a compact network of 500,000 parameters on all 50,000 training images.

Obtained: not run yet.
"""

from dietjax.config import AnnNeuron, Conversion, Data, Experiment, Model, Phase

experiment = Experiment(
    name="cifar10_small_cpu",
    timesteps=4,
    data=Data(name="cifar10", crop_padding=2, crop_fill="reflect", flip=True, flip_alternates=True),
    model=Model(name="Compact8", conv_dropout=0.0, classifier_dropout=0.0, batch_norm=True, norm_scale=False,
                whiten=True, width=1.5),
    ann_neuron=AnnNeuron(kind="qcfs", levels=4, threshold=2.0),
    ann=Phase(epochs=20, batch_size=500, optimizer="muon", learning_rate=0.15, momentum=0.6, adam_learning_rate=0.01,
              schedule="linear", label_smoothing=0.2, checkpoint_every=2),
    conversion=Conversion(images=512),
    snn=Phase(epochs=3, batch_size=250, learning_rate=2e-4, schedule="one_cycle", warmup_epochs=0.3, clip_norm=1.0,
              label_smoothing=0.2, checkpoint_every=2),
)
