"""Autoregressive nets and DRAW: a table of variants, data only.

  python -m launch.train --config=configs/rnn.py            8 x 8 digits, shipped with us
  python -m launch.train --config=configs/rnn.py:mnist --config.data.data_dir=DIR

Variants: (none), a Row LSTM; row_lstm, diagonal_bilstm, pixelcnn, draw: one net each;
conditional: on the class; softmax, mixture: grey levels in place of black and white;
mnist, mnist_row_lstm, mnist_diagonal_bilstm, mnist_pixelcnn, mnist_draw: on MNIST, for
two cores; gpu_pixelcnn, gpu_diagonal_bilstm: on MNIST, the nets of the papers.
"""

from ml_collections import ConfigDict


def get_config(variant=""):
    config = digits()
    nets = {
        "row_lstm": row_lstm,
        "diagonal_bilstm": diagonal_bilstm,
        "pixelcnn": pixelcnn,
        "draw": draw,
    }
    others = {"": row_lstm, "conditional": conditional, "softmax": softmax, "mixture": mixture}
    large = {"gpu_pixelcnn": gpu_pixelcnn, "gpu_diagonal_bilstm": gpu_diagonal_bilstm}
    if variant in large:
        mnist(config)
        large[variant](config)
    elif variant == "mnist" or variant.removeprefix("mnist_") in nets:
        net = nets[variant.removeprefix("mnist").removeprefix("_") or "pixelcnn"]
        if variant.startswith("mnist"):
            mnist(config)
        net(config)
    elif variant in others:
        others[variant](config)
    else:
        raise ValueError(f"no variant {variant!r}; see the first lines of this file")
    return config


def digits():
    """1,438 binarised images; the exact likelihood in nats."""
    config = ConfigDict()
    config.task = {
        "name": "jaxgen.rnn:pixel_rnn",
        "likelihood": {"name": "jaxgen.pixel_likelihoods:binary"},
        "classes": 0,
    }
    config.optimizer = {
        "name": "optax:adam",
        "learning_rate": {
            "name": "optax:cosine_decay_schedule",
            "init_value": 3e-3,
            "decay_steps": 0,
        },
        "clip_norm": 1.0,
        "ema": 0.999,
    }
    config.data = {"name": "digits", "batch_size": 64, "resident": True}
    config.train = {"steps": 6_000}
    config.eval = {"split": "test", "every": 1_000, "batch_size": 256}
    # The nets are large for so few images: the best evaluation is kept beside the last.
    config.checkpoint = {"every": 1_000, "best": "nll"}
    config.log = {"every": 100}
    # The rate falls to zero at the last step.
    config.optimizer.learning_rate.decay_steps = config.train.get_ref("steps")
    return config


def mnist(config):
    """60,000 binarised images: twenty minutes on two cores."""
    config.data.update(name="mnist", data_dir="")
    config.train.steps = 6_000
    config.eval.update(every=2_000, batch_size=500)
    config.checkpoint.every = 2_000


def row_lstm(config):
    """Row LSTM (van den Oord et al. 2016): a scan over rows."""
    config.model = {
        "name": "jaxgen.pixelrnn:PixelRNN",
        "layer": "row",
        "layers": 3,
        "features": 16,
        "head": 32,
    }


def diagonal_bilstm(config):
    """Diagonal BiLSTM of the same paper: a scan over diagonals, which sees all before."""
    row_lstm(config)
    config.model.layer = "diagonal"


def pixelcnn(config):
    """Gated PixelCNN (van den Oord et al. 2016b): convolutions, all pixels at once."""
    config.model = {
        "name": "jaxgen.pixelcnn:PixelCNN",
        "layers": 5,
        "features": 32,
        "head": 64,
    }
    if config.data.name == "digits":
        config.model.first = 5


def draw(config):
    """DRAW (Gregor et al. 2015), the recurrent VAE, evaluated by its bound."""
    config.task = {
        "name": "jaxgen.draw:draw",
        "likelihood": {"name": "jaxgen.likelihoods:bernoulli"},
        "classes": 0,
        "nll_samples": 200,
    }
    config.model = {
        "name": "jaxgen.draw_nets:DrawNet",
        "glimpses": 10,
        "latents": 8,
        "hidden": 128,
        "read_size": 0,
        "write_size": 0,
    }
    config.checkpoint.best = "negative_elbo"
    if config.data.name == "mnist":
        config.model.update(read_size=2, write_size=5, hidden=256, latents=10)


def conditional(config):
    """Told the class."""
    row_lstm(config)
    config.task.classes = 10


def softmax(config):
    """16 grey levels as classes."""
    row_lstm(config)
    config.task.likelihood = {"name": "jaxgen.pixel_likelihoods:softmax", "levels": 16}


def mixture(config):
    """256 grey levels by a mixture of discretised logistics (Salimans et al. 2017)."""
    row_lstm(config)
    config.task.likelihood = {"name": "jaxgen.pixel_likelihoods:logistic_mixture"}


def gpu_pixelcnn(config):
    """12 layers of 64 features; for a GPU."""
    pixelcnn(config)
    config.model.update(layers=12, features=64, head=256)
    long(config)


def gpu_diagonal_bilstm(config):
    """The paper's net for MNIST, 7 layers of 16 features; for a GPU."""
    diagonal_bilstm(config)
    config.model.layers = 7
    long(config)


def long(config):
    """60,000 steps of 256 images in bfloat16."""
    config.dtype = "bfloat16"
    config.data.batch_size = 256
    config.train.update(steps=60_000, steps_per_dispatch=100)
    config.eval.every = config.checkpoint.every = 10_000
