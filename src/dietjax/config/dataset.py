"""What an experiment is trained on: its set, how that is read, and how training augments it."""

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True)
class Data:
    """Which images or events."""

    name: str = "digits"
    """A tensorflow-datasets image classification set, digits, folder:PATH (PATH/{train,test}/CLASS/*.png), or npz:PATH
    (train_images, train_labels, test_images, test_labels, uint8; optional class_names). Of events: saccade_digits, or
    events:PATH (PATH/{train,test}/CLASS/*.{npy,npz,bin,aedat4})."""
    dir: str | None = None
    """tensorflow-datasets directory, local or gs:// (slow: a request per example); None: $TFDS_DATA_DIR, else
    ~/tensorflow_datasets."""
    crop_padding: int = 0
    """Training augmentation: random crop after padding with this many pixels (CIFAR: 4)."""
    flip: bool = False
    """Training augmentation: random horizontal flip."""
    image_size: int | tuple[int, int] | None = None
    """Side of the squares, or height and width, that images become: random resized crops in training, else central
    (ImageNet: 224), in their own proportions. None: as stored."""
    skip_corrupt: bool = False
    """Train on the next readable image in the place of a corrupt one, with a warning."""
    threads: int | None = None
    """Threads that decode images; None: one per CPU core that this process may use."""
    cutout: int = 0
    """Training augmentation: side in pixels of a square set to the mean colour, at a random place (CIFAR: 8 to 16)."""
    crop_fill: Literal["black", "reflect"] = "black"
    """Training augmentation: what a crop shows outside the image: black, or the image mirrored at its edge."""
    flip_alternates: bool = False
    """Training augmentation, with flip: drawn once for each image, which is then flipped at every other epoch, so that
    two epochs show both of its sides (Jordan, arXiv 2404.00498)."""
    channels: Literal[1, 3] | None = None
    """What image files are converted to, 1 grey, 3 RGB; None: as stored."""
    holdout: float = 0.0
    """Share of every class's images that becomes the test set, of a folder without one (usual: 0.1). 0: the folder has
    one."""
    holdout_seed: int = 0
    """Which images that holds out. Not the run's seed, so that runs of several seeds are tested on the same images."""
    events_by: Literal["count", "time"] = "count"
    """How a recording of events becomes frames, one for each timestep: as many events in each, or windows of time."""
    events_window: int | None = None
    """Length of each window of time in microseconds, from the first event on. None: equal windows over each recording,
    whatever its length."""
    events_binary: bool = False
    """Frames say whether a pixel had an event, 0 or 1, which a first layer accumulates; else how many, at most 255."""
    sensor_size: tuple[int, int] | None = None
    """Height and width of the frames of events in pixels; larger than the sensor leaves a border empty. None: what the
    files say, else as far as their events reach."""
    drop_events: float = 0.0
    """Training augmentation of events: the largest share of them that an example lacks; each draws its own."""

    @property
    def of_events(self) -> bool:
        """Whether it is of recordings of events, which are cut into as many frames as there are timesteps."""
        return self.name.startswith("events:") or self.name == "saccade_digits"
