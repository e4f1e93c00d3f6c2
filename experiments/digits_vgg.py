"""A spiking network on real images in a minute: VGG6 of half width on scikit-learn's digits (1,797 images of 8×8).

Paper:    Rathi & Roy, "DIET-SNN", arXiv 2008.03658, for what is fine-tuned: weights, leaks and thresholds through time.
          The ANN is trained for few levels instead of with ReLU (QCFS, Bu et al., ICLR 2022, arXiv 2303.04347), with
          batch norm and by Muon, and converted so that its function stays (`dietjax.convert.match_activations`);
          fine-tuning also learns from the ANN's logits. A fifth of the images, 360, are held out for testing.
Command:  dietjax train experiments/digits_vgg.py --workdir runs/digits
Hardware: two CPU cores (AMD EPYC).
Hours:    0.016 (56 seconds, starting included, of three seeds 51 to 56); two timesteps 49 to 51 seconds.
Expected: ANN at least 99 %, converted within 1 point of it, SNN at least 99 %, at two timesteps (--timesteps 2) too.
Obtained: ANN 99.63 % (99.44 to 99.72), converted 99.91 % (99.72 to 100.00), SNN 99.81 % (99.72 to 100.00) at 4
          timesteps, energy ratio 8.75 (8.54 to 8.95), spikes per neuron and step 0.154 (0.105 to 0.212) (seeds 0, 1,
          2).
          --timesteps 2: ANN 99.63 % (99.44 to 99.72), converted 99.63 % (99.17 to 100.00), SNN 99.63 % (99.44 to 99.72)
          at 2 timesteps, energy ratio 14.51 (14.18 to 14.83), spikes per neuron and step 0.155 (0.110 to 0.209) (seeds
          0, 1, 2).
"""

from dietjax.config import AnnNeuron, Conversion, Data, Experiment, Model, Phase

experiment = Experiment(
    name="digits_vgg",
    timesteps=4,
    data=Data(name="digits", crop_padding=1),
    model=Model(name="VGG6", classifier=(), conv_dropout=0.1, batch_norm=True, width=0.5),
    ann_neuron=AnnNeuron(kind="qcfs", levels=4, threshold=2.0),
    ann=Phase(epochs=40, batch_size=32, optimizer="muon", learning_rate=0.1, momentum=0.6, adam_learning_rate=3e-3,
              schedule="linear", label_smoothing=0.1, checkpoint_every=5),
    conversion=Conversion(images=256),
    snn=Phase(epochs=15, batch_size=32, learning_rate=1e-3, distillation=0.5, temperature=2.0, checkpoint_every=5),
)
