"""The pieces in their order: what is measured, with which config, and at which size in a dry run.

The names of the runs and their aims are those of docs/results.md.
"""

from typing import NamedTuple

from launch.config.errors import UserError

GROUPS = ("correctness", "throughput", "runs")
# What a data set needs, as an argument of this command, and what to do where it is not given.
DATA = {
    "mnist": ("--data_dir", "python -m launch.prepare mnist --data_dir=DIR"),
    "cifar10": ("--cifar10", "python -m launch.prepare cifar10 --data_dir=DIR"),
    "camvid": ("--camvid", "DIR/{train,val,test}/{images,masks} of CamVid, SegNet's split"),
    "bsds": ("--bsds", "DIR/images and DIR/groundTruth of BSDS500"),
}
# The same of single files; a dry run does without them.
FILES = {
    "inception": (
        "--inception",
        "the weights of published FIDs, pt_inception-2015-12-05 as .pth, .safetensors or .npz",
    ),
}


class Piece(NamedTuple):
    """One piece of work: it ends within ten minutes, or goes on where it stopped.

    Attributes:
      name: GROUP/WHAT, unique.
      job: the function of `work` that does it.
      config: FILE.py or FILE.py:VARIANT.
      full: config overrides.
      small: more of them, for a dry run.
      data: a key of `DATA`; "" for data sets that come with the package.
      least: seconds of the budget that must be left for it to begin.
      title: what it is, for the tables.
      minutes: of a run: it trains for so long at most; 0 for as many steps as its config says.
      score: of a run: the commands that score it, each with its arguments; {run} is its folder,
        {data} that of the data, and {file} the file.
      small_score: of a run: the same in a dry run.
      metrics: of a run: the metrics of the table, the first is the one with the aim.
      aim: of a run: the published figure to reach, in words; "" for none.
      flags: of a throughput: more XLA_FLAGS.
      file: a key of `FILES`; "" for none.
    """

    name: str
    job: str
    config: str
    full: tuple[str, ...] = ()
    small: tuple[str, ...] = ()
    data: str = ""
    least: float = 120.0
    title: str = ""
    minutes: float = 0.0
    score: tuple[tuple[str, ...], ...] = ()
    small_score: tuple[tuple[str, ...], ...] = ()
    metrics: tuple[str, ...] = ()
    aim: str = ""
    flags: str = ""
    file: str = ""

    @property
    def group(self) -> str:
        """One of `GROUPS`."""
        return self.name.partition("/")[0]


def widths(*keys: str) -> tuple[str, ...]:
    """Overrides that make the layers of some nets small."""
    return tuple(f"--config.model.{key}widths=(8,)" for key in keys)


VAE = widths("encoder.", "decoder.")
GAN = widths("generator.", "discriminator.")
RNN = ("--config.model.layers=1", "--config.model.features=4", "--config.model.head=8")
STEPS = "--config.task.sampling.grid.steps"
FLOW = ("--config.model.width=16", "--config.model.layers=1", f"{STEPS}=2")
LADDER = (*widths(""), "--config.model.groups=(1,)")
SMALL_UNET = ("--config.model.width=8", "--config.model.multiples=(1,)")
CNN = widths("")
UNET = ("--config.model.widths=(4,8)", "--config.model.stem=1")
TINY = "--config.data.kwargs.size=(24,32)"
EDGES = ("--config.model.widths=(4,8)", "--config.model.side=4")
# The families with the nets of their default configs, on data that come with the package.
FAMILIES = {
    "vae": ("configs/vae.py", VAE, ""),
    "gan": ("configs/gan.py", GAN, ""),
    "rnn": ("configs/rnn.py", RNN, ""),
    "pixelcnn": ("configs/rnn.py:pixelcnn", RNN, ""),
    "draw": ("configs/rnn.py:draw", ("--config.model.hidden=8", "--config.model.glimpses=2"), ""),
    "ladder": ("configs/vae.py:ladder", LADDER, ""),
    "flow": ("configs/flow.py", FLOW, ""),
    "flow_unet": ("configs/flow.py:unet", (*SMALL_UNET, f"{STEPS}=2"), ""),
    "meanflow": ("configs/flow.py:meanflow", (*FLOW[:2], f"{STEPS}=1"), ""),
    "pix2pix": ("configs/gan.py:pix2pix", widths("generator.", "discriminator."), ""),
    "unet": ("configs/unet.py", UNET, ""),
    "cnn": ("configs/cnn.py", CNN, ""),
    "edges": ("configs/edges.py", EDGES, "bsds"),
}
AUDITED = ("vae", "gan", "rnn", "pixelcnn", "draw", "ladder", "flow", "flow_unet")
# Evaluations and saves more often than a run of hours has them, so that one period of the loop is
# short: the measured ratio is a lower bound of that run's.
OFTEN = ("--config.eval.every=1000", "--config.checkpoint.every=1000")
FEW = ("--config.train.steps=40", "--config.train.steps_per_dispatch=1", "--config.log.every=1")
ONCE = ("--config.eval.every=20", "--config.checkpoint.every=20")
SHORT = (*FEW, *ONCE, "--config.data.batch_size=10", "--config.eval.batch_size=32")
ANY_ORDER = "--xla_gpu_deterministic_ops=false"
LOSSES = ("mnist", "mnist_least_squares", "mnist_hinge", "mnist_wgan_gp")  # of GANs
SEEDS = range(5)
REPEATED = tuple(f"-{seed}" for seed in SEEDS[1:])  # ends of the names of runs
EVALUATE = ("launch.evaluate", "--workdir={run}")
DENSITY = "--config.task.likelihood.name=jaxgen.flows:density"
BSDS = ("launch.benchmarks.bsds", "--data={data}", "--workdir={run}")


