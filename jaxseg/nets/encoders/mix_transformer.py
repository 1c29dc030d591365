"""The Mix Transformer, the encoder of SegFormer (Xie et al. 2021, arXiv 2105.15203)."""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxseg.nets.encoders.layer_norm import layer_norm
from jaxseg.nets.encoders.layer_rules import layer_rules
from jaxseg.nets.encoders.naming import Naming
from jaxseg.nets.encoders.stochastic_depth import StochasticDepth, linear_rates

NORMAL = nn.initializers.truncated_normal(0.02)
# Widths and depths of the four stages, table 6 of the paper.
SIZES = {
    "B0": ((32, 64, 160, 256), (2, 2, 2, 2)),
    "B1": ((64, 128, 320, 512), (2, 2, 2, 2)),
    "B2": ((64, 128, 320, 512), (3, 4, 6, 3)),
}
HEADS = (1, 2, 5, 8)
REDUCTIONS = (8, 4, 2, 1)
STRIDES = (4, 2, 2, 2)


class MixTransformer(nn.Module):
    """Four stages of transformers on overlapping patches, without position embeddings.

    See `jaxseg.nets.encoders` for how an encoder is called; there is a map of each stage.

    Attributes:
      size: "B0", "B1" or "B2".
      widths: channels of each stage, multiples of 1, 2, 5 and 8 heads; () for those of the
        size.
      depths: blocks of each stage; () for those of the size.
      stochastic_depth: rate at which the last block's branches are left out of an example in
        training.
      epsilon: of the layer norms. Hugging Face computes with 1e-5.
      dtype: dtype of the computation; parameters are float32.

    Raises:
      ValueError: when called, if an attribute is out of range.
    """

    size: str = "B0"
    widths: tuple[int, ...] = ()
    depths: tuple[int, ...] = ()
    stochastic_depth: float = 0.0
    epsilon: float = 1e-6
    dtype: Any = jnp.float32

    # ImageNet's, of images in [0, 1].
    mean: ClassVar[tuple[float, ...]] = (0.485, 0.456, 0.406)
    std: ClassVar[tuple[float, ...]] = (0.229, 0.224, 0.225)
    image_kernel: ClassVar[str] = "params/embed0/kernel"
    strides: ClassVar[tuple[int, ...]] = (4, 8, 16, 32)

    @property
    def namings(self) -> tuple[Naming, ...]:
        """How files name the variables."""
        return NAMINGS

    @nn.compact
    def __call__(self, x, index, train=False, drop=False):
        """Computes the features of a batch; see the class."""
        widths, depths = _stages(self)
        rates = iter(linear_rates(self.stochastic_depth, sum(depths)))
        x = x.astype(self.dtype)
        maps = []
        for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            x = self._norm(f"embed{stage}_norm")(self._embed(stage, width)(x))
            for number in range(depth):
                block = MixTransformerBlock(
                    HEADS[stage],
                    REDUCTIONS[stage],
                    next(rates),
                    self.epsilon,
                    self.dtype,
                    name=f"stage{stage}_block{number}",
                )
                x = block(x, index, train or drop)
            x = self._norm(f"norm{stage}")(x)
            maps.append(x)
        return tuple(maps)

    def _norm(self, name):
        return layer_norm(self.epsilon, self.dtype, name)

    def _embed(self, stage, width):
        """The convolution of patches that overlap: 7 x 7, then 3 x 3 (section 3.1)."""
        size, stride = (3 if stage else 7), STRIDES[stage]
        return nn.Conv(
            width,
            (size, size),
            (stride, stride),
            size // 2,
            kernel_init=NORMAL,
            dtype=self.dtype,
            name=f"embed{stage}",
        )


