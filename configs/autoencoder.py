"""Auto-encoders with small maps of latents, for flows of the latents (configs/flow.py:latent) and
PixelCNNs of the codes (configs/rnn.py:codes).

  python -m launch.train --config=configs/autoencoder.py         8 x 8 digits, in the package
  python -m launch.train --config=configs/autoencoder.py:mnist --config.data.data_dir=DIR

Variants: (none), normal latents; fsq: codes, which are latents on a grid; mnist, mnist_fsq: on
MNIST, 7 x 7 latents.
"""

from ml_collections import ConfigDict


def get_config(variant=""):
    if variant not in ("", "fsq", "mnist", "mnist_fsq"):
        raise ValueError(f"no variant {variant!r}; see the first lines of this file")
    config = digits()
    if variant.startswith("mnist"):
        mnist(config)
    if variant.endswith("fsq"):
        config.task.levels = (5, 5, 4)
        config.model.encoder.channels = 3
    return config


def digits():
    """1,438 images of 8 x 8 to maps of 4 x 4 with 3 channels."""
    config = ConfigDict()
    config.task = {"name": "jaxgen.autoencoder:autoencoder", "kl": 1e-3, "levels": ()}
    widths = (32, 64)
    config.model = {
        # Means and deviations of 3 channels.
        "encoder": {"name": "jaxgen.nets:MapEncoder", "channels": 6, "widths": widths, "blocks": 1},
        "decoder": {"name": "jaxgen.nets:MapDecoder", "channels": 1, "widths": widths, "blocks": 1},
    }
    config.train = {"steps": 2_000, "steps_per_dispatch": 10}
    config.optimizer = {
        "name": "optax:adam",
        "learning_rate": {
            "name": "optax:cosine_decay_schedule",
            "init_value": 2e-3,
            "decay_steps": config.train.get_ref("steps"),
        },
        "clip_norm": 1.0,
        "ema": 0.99,
    }
    config.data = {"name": "digits", "batch_size": 64, "resident": True}
    config.eval = {"split": "test", "every": 1_000, "batch_size": 256}
    config.checkpoint = {"every": 1_000}
    config.log = {"every": 100}
    return config


def mnist(config):
    """60,000 images of 28 x 28 to maps of 7 x 7."""
    config.data.update(name="mnist", data_dir="", batch_size=128, resident=False)
    config.train.steps_per_dispatch = 1
    for net in ("encoder", "decoder"):
        config.model[net].widths = (16, 32, 64)
