"""The decoder of a U-Net (Ronneberger et al. 2015) over any encoder."""

import flax.linen as nn

from jaxseg.nets.decoders.base import Decoder
from jaxseg.nets.decoders.enlargement import enlarge
from jaxseg.nets.decoders.layers import GROUPS
from jaxseg.nets.unet import HE, Block


class UNetDecoder(Decoder):
    """Goes up level by level; each joins the encoder's map of its stride.

    A level is a 1 x 1 convolution, an enlargement to the next stride, and two 3 x 3
    convolutions with norm and ReLU over the result and the encoder's map. Where the encoder has
    no finer map, levels go on without one, by halves. Called as every `Decoder` is.

    Attributes:
      widths: channels of each level, from the deepest up; the last ones are not used where the
        decoder has fewer levels.
      stop_stride: the stride at which it stops. Each halving costs as much as all coarser
        levels and more; 1 is for structures of a pixel or two.
      dropout: rate at which whole channels are dropped at the end of each level.

    Raises:
      ValueError: when called, if the encoder has one map only, or two of one stride, or if there
        are fewer widths than levels.
    """

    widths: tuple[int, ...] = (256, 128, 64, 32, 16)
    stop_stride: int = 2

    @nn.nowrap
    def stride(self, strides):
        """The stride of the map that the decoder returns; see `Decoder`."""
        return self._levels(strides)[-1]

    @nn.compact
    def __call__(self, features, strides, index, train=False, drop=False):
        """Decodes the maps of a batch; see `Decoder`."""
        self.check(features, strides)
        skips = dict(zip(strides, features, strict=True))
        x, stride = features[-1], strides[-1]
        for level, finer in enumerate(self._levels(strides)):
            width, skip = self.widths[level], skips.get(finer)
            # The 1 x 1 convolution commutes with the resize and is cheaper before it.
            x = nn.Conv(width, (1, 1), kernel_init=HE, dtype=self.dtype, name=f"up{level}")(x)
            size = (side * stride // finer for side in x.shape[1:3])
            x = enlarge(x, *(size if skip is None else skip.shape[1:3]))
            options = 2, "plain", self.norm, GROUPS, self.dropout, self.dtype
            block = Block(width, *options, name=f"level{level}")
            learn = train and not self.frozen_statistics  # a block asks it for its norm alone
            x, stride = block(x, index, learn, train or drop, skip), finer
        return x

    @nn.nowrap
    def _levels(self, strides):
        """The stride of each level, from the deepest up."""
        if len(strides) < 2 or len(set(strides)) < len(strides):
            raise ValueError(
                "UNetDecoder needs an encoder with at least two maps, each of another stride; "
                f"this one has strides {strides}: take SegFormerHead, UPerNet, FPN or LinearProbe"
            )
        levels = [stride for stride in strides[-2::-1] if stride >= self.stop_stride]
        if self.stop_stride < 1 or not levels:
            raise ValueError(
                f"UNetDecoder: stop_stride={self.stop_stride} must be at least 1, and not above "
                f"the last but one of the encoder's strides {strides}"
            )
        while levels[-1] % 2 == 0 and levels[-1] // 2 >= self.stop_stride:
            levels.append(levels[-1] // 2)
        if not self.widths or min(self.widths) < 1 or len(self.widths) < len(levels):
            raise ValueError(
                f"UNetDecoder: widths={self.widths}; it needs {len(levels)}, at least 1 each, for "
                f"levels of stride {', '.join(map(str, levels))}"
            )
        return levels
