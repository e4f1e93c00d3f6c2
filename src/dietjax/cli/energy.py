"""The command `dietjax energy`."""

import dataclasses
import json
import math
import pathlib

from tyro.conf import Positional

from ..bench.options import positive
from ..config import check_width, read_run
from ..errors import InputError
from .table import print_table, print_warnings, unfinished


@dataclasses.dataclass(frozen=True)
class EnergyOf:
    """Energy per image, ANN against SNN: of a run at its measured spike rates, or of any network at a rate you give."""

    run: Positional[pathlib.Path | None] = None
    """Folder of a run; or leave it out and give --rate."""
    model: str = "VGG16"
    """Without a run: network name."""
    image_shape: tuple[int, int, int] = (32, 32, 3)
    """Without a run: height, width, channels."""
    num_classes: int = 10
    """Without a run: classes."""
    width: float = 1.0
    """Without a run: factor on the features of every layer but the output layer."""
    rate: float | None = None
    """Without a run: spikes per neuron over all timesteps, the same in every layer."""
    test_batch: int | None = None
    """Of a run: test examples in memory at once; default: as many as it trained on."""
    json: bool = False
    """Print JSON instead of a table."""

    def __call__(self) -> None:
        """Count and print."""
        positive(test_batch=self.test_batch)
        if (self.run is None) == (self.rate is None):
            raise InputError("give either a run's folder, or --rate (with --model, --image-shape, --num-classes)")
        if self.run is None:
            self._check()
        else:
            read_run(self.run)
        from ..analysis import activity, energy

        net, record, timesteps = self._at_the_rate() if self.run is None else self._of_the_run()
        spent = energy.estimate(net, record, timesteps=timesteps)
        print_warnings(found.sentence for found in activity.find(record["spike_rate"], timesteps))
        if self.json:
            print(json.dumps(spent.as_dict()))
            return
        rows = [(c.name, f"{c.macs:,}", _coming_in(c), f"{c.ann_joules * 1e6:.4f}", f"{c.snn_joules * 1e6:.4f}")
                for c in spent.layers]
        rows.append(("all", f"{sum(c.macs for c in spent.layers):,}", "", f"{spent.ann_joules * 1e6:.4f}",
                     f"{spent.snn_joules * 1e6:.4f}"))
        print_table(f"per image, 45 nm CMOS (MAC 4.6 pJ, AC 0.9 pJ): ANN / SNN = {spent.ratio:.2f}",
                     ("synapse", "MACs", "events in", "ANN µJ", "SNN µJ"), rows)

    def _check(self):
        """Refuse numbers that no network has, before anything is loaded."""
        if not 0 <= self.rate < math.inf or min(self.image_shape) < 1 or self.num_classes < 1:
            raise InputError("--rate must be >= 0 and finite, --image-shape and --num-classes > 0, got "
                             f"{self.rate}, {self.image_shape}, {self.num_classes}")
        check_width("--width", self.width)

    def _of_the_run(self):
        """(The run's SNN, its metrics on the test set, T)."""
        from ..run import assemble, summary

        experiment, dataset, networks = assemble.open_run(self.run)
        if "snn" not in networks:
            raise InputError(f"{self.run} has no spiking network yet; run dietjax train again, it goes on")
        print_warnings(unfinished({"snn": assemble.progress(self.run, experiment, dataset)["snn"]}, experiment))
        net, variables = networks["snn"]
        record, _ = summary.measure(net, variables, dataset, experiment, experiment.timesteps, self.test_batch)
        return net, record, experiment.timesteps

    def _at_the_rate(self):
        """(The network that was named, a record with the rate in every layer, None: a rate belongs to no T)."""
        from .. import models

        net = models.build(self.model, self.num_classes, self.image_shape, width=self.width)
        return net, {"spike_rate": {layer.name: self.rate for layer in net.layers[:-1]}}, None


def _coming_in(synapse):
    """What a synapse accumulates, in words."""
    if synapse.rate is None:
        return "analog"
    return f"{synapse.rate:.3f}{' graded' if synapse.graded else ''}"
