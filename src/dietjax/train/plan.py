"""What one phase of training is: the network, the data, the settings, and after which steps something is due."""

import dataclasses
from collections.abc import Sequence

from jax.sharding import Mesh

from ..analysis import memory
from ..config import Data, Phase
from ..data import Dataset
from ..errors import InputError
from ..models import Network
from ..parallel.mesh import check_batch_size
from .state import TimeSchedule


def total_steps(phase: Phase, examples: int) -> int:
    """Steps after which each of so many examples has been read `phase.epochs` times."""
    return -(-phase.epochs * examples // phase.batch_size)


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """One phase of a run. `done` counts its steps: 1 after the first."""

    name: str
    """ann or snn; for messages."""
    net: Network
    dataset: Dataset
    phase: Phase
    schedule: TimeSchedule
    mesh: Mesh
    augment: Data = Data()
    """How training images are cropped, flipped and cut out."""
    seed: int = 0
    """Of the order of examples, dropout, augmentation and Poisson spikes."""
    freeze: Sequence[str] = ()
    """Parameters that are not trained: names, as of `make_optimizer`."""
    steps_at_once: int = 1
    """Steps, at most, in one program that the host starts; 1: each is its own."""

    @property
    def total_steps(self) -> int:
        """Steps after which every example has been read `phase.epochs` times; the last batch may read beyond."""
        return total_steps(self.phase, self.dataset.train.num_examples)

    def epoch(self, done: int) -> float:
        """Epochs that so many steps are."""
        return done * self.phase.batch_size / self.dataset.train.num_examples

    def ends_epoch(self, done: int) -> bool:
        """Whether the last of so many steps was the last of an epoch, or of all."""
        return self._epochs(done) > self._epochs(done - 1) or done == self.total_steps

    def is_saved(self, done: int) -> bool:
        """Whether the state after so many steps is evaluated and saved."""
        due = self.ends_epoch(done) and self._epochs(done) % self.phase.checkpoint_every == 0
        return due or done == self.total_steps

    def check(self) -> None:
        """Refuse what cannot run, before anything is compiled.

        Raises:
            InputError: the batch does not divide over the devices, cutout hides whole images, events are to be
                dropped and there are none, or a step cannot fit.
        """
        check_batch_size(self.name, self.phase, self.mesh)
        check_augmentation(self.dataset, self.augment)
        chunk = self.schedule.chunk
        memory.check(self.net, self.device_batch, self.schedule.timesteps, chunk, remat=chunk is not None)

    @property
    def device_batch(self) -> int:
        """Examples in memory at once, on each device."""
        return self.phase.microbatch_size // self.mesh.size

    def _epochs(self, done):
        """Whole ones."""
        return done * self.phase.batch_size // self.dataset.train.num_examples


def check_augmentation(dataset: Dataset, augment: Data) -> None:
    """Refuse settings that do not go with these images.

    Raises:
        InputError: cutout hides whole images, or events are to be dropped and there are none.
    """
    side = min(dataset.image_shape[:2])
    if augment.cutout >= side:
        raise InputError(f"data.cutout={augment.cutout} hides whole images: those of {dataset.name} have {side} pixels "
                         "along their shorter side; use at most half of that")
    if augment.drop_events and dataset.image_shape[2] != 2:
        raise InputError(f"data.drop_events is for events, frames of two channels, and {dataset.name} has "
                         f"{dataset.image_shape[2]}: set it to 0, or take data.cutout")
