"""One small config of each family, for tests and tools that start many runs.

--config=tests/tools/small.py:vae (or gan, rnn, flow, unet). The nets are so small that the start
takes longer than the training. The learning rates do not depend on the number of steps, so
that a run may be given more steps.
"""

from configs import flow, gan, rnn, unet, vae


def get_config(variant=""):
    families = {"vae": small_vae, "gan": small_gan, "rnn": small_rnn, "flow": small_flow}
    config = (families | {"unet": small_unet})[variant]()
    config.data.update(batch_size=32, resident=False)
    config.train = {"steps": 20}
    config.eval.update(every=10, batch_size=64)
    config.checkpoint = {"every": 5, "keep": 2}
    config.log = {"every": 1}
    return config


def small_vae():
    config = vae.get_config()
    config.model.encoder.widths = config.model.decoder.widths = (128,)
    config.optimizer = {"name": "optax:adam", "learning_rate": 1e-3, "ema": 0.99}
    return config


def small_gan():
    config = gan.get_config()
    config.model.generator.widths = config.model.discriminator.widths = (128,)
    return config


def small_rnn():
    config = rnn.get_config("row_lstm")
    config.model.update(features=16, layers=1)
    config.optimizer = {"name": "optax:adam", "learning_rate": 1e-3, "clip_norm": 1.0}
    return config


def small_flow():
    config = flow.get_config("conditional")
    config.model.update(width=32, layers=1)
    config.task.sampling.grid.steps = 4
    config.optimizer = {"name": "optax:adam", "learning_rate": 1e-3, "ema": 0.99}
    return config


def small_unet():
    config = unet.get_config()
    config.model.update(widths=(8, 16), dropout=0.1)
    # Warm-up as in the config itself: Adam's first steps divide rounding errors by each other.
    warm = {"init_value": 0.0, "end_value": 3e-3, "transition_steps": 100}
    rate = {"name": "optax:linear_schedule", **warm}
    config.optimizer = {"name": "optax:adamw", "learning_rate": rate, "clip_norm": 1.0}
    return config
