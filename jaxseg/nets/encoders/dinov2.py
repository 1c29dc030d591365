"""DINOv2 (Oquab et al. 2024, arXiv 2304.07193), a vision transformer, also with registers."""

import math
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxseg.nets.encoders.layer_norm import layer_norm
from jaxseg.nets.encoders.layer_rules import layer_rules
from jaxseg.nets.encoders.naming import Naming, Rule
from jaxseg.nets.encoders.stochastic_depth import StochasticDepth, linear_rates
from jaxseg.nets.unet import pad_to_multiple

NORMAL = nn.initializers.truncated_normal(0.02)


class DINOv2(nn.Module):
    """A vision transformer with layer scale; the defaults are ViT-S/14.

    See `jaxseg.nets.encoders` for how an encoder is called. The maps are the tokens of the
    patches after the last norm, all of stride 14. Images whose sides are no multiples of the
    patch are padded below and at the right (edge pixels repeated).

    The position embeddings belong to a square grid. For others they are resampled by bicubic
    interpolation to the size of the image's grid as Hugging Face does it: with antialiasing
    where there are registers, without otherwise. The original does the same, but for nets
    without registers it adds 0.1 to the sizes from which it takes the scale, against an error
    of rounding in PyTorch.

    Attributes:
      width: channels of a token.
      depth: blocks.
      heads: of the attention.
      patch: side of a patch in pixels, the stride of the maps.
      grid: side of the square grid of the position embeddings, in patches; 37 in the original
        weights (images of 518 x 518).
      registers: tokens beside those of the patches (Darcet et al. 2024); 0 or, in the original
        weights, 4.
      layers: blocks, counted from 0, whose tokens are returned, each after the last norm; ()
        for the last block.
      layer_scale: what the scales of the branches start from.
      stochastic_depth: rate at which the last block's branches are left out of an example in
        training.
      dtype: dtype of the computation; parameters are float32.

    Raises:
      ValueError: when called, if an attribute is out of range.
    """

    width: int = 384
    depth: int = 12
    heads: int = 6
    patch: int = 14
    grid: int = 37
    registers: int = 0
    layers: tuple[int, ...] = ()
    layer_scale: float = 1e-5
    stochastic_depth: float = 0.0
    dtype: Any = jnp.float32

    # ImageNet's, of images in [0, 1].
    mean: ClassVar[tuple[float, ...]] = (0.485, 0.456, 0.406)
    std: ClassVar[tuple[float, ...]] = (0.229, 0.224, 0.225)
    image_kernel: ClassVar[str] = "params/patches/kernel"

    @property
    def namings(self) -> tuple[Naming, ...]:
        """How files name the variables."""
        return NAMINGS

    @property
    def strides(self) -> tuple[int, ...]:
        """The stride of each map: the patch."""
        return (self.patch,) * max(1, len(self.layers))

    @nn.compact
    def __call__(self, x, index, train=False, drop=False):
        """Computes the tokens of a batch; see the class."""
        _check(self)
        rates = iter(linear_rates(self.stochastic_depth, self.depth))
        x = pad_to_multiple(x, self.patch).astype(self.dtype)
        side = (self.patch, self.patch)
        x = nn.Conv(
            self.width, side, side, "VALID", kernel_init=NORMAL, dtype=self.dtype, name="patches"
        )(x)
        size = x.shape[:3]
        x = self._add_tokens(x)
        norm = layer_norm(1e-6, self.dtype, "norm")
        maps = {}
        for number in range(self.depth):
            name = f"block{number}"
            block = DINOv2Block(self.heads, self.layer_scale, next(rates), self.dtype, name=name)
            x = block(x, index, train or drop)
            if number in (self.layers or (self.depth - 1,)):
                maps[number] = norm(x)[:, 1 + self.registers :].reshape(*size, self.width)
        return tuple(maps[number] for number in self.layers or (self.depth - 1,))

    def _add_tokens(self, x):
        """Adds positions to patches [B, h, w, D]; tokens [B, N, D] with class and registers."""
        batch, *size, width = x.shape
        shape = (1, 1 + self.grid**2, width)
        position = self.param("position", NORMAL, shape)
        first = self.param("class_token", NORMAL, (1, 1, width)) + position[:, :1]
        others = resample_positions(position[0, 1:], size, antialias=self.registers > 0)
        tokens = [first, x.reshape(batch, -1, width) + others[None].astype(self.dtype)]
        if self.registers:
            registers = self.param("registers", NORMAL, (1, self.registers, width))
            tokens.insert(1, registers)
        repeat = lambda token: jnp.broadcast_to(token, (batch, *token.shape[1:]))
        return jnp.concatenate([repeat(token).astype(self.dtype) for token in tokens], 1)


