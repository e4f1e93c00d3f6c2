"""DIET-SNN on real images in a minute: VGG6 on scikit-learn's digits (1,797 images of 8×8), 20 % held out.

Method:   Rathi & Roy, "DIET-SNN", arXiv 2008.03658; classifier of one hidden layer of 256.
Command:  dietjax train experiments/digits_vgg.py --workdir runs/digits
"""

from dietjax.config import Conversion, Data, Experiment, Model, Phase

experiment = Experiment(
    name="digits_vgg",
    timesteps=5,
    data=Data(name="digits", crop_padding=1),
    model=Model(name="VGG6", classifier=(256,)),
    ann=Phase(epochs=40, batch_size=32, learning_rate=3e-3, weight_decay=5e-4, checkpoint_every=5),
    conversion=Conversion(images=256, timesteps=50, percentile=99.7),
    snn=Phase(epochs=15, batch_size=32, learning_rate=1e-3, weight_decay=5e-4, checkpoint_every=5),
)
