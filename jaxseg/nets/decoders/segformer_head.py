"""The decoder of SegFormer (Xie et al. 2021, arXiv 2105.15203, section 3.2)."""

import flax.linen as nn

from jaxseg.nets.decoders.base import Decoder, finest_from
from jaxseg.nets.decoders.enlargement import enlarge
from jaxseg.nets.decoders.layers import Norm
from jaxseg.nets.unet import HE, ChannelDropout


class SegFormerHead(Decoder):
    """Brings all maps to one width and one size, and mixes their channels.

    A linear layer for each map, an enlargement to the finest, and a linear layer over all
    channels together (equation 4 of the paper), with norm and ReLU. The second layer is a sum
    over the maps and commutes with the enlargement, so it runs on each map at its own size.
    Called as every `Decoder` is. Works with a single map too.

    Attributes:
      width: channels of each map and of the result, D; the paper's B0 and B1 take 256, larger
        ones 768.
      finest: the smallest stride of a map that is used, and the stride of the result.
      dropout: rate at which whole channels of the result are dropped.
    """

    width: int = 256
    finest: int = 4

    @nn.nowrap
    def stride(self, strides):
        """The stride of the map that the decoder returns; see `Decoder`."""
        return strides[finest_from(strides, self.finest)]

    @nn.compact
    def __call__(self, features, strides, index, train=False, drop=False):
        """Decodes the maps of a batch; see `Decoder`."""
        self.check(features, strides)
        features = features[finest_from(strides, self.finest) :]
        # Biases would only shift what the norm centres.
        options = {"use_bias": False, "kernel_init": HE, "dtype": self.dtype}
        total = 0.0
        for number, x in enumerate(features):
            x = nn.Conv(self.width, (1, 1), name=f"unify{number}", **options)(x)
            x = nn.Conv(self.width, (1, 1), name=f"fuse{number}", **options)(x)
            total = total + enlarge(x, *features[0].shape[1:3])
        x = nn.relu(Norm(self.norm, self.frozen_statistics, self.dtype, name="norm")(total, train))
        return ChannelDropout(self.dropout)(x, index, train or drop)
