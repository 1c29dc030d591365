"""U-Nets that label every pixel.

  python -m launch.train --config=configs/unet.py                       generated scenes
  python -m launch.train --config=configs/unet.py:folder --config.data.path=DIR

Variants: (none); texture, texture_cue, depth, depth_cue, depth_streams: scenes whose
classes differ in that cue alone, without and with the cue as input; folder, camvid,
camvid_large: images and masks in files; pets, cityscapes: stock TFDS data sets.
"""

from ml_collections import ConfigDict

# Weights of the classes sky, building, pole, road, pavement, tree, sign, fence, car,
# pedestrian, bicyclist; square roots of median frequency over frequency of the training
# masks: rare classes gain weight, but none dominates.
CAMVID_WEIGHTS = (0.53, 0.45, 2.19, 0.39, 1.0, 0.65, 1.96, 1.41, 0.89, 2.53, 2.97)


CITYSCAPES_NAMES = (
    "road",
    "sidewalk",
    "building",
    "wall",
    "fence",
    "pole",
    "traffic light",
    "traffic sign",
    "vegetation",
    "terrain",
    "sky",
    "person",
    "rider",
    "car",
    "truck",
    "bus",
    "train",
    "motorcycle",
    "bicycle",
)


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
        "camvid_large": camvid_large,
        "pets": pets,
        "cityscapes": cityscapes,
    }
    if variant not in known:
        raise ValueError(f"no variant {variant!r}; see the first lines of this file")
    known[variant](config)
    return config


def scenes():
    """1,600 scenes of 64 x 64 pixels: three minutes on two cores, mean IoU 0.885."""
    config = ConfigDict()
    config.task = {
        "name": "jaxseg.segmentation:segmentation",
        # The number of classes that the data set names.
        "classes": -1,
        "loss": {
            "name": "jaxseg.losses:weighted",
            "terms": (
                {"name": "jaxseg.losses:cross_entropy"},
                {"name": "jaxseg.losses:dice"},
            ),
        },
        # Cues that the net sees beside the image.
        "features": (),
        "ignore": 255,
        "depth_unit": 0.001,  # scenes give millimetres
        # Predictions: average over the mirror image; number of dropout samples.
        "flips": False,
        "passes": 0,
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
            "decay_steps": 1500,
        },
        "weight_decay": 1e-4,
        "clip_norm": 1.0,
        "ema": 0.99,
    }
    config.data = {"name": "scenes/rgb", "batch_size": 16, "resident": True}
    # Flips only: resampling would blur the speckle that distinguishes one class.
    config.data.augment = [{"name": "jaxseg.augment:warp", "flip": True}]
    # Ten steps share one block of temporaries: a tenth faster than one by one on two cores.
    config.train = {"steps": 1500, "steps_per_dispatch": 10}
    config.eval = {"split": "test", "every": 500, "batch_size": 50}
    config.checkpoint = {"every": 500}
    config.log = {"every": 50}
    # The rate rises for 100 steps, or for half of fewer than 200, and ends at zero.
    config.optimizer.learning_rate.decay_steps = config.train.get_ref("steps")
    half = config.train.get_ref("steps") // 2
    config.optimizer.learning_rate.warmup_steps = (100 + half - abs(100 - half)) // 2
    return config


def texture(config):
    """Regions differ in texture alone; the net sees grey values only."""
    config.data.name = "scenes/texture"


def texture_cue(config):
    """As `texture`, with local energies of Gabor filters in an encoder of their own."""
    texture(config)
    cue = {
        "name": "jaxseg.cues.texture:channels",
        "wavelengths": (3.0, 5.0, 8.0),
        "orientations": 4,
    }
    config.task.features = (cue,)
    config.model.second_stream = 12


def depth(config):
    """Objects differ in depth alone, and the net does not see it."""
    config.data.name = "scenes/depth"


