"""ConvNeXt (Liu et al. 2022, arXiv 2201.03545), first version."""

from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from jaxseg.nets.encoders.layer_norm import layer_norm
from jaxseg.nets.encoders.layer_rules import layer_rules
from jaxseg.nets.encoders.naming import Naming, Rule
from jaxseg.nets.encoders.stochastic_depth import StochasticDepth, linear_rates
from jaxseg.nets.unet import pad_to_multiple

NORMAL = nn.initializers.truncated_normal(0.02)


class ConvNeXt(nn.Module):
    """Four stages of depthwise 7 x 7 convolutions and layer norms; the defaults are ConvNeXt-T.

    See `jaxseg.nets.encoders` for how an encoder is called; there is a map of each stage. Images
    whose sides are no multiples of the last stride are padded below and at the right (edge
    pixels repeated), and the maps cropped, so that they cover the image; PyTorch's
    implementations leave out the last rows and columns of such images.

    Attributes:
      depths: blocks of each stage.
      widths: channels of each stage.
      layer_scale: what the scales of the branches start from.
      stochastic_depth: rate at which the last block is left out of an example in training.
      dtype: dtype of the computation; parameters are float32.

    Raises:
      ValueError: when called, if an attribute is out of range.
    """

    depths: tuple[int, ...] = (3, 3, 9, 3)
    widths: tuple[int, ...] = (96, 192, 384, 768)
    layer_scale: float = 1e-6
    stochastic_depth: float = 0.0
    dtype: Any = jnp.float32

    # ImageNet's, of images in [0, 1].
    mean: ClassVar[tuple[float, ...]] = (0.485, 0.456, 0.406)
    std: ClassVar[tuple[float, ...]] = (0.229, 0.224, 0.225)
    image_kernel: ClassVar[str] = "params/stem/kernel"

    @property
    def namings(self) -> tuple[Naming, ...]:
        """How files name the variables."""
        return NAMINGS

    @property
    def strides(self) -> tuple[int, ...]:
        """The stride of each map: 4, 8, 16, 32."""
        return tuple(4 * 2**stage for stage in range(len(self.depths)))

    @nn.compact
    def __call__(self, x, index, train=False, drop=False):
        """Computes the features of a batch; see the class."""
        _check(self)
        rates = iter(linear_rates(self.stochastic_depth, sum(self.depths)))
        height, width = x.shape[1:3]
        x = pad_to_multiple(x, self.strides[-1]).astype(self.dtype)
        maps = []
        for stage, stride in enumerate(self.strides):
            if stage:
                x = self._norm(f"down{stage}_norm")(x)
                x = self._patches(self.widths[stage], 2, f"down{stage}")(x)
            else:
                x = self._norm("stem_norm")(self._patches(self.widths[0], 4, "stem")(x))
            for number in range(self.depths[stage]):
                name = f"stage{stage}_block{number}"
                block = ConvNeXtBlock(self.layer_scale, next(rates), self.dtype, name=name)
                x = block(x, index, train or drop)
            maps.append(x[:, : -(-height // stride), : -(-width // stride)])
        return tuple(maps)

    def _norm(self, name):
        return layer_norm(1e-6, self.dtype, name)

    def _patches(self, width, size, name):
        """The convolution of patches that do not overlap."""
        shape = (size, size)
        return nn.Conv(
            width, shape, shape, "VALID", kernel_init=NORMAL, dtype=self.dtype, name=name
        )


class ConvNeXtBlock(nn.Module):
    """A depthwise convolution, a norm and two dense layers, added to the input (figure 4).

    Attributes:
      layer_scale: what the scale of the branch starts from.
      stochastic_depth: rate at which the branch is left out of an example.
      dtype: dtype of the computation.
    """

    layer_scale: float
    stochastic_depth: float
    dtype: Any

    @nn.compact
    def __call__(self, x, index, drop):
        """Maps [B, H, W, C] to [B, H, W, C]."""
        width = x.shape[-1]
        options = {"kernel_init": NORMAL, "dtype": self.dtype}
        y = nn.Conv(
            width, (7, 7), padding=3, feature_group_count=width, name="depthwise", **options
        )(x)
        y = layer_norm(1e-6, self.dtype, "norm")(y)
        y = nn.gelu(nn.Dense(4 * width, name="expand", **options)(y), approximate=False)
        y = nn.Dense(width, name="contract", **options)(y)
        start = nn.initializers.constant(self.layer_scale)
        scale = self.param("scale", start, (width,)).astype(self.dtype)
        y = y * scale[None, None, None]
        return x + StochasticDepth(self.stochastic_depth)(y, index, drop)


def _check(net):
    if not net.depths or len(net.depths) != len(net.widths):
        raise ValueError(
            f"ConvNeXt: depths and widths must be as many, got {net.depths} and {net.widths}"
        )
    if min(*net.depths, *net.widths) < 1:
        raise ValueError("ConvNeXt: depths and widths must be at least 1")


BLOCK = r"stage\1_block\2"
FACEBOOK = Naming(
    "the original ConvNeXt",
    (
        *layer_rules(
            {
                r"downsample_layers\.0\.0": "stem/kernel",
                r"downsample_layers\.0\.1": "stem_norm/scale",
                r"downsample_layers\.(\d+)\.0": r"down\1_norm/scale",
                r"downsample_layers\.(\d+)\.1": r"down\1/kernel",
                r"stages\.(\d+)\.(\d+)\.dwconv": f"{BLOCK}/depthwise/kernel",
                r"stages\.(\d+)\.(\d+)\.norm": f"{BLOCK}/norm/scale",
                r"stages\.(\d+)\.(\d+)\.pwconv1": f"{BLOCK}/expand/kernel",
                r"stages\.(\d+)\.(\d+)\.pwconv2": f"{BLOCK}/contract/kernel",
            }
        ),
        Rule(r"stages\.(\d+)\.(\d+)\.gamma", f"params/{BLOCK}/scale"),
    ),
    unused=r"(norm|head)\..*",
)
TIMM = Naming(
    "timm",
    (
        *layer_rules(
            {
                r"stem\.0": "stem/kernel",
                r"stem\.1": "stem_norm/scale",
                r"stages\.(\d+)\.downsample\.0": r"down\1_norm/scale",
                r"stages\.(\d+)\.downsample\.1": r"down\1/kernel",
                r"stages\.(\d+)\.blocks\.(\d+)\.conv_dw": f"{BLOCK}/depthwise/kernel",
                r"stages\.(\d+)\.blocks\.(\d+)\.norm": f"{BLOCK}/norm/scale",
                r"stages\.(\d+)\.blocks\.(\d+)\.mlp\.fc1": f"{BLOCK}/expand/kernel",
                r"stages\.(\d+)\.blocks\.(\d+)\.mlp\.fc2": f"{BLOCK}/contract/kernel",
            }
        ),
        Rule(r"stages\.(\d+)\.blocks\.(\d+)\.gamma", f"params/{BLOCK}/scale"),
    ),
    unused=r"head\..*",
)
HUGGING_FACE = Naming(
    "Hugging Face",
    (
        *layer_rules(
            {
                r"embeddings\.patch_embeddings": "stem/kernel",
                r"embeddings\.layernorm": "stem_norm/scale",
                r"encoder\.stages\.(\d+)\.downsampling_layer\.0": r"down\1_norm/scale",
                r"encoder\.stages\.(\d+)\.downsampling_layer\.1": r"down\1/kernel",
                r"encoder\.stages\.(\d+)\.layers\.(\d+)\.dwconv": f"{BLOCK}/depthwise/kernel",
                r"encoder\.stages\.(\d+)\.layers\.(\d+)\.layernorm": f"{BLOCK}/norm/scale",
                r"encoder\.stages\.(\d+)\.layers\.(\d+)\.pwconv1": f"{BLOCK}/expand/kernel",
                r"encoder\.stages\.(\d+)\.layers\.(\d+)\.pwconv2": f"{BLOCK}/contract/kernel",
            },
            prefix=r"(?:convnext\.)?",
        ),
        Rule(
            r"(?:convnext\.)?encoder\.stages\.(\d+)\.layers\.(\d+)\.layer_scale_parameter",
            f"params/{BLOCK}/scale",
        ),
    ),
    unused=r"(convnext\.)?layernorm\..*|(classifier|hidden_states_norms|decode_head)\..*",
)


def _torchvision_stage(stage):
    """The rules of a stage, and of what leads to it: two entries of `features`."""
    block, path = rf"features\.{2 * stage + 1}\.(\d+)", rf"stage{stage}_block\1"
    down = f"down{stage}" if stage else "stem"
    norm, convolution = (0, 1) if stage else (1, 0)
    return (
        *layer_rules(
            {
                rf"features\.{2 * stage}\.{norm}": f"{down}_norm/scale",
                rf"features\.{2 * stage}\.{convolution}": f"{down}/kernel",
                rf"{block}\.block\.0": f"{path}/depthwise/kernel",
                rf"{block}\.block\.2": f"{path}/norm/scale",
                rf"{block}\.block\.3": f"{path}/expand/kernel",
                rf"{block}\.block\.5": f"{path}/contract/kernel",
            }
        ),
        Rule(rf"{block}\.layer_scale", f"params/{path}/scale", change=np.ravel),
    )


TORCHVISION = Naming(
    "torchvision",
    tuple(rule for stage in range(4) for rule in _torchvision_stage(stage)),
    unused=r"classifier\..*",
)
NAMINGS = (TORCHVISION, TIMM, FACEBOOK, HUGGING_FACE)
