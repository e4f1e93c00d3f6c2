"""ResNet-34 on ImageNet at 5 timesteps: a network of the authors' code, by the paper's fine-tuning.

Paper:    Rathi & Roy, "DIET-SNN", arXiv 2008.03658. They give no recipe for this ANN: optimiser, batch and epochs
          are ours and untried (no batch norm, as in all of theirs; with --model.batch-norm also give
          --conversion.method match --conversion.percentile None --conversion.scale None, which keeps its
          function). Their fine-tuning steps after every 32 batches of a few images, by their commands with Adam at
          1e-4. Three things an experiment file cannot say: they divide the rate in steps where one cosine falls to
          zero here, fine-tune with dropout 0.1 where both phases have the ANN's here, and leave the
          thresholds of residual blocks at a constant where all are balanced here.
Command:  dietjax prepare imagenet2012
          dietjax train experiments/imagenet_resnet34.py --workdir runs/imagenet_resnet34
Hardware: none yet; meant for several GPUs or TPUs with CPU cores to decode for them. Balancing on 32 images over
          25 timesteps takes about 31 GB (3 blocks of the largest layer); the 512 images over 100 timesteps of the
          CIFAR recipe would take 2 TB.
Hours:    not measured.
Expected: unknown: we have no figure of the authors' for this network; their commands run it at 35 and 45 timesteps.
Obtained: not run yet.
"""

from dietjax.config import Conversion, Data, Experiment, Model, Phase

experiment = Experiment(
    name="imagenet_resnet34",
    timesteps=5,
    data=Data(name="imagenet2012", flip=True, image_size=224),
    model=Model(name="ResNet34", conv_dropout=0.2, classifier_dropout=0.5),
    ann=Phase(epochs=90, batch_size=256, learning_rate=1e-3, weight_decay=5e-4),
    conversion=Conversion(method="percentile", images=32, timesteps=25, percentile=99.7, scale=0.2),
    snn=Phase(epochs=20, batch_size=256, learning_rate=1e-4, weight_decay=0.0, accumulate=32),
)
