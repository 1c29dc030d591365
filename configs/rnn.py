"""Autoregressive nets and DRAW: a table of variants.

  python -m launch.train --config=configs/rnn.py            8 x 8 digits, in the package
  python -m launch.train --config=configs/rnn.py:mnist --config.data.data_dir=DIR
  python -m launch.train --config=configs/rnn.py:folder --config.data.path=DIR

Variants: (none), a Diagonal BiLSTM; row_lstm, diagonal_bilstm, pixelcnn, draw: one net
each; conditional: on the class; softmax, mixture: grey levels in place of black and
white; folder: your own images; codes: of the codes that an auto-encoder makes of images
(configs/autoencoder.py:fsq), with --config.task.codec.run=runs/fsq:2000; mnist, mnist_row_lstm,
mnist_diagonal_bilstm, mnist_pixelcnn, mnist_draw, mnist_codes: on MNIST, for two cores;
gpu_pixelcnn, gpu_diagonal_bilstm: on MNIST, for a GPU.
"""

from ml_collections import ConfigDict


def get_config(variant=""):
    known = {
        "": diagonal_bilstm,
        "row_lstm": row_lstm,
        "diagonal_bilstm": diagonal_bilstm,
        "pixelcnn": pixelcnn,
        "draw": draw,
        "conditional": conditional,
        "softmax": softmax,
        "mixture": mixture,
        "folder": folder,
        "codes": codes,
        "gpu_pixelcnn": gpu_pixelcnn,
        "gpu_diagonal_bilstm": gpu_diagonal_bilstm,
    }
    config, name = digits(), variant
    if variant.split("_")[0] in ("mnist", "gpu"):
        mnist(config)
        name = variant.removeprefix("mnist").removeprefix("_")
    if name not in known:
        raise ValueError(f"no variant {variant!r}; see the first lines of this file")
    known[name](config)
    return config


def digits():
    """1,438 binarised images: three minutes on two cores, NLL 21.9 nats."""
    config = ConfigDict()
    config.task = {
        "name": "jaxgen.autoregressive:pixel_rnn",
        "likelihood": {"name": "jaxgen.likelihoods:binary"},
        "classes": 0,
    }
    config.train = {"steps": 4_000}
    config.optimizer = {
        "name": "optax:adamw",
        # The rate falls to zero at the last step.
        "learning_rate": {
            "name": "optax:cosine_decay_schedule",
            "init_value": 3e-3,
            "decay_steps": config.train.get_ref("steps"),
        },
        "weight_decay": 0.1,
        "clip_norm": 1.0,
        "ema": 0.999,
    }
    config.data = {"name": "digits", "batch_size": 64, "resident": True}
    config.eval = {"split": "test", "every": 1_000, "batch_size": 256}
    # So few images are soon memorised: the best evaluation is kept beside the last.
    config.checkpoint = {"every": 1_000, "best": "nll"}
    config.log = {"every": 100}
    return config


def mnist(config):
    """60,000 binarised images: twenty minutes on two cores, NLL 87.9 nats."""
    config.data.update(name="mnist", data_dir="")
    config.optimizer.weight_decay = 1e-4
    config.train.steps = 5_000
    config.eval.update(every=2_500, batch_size=500)
    config.checkpoint.every = 2_500


def row_lstm(config):
    """Row LSTM (van den Oord et al. 2016): a scan over rows; a triangle as receptive field."""
    config.model = {
        "name": "jaxgen.nets:PixelRNN",
        "layer": "row",
        "layers": 3,
        "features": 16,
        "head": 32,
    }


def diagonal_bilstm(config):
    """Diagonal BiLSTM of the same paper: a scan over diagonals; sees all earlier pixels."""
    small = config.data.name == "digits"
    # A small net gains from 10 steps in one program; larger convolutions are slow in such a
    # loop on CPUs.
    config.train.steps_per_dispatch = 10 if small else 1
    config.model = {
        "name": "jaxgen.nets:PixelRNN",
        "layer": "diagonal",
        "layers": 2 if small else 1,
        "features": 24 if small else 16,
        "head": 32,
    }


def pixelcnn(config):
    """Gated PixelCNN (van den Oord et al. 2016b): convolutions, all pixels at once."""
    config.model = {
        "name": "jaxgen.nets:PixelCNN",
        "layers": 5,
        "features": 32,
        "head": 64,
    }
    if config.data.name == "digits":
        config.model.first = 5
        config.optimizer.weight_decay = 3e-3


def draw(config):
    """DRAW (Gregor et al. 2015), the recurrent VAE; its best checkpoint is that of the ELBO."""
    config.task = {
        "name": "jaxgen.hierarchy:hierarchical_vae",
        "likelihood": {"name": "jaxgen.likelihoods:bernoulli"},
        "classes": 0,
        "nll_samples": 200,
    }
    config.model = {
        "name": "jaxgen.nets:DrawNet",
        "glimpses": 10,
        "latents": 8,
        "hidden": 128,
        "read_size": 0,
        "write_size": 0,
    }
    config.optimizer.weight_decay = 1e-4
    config.checkpoint.best = "negative_elbo"
    if config.data.name == "mnist":
        config.model.update(read_size=2, write_size=5, hidden=256, latents=10)


def conditional(config):
    """Conditioned on the class."""
    diagonal_bilstm(config)
    config.task.classes = 10


def softmax(config):
    """16 grey levels as classes."""
    row_lstm(config)
    config.task.likelihood = {"name": "jaxgen.likelihoods:softmax", "levels": 16}


def mixture(config):
    """256 grey levels by a mixture of discretised logistics (Salimans et al. 2017)."""
    row_lstm(config)
    config.task.likelihood = {"name": "jaxgen.likelihoods:logistic_mixture"}


def codes(config):
    """A PixelCNN of the codes of a trained auto-encoder (configs/autoencoder.py:fsq)."""
    pixelcnn(config)
    config.task.likelihood = None
    config.task.codec = {"name": "launch.inference.codecs:codec", "run": ""}
    config.model.first = 5
    config.optimizer.weight_decay = 1e-2
    if config.data.name == "digits":  # after that they are memorised
        config.train.steps = 600
        config.eval.every = config.checkpoint.every = 200


def folder(config):
    """Your own images in config.data.path, 32 x 32 in colour; see launch/data/pictures."""
    pixelcnn(config)
    config.task.likelihood = {"name": "jaxgen.likelihoods:logistic_mixture"}
    config.optimizer.learning_rate.init_value = 1e-3
    config.data = {
        "name": "launch.data.pictures:pictures",
        "path": "",
        "batch_size": 16,
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
    config.train.steps = 10_000
    config.eval.update(every=1_000, batch_size=32)


def gpu_pixelcnn(config):
    """12 layers of 64 features; for a GPU."""
    pixelcnn(config)
    config.model.update(layers=12, features=64, head=256)
    long(config)


def gpu_diagonal_bilstm(config):
    """The paper's net for MNIST, 7 layers of 16 features; for a GPU."""
    diagonal_bilstm(config)
    config.model.update(layers=7, features=16)
    long(config)


def long(config):
    """60,000 steps of 256 images in bfloat16."""
    config.dtype = "bfloat16"
    config.data.batch_size = 256
    config.train.update(steps=60_000, steps_per_dispatch=100)
    config.eval.every = config.checkpoint.every = 10_000
