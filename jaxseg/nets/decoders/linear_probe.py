"""Linear probe: what the encoder's last map already tells (Oquab et al. 2023, DINOv2)."""

import flax.linen as nn

from jaxseg.nets.decoders.base import Decoder
from jaxseg.nets.decoders.layers import Norm
from jaxseg.nets.unet import ChannelDropout


class LinearProbe(Decoder):
    """Normalises the last map; the net's convolution, `head=1`, does the rest.

    DINOv2's protocol (arXiv 2304.07193, section 7.4): a batch norm and a linear layer on the
    patches of a frozen encoder, logits enlarged. Freezing is the optimiser's task. Called as
    every `Decoder` is; finer maps are not used.

    Attributes:
      dropout: rate at which whole channels of the map are dropped.
    """

    @nn.nowrap
    def stride(self, strides):
        """The stride of the map that the decoder returns; see `Decoder`."""
        return strides[-1]

    @nn.compact
    def __call__(self, features, strides, index, train=False, drop=False):
        """Decodes the maps of a batch; see `Decoder`."""
        self.check(features, strides)
        norm = Norm(self.norm, self.frozen_statistics, self.dtype, name="norm")
        return ChannelDropout(self.dropout)(norm(features[-1], train), index, train or drop)
