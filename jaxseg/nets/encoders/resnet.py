"""ResNet (He et al. 2016) as an encoder, with weights of torchvision, timm or transformers."""

from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp

from jaxseg.nets.encoders.batch_norm import batch_norm, batch_norm_rules
from jaxseg.nets.encoders.naming import Naming, Rule
from jaxseg.nets.encoders.stochastic_depth import StochasticDepth, linear_rates

HE_FAN_OUT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")

# Blocks of each stage, and whether they are bottlenecks.
DEPTHS = {
    10: ((1, 1, 1, 1), False),
    14: ((1, 1, 1, 1), True),
    18: ((2, 2, 2, 2), False),
    26: ((2, 2, 2, 2), True),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
    152: ((3, 8, 36, 3), True),
}


class ResNet(nn.Module):
    """Residual blocks at five resolutions (He et al. 2016, "Deep residual learning").

    See `jaxseg.nets.encoders` for how an encoder is called. Bottlenecks have their stride in
    the 3 x 3 convolution ("v1.5"), as the usual weights do.

    Attributes:
      depth: 18, 34, 50, 101 or 152; 10 and 14 have one block a stage, 26 has two.
      width: channels of the stem; the usual weights have 64.
      stochastic_depth: rate at which the last block's branch is left out; the rates of earlier
        blocks grow linearly from 0.
      frozen_statistics: batch norms use their running statistics in training too, and do not
        change them.
      dtype: dtype of the computation; parameters are float32.

    Raises:
      ValueError: when called, if an attribute is out of range.
    """

    depth: int = 18
    width: int = 64
    stochastic_depth: float = 0.0
    frozen_statistics: bool = False
    dtype: Any = jnp.float32

    mean: ClassVar[tuple[float, ...]] = (0.485, 0.456, 0.406)
    std: ClassVar[tuple[float, ...]] = (0.229, 0.224, 0.225)
    strides: ClassVar[tuple[int, ...]] = (2, 4, 8, 16, 32)
    image_kernel: ClassVar[str] = "params/stem/kernel"

    @property
    def namings(self) -> tuple[Naming, ...]:
        """Names of the tensors in files of other tools."""
        return NAMINGS

    @nn.compact
    def __call__(self, x, index, train=False, drop=False):
        """Computes the feature maps of x [B, H, W, C]; see the class."""
        if self.depth not in DEPTHS:
            known = ", ".join(map(str, DEPTHS))
            raise ValueError(f"ResNet: depth must be one of {known}; got {self.depth}")
        blocks, bottleneck = DEPTHS[self.depth]
        rates = iter(linear_rates(self.stochastic_depth, sum(blocks)))
        x = _convolution(self.width, 7, 2, self.dtype, "stem")(x.astype(self.dtype))
        x = _norm(train, self.frozen_statistics, self.dtype, "stem_norm")(x)
        maps = [nn.relu(x)]
        x = nn.max_pool(maps[0], (3, 3), (2, 2), ((1, 1), (1, 1)))
        for stage, count in enumerate(blocks):
            for number in range(count):
                x = ResNetBlock(
                    features=self.width << stage,
                    stride=2 if stage and not number else 1,
                    bottleneck=bottleneck,
                    stochastic_depth=next(rates),
                    frozen_statistics=self.frozen_statistics,
                    dtype=self.dtype,
                    name=f"stage{stage}_block{number}",
                )(x, index, train, train or drop)
            maps.append(x)
        return tuple(maps)


