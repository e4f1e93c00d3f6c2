"""VGG16 on ImageNet at 5 timesteps: the paper's fine-tuning of an ANN trained as VGG16 was first.

Paper:    Rathi & Roy, "DIET-SNN", arXiv 2008.03658. They give no recipe for this ANN: it is Simonyan & Zisserman's
          (arXiv 1409.1556), SGD at 0.01, batch 256, 74 epochs. Their fine-tuning steps after every 32 batches of a few
          images, by their commands with Adam at 1e-4 (their script's default is SGD with momentum 0.95). Three things
          an experiment file cannot say: they divide the rate in steps where one cosine falls to zero here, fine-tune
          with dropout 0.1 where both phases have the ANN's here, and their network of 5 timesteps went on from
          one fine-tuned at 25, where this one starts from the ANN.
Command:  dietjax prepare imagenet2012
          dietjax train experiments/paper_imagenet_vgg16.py --workdir runs/paper_imagenet_vgg16
Hardware: none yet; meant for several GPUs or TPUs with CPU cores to decode for them. Balancing on 32 images over
          25 timesteps takes about 31 GB (3 blocks of the largest layer); the 512 images over 100 timesteps of the
          CIFAR recipe would take 2 TB.
Hours:    not measured.
Expected: ANN 70.08 %, SNN 69.00 % at 5 timesteps, 12 times less energy than the ANN (paper, final version).
Obtained: not run yet.
"""

from dietjax.config import Conversion, Data, Experiment, Model, Phase

experiment = Experiment(
    name="paper_imagenet_vgg16",
    timesteps=5,
    data=Data(name="imagenet2012", flip=True, image_size=224),
    model=Model(name="VGG16", conv_dropout=0.2, classifier_dropout=0.5),
    ann=Phase(epochs=74, batch_size=256, optimizer="sgd", learning_rate=1e-2, momentum=0.9, weight_decay=5e-4),
    conversion=Conversion(method="percentile", images=32, timesteps=25, percentile=99.7, scale=0.2),
    snn=Phase(epochs=20, batch_size=256, learning_rate=1e-4, weight_decay=0.0, accumulate=32),
)
