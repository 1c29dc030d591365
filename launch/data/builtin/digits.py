"""`digits`: the 1,797 handwritten digits of scikit-learn as a TFDS data set.

8 x 8 grey images: the test part of the UCI data set "optical recognition of handwritten
digits" (Alpaydin and Kaynak 1998). Prepared from the installed package, without network
and without TensorFlow.
"""

import io

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

LEVELS = 16  # a pixel of scikit-learn counts the ink in a 4 x 4 block: 0 to 16


class Builder(tfds.core.GeneratorBasedBuilder):
    """1,438 training and 359 test images: every fifth image is for testing."""

    name = "digits"
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}

    @classmethod
    def _get_pkg_dir_path(cls):
        # TFDS looks here for a README and checksums; we give it the docstring instead.
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
        from sklearn.datasets import load_digits  # a second that prepared data do without

        counts, labels = load_digits(return_X_y=True)
        pixels = np.round(counts * 255 / LEVELS).astype(np.uint8).reshape(-1, 8, 8)
        for number, (image, label) in enumerate(zip(pixels, labels, strict=True)):
            if (number % 5 == 4) == test:
                # Encoded here, because the encoder of TFDS needs TensorFlow.
                yield number, {"image": _png(image), "label": int(label)}


def _png(image: np.ndarray) -> io.BytesIO:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    stream.seek(0)
    return stream
