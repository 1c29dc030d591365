"""A segmentation net of two parts: any encoder, any decoder."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxseg.nets.decoders.enlargement import enlarge
from jaxseg.nets.unet import ChannelDropout, pad_to_multiple


class EncoderDecoder(nn.Module):
    """Encoder, decoder, and a convolution to the logits.

    Called as (x float [B, H, W, C], index int32 [B], train, drop) -> logits float32
    [B, H, W, K]. `x` holds the image in [-1, 1], then perhaps further channels. `drop` turns
    dropout and stochastic depth on outside training. Images whose sides are no multiples of the
    strides are padded below and at the right (edge pixels repeated), and the logits cropped.
    Parameters are those of `encoder`, `decoder` and `head`.

    Attributes:
      encoder: module (x [B, H, W, C], index, train, drop) -> maps [B, H / s, W / s, C'], finest
        first, for each s of its attribute `strides`; `mean` and `std` are the statistics, three
        each, of the images that it was trained on.
      decoder: module (maps, strides, index, train, drop) -> [B, h, w, D], see
        `jaxseg.nets.decoders`.
      classes: K; set by the task.
      mean: mean of each channel of the image in [0, 1]. Channels beyond them, such as cues, go
        in as they are. () for the encoder's own: channel i takes number i mod 3, the only
        channel of a grey image the mean of the three.
      std: standard deviation of each channel; as `mean`.
      head: side of the convolution to the logits.
      dropout: rate at which whole channels of the decoder's map are dropped before the head.
      dtype: dtype of the computation, also of encoder and decoder; parameters and the head are
        float32.

    Raises:
      ValueError: a part is no module; when called, if an attribute is out of range or the
        encoder's maps have other sizes than its strides say.
    """

    encoder: nn.Module
    decoder: nn.Module
    classes: int = 0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    head: int = 1
    dropout: float = 0.0
    dtype: Any = jnp.float32

    def __post_init__(self):
        for key in ("encoder", "decoder"):
            part = getattr(self, key)
            if not isinstance(part, nn.Module):
                raise ValueError(
                    f"EncoderDecoder: {key} must be a Flax module, got {part!r}; in a config, "
                    f'write {{"name": "jaxseg.nets.{key}s:...", ...}}'
                )
            if hasattr(part, "dtype") and jnp.dtype(part.dtype) != jnp.dtype(self.dtype):
                setattr(self, key, part.clone(dtype=self.dtype))
        super().__post_init__()

    @property
    def multiple(self) -> int:
        """The number of which the padded sides are multiples: of all strides of the encoder."""
        return math.lcm(*self.encoder.strides)

    @nn.compact
    def __call__(self, x, index, train=False, drop=False):
        """Computes the logits of a batch; see the class."""
        _check(self, x.shape[-1])
        height, width = x.shape[1:3]
        x = pad_to_multiple(x, self.multiple)
        size = x.shape[1:3]
        mean, std = self.mean or self.encoder.mean, self.std or self.encoder.std
        x = normalise(x, mean, std, own=bool(self.mean)).astype(self.dtype)
        features, strides = self.encoder(x, index, train, drop), tuple(self.encoder.strides)
        _check_maps(self.encoder, features, strides, size)
        x = self.decoder(features, strides, index, train, drop)
        x = ChannelDropout(self.dropout)(x, index, train or drop)
        sides = self.head, self.head
        to_logits = nn.Conv(self.classes, sides, dtype=jnp.float32, name="head")
        return enlarge(to_logits(x.astype(jnp.float32)), *size)[:, :height, :width]


def normalise(
    x: jax.Array, mean: tuple[float, ...], std: tuple[float, ...], own: bool
) -> jax.Array:
    """Subtracts a mean and divides by a standard deviation, channel by channel.

    Args:
      x: float [B, H, W, C], the image in [-1, 1].
      mean: of the channels of an image in [0, 1].
      std: their standard deviations.
      own: whether these are the statistics of this image's channels: then channels beyond them
        stay as they are. Otherwise channel i takes number i modulo their number, a single
        channel the mean of all.

    Returns:
      [B, H, W, C] of the same dtype.
    """
    count = x.shape[-1]
    if own:
        beyond = count - len(mean)  # (x + 1) / 2 has mean 0.5 and deviation 0.5 of x
        mean, std = (*mean, *(0.5,) * beyond), (*std, *(0.5,) * beyond)
    elif count == 1:
        mean, std = (sum(mean) / len(mean),), (sum(std) / len(std),)
    else:
        mean, std = ([v[i % len(v)] for i in range(count)] for v in (mean, std))
    mean, std = (jnp.asarray(v, x.dtype).reshape(1, 1, 1, -1) for v in (mean, std))
    return ((x + 1.0) / 2.0 - mean) / std


def _check(net, channels):
    if net.classes < 1:
        raise ValueError("EncoderDecoder needs classes >= 1; a task sets it")
    if not 0.0 <= net.dropout < 1.0:
        raise ValueError(f"EncoderDecoder: dropout must be in [0, 1), got {net.dropout}")
    if net.head < 1 or net.head % 2 == 0:
        raise ValueError(f"EncoderDecoder: head must be an odd number, got {net.head}")
    if len(net.mean) != len(net.std):
        raise ValueError(
            f"EncoderDecoder: mean and std must be as long as one another, got {net.mean} and "
            f"{net.std}"
        )
    if len(net.mean) > channels:
        raise ValueError(
            f"EncoderDecoder: mean has {len(net.mean)} numbers, but the input has {channels} "
            "channels"
        )
    if min(net.std, default=1.0) <= 0.0:
        raise ValueError(f"EncoderDecoder: std must be above 0, got {net.std}")


def _check_maps(encoder, features, strides, size):
    wanted = [tuple(side // stride for side in size) for stride in strides]
    got = [x.shape[1:3] for x in features]
    if got != wanted:
        raise ValueError(
            f"EncoderDecoder: {type(encoder).__name__} has strides {strides}, so an image of "
            f"{size[0]} x {size[1]} must give maps of {wanted}; it gave {got}"
        )
