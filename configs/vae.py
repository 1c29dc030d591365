"""VAEs on handwritten digits.

python -m launch.train --config=configs/vae.py                 8x8 digits, in the package
python -m launch.train --config=configs/vae.py:mnist --config.data.data_dir=DIR
"""

from ml_collections import ConfigDict


def get_config(variant=""):
    config = ConfigDict()
    config.task = {
        "name": "jaxgen.vae:vae",
        "likelihood": {"name": "jaxgen.likelihoods:bernoulli"},
        "objective": "elbo",
        "samples": 1,
        "nll_samples": 1000,
    }
    config.model = {
        "encoder": {"name": "jaxgen.nets:MLPEncoder", "latents": 16, "widths": (500,)},
        "decoder": {"name": "jaxgen.nets:MLPDecoder", "widths": (500,)},
    }
    config.optimizer = {"name": "optax:adam", "learning_rate": 1e-3, "ema": 0.999}
    config.data = {"name": "digits", "batch_size": 128}
    config.train = {"steps": 20_000}
    config.eval = {"every": 2_000, "batch_size": 512}
    config.checkpoint = {"every": 2_000, "best": "negative_elbo"}
    config.log = {"every": 200}
    return config
