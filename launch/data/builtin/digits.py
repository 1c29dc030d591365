"""`digits`: the 1,797 handwritten digits that scikit-learn ships, as TFDS.

8 x 8 grey images of the UCI "optical recognition of handwritten digits" data
set (Alpaydin and Kaynak 1998), its test part. Prepared from the installed
package: no network, no TensorFlow.
"""

import io

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from sklearn.datasets import load_digits

LEVELS = 16  # scikit-learn gives counts of 0 to 16 ink pixels per 4 x 4 block


class Builder(tfds.core.GeneratorBasedBuilder):
    """1,438 training and 359 test images; every fifth is a test image."""

    name = "digits"
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}

    @classmethod
    def _get_pkg_dir_path(cls):
        # TFDS looks here for a README and checksums; the docstring serves instead.
        from etils import epath

        return epath.Path(__file__).parent

    def _info(self):
        return self.dataset_info_from_configs(
            description=__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1), dtype=np.uint8),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://archive.ics.uci.edu/dataset/80",
            citation="@misc{alpaydin1998optical, title={Optical recognition of handwritten "
            "digits}, author={Alpaydin, E. and Kaynak, C.}, year={1998}}",
        )

    def _split_generators(self, dl_manager):
        del dl_manager
        return {"train": self._generate_examples(False), "test": self._generate_examples(True)}

    def _generate_examples(self, test):
        counts, labels = load_digits(return_X_y=True)
        pixels = np.round(counts * 255 / LEVELS).astype(np.uint8).reshape(-1, 8, 8)
        for number, (image, label) in enumerate(zip(pixels, labels, strict=True)):
            if (number % 5 == 4) == test:
                # Encoded here, because TFDS's own encoder is TensorFlow's.
                yield number, {"image": _png(image), "label": int(label)}


def _png(image: np.ndarray) -> io.BytesIO:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    stream.seek(0)
    return stream
