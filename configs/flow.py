"""Flows and diffusion models: a table of variants.

  python -m launch.train --config=configs/flow.py            8 x 8 digits, in the package
  python -m launch.train --config=configs/flow.py:mnist --config.data.data_dir=DIR
  python -m launch.train --config=configs/flow.py:folder --config.data.path=DIR

Variants: (none), a transformer that gives the clean image (JiT); unet: a U-Net with attention;
conditional: on the class, and guided by it; shortcut: the same on digits whose colour tells their
class in training, but not in the test, for launch.classify; edm: EDM's recipe; vdm: the bound on
-log p of binarised images, by the U-Net; folder: your own images, by the U-Net; mnist,
mnist_conditional, mnist_vdm: on MNIST by a U-Net, for two cores; mnist_gpu, cifar10: by a U-Net,
for a GPU; meanflow: samples in one step, from scratch or, with --config.init_from=runs/flow, from a
trained flow; distilled: the same, by the velocity of a trained flow, the teacher
--config.task.mean_flow.teacher.run=runs/flow:6000; latent, mnist_latent: of the maps of latents of
--config.task.codec.run=runs/autoencoder:2000 (configs/autoencoder.py); vector, mnist_vector: of the
vectors of latents of --config.task.codec.run=runs/vae:30000 (configs/vae.py).
"""

from ml_collections import ConfigDict

# The others are transformers.
UNETS = (
    *("unet", "vdm", "folder", "cifar10"),
    *("mnist", "mnist_conditional", "mnist_vdm", "mnist_gpu"),
)


def get_config(variant=""):
    known = {
        "": lambda config: None,
        "conditional": conditional,
        "shortcut": shortcut,
        "edm": edm,
        "vdm": vdm,
        "unet": lambda config: None,
        "folder": folder,
        "cifar10": cifar10,
        "meanflow": meanflow,
        "distilled": distilled,
        "latent": latent,
        "mnist_latent": latent,
        "vector": vector,
        "mnist_vector": vector,
        "mnist": lambda config: None,
        "mnist_conditional": conditional,
        "mnist_vdm": vdm,
        "mnist_gpu": larger,
    }
    if variant not in known:
        raise ValueError(f"no variant {variant!r}; see the first lines of this file")
    config = digits()
    if variant.startswith("mnist"):
        mnist(config)
    if variant in UNETS:
        unet(config)
    known[variant](config)
    return config


def digits():
    """1,438 images of 8 x 8: x-prediction with the loss of the velocity (JiT)."""
    config = ConfigDict()
    config.task = {
        "name": "jaxgen.flow:flow",
        "parametrisation": {"name": "jaxgen.flows:clean"},
        "density": {"name": "jaxgen.flows:logit_normal", "mean": -0.4, "std": 1.0},
        "weight": {"name": "jaxgen.flows:velocity"},
        "classes": 0,
        "class_dropout": 0.1,
        # 2 for binarised images, 256: the bound on -log p(image) is a metric.
        "levels": 0,
        # {"name": "jaxgen.flows:density", "steps": 50}: launch.evaluate computes the density.
        "likelihood": None,
        # {"name": "jaxgen.flows:mean_flow"}: also the mean velocity, for samples in one step.
        "mean_flow": None,
        # {"name": "launch.inference.codecs:codec", "run": "DIR:STEP"}: of latents, not of pixels.
        "codec": None,
        # How images are made; another way needs no other training.
        "sampling": {
            "name": "jaxgen.flows:step_by_step",
            "sampler": {"name": "jaxgen.flows:heun"},
            "grid": {"name": "jaxgen.flows:even_times", "steps": 20},
            # By the class, above 1; between these times.
            "guidance": 1.0,
            "interval": (0.1, 1.0),
            # Above 0: launch.sample --condition remakes whole images from this time.
            "start": 0.0,
        },
    }
    config.model = {
        "name": "jaxgen.nets:ImageTransformer",
        "patch": 2,
        "width": 96,
        "layers": 3,
        "heads": 4,
    }
    config.train = {"steps": 6_000, "steps_per_dispatch": 10}
    config.optimizer = {
        "name": "optax:adamw",
        "learning_rate": {
            "name": "optax:warmup_cosine_decay_schedule",
            "init_value": 0.0,
            "peak_value": 2e-3,
            "warmup_steps": 200,
            "decay_steps": config.train.get_ref("steps"),
        },
        "weight_decay": 0.0,
        "clip_norm": 1.0,
        "ema": 0.999,
    }
    config.data = {"name": "digits", "batch_size": 64, "resident": True}
    config.eval = {"split": "test", "every": 3_000, "batch_size": 256}
    # An early one is the weaker net of launch.sample --weaker.
    config.checkpoint = {"every": 1_000, "keep": 6}
    config.log = {"every": 200}
    # The rate rises for 200 steps, or for half of fewer than 400.
    half = config.train.get_ref("steps") // 2
    config.optimizer.learning_rate.warmup_steps = (200 + half - abs(200 - half)) // 2
    return config


def mnist(config):
    """60,000 images of 28 x 28."""
    config.data.update(name="mnist", data_dir="", batch_size=128)
    config.model.update(patch=4, width=128, layers=4)
    config.optimizer.learning_rate.peak_value = 3e-3
    config.train.update(steps=5_500, steps_per_dispatch=1)
    config.eval.update(every=2_000, batch_size=500)


