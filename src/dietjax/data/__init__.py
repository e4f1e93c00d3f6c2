"""Classification sets of images and of events: read without tensorflow, ordered, augmented.

tensorflow-datasets, grain and OpenCV load where data is read: `import dietjax` needs none of them.
"""

from .build import prepare
from .dataset import STATISTICS, Dataset, Split
from .device import cutout, drop_events, normalise, random_crop_flip
from .events import as_events
from .framing import Framing, LeftOutWarning, to_frames
from .order import alternate_sides, batch_indices
from .sets import load, open_stored
from .source import CorruptImageWarning, DataError, DataWarning
from .stream import Stream

__all__ = [
    "STATISTICS",
    "CorruptImageWarning",
    "DataError",
    "DataWarning",
    "Dataset",
    "Framing",
    "LeftOutWarning",
    "Split",
    "Stream",
    "alternate_sides",
    "as_events",
    "batch_indices",
    "cutout",
    "drop_events",
    "load",
    "normalise",
    "open_stored",
    "prepare",
    "random_crop_flip",
    "to_frames",
]
