"""A segmentation net of two parts: any encoder, any decoder."""

import math
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp

from jaxseg.nets import subpixel
from jaxseg.nets.decoders.enlargement import enlarge
from jaxseg.nets.normalisation import check_statistics, normalise
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
      subpixel: whether logits of the full size come from a sub-pixel convolution of the decoder's
        map (`jaxseg.nets.subpixel`), not from a bilinear resize.
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
    subpixel: bool = False
    dropout: float = 0.0
    dtype: Any = jnp.float32

    # Their modules are the blocks of which `config.train.remat` keeps the inputs alone.
    parts: ClassVar[tuple[str, ...]] = ("encoder", "decoder")

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
        return self._logits(x.astype(jnp.float32), size)[:, :height, :width]

    def _logits(self, x, size):
        """Logits of the full size from the decoder's map."""
        if self.subpixel:
            factors = size[0] // x.shape[1], size[1] // x.shape[2]
            return subpixel.convolution(self.classes, self.head, factors, "head")(x)
        to_logits = nn.Conv(self.classes, (self.head,) * 2, dtype=jnp.float32, name="head")
        return enlarge(to_logits(x), *size)


def _check(net, channels):
    if net.classes < 1:
        raise ValueError("EncoderDecoder needs classes >= 1; a task sets it")
    if not 0.0 <= net.dropout < 1.0:
        raise ValueError(f"EncoderDecoder: dropout must be in [0, 1), got {net.dropout}")
    if net.head < 1 or net.head % 2 == 0:
        raise ValueError(f"EncoderDecoder: head must be an odd number, got {net.head}")
    check_statistics(net, channels)


def _check_maps(encoder, features, strides, size):
    wanted = [tuple(side // stride for side in size) for stride in strides]
    got = [x.shape[1:3] for x in features]
    if got != wanted:
        raise ValueError(
            f"EncoderDecoder: {type(encoder).__name__} has strides {strides}, so an image of "
            f"{size[0]} x {size[1]} must give maps of {wanted}; it gave {got}"
        )
