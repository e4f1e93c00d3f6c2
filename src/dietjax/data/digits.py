"""scikit-learn's digits (`optdigits`) as a tensorflow-datasets builder that needs no download."""

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from . import optdigits

CITATION = """@article{alpaydin1998cascading,
  author = {Alpaydin, Ethem and Kaynak, Cenk},
  title = {Cascading classifiers},
  journal = {Kybernetika},
  volume = {34},
  number = {4},
  pages = {369--374},
  year = {1998}
}"""

GREY_PER_LEVEL = 15
"""Each pixel is a count of 0..16; times 15 it is an ordinary grey of 0..240, and divides back exactly."""


class Digits(tfds.core.GeneratorBasedBuilder):
    """8x8 grey images [8, 8, 1] of handwritten digits: 1,437 for training, 360 held out, stratified by class."""

    VERSION = tfds.core.Version("1.0.0")
    url_infos: dict = {}  # noqa: RUF012 (nothing is downloaded: tensorflow-datasets need not look for checksums)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Handwritten digits, 8x8 grey, as bundled with scikit-learn; 20 % held out, stratified.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1), encoding_format="png"),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            supervised_keys=("image", "label"),
            citation=CITATION,
            disable_shuffling=True,  # keeps scikit-learn's order within a split
        )

    def _split_generators(self, dl_manager):
        levels, labels, splits = optdigits.read()
        pixels = (GREY_PER_LEVEL * levels).astype(np.uint8)
        return {split: self._generate_examples(pixels, labels, chosen) for split, chosen in splits.items()}

    def _generate_examples(self, pixels, labels, indices):
        for index in indices.tolist():
            # a PIL image, because tensorflow-datasets encodes arrays with tensorflow
            yield index, {"image": Image.fromarray(pixels[index]), "label": int(labels[index])}
