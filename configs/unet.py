"""U-Nets that label every pixel: a table of variants, data only.

  python -m launch.train --config=configs/unet.py                       generated scenes
  python -m launch.train --config=configs/unet.py:folder --config.data.path=DIR

Variants: (none); texture, texture_cue, depth, depth_cue, depth_streams: what a cue
is worth on scenes where only it tells; folder, camvid: own images and masks; pets,
cityscapes: stock TFDS sets.
"""

from ml_collections import ConfigDict


def get_config(variant=""):
    config = scenes()
    known = {
        "": lambda config: None,
        "texture": texture,
        "texture_cue": texture_cue,
        "depth": depth,
        "depth_cue": depth_cue,
        "depth_streams": depth_streams,
        "folder": folder,
        "camvid": camvid,
        "pets": pets,
        "cityscapes": cityscapes,
    }
    if variant not in known:
        raise ValueError(f"no variant {variant!r}; see the first lines of this file")
    known[variant](config)
    return config


def scenes():
    """1,600 scenes of 64 x 64 pixels, six classes."""
    config = ConfigDict()
    config.task = {
        "name": "jaxseg.segmentation:segmentation",
        # As many as the data names.
        "classes": -1,
        "loss": {
            "name": "jaxseg.losses:weighted",
            "terms": (
                {"name": "jaxseg.losses:cross_entropy", "smoothing": 0.0},
                {"name": "jaxseg.losses:dice"},
            ),
        },
        # Cues that the net sees beside the image.
        "features": (),
        "ignore": 255,
        "depth_unit": 0.001,
        # Of predictions: average over the mirror image; dropout samples.
        "flips": False,
        "passes": 0,
    }
    config.model = {
        "name": "jaxseg.unet:UNet",
        "widths": (32, 64, 128),
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
            "peak_value": 2e-3,
            "warmup_steps": 100,
            "decay_steps": 1500,
        },
        "weight_decay": 1e-4,
        "clip_norm": 1.0,
        "ema": 0.99,
    }
    config.data = {"name": "scenes/rgb", "batch_size": 16, "resident": True}
    config.data.augment = [{"name": "jaxseg.augment:warp", "scale": (0.8, 1.25), "rotate": 15.0}]
    config.train = {"steps": 1500}
    config.eval = {"split": "test", "every": 500, "batch_size": 50}
    config.checkpoint = {"every": 500, "best": "-mean_iou"}
    config.log = {"every": 50}
    decay(config)
    return config


def decay(config):
    """The rate falls to zero at the last step."""
    config.optimizer.learning_rate.decay_steps = config.train.get_ref("steps")


def texture(config):
    pass


def texture_cue(config):
    pass


def depth(config):
    pass


def depth_cue(config):
    pass


def depth_streams(config):
    pass


def folder(config):
    pass


def camvid(config):
    pass


def pets(config):
    pass


def cityscapes(config):
    pass