def larger(config):
    """For a GPU: about 4 million parameters in bfloat16."""
    config.dtype = "bfloat16"
    config.model.update(width=64, blocks=2)
    config.data.update(batch_size=256, resident=True)
    config.optimizer.ema = 0.9998
    config.optimizer.learning_rate.peak_value = 1e-3
    config.train.update(steps=20_000, steps_per_dispatch=100)
    config.eval.every = config.checkpoint.every = 5_000
    config.log.every = 1_000


def conditional(config):
    """On the class, and guided by it."""
    config.task.classes = 10
    config.task.sampling.guidance = 1.5


def shortcut(config):
    """On the class of digits whose colour is a shortcut to it."""
    conditional(config)
    config.data.name = "launch.data.builtin.coloured:coloured"


def latent(config):
    """Of the latents of a trained auto-encoder (configs/autoencoder.py) in place of pixels."""
    config.task.codec = {"name": "launch.inference.codecs:codec", "run": ""}
    config.model.patch = 1


def vector(config):
    """Of the latents of a trained VAE (configs/vae.py), whose prior it replaces."""
    latent(config)
    # One patch: the blocks are a fully connected net.
    config.model.update(width=256, layers=4)
    config.data.update(batch_size=256, resident=True)
    config.train.update(steps=20_000, steps_per_dispatch=50)
    config.checkpoint.update(every=2_000, keep=10)


def edm(config):
    """EDM (Karras et al. 2022): preconditioning, its weight, its times."""
    config.task.parametrisation = {"name": "jaxgen.flows:preconditioned", "sigma_data": 0.5}
    config.task.density.update(mean=1.2, std=1.2)
    config.task.weight = {"name": "jaxgen.flows:edm", "sigma_data": 0.5}
    config.task.sampling.grid = {"name": "jaxgen.flows:karras_times", "steps": 18}


def meanflow(config):
    """The mean velocity beside the velocity (MeanFlow, Geng et al. 2025): samples in one step."""
    config.task.mean_flow = {"name": "jaxgen.flows:mean_flow", "share": 0.5, "ends": 0.5}
    config.task.sampling.sampler = {"name": "jaxgen.flows:leap"}
    # From nearly pure noise, and with more steps up to half noise: times that training sees.
    config.task.sampling.grid = {"name": "jaxgen.flows:karras_times", "steps": 1, "low": 0.5}
    config.train.steps = 9_000
    config.task.density.std = 1.6


def distilled(config):
    """The mean velocity of a trained flow, which is the teacher."""
    meanflow(config)
    config.task.mean_flow.teacher = {"name": "launch.inference.teachers:teacher", "run": ""}


def vdm(config):
    """The bound on -log p of binarised images (Kingma et al. 2021), in nats."""
    config.task.update(levels=2)
    config.task.parametrisation = {"name": "jaxgen.flows:binary"}
    # Where the bound's integrand lies, of digits of both sizes.
    config.task.density.update(mean=0.0, std=0.75)
    config.task.weight = {"name": "jaxgen.flows:bound"}
    config.optimizer.learning_rate.peak_value = 3e-3
    if config.data.name == "digits":
        config.train.steps = 12_000
    config.checkpoint.update(every=config.eval.every, best="negative_elbo")


def unet(config):
    """A U-Net with attention (Ho et al. 2020) in place of the transformer."""
    config.model = {
        "name": "jaxgen.nets:DenoisingUNet",
        "patch": 1,
        "width": 32,
        "multiples": (1, 2),
        "blocks": 1,
        "attention": (4,),
        "heads": 4,
    }
    if config.data.name == "mnist":
        config.model.update(patch=2, attention=(7,))
        config.train.steps = 3_500


def folder(config):
    """Your own images in config.data.path, 32 x 32, in colour; see launch/data/pictures."""
    config.model.update(patch=2, width=48, attention=(8,))
    config.data = {
        "name": "launch.data.pictures:pictures",
        "path": "",
        "batch_size": 32,
        "kwargs": {
            "size": 32,
            "channels": 3,
            # True with task.classes=-1 conditions the net on the folders as classes.
            "labels": False,
            "only": "",
            "background": -1,
            "intensity": (),
        },
    }
    config.optimizer.learning_rate.peak_value = 1e-3
    config.train.update(steps=10_000, steps_per_dispatch=1)
    config.eval.update(every=1_000, batch_size=32)
    config.checkpoint.every = 1_000


def cifar10(config):
    """CIFAR-10 by a U-Net of 28 million parameters in bfloat16; for a GPU."""
    config.dtype = "bfloat16"
    config.model.update(width=128, multiples=(1, 2, 2), blocks=2, attention=(16,))
    config.data.update(name="cifar10", data_dir="", batch_size=128)
    config.data.augment = [{"name": "jaxgen.augmentations:flip"}]
    # Constant once it has risen, so that the run can be scored after any time.
    config.optimizer.learning_rate.update(peak_value=2e-4, end_value=2e-4)
    config.optimizer.ema = 0.9999
    config.train.update(steps=100_000, steps_per_dispatch=100)
    config.eval.update(every=10_000, batch_size=500)
    config.checkpoint.update(every=10_000, keep=2)
    config.log.every = 1_000