class DINOv2Block(nn.Module):
    """Attention, then two dense layers, each scaled and added to the input.

    Attributes:
      heads: of the attention.
      layer_scale: what the scales start from.
      stochastic_depth: rate at which each of the two branches is left out of an example.
      dtype: dtype of the computation.
    """

    heads: int
    layer_scale: float
    stochastic_depth: float
    dtype: Any

    @nn.compact
    def __call__(self, x, index, drop):
        """Maps [B, N, D] to [B, N, D]."""
        batch, count, width = x.shape
        dense = lambda features, name: nn.Dense(
            features, kernel_init=NORMAL, dtype=self.dtype, name=name
        )
        norm = lambda name: layer_norm(1e-6, self.dtype, name)
        y = dense(3 * width, "qkv")(norm("norm1")(x))
        y = y.reshape(batch, count, 3, self.heads, width // self.heads)
        y = jax.nn.dot_product_attention(y[:, :, 0], y[:, :, 1], y[:, :, 2])
        y = self._scale(dense(width, "projection")(y.reshape(x.shape)), "scale1")
        x = x + StochasticDepth(self.stochastic_depth)(y, index, drop)
        y = nn.gelu(dense(4 * width, "expand")(norm("norm2")(x)), approximate=False)
        y = self._scale(dense(width, "contract")(y), "scale2")
        return x + StochasticDepth(self.stochastic_depth)(y, index, drop)

    def _scale(self, x, name):
        start = nn.initializers.constant(self.layer_scale)
        return x * self.param(name, start, x.shape[-1:]).astype(self.dtype)[None, None]


def resample_positions(position: jax.Array, size: tuple[int, int], antialias: bool) -> jax.Array:
    """Resamples the embeddings of a square grid by bicubic interpolation.

    Args:
      position: float [n * n, D], row by row.
      size: (h, w) of the new grid.
      antialias: see `cubic_weights`.

    Returns:
      [h * w, D].
    """
    side = math.isqrt(position.shape[0])
    square = position.reshape(side, side, -1)
    rows, columns = (cubic_weights(side, count, antialias) for count in size)
    return jnp.einsum(
        "yi,xj,ijd->yxd", rows, columns, square, precision=jax.lax.Precision.HIGHEST
    ).reshape(size[0] * size[1], -1)


def cubic_weights(size: int, target: int, antialias: bool) -> np.ndarray:
    """Weights of cubic convolution (Keys 1981) along one axis, as PyTorch's interpolate has them.

    Args:
      size: samples that are there.
      target: samples that are made of them.
      antialias: whether the kernel is stretched where samples become fewer, with a = -1/2 and
        weights beyond the border left out; otherwise a = -3/4 and the border repeated.

    Returns:
      float32 [target, size]; rows sum to 1.
    """
    scale = size / target
    centres = (np.arange(target)[:, None] + 0.5) * scale - 0.5
    if antialias:
        weights = _cubic((np.arange(size) - centres) / max(scale, 1.0), -0.5)
        return np.float32(weights / weights.sum(1, keepdims=True))
    taps = np.floor(centres) + np.arange(-1, 3)
    weights = np.zeros((target, size))
    places = np.clip(taps, 0, size - 1).astype(int)
    np.add.at(weights, (np.arange(target)[:, None], places), _cubic(taps - centres, -0.75))
    return np.float32(weights)


def _cubic(x, a):
    """Keys's kernel, which is 0 beyond 2."""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x**2 + 1
    far = a * (((x - 5) * x + 8) * x - 4)
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def _check(net):
    if min(net.width, net.depth, net.heads, net.patch, net.grid) < 1 or net.registers < 0:
        raise ValueError(
            "DINOv2: width, depth, heads, patch and grid must be at least 1, registers at least 0"
        )
    if net.width % net.heads:
        raise ValueError(f"DINOv2: width={net.width} must be a multiple of heads={net.heads}")
    if any(not 0 <= number < net.depth for number in net.layers):
        raise ValueError(
            f"DINOv2: layers must be from 0 to {net.depth - 1}, got {tuple(net.layers)}"
        )


def _with_class(position):
    """Positions with one for the class token: 0 where a file has added it to the token itself."""
    if math.isqrt(position.shape[1]) ** 2 != position.shape[1]:
        return position
    return np.pad(position, ((0, 0), (1, 0), (0, 0)))


BLOCK = r"block\1"
META = Naming(
    "the original DINOv2 and timm",
    (
        *layer_rules(
            {
                r"patch_embed\.proj": "patches/kernel",
                r"norm": "norm/scale",
                r"blocks\.(\d+)\.norm1": f"{BLOCK}/norm1/scale",
                r"blocks\.(\d+)\.norm2": f"{BLOCK}/norm2/scale",
                r"blocks\.(\d+)\.attn\.qkv": f"{BLOCK}/qkv/kernel",
                r"blocks\.(\d+)\.attn\.proj": f"{BLOCK}/projection/kernel",
                r"blocks\.(\d+)\.mlp\.fc1": f"{BLOCK}/expand/kernel",
                r"blocks\.(\d+)\.mlp\.fc2": f"{BLOCK}/contract/kernel",
            }
        ),
        Rule(r"blocks\.(\d+)\.ls([12])\.gamma", r"params/block\1/scale\2"),
        Rule(r"cls_token", "params/class_token"),
        Rule(r"(register_tokens|reg_token)", "params/registers"),
        Rule(r"pos_embed", "params/position", change=_with_class),
    ),
    unused=r"mask_token|(head|fc_norm)\..*",
)


def _hugging_face(title, query, key, value, projection):
    """A naming of Hugging Face, whose versions differ in the names of four layers."""
    prefix = r"(?:dinov2\.|dinov2_with_registers\.|backbone\.)?"
    layer = r"encoder\.layer\.(\d+)"
    table = {
        r"embeddings\.patch_embeddings\.projection": "patches/kernel",
        r"layernorm": "norm/scale",
        rf"{layer}\.norm1": f"{BLOCK}/norm1/scale",
        rf"{layer}\.norm2": f"{BLOCK}/norm2/scale",
        rf"{layer}\.attention\.{projection}": f"{BLOCK}/projection/kernel",
        rf"{layer}\.mlp\.fc1": f"{BLOCK}/expand/kernel",
        rf"{layer}\.mlp\.fc2": f"{BLOCK}/contract/kernel",
    }
    rules = list(layer_rules(table, prefix))
    for number, name in enumerate((query, key, value)):
        joint = {rf"{layer}\.attention\.{name}": f"{BLOCK}/qkv/kernel"}
        rules += layer_rules(joint, prefix, (number, 3))
    rules += [
        Rule(rf"{prefix}{layer}\.layer_scale([12])\.lambda1", r"params/block\1/scale\2"),
        Rule(rf"{prefix}embeddings\.cls_token", "params/class_token"),
        Rule(rf"{prefix}embeddings\.register_tokens", "params/registers"),
        Rule(rf"{prefix}embeddings\.position_embeddings", "params/position"),
    ]
    unused = rf"{prefix}embeddings\.mask_token|(classifier|head)\..*"
    return Naming(title, tuple(rules), unused)


HUGGING_FACE = _hugging_face(
    "Hugging Face",
    r"attention\.query",
    r"attention\.key",
    r"attention\.value",
    r"output\.dense",
)
# The names of transformers 5 in memory; it writes files by the names above.
TRANSFORMERS_5 = _hugging_face("transformers 5", "q_proj", "k_proj", "v_proj", "o_proj")
NAMINGS = (META, HUGGING_FACE, TRANSFORMERS_5)
