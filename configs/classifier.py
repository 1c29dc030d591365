"""The classifier whose features the scores of samples compare.

  python -m launch.train --config=configs/classifier.py     8 x 8 digits, in the package

`launch.evaluate --samples` trains it once, on the data of the run that it scores, and keeps
it; see `launch.scoring.features`. Variants: (none).
"""

from ml_collections import ConfigDict


def get_config(variant=""):
    if variant:
        raise ValueError(f"no variant {variant!r}; see the first lines of this file")
    config = ConfigDict()
    config.task = {"name": "jaxseg.classification:classification", "classes": 10}
    config.model = {
        "name": "jaxgen.nets:FeatureNet",
        "widths": (32, 64, 128),
        "size": 128,
    }
    config.train = {"steps": 3000}
    config.optimizer = {
        "name": "optax:adamw",
        "learning_rate": {
            "name": "optax:cosine_decay_schedule",
            "init_value": 2e-3,
            "decay_steps": config.train.get_ref("steps"),
        },
        "weight_decay": 1e-4,
    }
    config.data = {
        "name": "digits",
        "batch_size": 64,
        "augment": [{"name": "jaxgen.augmentations:shift", "pixels": 1}],
    }
    config.eval = {"split": "test", "every": 1000, "batch_size": 512}
    config.checkpoint = {"every": 1000, "best": "-accuracy"}
    config.log = {"every": 500}
    return config
