"""A small edge detector, trained from scratch on BSDS500.

  python -m launch.train --config=configs/edges.py --config.data.path=DIR
  python -m launch.benchmarks.bsds --data=DIR --workdir=runs/edges

DIR holds images/ and groundTruth/ as published. Variants: (none) for a few cores; gpu.
"""

from ml_collections import ConfigDict


def get_config(variant=""):
    config = cores()
    if variant == "gpu":
        gpu(config)
    elif variant:
        raise ValueError(f"no variant {variant!r}; see the first lines of this file")
    return config


def cores():
    """About 90,000 parameters on crops."""
    config = ConfigDict()
    config.task = {
        "name": "jaxseg.edge_detection:edge_detection",
        # Cues that the net sees beside the image.
        "features": (),
        # Pixels that a smaller share of the annotators marked are neither edge nor background.
        "consensus": 0.3,
        "balance": 1.1,
    }
    config.model = {
        "name": "jaxseg.nets:EdgeNet",
        "widths": (16, 24, 32, 40),
        "side": 16,
        "dilation": 2,
        "difference": True,
    }
    config.optimizer = {
        "name": "optax:adamw",
        "learning_rate": {
            "name": "optax:warmup_cosine_decay_schedule",
            "init_value": 0.0,
            "peak_value": 4e-3,
            "warmup_steps": 100,
            "decay_steps": 2000,
        },
        "weight_decay": 1e-4,
        "clip_norm": 1.0,
        "ema": 0.99,
    }
    config.data = {"name": "launch.data.bsds:bsds", "split": "train", "batch_size": 4}
    config.data.augment = [
        {
            "name": "jaxseg.augment:warp",
            "crop": (160, 160),
            "scale": (0.7, 1.4),
            "rotate": 180.0,
        }
    ]
    config.train = {"steps": 2000}
    config.eval = {"split": "val", "every": 1000, "batch_size": 4}
    config.checkpoint = {"every": 1000, "best": "-edge_f"}
    config.log = {"every": 50}
    # The rate rises for 100 steps, or for half of fewer than 200, and ends at zero.
    config.optimizer.learning_rate.decay_steps = config.train.get_ref("steps")
    half = config.train.get_ref("steps") // 2
    config.optimizer.learning_rate.warmup_steps = (100 + half - abs(100 - half)) // 2
    return config


def gpu(config):
    """Longer, with larger crops and batches; for one GPU."""
    config.data.batch_size = 16
    config.data.augment[0]["crop"] = (320, 320)
    config.data.resident = True
    config.train.steps = 40_000
    config.optimizer.ema = 0.999
    config.eval.every = config.checkpoint.every = 4_000
