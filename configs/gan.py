"""GANs: a table of variants, data only.

  python -m launch.train --config=configs/gan.py            8 x 8 digits, shipped with us
  python -m launch.train --config=configs/gan.py:mnist --config.data.data_dir=DIR

Variants: (none); least_squares, hinge, wgan_gp: other losses; conditional: on the
class; conv, residual: DCGAN's and SNGAN's nets; image: noise and an image of 28 x 28
together; pix2pix: scenes from their label maps; mnist, mnist_least_squares,
mnist_hinge, mnist_wgan_gp, mnist_conditional, mnist_conv, mnist_residual, mnist_image:
the same on MNIST.
"""

from ml_collections import ConfigDict


def get_config(variant=""):
    if variant == "pix2pix":
        return pix2pix()
    config = digits()
    changes = {
        "": lambda config: None,
        "least_squares": least_squares,
        "hinge": hinge,
        "wgan_gp": wgan_gp,
        "conditional": conditional,
        "conv": convolutional,
        "residual": residual,
        "image": image,
    }
    name = variant
    if variant.split("_")[0] == "mnist":
        mnist(config)
        name = variant[len("mnist_") :]
    if name not in changes:
        raise ValueError(f"no variant {variant!r}; see the first lines of this file")
    changes[name](config)
    return config


def digits():
    """1,438 images: about a minute on two cores."""
    config = ConfigDict()
    config.task = {
        "name": "jaxgen.gan:gan",
        "loss": {"name": "jaxgen.losses:non_saturating"},
        "latents": 32,
        "classes": 0,
        "discriminator_steps": 1,
        # Without a slope penalty the discriminator learns so few images by heart.
        "penalty": "r1",
        "penalty_weight": 0.2,
        "penalty_every": 4,
        "spectral_norm": False,
        # What the discriminator looks through.
        "augment": ({"name": "jaxgen.augmentations:translation", "ratio": 0.125},),
    }
    config.model = {
        "generator": {"name": "jaxgen.nets:MLPDecoder", "widths": (256, 256)},
        "discriminator": {"name": "jaxgen.nets:MLPDiscriminator", "widths": (256, 256)},
    }
    # A constant rate, so that a finished run can be given more steps.
    config.optimizer = adams(2e-4)
    # So small a net would wait for dispatches: 50 steps in one program.
    config.data = {"name": "digits", "batch_size": 64, "resident": True}
    config.train = {"steps": 25_000, "steps_per_dispatch": 50}
    config.eval = {"split": "test", "every": 5_000, "batch_size": 512}
    config.checkpoint = {"every": 5_000}
    config.log = {"every": 500}
    return config


def mnist(config):
    """60,000 images, by wider layers and a rate that falls to zero."""
    config.data.update(name="mnist", data_dir="")
    config.task.update(latents=64, augment=())
    config.model.generator.widths = (400, 400)
    config.model.discriminator.widths = (400, 400)
    config.train.steps = 80_000
    config.eval.update(every=20_000, batch_size=1_000)
    config.checkpoint.every = 20_000
    config.log.every = 1_000
    schedule = {
        "name": "optax:cosine_decay_schedule",
        "init_value": 2e-3,
        "decay_steps": config.train.get_ref("steps"),
    }
    config.optimizer = adams(schedule)


def adams(rate):
    """An Adam for each player; the generator's keeps the average that samples are drawn by."""
    adam = {"name": "optax:adam", "learning_rate": rate, "b1": 0.5, "b2": 0.99, "clip_norm": 0.0}
    return {"generator": adam | {"ema": 0.999}, "discriminator": adam | {"ema": 0.0}}


def convolutional(config):
    """Convolutions, one step a dispatch: in a compiled loop they are slow on CPUs."""
    config.model = {
        "generator": {"name": "jaxgen.nets:DCGANGenerator", "widths": (64, 128)},
        "discriminator": {"name": "jaxgen.nets:DCGANDiscriminator", "widths": (64, 128)},
    }
    config.task.penalty_every = 1
    config.train.steps_per_dispatch = 1


def least_squares(config):
    """Least squares (Mao et al. 2017)."""
    config.task.loss.name = "jaxgen.losses:least_squares"


def hinge(config):
    """The hinge loss with spectral normalisation (Miyato et al. 2018)."""
    config.task.loss.name = "jaxgen.losses:hinge"
    config.task.update(spectral_norm=True, penalty="", penalty_weight=0.0, penalty_every=1)


def wgan_gp(config):
    """Wasserstein with a gradient penalty, five critic steps (Gulrajani et al. 2017)."""
    config.task.loss.name = "jaxgen.losses:wasserstein"
    config.task.update(penalty="gradient", penalty_weight=10.0, penalty_every=1)
    config.task.discriminator_steps = 5
    config.data.batch_size = 5 * config.data.batch_size


def conditional(config):
    """Both players are told the class."""
    config.task.classes = 10


def residual(config):
    """Residual nets, hinge loss and spectral normalisation: SNGAN, with two rates."""
    hinge(config)
    config.train.steps_per_dispatch = 1
    config.model = {
        "generator": {"name": "jaxgen.nets:ResidualGenerator", "widths": (32, 32)},
        "discriminator": {"name": "jaxgen.nets:ResidualDiscriminator", "widths": (32, 32)},
    }
    # Two time scales (Heusel et al. 2017; the rates of Zhang et al. 2019).
    config.optimizer = {
        "generator": adams(1e-4)["generator"],
        "discriminator": adams(4e-4)["discriminator"],
    }


def image(config):
    """The rest of a digit for its upper half: 100 numbers of noise and 28 x 28 x 1 together."""
    config.task = {
        "name": "jaxgen.translation:translation",
        "given": "image",
        "degrade": {"name": "jaxgen.translation:upper_half"},
        "latents": 100,
        "loss": {"name": "jaxgen.losses:hinge"},
        # More than this, and the lower half is the mean of all that it could be.
        "distance": 1.0,
        "spectral_norm": True,
    }
    config.model = {
        "generator": {"name": "jaxgen.nets:UNetGenerator", "widths": (16, 32, 32)},
        "discriminator": {"name": "jaxgen.nets:DCGANDiscriminator", "widths": (16, 32)},
    }
    if config.data.name == "digits":
        config.data.preprocess = {"name": "launch.data.transforms:square", "size": 28}
    config.train.update(steps=4_000, steps_per_dispatch=1)
    config.eval.every = config.checkpoint.every = 1_000


def pix2pix():
    """1,600 scenes of 64 x 64 pixels from their label maps."""
    config = digits()
    config.task = {
        "name": "jaxgen.translation:translation",
        "given": "segmentation",
        "classes": -1,  # as many as the data names
        "ignore": 255,
        "latents": 16,
        "loss": {"name": "jaxgen.losses:hinge"},
        "distance": 20.0,
        "spectral_norm": True,
    }
    config.model = {
        "generator": {"name": "jaxgen.nets:UNetGenerator", "widths": (32, 64, 96)},
        "discriminator": {"name": "jaxgen.nets:PatchDiscriminator", "widths": (32, 64)},
    }
    config.data = {"name": "scenes/rgb", "batch_size": 16, "resident": True}
    config.train.update(steps=1_500, steps_per_dispatch=1)
    config.eval.update(every=500, batch_size=50)
    config.checkpoint.every = 500
    config.log.every = 100
    return config
