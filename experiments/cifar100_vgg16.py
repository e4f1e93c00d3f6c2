"""VGG16 on CIFAR-100 at 4 timesteps, by a recipe of today for minutes of one GPU.

Paper:    Rathi & Roy, "DIET-SNN", arXiv 2008.03658, for what is fine-tuned: weights, leaks and thresholds through time.
          The ANN has batch norm and clip-floor-shift activations of 4 levels (Bu et al., ICLR 2022, arXiv 2303.04347;
          theirs start at 8, ours at 3), a classifier of one hidden layer of 512, no dropout, and trains by SGD with
          Nesterov momentum along one cycle, label smoothing, cutout, crops and flips. Its conversion keeps its
          function; the SNN goes on from there at a small rate. The paper's recipe: paper_cifar100_vgg16.py.
Command:  dietjax prepare cifar100
          dietjax train experiments/cifar100_vgg16.py --workdir runs/cifar100_vgg16
          On a lent GPU without tensorflow-datasets: experiments/gpu/cifar10.sh.
Hardware: none yet; meant for one H100 or H200.
Hours:    not measured. At the 34,000 images/s of the ANN and 16,300 of an SNN of 5 timesteps that an H100 trained, 130
          and 40 epochs are 315 seconds, tests and compiling apart: everything within ten minutes.
Expected: ANN 75 %, SNN at least 74 % at 4 timesteps. Others: DIET-SNN 69.67 % at 5 timesteps (600 epochs); Bu et al.
          ANN 76.3 %, converted 69.6 % at 4 (300 epochs, no fine-tuning).
Obtained: not run yet: needs a GPU.
"""

from dietjax.config import AnnNeuron, Conversion, Data, Experiment, Model, Phase

experiment = Experiment(
    name="cifar100_vgg16",
    timesteps=4,
    data=Data(name="cifar100", crop_padding=4, flip=True, cutout=8),
    model=Model(name="VGG16", classifier=(512,), conv_dropout=0.0, classifier_dropout=0.0, batch_norm=True),
    ann_neuron=AnnNeuron(kind="qcfs", levels=4, threshold=3.0),
    ann=Phase(epochs=130, batch_size=256, optimizer="sgd", learning_rate=0.1, momentum=0.9, nesterov=True,
              weight_decay=5e-4, schedule="one_cycle", warmup_epochs=26, clip_norm=5.0, label_smoothing=0.1,
              checkpoint_every=26),
    conversion=Conversion(method="match", images=512),
    snn=Phase(epochs=40, batch_size=256, learning_rate=1e-4, schedule="one_cycle", warmup_epochs=4, clip_norm=1.0,
              label_smoothing=0.1, checkpoint_every=10),
    dtype="bfloat16",
)
