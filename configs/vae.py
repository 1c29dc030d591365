"""VAEs: a table of variants.

  python -m launch.train --config=configs/vae.py            8 x 8 digits, in the package
  python -m launch.train --config=configs/vae.py:mnist --config.data.data_dir=DIR
  python -m launch.train --config=configs/vae.py:folder --config.data.path=DIR

Variants: (none), conv, conditional; ladder: many groups of latents, one after the other; mnist,
mnist_conv, mnist_iwae, mnist_ladder; folder: your own images.
"""

from ml_collections import ConfigDict


def get_config(variant=""):
    config = digits()
    if variant.startswith("mnist"):
        mnist(config)
    if variant in ("conv", "mnist_conv"):
        convolutional(config)
    elif variant == "conditional":
        config.task.classes = 10
    elif variant in ("ladder", "mnist_ladder"):
        ladder(config, mnist=variant != "ladder")
    elif variant == "mnist_iwae":
        iwae(config)
    elif variant == "folder":
        folder(config)
    elif variant not in ("", "mnist"):
        raise ValueError(f"no variant {variant!r}; see the first lines of this file")
    return config


def digits():
    """1,438 images: about a minute on two cores, NLL 21.7 nats (ELBO 22.1)."""
    config = ConfigDict()
    config.task = {
        "name": "jaxgen.vae:vae",
        "likelihood": {"name": "jaxgen.likelihoods:bernoulli"},
        "objective": "elbo",
        "samples": 1,
        "beta": 1.0,
        "free_bits": 0.0,
        "classes": 0,
        # For launch.evaluate; training evaluates the ELBO only.
        "nll_samples": 1000,
    }
    config.model = {
        "encoder": {"name": "jaxgen.nets:MLPEncoder", "latents": 16, "widths": (500, 500)},
        "decoder": {"name": "jaxgen.nets:MLPDecoder", "widths": (500, 500)},
    }
    # A constant rate, so that a finished run can continue with more steps.
    config.optimizer = {
        "name": "optax:adam",
        "learning_rate": 1e-3,
        "clip_norm": 0.0,
        "ema": 0.999,
    }
    # Dispatching a step of so small a net takes longer than the step: 50 in one program.
    config.data = {"name": "digits", "batch_size": 128, "resident": True}
    config.train = {"steps": 30_000, "steps_per_dispatch": 50}
    config.eval = {"split": "test", "every": 10_000, "batch_size": 512}
    config.checkpoint = {"every": 10_000, "best": "negative_elbo"}
    config.log = {"every": 500}
    return config


def mnist(config):
    """60,000 binarised images: three minutes on two cores, NLL 88.2 nats."""
    config.data.name = "mnist"
    config.data.data_dir = ""
    config.model.encoder.latents = 40
    config.train.steps = 40_000
    schedule = {
        "name": "optax:cosine_decay_schedule",
        "init_value": 1e-3,
        "decay_steps": config.train.get_ref("steps"),
    }
    # With a rate that falls to zero a moving average is not needed.
    config.optimizer = {"name": "optax:adam", "learning_rate": schedule, "ema": 0.0}
    config.eval.batch_size = 1_000
    config.log.every = 1_000


def convolutional(config):
    """Strided convolutions in place of the fully connected layers."""
    config.model = {
        "encoder": {
            "name": "jaxgen.nets:ConvEncoder",
            "latents": config.model.encoder.latents,
            "widths": (32, 64),
        },
        "decoder": {"name": "jaxgen.nets:ConvDecoder", "widths": (32, 64)},
    }


def ladder(config, mnist):
    """A hierarchical VAE (VDVAE, Child 2021); MNIST: 13 minutes on two cores, NLL 80.9 nats."""
    config.task = {
        "name": "jaxgen.hierarchy:hierarchical_vae",
        "likelihood": {"name": "jaxgen.likelihoods:bernoulli"},
        "free_bits": 0.0,
        "classes": 0,
        "nll_samples": 200,
    }
    config.model = {
        "name": "jaxgen.nets:Ladder",
        "patch": 4 if mnist else 2,
        "widths": (48,) if mnist else (32,),
        "groups": (4,) if mnist else (2,),
        "latents": (4,),
        "top": 32,
        "blocks": 2,
    }
    config.train.steps = 8_000 if mnist else 10_000
    config.train.steps_per_dispatch = 1 if mnist else 10
    config.optimizer.clip_norm = 200.0
    config.eval.every = config.checkpoint.every = 4_000 if mnist else 5_000
    if mnist:
        config.optimizer.learning_rate.update(
            name="optax:warmup_cosine_decay_schedule",
            init_value=0.0,
            peak_value=5e-3,
            warmup_steps=config.train.get_ref("steps") // 40,
        )


def iwae(config):
    """The one-layer net of Burda et al. 2016, k = 50, DReG gradients; for a GPU."""
    config.task.objective = "dreg"
    config.task.samples = 50
    config.model.encoder.update(latents=50, widths=(200, 200), activation="tanh")
    config.model.decoder.update(widths=(200, 200), activation="tanh")
    config.train.steps = 300_000
    config.eval.every = config.checkpoint.every = 20_000


def folder(config):
    """Your own images in config.data.path, 32 x 32 in colour; see launch/data/pictures."""
    config.task.likelihood = {"name": "jaxgen.likelihoods:discretized_logistic"}
    config.task.nll_samples = 100
    config.model = {
        "encoder": {"name": "jaxgen.nets:ConvEncoder", "latents": 64, "widths": (32, 64, 128)},
        "decoder": {"name": "jaxgen.nets:ConvDecoder", "widths": (32, 64, 128)},
    }
    config.optimizer.clip_norm = 1e4
    config.data = {
        "name": "launch.data.pictures:pictures",
        "path": "",
        "batch_size": 64,
        "kwargs": {
            "size": 32,
            "channels": 3,
            # True with task.classes=-1 conditions the nets on the folders as classes.
            "labels": False,
            "only": "",
            "background": -1,
            "intensity": (),
        },
    }
    config.train = {"steps": 10_000, "steps_per_dispatch": 1}
    config.eval.update(every=1_000, batch_size=64)
    config.checkpoint.every = 1_000
    config.log.every = 100
