"""CIFAR-10 at 4 timesteps on two CPU cores: a compact network of 1.1 million weights on all 50,000 and 10,000 images.

Paper:    Rathi & Roy, "DIET-SNN", arXiv 2008.03658, for what is fine-tuned: weights, leaks and thresholds through time.
          Network and recipe of the ANN after Jordan, "94 % on CIFAR-10 in 3.29 seconds on a single GPU", arXiv
          2404.00498, and his later program with Muon: a whitened first kernel that stays, pools before norm and
          neuron, batch norm without scale, flips that alternate, shifts by two pixels, label smoothing; its activations
          have 4 levels (QCFS, Bu et al., ICLR 2022, arXiv 2303.04347), and its conversion keeps its function.
Command:  dietjax prepare cifar10
          dietjax train experiments/cifar10_small_cpu.py --workdir runs/cifar10_small_cpu
          It resumes, so it may take several evenings.
Hardware: two CPU cores (AMD EPYC).
Hours:    1.9 (ANN 1.14, SNN 0.76), while other work took a part of both cores, and most of them in the SNN's second
          epoch; alone the ANN trains 300 images a second, the SNN 63.
Expected: SNN at least 89 % at 4 timesteps, converted at 8 timesteps within 2 points of the ANN.
Obtained: --data.name npz:cifar10.npz: ANN 91.28 %, converted 85.52 %, SNN 89.54 % at 4 timesteps, energy ratio 12.35,
          spikes per neuron and step 0.115 (0.026 to 0.181) (seed 0).
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
    snn=Phase(epochs=2, batch_size=250, learning_rate=3e-4, schedule="one_cycle", warmup_epochs=0.1, clip_norm=1.0,
              label_smoothing=0.2, distillation=0.5, temperature=2.0),
)