class ResNetBlock(nn.Module):
    """Two 3 x 3 convolutions, or a bottleneck of 1 x 1, 3 x 3 and 1 x 1, beside a shortcut.

    Attributes:
      features: channels of the 3 x 3 convolutions; a bottleneck's output has four times as many.
      stride: of the first 3 x 3 convolution.
      bottleneck: which of the two.
      stochastic_depth: rate at which all but the shortcut is left out.
      frozen_statistics: batch norms use their running statistics always.
      dtype: dtype of the computation.
    """

    features: int
    stride: int
    bottleneck: bool
    stochastic_depth: float
    frozen_statistics: bool
    dtype: Any

    @nn.compact
    def __call__(self, x, index, train, drop):
        """Maps x [B, H, W, C] to [B, ceil(H / stride), ceil(W / stride), output channels]."""
        f, outputs = self.features, self.features * (4 if self.bottleneck else 1)
        layers = [(f, 3, self.stride), (f, 3, 1)]
        if self.bottleneck:
            layers = [(f, 1, 1), (f, 3, self.stride), (outputs, 1, 1)]
        norm = lambda name: _norm(train, self.frozen_statistics, self.dtype, name)
        shortcut = x
        for number, (features, kernel, stride) in enumerate(layers, 1):
            x = _convolution(features, kernel, stride, self.dtype, f"conv{number}")(x)
            x = norm(f"norm{number}")(x)
            if number < len(layers):
                x = nn.relu(x)
        if self.stride > 1 or shortcut.shape[-1] != outputs:
            shortcut = _convolution(outputs, 1, self.stride, self.dtype, "shortcut")(shortcut)
            shortcut = norm("shortcut_norm")(shortcut)
        return nn.relu(shortcut + StochasticDepth(self.stochastic_depth)(x, index, drop))


def _convolution(features, kernel, stride, dtype, name):
    """A convolution with PyTorch's padding: as much before as after, at every size."""
    pad = kernel // 2
    return nn.Conv(
        features,
        (kernel, kernel),
        (stride, stride),
        ((pad, pad), (pad, pad)),
        use_bias=False,
        kernel_init=HE_FAN_OUT,
        dtype=dtype,
        name=name,
    )


def _norm(train, frozen, dtype, name):
    return batch_norm(train, frozen, 1e-5, dtype, name)


def _torchvision_rules():
    yield Rule(r"conv1\.weight", "params/stem/kernel")
    yield from batch_norm_rules(r"bn1", "stem_norm")
    for stage in range(4):
        block, ours = rf"layer{stage + 1}\.(\d+)", rf"stage{stage}_block\1"
        yield Rule(rf"{block}\.conv(\d)\.weight", rf"params/{ours}/conv\2/kernel")
        yield from batch_norm_rules(rf"{block}\.bn(\d)", rf"{ours}/norm\2")
        yield Rule(rf"{block}\.downsample\.0\.weight", rf"params/{ours}/shortcut/kernel")
        yield from batch_norm_rules(rf"{block}\.downsample\.1", rf"{ours}/shortcut_norm")


def _transformers_rules():
    embedder = r"(?:resnet\.)?embedder\.embedder"
    yield Rule(rf"{embedder}\.convolution\.weight", "params/stem/kernel")
    yield from batch_norm_rules(rf"{embedder}\.normalization", "stem_norm")
    block, ours = r"(?:resnet\.)?encoder\.stages\.(\d+)\.layers\.(\d+)", r"stage\1_block\2"
    for number in range(3):
        layer = rf"{block}\.layer\.{number}"
        yield Rule(rf"{layer}\.convolution\.weight", f"params/{ours}/conv{number + 1}/kernel")
        yield from batch_norm_rules(rf"{layer}\.normalization", f"{ours}/norm{number + 1}")
    shortcut = rf"{block}\.shortcut"
    yield Rule(rf"{shortcut}\.convolution\.weight", f"params/{ours}/shortcut/kernel")
    yield from batch_norm_rules(rf"{shortcut}\.normalization", f"{ours}/shortcut_norm")


NAMINGS = (
    Naming(
        "torchvision, timm and segmentation_models_pytorch",
        tuple(_torchvision_rules()),
        r"fc\.(weight|bias)|.*num_batches_tracked",
    ),
    Naming(
        "transformers",
        tuple(_transformers_rules()),
        r"classifier\.1\.(weight|bias)|.*num_batches_tracked",
    ),
)