def pieces() -> tuple[Piece, ...]:
    """All pieces: correctness, throughput, then the runs in order of worth."""
    return (*_correctness(), *_throughput(), *_runs(), *_gan_runs())


def _correctness():
    batch = ("--config.data.batch_size=10",)
    for job in ("losses", "audit", "repeat"):
        for family, (config, small, data) in FAMILIES.items():
            if job == "audit" and family not in AUDITED:
                continue
            less = small if job == "audit" else (*small, *batch)
            yield Piece(f"correctness/{job}-{family}", job, config, (), less, data, least=150.0)


def _throughput():
    for family in ("vae", "gan", "rnn", "unet"):
        config, small, data = FAMILIES[family]
        piece = Piece(f"throughput/{family}", "speed", config, (), (*small, *SHORT), data, 150.0)
        yield piece
        if family in ("gan", "unet"):  # the price of results to the bit
            yield piece._replace(name=f"{piece.name}-any-order", flags=ANY_ORDER)
    iwae = (*VAE, "--config.task.samples=2")
    for name, config, often, small, data in (
        ("vae-mnist", "configs/vae.py:mnist", (), VAE, "mnist"),
        ("vae-iwae", "configs/vae.py:mnist_iwae", OFTEN, iwae, "mnist"),
        ("flow", "configs/flow.py:mnist_gpu", OFTEN, SMALL_UNET, "mnist"),
        ("cifar10", "configs/flow.py:cifar10", OFTEN, SMALL_UNET, "cifar10"),
        ("pixelcnn", "configs/rnn.py:gpu_pixelcnn", OFTEN, RNN, "mnist"),
        ("diagonal", "configs/rnn.py:gpu_diagonal_bilstm", OFTEN, RNN, "mnist"),
        ("camvid", "configs/unet.py:camvid_large", _every(250), (*UNET, TINY), "camvid"),
        ("edges", "configs/edges.py:gpu", OFTEN, EDGES, "bsds"),
    ):
        less = (*small, *SHORT)
        yield Piece(f"throughput/{name}", "speed", config, often, less, data, least=240.0)


