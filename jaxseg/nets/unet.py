"""U-Net (Ronneberger et al. 2015) for images of any size, with one or two streams."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxseg.nets import subpixel
from jaxseg.nets.normalisation import check_statistics, normalise
from jaxseg.noise import per_example

HE = nn.initializers.he_normal()


class UNet(nn.Module):
    """Encoder, decoder, and a skip at every resolution.

    Called as (x float [B, H, W, C], index int32 [B], train) -> logits float32 [B, H, W, K];
    or, in training with deep supervision, a tuple of logits at 1, 1/2, 1/4, ... of the
    size. `drop` turns dropout on outside training. Images whose sides are no multiples of
    the strides are padded below and at the right (edge pixels repeated), and the logits
    cropped.

    Attributes:
      classes: K; set by the task.
      widths: channels of each level, from full resolution down.
      convolutions: 3 x 3 convolutions of a level's block.
      block: "plain", or "residual" (He et al. 2016).
      norm: "group" (Wu and He 2018), "batch" or "none". Group statistics are those
        of the whole input, so the logits of a window depend on all of the window.
      groups: groups of the group norm; lowered where the width is not a multiple.
      dropout: rate at which whole channels are dropped at the end of each block of
        the two deepest levels and of the decoder (Tompson et al. 2015).
      deep_supervision: logits at every decoder level in training (Lee et al. 2015).
      up: "resize" (bilinear, then a convolution) or "transpose".
      stem: stride of the first convolution; logits are resized back by it.
      head: side of the convolutions to the logits.
      subpixel: whether logits of the full size come from a sub-pixel convolution where `stem` is
        above 1 (`jaxseg.nets.subpixel`), not from a bilinear resize.
      mean: mean of each channel of the image in [0, 1], which is taken off; channels beyond
        them, such as cues, go in as they are. () to take [-1, 1] as it comes.
      std: standard deviation of each channel, by which it is divided; as `mean`.
      second_stream: channels, counted from the last, that have an encoder of their own,
        half as wide; 0 for one encoder. At each level a gate adds its features to the
        others (SE fusion, as ESANet, Seichter et al. 2021).
      dtype: dtype of the computation; parameters are float32.

    Raises:
      ValueError: when called, if an attribute is out of range.
    """

    classes: int = 0
    widths: tuple[int, ...] = (32, 64, 128, 256)
    convolutions: int = 2
    block: str = "plain"
    norm: str = "group"
    groups: int = 8
    dropout: float = 0.0
    deep_supervision: bool = False
    up: str = "resize"
    stem: int = 1
    head: int = 1
    subpixel: bool = False
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    second_stream: int = 0
    dtype: Any = jnp.float32

    @property
    def multiple(self) -> int:
        """The number of which the padded sides are multiples: the product of all strides."""
        return self.stem * 2 ** (len(self.widths) - 1)

    @nn.compact
    def __call__(self, x, index, train=False, drop=False):
        """Computes the logits of a batch; see the class."""
        _check(self)
        check_statistics(self, x.shape[-1])
        mode = (index, train, train or drop)
        height, width = x.shape[1:3]
        x = normalise(x, self.mean, self.std, own=True) if self.mean else x
        x = pad_to_multiple(x, self.multiple).astype(self.dtype)
        if self.second_stream:
            if not 0 < self.second_stream < x.shape[-1]:
                raise ValueError(
                    f"second_stream={self.second_stream}: the input has {x.shape[-1]} channels"
                )
            x, other = jnp.split(x, [x.shape[-1] - self.second_stream], axis=-1)
            narrow = tuple(max(8, w // 2) for w in self.widths)
            others = self._encode(other, mode, narrow, "second")
            skips = self._encode(x, mode, self.widths, "encoder", others)
        else:
            skips = self._encode(x, mode, self.widths, "encoder")
        x, side_outputs = skips[-1], []
        for level in reversed(range(len(self.widths) - 1)):
            x = Up(self.widths[level], self.up, self.dtype, name=f"up{level}")(x)
            x = self._block(level, f"decoder{level}")(x, *mode, skips[level])
            side_outputs.append(self._head(x, level))
        full = side_outputs[::-1] or [self._head(x, 0)]
        if not (self.deep_supervision and train):
            return full[0][:, :height, :width]
        return tuple(
            logits[:, : -(-height // 2**level), : -(-width // 2**level)]
            for level, logits in enumerate(full)
        )

    def _encode(self, x, mode, widths, name, others=None):
        """Features of every level, from full resolution down."""
        skips = []
        for level, features in enumerate(widths):
            if level:
                x = nn.max_pool(x, (2, 2), (2, 2))
            elif self.stem > 1:
                kernel = (2 * self.stem - 1,) * 2
                x = nn.Conv(
                    features,
                    kernel,
                    (self.stem,) * 2,
                    kernel_init=HE,
                    dtype=self.dtype,
                    name=f"{name}_stem",
                )(x)
            x = self._block(level, f"{name}{level}", features)(x, *mode)
            if others is not None:
                x = Gate(features, self.dtype, name=f"gate{level}")(x, others[level])
            skips.append(x)
        return skips

    def _block(self, level, name, features=None):
        deep = level >= len(self.widths) - 2 or name.startswith("decoder")
        return Block(
            features or self.widths[level],
            self.convolutions,
            self.block,
            self.norm,
            self.groups,
            self.dropout if deep else 0.0,
            self.dtype,
            name=name,
        )

    def _head(self, x, level):
        if level and not self.deep_supervision:
            return None
        x, name = x.astype(jnp.float32), f"head{level}"
        if self.subpixel:
            return subpixel.convolution(self.classes, self.head, (self.stem,) * 2, name)(x)
        to_logits = nn.Conv(self.classes, (self.head,) * 2, dtype=jnp.float32, name=name)
        return resize(to_logits(x), self.stem)


class Block(nn.Module):
    """Convolution, norm and activation, `convolutions` times; then dropout.

    Attributes:
      features: output channels.
      convolutions: their number.
      kind: "plain" or "residual".
      norm: "group", "batch" or "none".
      groups: groups of the group norm.
      dropout: rate at which whole channels are dropped.
      dtype: dtype of the computation.
    """

    features: int
    convolutions: int
    kind: str
    norm: str
    groups: int
    dropout: float
    dtype: Any

    @nn.compact
    def __call__(self, x, index, train, drop, skip=None):
        """Maps x [B, H, W, C], with `skip` beside it, to [B, H, W, features]; see the class."""
        # Concatenated in the block, so that with `config.train.remat` the result is not kept.
        inputs = x = x if skip is None else jnp.concatenate([x, skip], -1)
        for number in range(self.convolutions):
            x = nn.Conv(
                self.features,
                (3, 3),
                use_bias=self.norm == "none",
                kernel_init=HE,
                dtype=self.dtype,
            )(x)
            x = self._normalise(x, train)
            if self.kind == "residual" and number == self.convolutions - 1:
                if inputs.shape[-1] != self.features:
                    inputs = nn.Conv(self.features, (1, 1), dtype=self.dtype)(inputs)
                x = x + inputs
            x = nn.relu(x)
        return ChannelDropout(self.dropout)(x, index, drop)

    def _normalise(self, x, train):
        if self.norm == "group":
            groups = math.gcd(self.groups, self.features)
            return nn.GroupNorm(groups, dtype=self.dtype)(x)
        if self.norm == "batch":
            return nn.BatchNorm(not train, momentum=0.95, dtype=self.dtype)(x)
        return x


class ChannelDropout(nn.Module):
    """Drops whole channels of each example by the example's own key.

    So neither the batch size nor the number of devices changes which are dropped.

    Attributes:
      rate: probability with which a channel is dropped.
    """

    rate: float

    @nn.compact
    def __call__(self, x, index, drop):
        """Returns x [B, H, W, C], kept channels scaled by 1 / (1 - rate), others 0."""
        if not (drop and self.rate):
            return x
        draw = lambda key: jax.random.bernoulli(key, 1.0 - self.rate, (1, 1, x.shape[-1]))
        kept = per_example(draw, self.make_rng("dropout"), index)
        return jnp.where(kept, x / (1.0 - self.rate), 0.0).astype(x.dtype)


class Up(nn.Module):
    """Doubles the resolution.

    Attributes:
      features: output channels.
      kind: "resize" or "transpose".
      dtype: dtype of the computation.
    """

    features: int
    kind: str
    dtype: Any

    @nn.compact
    def __call__(self, x):
        """Maps [B, H, W, C] to [B, 2 H, 2 W, features]."""
        if self.kind == "transpose":
            return nn.ConvTranspose(
                self.features, (2, 2), (2, 2), kernel_init=HE, dtype=self.dtype
            )(x)
        # The 1 x 1 convolution commutes with the resize and is cheaper before it.
        return resize(nn.Conv(self.features, (1, 1), kernel_init=HE, dtype=self.dtype)(x), 2)


class Gate(nn.Module):
    """Adds a second stream to the first, with a weight per channel that the net learns.

    Squeeze and excitation (Hu et al. 2018) of both streams gives the weights.

    Attributes:
      features: channels of the first stream.
      dtype: dtype of the computation.
    """

    features: int
    dtype: Any

    @nn.compact
    def __call__(self, x, other):
        """Adds other [B, H, W, D] to x [B, H, W, C]: [B, H, W, C]."""
        other = nn.Conv(self.features, (1, 1), kernel_init=HE, dtype=self.dtype)(other)
        pooled = jnp.mean(jnp.concatenate([x, other], -1), (1, 2), keepdims=True)
        hidden = nn.relu(nn.Conv(max(4, self.features // 4), (1, 1), dtype=self.dtype)(pooled))
        gate = nn.sigmoid(nn.Conv(self.features, (1, 1), dtype=self.dtype)(hidden))
        return x + gate * other


def pad_to_multiple(x: jax.Array, multiple: int) -> jax.Array:
    """Repeats the last row and column until both sides are multiples.

    Args:
      x: [B, H, W, C].
      multiple: the number of which the sides become multiples.

    Returns:
      [B, H', W', C]; `x` itself where nothing is missing.
    """
    pads = [(0, -size % multiple) for size in x.shape[1:3]]
    return jnp.pad(x, ((0, 0), *pads, (0, 0)), mode="edge") if any(map(any, pads)) else x


def resize(x: jax.Array | None, factor: int) -> jax.Array | None:
    """Enlarges bilinearly by a whole factor.

    Args:
      x: [B, H, W, C], or None.
      factor: at least 1.

    Returns:
      [B, factor H, factor W, C]; `x` itself where it is None or the factor is 1.
    """
    if x is None or factor == 1:
        return x
    batch, height, width, channels = x.shape
    shape = (batch, height * factor, width * factor, channels)
    return jax.image.resize(x, shape, "bilinear")


def _check(net):
    if net.classes < 1:
        raise ValueError("UNet needs classes >= 1; a task sets it")
    if not net.widths or min(net.widths) < 1 or net.stem < 1 or net.convolutions < 1:
        raise ValueError("UNet: widths, convolutions and stem must be at least 1")
    if net.head < 1 or net.head % 2 == 0:
        raise ValueError(f"UNet: head must be an odd number, got {net.head}")
    choices = {
        "block": ("plain", "residual"),
        "norm": ("group", "batch", "none"),
        "up": ("resize", "transpose"),
    }
    for key, allowed in choices.items():
        if getattr(net, key) not in allowed:
            raise ValueError(
                f"UNet: {key} must be one of {', '.join(allowed)}; got {getattr(net, key)!r}"
            )
    if not 0.0 <= net.dropout < 1.0:
        raise ValueError(f"UNet: dropout must be in [0, 1), got {net.dropout}")
