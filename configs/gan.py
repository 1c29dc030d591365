"""GANs: a table of variants.

  python -m launch.train --config=configs/gan.py            8 x 8 digits, in the package
  python -m launch.train --config=configs/gan.py:mnist --config.data.data_dir=DIR
  python -m launch.train --config=configs/gan.py:folder --config.data.path=DIR

Variants: (none); least_squares, hinge, wgan_gp: other losses; conditional: on the class;
conv, residual: the nets of DCGAN and SNGAN; image: the lower half of a digit from its upper
half and noise; pix2pix: scenes from their label maps; folder: your own images; mnist,
mnist_least_squares, mnist_hinge, mnist_wgan_gp, mnist_conditional, mnist_conv,
mnist_residual, mnist_image: the same on MNIST.
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
        "folder": folder,
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
    """1,438 images: about a minute on two cores, FID 1.7 to 2.1 of the classifier's features."""
    config = ConfigDict()
    config.task = {
        "name": "jaxgen.gan:gan",
        "loss": {"name": "jaxgen.losses:non_saturating"},
        "latents": 32,
        "classes": 0,
        "discriminator_steps": 1,
        # Without a gradient penalty the discriminator memorises so few images.
        "penalty": "r1",
        "penalty_weight": 0.2,
        "penalty_every": 4,
        "spectral_norm": False,
        # Of the discriminator's inputs.
        "augmentations": ({"name": "jaxgen.augmentations:translation", "ratio": 0.125},),
    }
    config.model = {
        "generator": {"name": "jaxgen.nets:MLPDecoder", "widths": (256, 256)},
        "discriminator": {"name": "jaxgen.nets:MLPDiscriminator", "widths": (256, 256)},
    }
    # A constant rate, so that a finished run can continue with more steps.
    config.optimizer = adams(2e-4)
    # Dispatching a step of so small a net takes longer than the step: 50 in one program.
    config.data = {"name": "digits", "batch_size": 64, "resident": True}
    config.train = {"steps": 25_000, "steps_per_dispatch": 50}
    config.eval = {"split": "test", "every": 5_000, "batch_size": 512}
    config.checkpoint = {"every": 5_000}
    config.log = {"every": 500}
    return config


def mnist(config):
    """60,000 images, wider layers and a falling rate: 14 minutes on two cores, FID 1.02."""
    config.data.update(name="mnist", data_dir="")
    config.task.update(latents=64, augmentations=())
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
    """An Adam for each net; the generator's keeps a moving average for samples."""
    adam = {"name": "optax:adam", "learning_rate": rate, "b1": 0.5, "b2": 0.99, "clip_norm": 0.0}
    return {"generator": adam | {"ema": 0.999}, "discriminator": adam | {"ema": 0.0}}


def convolutional(config):
    """DCGAN's convolutions; one step per dispatch, as they are slow in a compiled loop on CPUs."""
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
    """Both nets conditioned on the class."""
    config.task.classes = 10


def residual(config):
    """SNGAN: residual nets, the hinge loss and spectral normalisation, with two rates."""
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
    """The lower half of a digit from its upper half, 28 x 28, and 100 numbers of noise."""
    config.task = {
        "name": "jaxgen.translation:translation",
        "given": "image",
        "degrade": {"name": "jaxgen.translation:upper_half"},
        "latents": 100,
        "loss": {"name": "jaxgen.losses:hinge"},
        # With a larger weight the lower half becomes the mean of all possible ones.
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


def folder(config):
    """Your own images in config.data.path, 32 x 32 in colour; see launch/data/pictures."""
    convolutional(config)
    config.task.latents = 64
    config.task.augmentations += ({"name": "jaxgen.augmentations:colour"},)
    config.model.generator.widths = config.model.discriminator.widths = (32, 64, 128)
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
    config.train.steps = 20_000
    config.eval.update(every=1_000, batch_size=64)
    config.checkpoint.every = 1_000
    config.log.every = 100


def pix2pix():
    """1,600 scenes of 64 x 64 pixels from their label maps."""
    config = digits()
    config.task = {
        "name": "jaxgen.translation:translation",
        "given": "segmentation",
        "classes": -1,  # the number of classes of the data
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
