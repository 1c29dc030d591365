"""U-Nets that find every single object, touching ones too.

  python -m launch.train --config=configs/instances.py                  generated discs

Variants: (none) for discs that touch; weighted: the same, with the weights of the U-Net paper
between objects.
"""

from ml_collections import ConfigDict


def get_config(variant=""):
    config = discs()
    if variant == "weighted":
        config.data.kwargs.weights = True
    elif variant:
        raise ValueError(f"no variant {variant!r}; see the first lines of this file")
    return config


def discs():
    """800 pictures of 64 x 64 pixels: two minutes on two cores, AP50 0.998."""
    config = ConfigDict()
    config.task = {
        "name": "jaxseg.instances:instances",
        # Cues that the net sees beside the image.
        "features": (),
        "depth_unit": 1.0,
        # The radius of large objects in pixels: what lies deeper is the middle.
        "reach": 16,
        "distance_weight": 1.0,
        # A pixel is of an object from this probability on; an object's core begins at this
        # relative distance to its border. Lower seeds divide less.
        "threshold": 0.5,
        "seed": 0.5,
        # Objects of fewer pixels are removed.
        "min_size": 4,
        "levels": 16,
        # Predictions: average over the mirror image.
        "flips": False,
    }
    config.model = {
        "name": "jaxseg.nets:UNet",
        "widths": (16, 32, 64),
        "stem": 1,
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
            "warmup_steps": 50,
            "decay_steps": 600,
        },
        "weight_decay": 1e-4,
        "clip_norm": 1.0,
        "ema": 0.98,
    }
    config.data = {
        "name": "launch.data.builtin.discs:discs",
        "kwargs": {"weights": False},
        "batch_size": 16,
        "resident": True,
    }
    config.train = {"steps": 600, "steps_per_dispatch": 10}
    config.eval = {"split": "test", "every": 300, "batch_size": 50}
    config.checkpoint = {"every": 300}
    config.log = {"every": 50}
    # The rate rises for 50 steps, or for half of fewer than 100, and ends at zero.
    config.optimizer.learning_rate.decay_steps = config.train.get_ref("steps")
    half = config.train.get_ref("steps") // 2
    config.optimizer.learning_rate.warmup_steps = (50 + half - abs(50 - half)) // 2
    return config
