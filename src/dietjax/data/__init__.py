"""Image classification sets: read without tensorflow, ordered, augmented.

tensorflow-datasets, grain and OpenCV load where data is read: `import dietjax` needs none of them.
"""

from .build import prepare
from .dataset import STATISTICS, Dataset, Split
from .device import cutout, normalise, random_crop_flip
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
    "Split",
    "Stream",
    "alternate_sides",
    "batch_indices",
    "cutout",
    "load",
    "normalise",
    "open_stored",
    "prepare",
    "random_crop_flip",
]
