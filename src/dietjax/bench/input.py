"""Training batches from image files: decoding, cropping and resizing, against OpenCV's decoding alone."""

import functools
import pathlib
import tempfile
import threading

import cv2
import numpy as np

from .. import data
from ..errors import InputError
from .measure import Call, Result, alternate, environment

IMAGES = 512
"""Images decoded in a run, at least."""
KINDS = ("even", "odd")
"""Their classes: a set of one class is none."""
MADE = 128
"""Files that are made when no set is named: 500 × 375 pixels in 106 kB, about what ImageNet's have on average."""


def pipeline(name: str | None, data_dir: str | None, image_size: int, batch: int, threads: int | None,
             runs: int) -> Result:
    """Images per second and core of training batches, in their steady state.

    Rows: plain loops, one in each thread, over the same number of images: `cv2.imread` of the files (a set of other
    form: reading each image where it is stored, and `cv2.imdecode`), `cv2.imdecode` of what is in memory already; then
    the pipeline. "share" is the first row's time over the row's.

    Args:
        name, data_dir: as in `data.load`; None: a folder of JPEGs of ImageNet's usual size, made for this.
        image_size: side of the pictures.
        batch: images in a batch.
        threads: how many decode, in every row; None: one per core that this process may use.
        runs: timed turns.

    Raises:
        InputError: the set's images are not encoded, or it cannot be opened.
    """
    with tempfile.TemporaryDirectory() as folder:
        if name is None:
            _make(pathlib.Path(folder))
        opened = name or f"folder:{folder}"
        threads = threads or data.stream.usable_cores()
        split = data.load(opened, data_dir, image_size=image_size, threads=threads).train
        batches = -(-IMAGES // batch)
        count = batches * batch
        source, indices = split.source, np.arange(count) % split.num_examples
        memory = [source[i].image for i in range(min(count, split.num_examples))]
        if not isinstance(memory[0], bytes):
            raise InputError(f"{name} stores pixels, not JPEG or PNG files: there is nothing to decode")
        steady = _Steady(split, batch, batches)
        loops = {"cv2.imread": lambda i: cv2.imread(source.where(i), cv2.IMREAD_COLOR_RGB)}
        if not opened.startswith("folder:"):
            loops = {"read, cv2.imdecode": lambda i: _decode(source[i].image)}
        loops["cv2.imdecode, from memory"] = lambda i: _decode(memory[i])
        calls = [Call({"what": what}, functools.partial(_loop, decode, indices, threads), prepare=steady.stop)
                 for what, decode in loops.items()]
        calls.append(Call({"what": "training batches"}, steady.take, prepare=steady.start))
        try:
            rows = alternate(calls, runs)
        finally:
            steady.stop()
    for row in rows:
        row["images/s/core"] = count / row["ms"] * 1e3 / min(threads, data.stream.usable_cores())
        row["share"] = 1 / row["ratio"]
    size = sum(map(len, memory)) / len(memory)
    title = f"input of {name or 'JPEGs made for this'}, {size / 1e3:.0f} kB each, to {image_size}×{image_size}"
    return Result(f"{title}; {count} images a run, batch {batch}, {threads} threads, OpenCV {cv2.__version__}", rows,
                  environment())


class _Steady:
    """Training batches as in a long run; stopped after each turn, so that none are decoded during the others'."""

    def __init__(self, split, batch, batches):
        self._split, self._batch, self._batches, self._stream = split, batch, batches, None

    def start(self):
        self._stream = self._split.training_batches(0, self._batch, 0)
        for _ in range(data.stream.AHEAD):  # the first come from idle threads; later ones wait for decoding
            next(self._stream)

    def take(self):
        for _ in range(self._batches):
            next(self._stream)

    def stop(self):
        if self._stream is not None:
            self._stream.close()
        self._stream = None


def _decode(encoded):
    return cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR_RGB)


def _loop(decode, indices, threads):
    def work(mine):
        for i in mine.tolist():
            decode(i)

    workers = [threading.Thread(target=work, args=(indices[k::threads],)) for k in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def _make(folder):
    """Images of blots of every size with grain: noise on every scale, about as strong as in photographs."""
    rng = np.random.default_rng(0)
    for split, count in (("train", MADE), ("test", 2)):
        for i in range(count):
            (folder / split / KINDS[i % 2]).mkdir(parents=True, exist_ok=True)
            image = np.full((375, 500, 3), 128.0)
            for side in (4, 8, 16, 32, 64, 128, 256):
                blots = rng.normal(size=(max(2, side * 3 // 4), side, 3)) * 40 / side**0.35
                image += cv2.resize(blots, (500, 375), interpolation=cv2.INTER_CUBIC)
            image += rng.normal(size=image.shape) * 10
            file = cv2.imencode(".jpg", image.clip(0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 94])[1]
            (folder / split / KINDS[i % 2] / f"{i}.jpg").write_bytes(file.tobytes())