def _runs():
    yield Piece(
        "runs/iwae",
        "train",
        "configs/vae.py:mnist_iwae",
        small=(*VAE, *SHORT, "--config.task.samples=2"),
        data="mnist",
        title="that net, k = 50, DReG gradients",
        score=((*EVALUATE, "--config.task.nll_samples=5000"),),
        small_score=((*EVALUATE, "--config.task.nll_samples=2"),),
        metrics=("nll", "negative_elbo"),
        aim="84.8 nats",
    )
    yield Piece(
        "runs/flow_mnist",
        "train",
        "configs/flow.py:mnist_gpu",
        small=(*SMALL_UNET, f"{STEPS}=2", *SHORT),
        data="mnist",
        title="U-Net, 64 channels from patches of 2",
        score=((*EVALUATE, "--samples=10000"),),
        small_score=(EVALUATE,),
        metrics=("fid", "precision", "recall", "copied"),
        aim="FID 0.6",
    )
    yield Piece(
        "runs/flow_cifar10",
        "train",
        "configs/flow.py:cifar10",
        small=(*SMALL_UNET, *SHORT),
        data="cifar10",
        file="inception",
        title="U-Net of 28 million parameters, Inception FID of 50,000 samples",
        minutes=40.0,
        score=(
            (*EVALUATE, "--split=train", "--samples=50000", "--neighbours=0", "--inception={file}"),
            (*EVALUATE, DENSITY),
        ),
        small_score=(EVALUATE, (*EVALUATE, DENSITY, "--config.task.likelihood.steps=2")),
        metrics=("fid", "nll_bits_per_dim", "noise_std", "precision", "recall"),
        aim="FID 1.97 (EDM), 2.07 (Meta's flow matching), 3.5 (OT-CFM); 2.65 (VDM), 2.92 "
        "(PixelCNN++), 2.99 (DDPM++, sub-VP) bits",
    )
    yield Piece(
        "runs/camvid_large",
        "train",
        "configs/unet.py:camvid_large",
        small=(*UNET, *SHORT, TINY),
        data="camvid",
        title="U-Net at 360 x 480",
        score=((*EVALUATE, "--split=test"),),
        small_score=((*EVALUATE, "--split=test"),),
        metrics=("mean_iou", "pixel_accuracy", "class_accuracy"),
        aim="0.669",
    )
    yield Piece(
        "runs/pixelcnn",
        "train",
        "configs/rnn.py:gpu_pixelcnn",
        small=(*RNN, *SHORT),
        data="mnist",
        title="12 layers of 64",
        score=(EVALUATE,),
        small_score=(EVALUATE,),
        metrics=("nll",),
        aim="81.4 nats",
    )
    yield Piece(
        "runs/edges",
        "train",
        "configs/edges.py:gpu",
        small=(*EDGES, *SHORT),
        data="bsds",
        title="the same, with larger crops and batches",
        score=(BSDS,),
        small_score=((*BSDS, "--limit=2", "--thresholds=5", "--processes=1"),),
        metrics=("ODS", "OIS", "AP"),
        aim="0.75",
    )
    yield Piece(
        "runs/diagonal_bilstm",
        "train",
        "configs/rnn.py:gpu_diagonal_bilstm",
        small=(*RNN, *SHORT),
        data="mnist",
        title="7 layers of 16",
        score=(EVALUATE,),
        small_score=(EVALUATE,),
        metrics=("nll",),
        aim="80 nats",
    )


def _gan_runs():
    """The four losses with a seed each, then with the next seed."""
    for seed in SEEDS:
        for loss in LOSSES:
            yield Piece(
                f"runs/gan_{loss}-{seed}",
                "train",
                f"configs/gan.py:{loss}",
                (f"--config.seed={seed}",),
                (*GAN, *SHORT),
                "mnist",
                title=f"seed {seed}",
                score=((*EVALUATE, "--samples=10000"),),
                small_score=(EVALUATE,),
                metrics=("fid", "precision", "recall", "density", "coverage"),
            )


def _every(steps):
    return (f"--config.eval.every={steps}", f"--config.checkpoint.every={steps}")


def choose(value: str, dry: bool = False) -> tuple[Piece, ...]:
    """The pieces that a list of names names: groups, pieces, or beginnings of pieces' names.

    Args:
      value: names with commas between them; "" for all pieces.
      dry: whether to leave out the runs that differ from another one in their seed alone.

    Returns:
      The pieces in their own order.

    Raises:
      UserError: a name that no piece has.
    """
    known = tuple(one for one in pieces() if not (dry and one.name[-2:] in REPEATED))
    asked = [name.strip() for name in value.split(",") if name.strip()]
    for name in asked:
        if not any(piece.name.startswith(name) for piece in known):
            names = ", ".join((*GROUPS, *(piece.name for piece in known)))
            raise UserError(f"--pieces: no piece begins with {name!r}; there are {names}")
    return tuple(one for one in known if not asked or one.name.startswith(tuple(asked)))
