"""What a run's networks take and answer, as its data.json holds it: a run can be opened where its data is not."""

import dataclasses
import json
import math
import pathlib
from typing import Any

from .. import files
from ..data import Dataset
from ..errors import InputError

FILE = "data.json"
CLOSE = 1e-6
"""Relative difference of means and deviations that summing in another order may make."""


@dataclasses.dataclass(frozen=True)
class DataInfo:
    """A set without its examples."""

    name: str
    train_images: int
    test_images: int
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    """(H, W, C)."""
    frames: int | None
    """T of examples that have a frame for each timestep; None of images."""
    mean: tuple[float, ...]
    """Per channel, of pixels in [0, 1]."""
    std: tuple[float, ...]
    """Per channel, of pixels in [0, 1]."""

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)


def describe(dataset: Dataset) -> DataInfo:
    """A set's facts."""
    return DataInfo(dataset.name, dataset.train.num_examples, dataset.test.num_examples, tuple(dataset.class_names),
                    tuple(dataset.image_shape), dataset.frames, tuple(dataset.mean), tuple(dataset.std))


def keep(dataset: Dataset, workdir: pathlib.Path) -> None:
    """Store a set's facts in the run that is trained on it, if they are not there yet; on process 0 alone.

    Raises:
        InputError: the run began with other data.
    """
    found = describe(dataset)
    stored = read(workdir)
    if stored is None:
        files.write_json(workdir / FILE, dataclasses.asdict(found))
        return
    different = [f"{field.name}: then {was!r}, now {now!r}" for field in dataclasses.fields(DataInfo)
                 if not _same(was := getattr(stored, field.name), now := getattr(found, field.name))]
    if different:
        raise InputError(f"{workdir} began with other data ({'; '.join(different)}); nothing was changed. Give it the "
                         "same data again, or choose another --workdir")


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, tuple) and isinstance(one[0], float) and len(one) == len(other):
        return all(math.isclose(x, y, rel_tol=CLOSE) for x, y in zip(one, other, strict=True))
    return one == other


def read(workdir: pathlib.Path) -> DataInfo | None:
    """What a run's data.json says; None: it has none, an earlier version made the run.

    Raises:
        InputError: it is damaged.
    """
    path = workdir / FILE
    if not path.exists():
        return None
    remedy = f"remove it, and it is written again by dietjax train FILE --workdir {workdir}"
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        info = DataInfo(**{name: tuple(value) if isinstance(value, list) else value for name, value in held.items()})
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is damaged ({error}): {remedy}") from error
    numbers = all(isinstance(x, float | int) and math.isfinite(x) for x in (*_items(info.mean), *_items(info.std)))
    names = all(isinstance(name, str) for name in _items(info.class_names))
    sizes = all(type(side) is int and side > 0 for side in _items(info.image_shape))
    if not (numbers and names and sizes and len(info.image_shape) == 3 and info.class_names
            and len(info.mean) == len(info.std) == info.image_shape[2] and 0 not in info.std
            and (info.frames is None or type(info.frames) is int)):
        raise InputError(f"{path} is damaged (values of another kind than it was written with): {remedy}")
    return info


def _items(value: Any) -> tuple:
    """Those of a list of the file; of anything else one that no check takes."""
    return value if isinstance(value, tuple) else (None,)
