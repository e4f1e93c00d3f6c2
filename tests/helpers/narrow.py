"""Runs with a network of few channels: a test of how a run goes need not wait for 128 channels to compile and train.

python narrow.py train FILE --workdir RUN ...      the command line, with such networks
"""

import dataclasses
import sys

from dietjax.cli import main as cli
from dietjax.run import assemble

SHRINK = 8  # VGG4's 64 and 128 channels become 8 and 16


def narrowed(net):
    """The network with an eighth of the channels in its convolutions."""
    return net.clone(layers=tuple(layer if layer.kernel is None else
                                  dataclasses.replace(layer, features=layer.features // SHRINK)
                                  for layer in net.layers))


def networks(experiment, dataset, whole=assemble.networks):
    """What takes the place of `assemble.networks`."""
    return tuple(narrowed(net) for net in whole(experiment, dataset))


if __name__ == "__main__":
    assemble.networks = networks
    sys.exit(cli.main(sys.argv[1:]))
