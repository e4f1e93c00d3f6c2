"""ResNet-18 on CIFAR-10 at 4 timesteps, by a recipe of today for minutes of one GPU.

Paper:    Rathi & Roy, "DIET-SNN", arXiv 2008.03658, for what is fine-tuned: weights, leaks and thresholds through time.
          The network is He et al.'s (arXiv 1512.03385, table 1) with their stem for CIFAR. The recipe is that of
          cifar10_vgg16.py, of 70 and 20 epochs: batch norm and clip-floor-shift activations of 4 levels (Bu et al.,
          ICLR 2022, arXiv 2303.04347) in the ANN, a conversion that keeps its function, fine-tuning at a small rate.
Command:  dietjax prepare cifar10
          dietjax train experiments/cifar10_resnet18.py --workdir runs/cifar10_resnet18
          On a lent GPU without tensorflow-datasets: experiments/gpu/cifar10.sh.
Hardware: none yet; meant for one H100 or H200.
Hours:    not measured. It has 1.8 times the operations of VGG16 and 2.2 times the neurons: at 1 / 2.2 of the
          34,000 images/s of the ANN and 16,300 of an SNN of 5 timesteps that an H100 trained there, 70 and 20 epochs
          are 360 seconds, tests and compiling apart: everything within ten minutes.
Expected: ANN 95.5 %, SNN at least 95 % at 4 timesteps. Others: ResNet-18 converted with error compensation 94.75 % at 2
          timesteps; ResNet-19 94.4 % (TET) and 95.6 % (TEBN) at 4.
Obtained: not run yet: needs a GPU.
"""

from dietjax.config import AnnNeuron, Conversion, Data, Experiment, Model, Phase

experiment = Experiment(
    name="cifar10_resnet18",
    timesteps=4,
    data=Data(name="cifar10", crop_padding=4, flip=True, cutout=8),
    model=Model(name="ResNet18", conv_dropout=0.0, classifier_dropout=0.0, batch_norm=True),
    ann_neuron=AnnNeuron(kind="qcfs", levels=4, threshold=3.0),
    ann=Phase(epochs=70, batch_size=256, optimizer="sgd", learning_rate=0.1, momentum=0.9, nesterov=True,
              weight_decay=5e-4, schedule="one_cycle", warmup_epochs=14, clip_norm=5.0, label_smoothing=0.1,
              checkpoint_every=14),
    conversion=Conversion(method="match", images=512),
    snn=Phase(epochs=20, batch_size=256, learning_rate=1e-4, schedule="one_cycle", warmup_epochs=2, clip_norm=1.0,
              label_smoothing=0.1, checkpoint_every=5),
    dtype="bfloat16",
)