def depth_cue(config):
    """As `depth`, with depth beside the image; one example in ten is trained without it."""
    depth(config)
    config.task.features = ({"name": "jaxseg.cues.depth:channels"},)
    config.data.augment.append({"name": "jaxseg.cues.depth:drop", "rate": 0.1})


def depth_streams(config):
    """As `depth_cue`, but depth has an encoder of its own, joined by gates at each level."""
    depth_cue(config)
    config.model.second_stream = 6


def folder(config):
    """Your own images and masks in config.data.path; see launch/data/folders."""
    config.task.depth_unit = 1.0
    config.data.update(name="launch.data.folders:folder", path="", batch_size=8, resident=False)
    config.train.steps_per_dispatch = 1
    # See launch/data/folders/reading.py; `python -m launch.check DIR` says how DIR is read.
    config.data.kwargs = {
        "classes": 0,
        "ignore": 255,
        "size": (0, 0),
        "limit": 512,
        "layout": "",
        "masks": "",
        "values": "",
        "orientation": "",
        "channels": 0,
        "intensity": (),
        "val": 0.1,
    }
    config.data.augment = [
        {"name": "jaxseg.augment:warp", "scale": (0.7, 1.4), "rotate": 10.0},
        {"name": "jaxseg.augment:colour"},
    ]
    config.eval.update(split="val", batch_size=8)
    config.checkpoint.best = "-mean_iou"


def camvid(config):
    """367 road scenes at 180 x 240: 17 minutes on two cores, mean IoU 0.465."""
    folder(config)
    config.data.kwargs.update(classes=11, ignore=11, size=(180, 240))
    config.task.loss.terms = (
        {"name": "jaxseg.losses:cross_entropy", "class_weights": CAMVID_WEIGHTS},
        {"name": "jaxseg.losses:dice"},
    )
    config.model.widths = (32, 64, 128, 192)
    config.data.resident = True  # 47 MB
    config.train.update(steps=1800, steps_per_dispatch=10)
    config.eval.update(every=600, batch_size=16)
    config.checkpoint.every = 600


def camvid_large(config):
    """As `camvid`, at 360 x 480 with a wider net, in bfloat16; for a GPU."""
    camvid(config)
    config.data.kwargs.size = (360, 480)
    config.dtype = "bfloat16"
    config.model.update(widths=(64, 128, 256, 512), block="residual", dropout=0.1)
    config.data.batch_size = 16
    config.train.steps = 15_000
    config.eval.every = config.checkpoint.every = 2_500


def pets(config):
    """Oxford-IIIT Pet, 3 classes at 128 x 128; prepare it by launch.prepare."""
    config.task.update(classes=3, names=("pet", "background", "border"))
    config.data.update(name="oxford_iiit_pet", batch_size=32)
    config.data.preprocess = {"name": "launch.data.stock:pets", "size": (128, 128)}
    config.predict = {"scale": 0.3}  # photographs of about 430 pixels a side
    config.model.widths = (32, 64, 128, 256)
    config.train.steps = 5000


def cityscapes(config):
    """Cityscapes, 19 classes at 256 x 512; downloaded by hand, see its TFDS page."""
    config.task.update(classes=19, names=CITYSCAPES_NAMES)
    config.data.update(name="cityscapes/semantic_segmentation", batch_size=16, resident=False)
    config.train.steps_per_dispatch = 1
    config.data.preprocess = {"name": "launch.data.stock:cityscapes", "size": (256, 512)}
    config.predict = {"scale": 0.25}
    config.data.augment = [
        {"name": "jaxseg.augment:warp", "crop": (256, 256), "scale": (0.75, 1.5)},
        {"name": "jaxseg.augment:colour"},
    ]
    config.dtype = "bfloat16"
    config.model.update(widths=(64, 128, 256, 512), block="residual")
    config.train.steps = 20_000
    config.eval.update(split="validation", every=2_500, batch_size=16)
    config.checkpoint.every = 2_500
