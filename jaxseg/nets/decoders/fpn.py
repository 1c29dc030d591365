"""Feature pyramid network with a semantic branch (Lin et al. 2017, Kirillov et al. 2019)."""

import math

import flax.linen as nn

from jaxseg.nets.decoders.base import Decoder, finest_from
from jaxseg.nets.decoders.enlargement import enlarge
from jaxseg.nets.decoders.layers import top_down
from jaxseg.nets.unet import HE, ChannelDropout


class FPN(Decoder):
    """Sums maps of all strides, each enriched by the coarser ones.

    A pyramid as Lin et al. (2017, section 3), without their 3 x 3 convolution after each sum;
    then from each level convolutions and enlargements by 2 up to the finest, and their sum
    (Kirillov et al. 2019, "Panoptic Feature Pyramid Networks", figure 3). Called as every
    `Decoder` is. Works with a single map too.

    Attributes:
      width: channels of the pyramid.
      branch: channels of the sum, D.
      finest: the smallest stride of a map that is used, and the stride of the result.
      dropout: rate at which whole channels of the sum are dropped.
    """

    width: int = 256
    branch: int = 128
    finest: int = 4

    @nn.nowrap
    def stride(self, strides):
        """The stride of the map that the decoder returns; see `Decoder`."""
        return strides[finest_from(strides, self.finest)]

    @nn.compact
    def __call__(self, features, strides, index, train=False, drop=False):
        """Decodes the maps of a batch; see `Decoder`."""
        self.check(features, strides)
        first = finest_from(strides, self.finest)
        features, strides = features[first:], strides[first:]
        lateral = [
            nn.Conv(self.width, (1, 1), kernel_init=HE, dtype=self.dtype, name=f"lateral{n}")(x)
            for n, x in enumerate(features)
        ]
        total, (height, width) = 0.0, features[0].shape[1:3]
        for number, x in enumerate(top_down(lateral)):
            halvings = round(math.log2(strides[number] / strides[0]))
            for left in reversed(range(max(1, halvings))):
                x = self.conv(self.branch, 3, name=f"branch{number}_{left}")(x, train)
                x = enlarge(x, -(-height // 2**left), -(-width // 2**left))
            total = total + x
        return ChannelDropout(self.dropout)(total, index, train or drop)
