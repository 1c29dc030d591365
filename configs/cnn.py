"""A small convolutional net that classifies images.

  python -m launch.train --config=configs/cnn.py        8 x 8 digits, part of this package

Variants: (none); shortcut, digits whose colour tells their class in training but not in the test;
founding, the net and image size that the project began with
(224 x 224 x 3, 102.8 M parameters), on a TFDS data set of photographs.
"""

from ml_collections import ConfigDict


def get_config(variant=""):
    config = digits()
    if variant == "founding":
        founding(config)
    elif variant == "shortcut":
        config.data.name = "launch.data.builtin.coloured:coloured"
    elif variant:
        raise ValueError(f"no variant {variant!r}; see the first lines of this file")
    return config


def digits():
    """1,438 images of 8 x 8, 10 classes."""
    config = ConfigDict()
    config.task = {"name": "jaxseg.classification:classification", "classes": 10}
    config.model = {
        "name": "jaxseg.nets:CNN",
        "widths": (64, 64),
        "hidden": 128,
        "dropout": 0.25,
    }
    config.optimizer = {"name": "optax:adam", "learning_rate": 1e-3, "ema": 0.99}
    config.data = {"name": "digits", "batch_size": 64, "resident": True}
    config.train = {"steps": 1000}
    config.eval = {"split": "test", "every": 500, "batch_size": 512}
    config.checkpoint = {"every": 500, "best": "-accuracy"}
    config.log = {"every": 100}
    return config


def founding(config):
    """Three thousand photographs of 37 breeds; for a GPU."""
    config.task.classes = 37
    config.data = {
        "name": "oxford_iiit_pet",
        "batch_size": 32,
        "preprocess": {"name": "launch.data.stock:breeds", "size": 224},
        "augment": [{"name": "jaxseg.augment:warp", "scale": (0.8, 1.25)}],
    }
    config.train.steps = 5000