class MixTransformerBlock(nn.Module):
    """Efficient self-attention, then the Mix-FFN (section 3.1).

    Attributes:
      heads: of the attention.
      reduction: side of the squares of positions that make one key and one value.
      stochastic_depth: rate at which each of the two branches is left out of an example.
      epsilon: of the layer norms.
      dtype: dtype of the computation.
    """

    heads: int
    reduction: int
    stochastic_depth: float
    epsilon: float
    dtype: Any

    @nn.compact
    def __call__(self, x, index, drop):
        """Maps [B, H, W, C] to [B, H, W, C]."""
        y = self._attend(self._norm("norm1")(x))
        x = x + StochasticDepth(self.stochastic_depth)(y, index, drop)
        y = self._feed_forward(self._norm("norm2")(x))
        return x + StochasticDepth(self.stochastic_depth)(y, index, drop)

    def _attend(self, x):
        """Attention whose keys and values come from squares of positions (equation 2)."""
        batch, height, width, features = x.shape
        heads = (self.heads, features // self.heads)
        query = self._dense(features, "query")(x).reshape(batch, -1, *heads)
        if self.reduction > 1:
            x = self._norm("reduction_norm")(self._reduce(x))
        both = self._dense(2 * features, "key_value")(x).reshape(batch, -1, 2, *heads)
        y = jax.nn.dot_product_attention(query, both[:, :, 0], both[:, :, 1])
        return self._dense(features, "projection")(y.reshape(batch, height, width, features))

    def _reduce(self, x):
        """Makes one position of each whole square; of maps smaller than that, the map."""
        side = (self.reduction, self.reduction)
        pads = [(0, max(0, self.reduction - size)) for size in x.shape[1:3]]
        if any(map(any, pads)):
            x = jnp.pad(x, ((0, 0), *pads, (0, 0)), mode="edge")
        return nn.Conv(
            x.shape[-1],
            side,
            side,
            "VALID",
            kernel_init=NORMAL,
            dtype=self.dtype,
            name="reduction",
        )(x)

    def _feed_forward(self, x):
        """Dense, a depthwise 3 x 3 convolution, GELU, dense (equation 3)."""
        features = x.shape[-1]
        hidden = 4 * features
        x = self._dense(hidden, "expand")(x)
        x = nn.Conv(
            hidden,
            (3, 3),
            padding=1,
            feature_group_count=hidden,
            kernel_init=NORMAL,
            dtype=self.dtype,
            name="depthwise",
        )(x)
        return self._dense(features, "contract")(nn.gelu(x, approximate=False))

    def _norm(self, name):
        return layer_norm(self.epsilon, self.dtype, name)

    def _dense(self, features, name):
        return nn.Dense(features, kernel_init=NORMAL, dtype=self.dtype, name=name)


def _stages(net):
    """The widths and depths of the stages."""
    if net.size not in SIZES:
        raise ValueError(
            f"MixTransformer: size must be one of {', '.join(SIZES)}; got {net.size!r}"
        )
    widths, depths = (
        given or usual
        for given, usual in zip((net.widths, net.depths), SIZES[net.size], strict=True)
    )
    if len(widths) != 4 or len(depths) != 4:
        raise ValueError(f"MixTransformer has four stages; got {widths} and {depths}")
    for stage, (width, heads) in enumerate(zip(widths, HEADS, strict=True)):
        if width < 1 or width % heads:
            raise ValueError(
                f"MixTransformer: widths[{stage}] must be a multiple of {heads}, got {width}"
            )
    if min(depths) < 1:
        raise ValueError(f"MixTransformer: depths must be at least 1, got {depths}")
    return widths, depths


def _original_stage(stage):
    """The rules of a stage in the names of the paper's files, which count stages from 1."""
    number, path = stage + 1, rf"stage{stage}_block\1"
    layers = {
        r"norm1": "norm1/scale",
        r"norm2": "norm2/scale",
        r"attn\.q": "query/kernel",
        r"attn\.kv": "key_value/kernel",
        r"attn\.proj": "projection/kernel",
        r"attn\.sr": "reduction/kernel",
        r"attn\.norm": "reduction_norm/scale",
        r"mlp\.fc1": "expand/kernel",
        r"mlp\.dwconv\.dwconv": "depthwise/kernel",
        r"mlp\.fc2": "contract/kernel",
    }
    table = {
        rf"patch_embed{number}\.proj": f"embed{stage}/kernel",
        rf"patch_embed{number}\.norm": f"embed{stage}_norm/scale",
        rf"norm{number}": f"norm{stage}/scale",
        **{rf"block{number}\.(\d+)\.{layer}": f"{path}/{to}" for layer, to in layers.items()},
    }
    return layer_rules(table, prefix=r"(?:backbone\.|encoder\.)?")


def _hugging_face(title, stage, block, layers):
    """A naming of Hugging Face.

    Args:
      title: of the naming.
      stage: {pattern of a layer outside of the blocks: variable}.
      block: the pattern of a block.
      layers: {pattern of a layer of a block: variable}; of two for one variable, the first is
        the key's, the second the value's.
    """
    path, prefix = r"stage\1_block\2", r"(?:segformer\.)?"
    rules = list(layer_rules(stage, prefix))
    for layer, to in layers.items():
        table = {rf"{block}\.{layer}": f"{path}/{to}"}
        parts = [other for other, same in layers.items() if same == to]
        rules += layer_rules(table, prefix, (parts.index(layer), len(parts)))
    return Naming(title, tuple(rules), unused=r"(decode_head|classifier)\..*")


ORIGINAL = Naming(
    "the original SegFormer",
    tuple(rule for stage in range(4) for rule in _original_stage(stage)),
    unused=r"(head|decode_head)\..*",
)
HUGGING_FACE = _hugging_face(
    "Hugging Face",
    {
        r"encoder\.patch_embeddings\.(\d+)\.proj": r"embed\1/kernel",
        r"encoder\.patch_embeddings\.(\d+)\.layer_norm": r"embed\1_norm/scale",
        r"encoder\.layer_norm\.(\d+)": r"norm\1/scale",
    },
    r"encoder\.block\.(\d+)\.(\d+)",
    {
        r"layer_norm_1": "norm1/scale",
        r"layer_norm_2": "norm2/scale",
        r"attention\.self\.query": "query/kernel",
        r"attention\.self\.key": "key_value/kernel",
        r"attention\.self\.value": "key_value/kernel",
        r"attention\.self\.sr": "reduction/kernel",
        r"attention\.self\.layer_norm": "reduction_norm/scale",
        r"attention\.output\.dense": "projection/kernel",
        r"mlp\.dense1": "expand/kernel",
        r"mlp\.dwconv\.dwconv": "depthwise/kernel",
        r"mlp\.dense2": "contract/kernel",
    },
)
# The names of transformers 5 in memory; it writes files by the names above.
TRANSFORMERS_5 = _hugging_face(
    "transformers 5",
    {
        r"stages\.(\d+)\.patch_embeddings\.proj": r"embed\1/kernel",
        r"stages\.(\d+)\.patch_embeddings\.layer_norm": r"embed\1_norm/scale",
        r"stages\.(\d+)\.layer_norm": r"norm\1/scale",
    },
    r"stages\.(\d+)\.blocks\.(\d+)",
    {
        r"layernorm_before": "norm1/scale",
        r"layernorm_after": "norm2/scale",
        r"attention\.q_proj": "query/kernel",
        r"attention\.k_proj": "key_value/kernel",
        r"attention\.v_proj": "key_value/kernel",
        r"attention\.sequence_reduction\.sequence_reduction": "reduction/kernel",
        r"attention\.sequence_reduction\.layer_norm": "reduction_norm/scale",
        r"attention\.o_proj": "projection/kernel",
        r"mlp\.fc1": "expand/kernel",
        r"mlp\.dwconv\.dwconv": "depthwise/kernel",
        r"mlp\.fc2": "contract/kernel",
    },
)
NAMINGS = (ORIGINAL, HUGGING_FACE, TRANSFORMERS_5)
