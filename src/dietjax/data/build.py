"""Sets built as array_record in a tensorflow-datasets directory: official ones, folders of images, numpy arrays."""

import contextlib
import importlib.util
import io
import os
import re
import tempfile
import warnings
from pathlib import Path

import numpy as np

from . import images, jpeg
from .folder import open_folder
from .npz import Arrays, open_npz
from .records import data_directory, open_prepared
from .source import DataError, DataWarning, Source, StoredImages


def prepare(source: str, data_dir: str | os.PathLike | None = None, name: str | None = None) -> Path:
    """Build a set, unless it is there; returns its directory.

    Args:
        source: "folder:PATH", see `load`; a file PATH.npz, see `npz`; "digits"; or a set that
            tensorflow-datasets can build, which alone needs tensorflow (`pip install 'dietjax[prepare]'`).
        data_dir: a tensorflow-datasets directory; None: $TFDS_DATA_DIR, else ~/tensorflow_datasets.
        name: of the set that is built from a folder or a file; None: the folder's or file's own name.

    Raises DataError where the source is not what it must be, or a set of that name is there already.
    """
    directory = data_directory(data_dir)
    if source.startswith("folder:"):
        path = Path(source.removeprefix("folder:")).expanduser()
        return _build_own(name or path.name, open_folder(path), directory)
    if source.endswith(".npz"):
        path = Path(source.removeprefix("npz:")).expanduser()
        return _build_own(name or path.stem, open_npz(path), directory)
    if source.startswith("events:") or source == "saccade_digits":
        raise DataError(f"{source} is read as it is: there is nothing to prepare")
    if name is not None:
        raise DataError(f"{source} has its name already: leave out --name")
    if source == "digits":
        from .digits import Digits

        return _build(Digits, directory)
    return _prepare_official(source, directory)


def _prepare_official(name, directory):
    import tensorflow_datasets as tfds

    base = re.split("[/:]", name)[0]
    if base not in tfds.list_builders(with_community_datasets=False):
        open_prepared(name, directory)  # one's own set, there already; else the error names a near one
        return directory / base
    if importlib.util.find_spec("tensorflow") is None:
        raise DataError(
            f"preparing {name} needs tensorflow, which reading does not: pip install 'dietjax[prepare]', then the same "
            "command again"
        )
    builder = tfds.builder(name, data_dir=directory, file_format="array_record")
    with _explained(name, directory):
        builder.download_and_prepare()
    open_prepared(name, directory)  # refuses a set that was there already as tfrecord
    return Path(builder.data_dir)


@contextlib.contextmanager
def _explained(name, directory):
    """Turn what stops an official builder into a DataError that says how to continue."""
    from tensorflow_datasets.core.download import download_manager, extractor, util

    manual = directory / "downloads" / "manual"
    try:
        yield
    except AssertionError as error:  # tensorflow-datasets' own instructions, for a set that it may not download
        if not str(error).startswith("Manual directory"):
            raise
        raise DataError(f"{name} is downloaded by hand, into {manual}, then the same command again. {error}") from error
    except (OSError, util.DownloadError, extractor.ExtractError, download_manager.NonMatchingChecksumError) as error:
        raise DataError(
            f"{name} could not be prepared: {error}. The same command tries again, and keeps whole files that it has "
            f"in {manual.parent}; a machine without internet takes the set's archives from {manual}, put there by hand "
            "under their own names"
        ) from error


def _build_own(name, stored, directory):
    if not re.fullmatch("[a-z][a-z0-9_]*", name):
        raise DataError(f"{name!r} is no name of a set: give one of a-z, 0-9 and _ with --name, such as my_images")
    if isinstance(stored.train, Arrays) and stored.train.images.ndim == 5:
        raise DataError(f"{name} has frames, and a set of tensorflow-datasets here has images: read it as npz:PATH, "
                        "which needs no preparing")
    if (directory / name).exists():
        raise DataError(f"{directory / name} is there already: remove it, or choose another --name")
    return _build(_own_builder(name, stored), directory)


def _build(builder_class, directory):
    """Prepare a set that needs no download in `directory`, unless it is there."""
    import tensorflow_datasets as tfds

    prepared = directory / builder_class.name / str(builder_class.VERSION)
    if prepared.is_dir():
        return prepared
    if str(directory).startswith("gs://"):
        raise DataError(f"{directory} is not local: prepare {builder_class.name} in a local one and copy it there")
    directory.mkdir(parents=True, exist_ok=True)
    # Built aside and renamed, so that processes that do this at the same time see the whole set or none.
    with tempfile.TemporaryDirectory(dir=directory, prefix=f"incomplete.{builder_class.name}_") as aside:
        builder = builder_class(data_dir=aside, file_format="array_record")
        # without the messages of tensorflow-datasets about a download: there is none
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
        prepared.parent.mkdir(exist_ok=True)
        try:
            os.rename(builder.data_dir, prepared)
        except OSError:
            if not prepared.is_dir():  # else another process was first, with the same content
                raise
    return prepared


def _own_builder(set_name: str, stored: StoredImages):
    """A tensorflow-datasets builder of examples that are here; see `_as_stored`."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import registered

    def generate(source: Source):
        for index in range(len(source)):
            image, label = source[index]
            assert not callable(image)  # of events, which are not prepared
            yield index, {"image": io.BytesIO(_as_stored(image, source.where(index))), "label": label}

    with registered.skip_registration():
        class Own(tfds.core.GeneratorBasedBuilder):
            name = set_name
            VERSION = tfds.core.Version("1.0.0")
            url_infos: dict = {}  # noqa: RUF012 (nothing is downloaded: tensorflow-datasets need not look for checksums)

            def _info(self):
                features = {"image": tfds.features.Image(shape=_common_shape(stored), encoding_format="png"),
                            "label": tfds.features.ClassLabel(names=list(stored.class_names))}
                return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features),
                                             supervised_keys=("image", "label"), disable_shuffling=True)

            def _split_generators(self, dl_manager):
                return {"train": generate(stored.train), "test": generate(stored.test)}

            def _generate_examples(self):
                raise NotImplementedError  # _split_generators gives them

    return Own


def _as_stored(image: bytes | np.ndarray, name: str) -> bytes:
    """What is kept of an example: a whole JPEG or PNG file as it is, with its EXIF orientation and its 16 bits, which
    count when it is read; a JPEG that lacks its end marker with one; any other file, or array, as PNG.
    """
    import cv2

    if isinstance(image, bytes) and image.startswith(images.PNG):
        return image
    if isinstance(image, bytes) and image.startswith(jpeg.START):
        return jpeg.with_end(image) or image
    pixels = images.read(image, name).image if isinstance(image, bytes) else image
    return cv2.imencode(".png", pixels[..., ::-1])[1].tobytes()


def _common_shape(stored):
    """(H, W, C) of all images, H and W None where they differ; reads each, so that a corrupt one is found, and what is
    odd about one is said.
    """
    shapes = set()
    for source in (stored.train, stored.test):
        for index in range(len(source)):
            image, name = source[index].image, source.where(index)
            if isinstance(image, bytes):
                image, mended, transparent = images.read(image, name)
                for sentence in filter(None, (mended, transparent)):
                    warnings.warn(DataWarning(sentence), stacklevel=2)
            shapes.add(image.shape)
    return shapes.pop() if len(shapes) == 1 else (None, None, max(shape[2] for shape in shapes))
