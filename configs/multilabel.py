"""U-Nets for classes that may overlap: each is a yes or no of its own.

  python -m launch.train --config=configs/multilabel.py                 generated shapes

Variants: (none) for four classes; binary: one class of them, with one logit.
"""

from ml_collections import ConfigDict


def get_config(variant=""):
    config = shapes()
    if variant == "binary":
        config.data.kwargs.classes = ("star",)
    elif variant:
        raise ValueError(f"no variant {variant!r}; see the first lines of this file")
    return config


def shapes():
    """2,000 scenes of 64 x 64 pixels: four minutes on two cores, Dice of a class 0.907 to 0.931."""
    config = ConfigDict()
    config.task = {
        "name": "jaxseg.multilabel:multilabel",
        # The number of classes that the data set names.
        "classes": -1,
        "loss": {
            "name": "jaxseg.losses:weighted",
            "terms": (
                {"name": "jaxseg.multilabel_losses:binary_cross_entropy"},
                {"name": "jaxseg.multilabel_losses:binary_dice"},
            ),
        },
        # Cues that the net sees beside the image.
        "features": (),
        # Labels that neither train nor score; per class and pixel.
        "ignore": 255,
        "depth_unit": 1.0,
        # The least probability of each class; () for 0.5.
        "thresholds": (),
        # Predictions: average over the mirror image.
        "flips": False,
    }
    config.model = {
        "name": "jaxseg.nets:UNet",
        "widths": (32, 64, 128, 160),
        "stem": 2,
        "norm": "group",
        "block": "plain",
        "dropout": 0.0,
    }
    config.optimizer = {
        "name": "optax:adamw",
        "learning_rate": {
            "name": "optax:warmup_cosine_decay_schedule",
            "init_value": 0.0,
            "peak_value": 3e-3,
            "warmup_steps": 100,
            "decay_steps": 1000,
        },
        "weight_decay": 1e-4,
        "clip_norm": 1.0,
        "ema": 0.99,
    }
    config.data = {
        "name": "launch.data.builtin.overlaps:overlaps",
        "kwargs": {"classes": ("disc", "box", "triangle", "star")},
        "batch_size": 16,
        "resident": True,
    }
    config.train = {"steps": 1000, "steps_per_dispatch": 10}
    config.eval = {"split": "test", "every": 500, "batch_size": 50}
    config.checkpoint = {"every": 500}
    config.log = {"every": 50}
    # The rate rises for 100 steps, or for half of fewer than 200, and ends at zero.
    config.optimizer.learning_rate.decay_steps = config.train.get_ref("steps")
    half = config.train.get_ref("steps") // 2
    config.optimizer.learning_rate.warmup_steps = (100 + half - abs(100 - half)) // 2
    return config
