"""DeepLabV3+ (Chen et al. 2018, "Encoder-Decoder with Atrous Separable Convolution")."""

import flax.linen as nn
import jax.numpy as jnp

from jaxseg.nets.decoders.base import Decoder, finest_from
from jaxseg.nets.decoders.enlargement import enlarge
from jaxseg.nets.unet import ChannelDropout


class DeepLabV3Plus(Decoder):
    """Atrous spatial pyramid pooling on the deepest map, refined by a finer one.

    The pyramid: a 1 x 1 convolution, separable 3 x 3 convolutions of several dilations, and the
    mean of the map, joined by a 1 x 1 convolution. The result is enlarged and joins the finer
    map; two separable 3 x 3 convolutions follow (figure 2 of the paper). Called as every
    `Decoder` is.

    Attributes:
      width: channels of each branch and of the result, D.
      low: channels to which the finer map is reduced.
      rates: dilations at stride 16. At another stride of the deepest map they are scaled, so
        that they span as many pixels of the image.
      finest: the smallest stride of the finer map, where the encoder has such a one.
      dropout: rate at which whole channels of the pyramid's result are dropped.

    Raises:
      ValueError: when called, if the encoder has no map that is finer than the deepest one.
    """

    width: int = 256
    low: int = 48
    rates: tuple[int, ...] = (6, 12, 18)
    finest: int = 4

    @nn.nowrap
    def stride(self, strides):
        """The stride of the map that the decoder returns; see `Decoder`."""
        return strides[self._finer(strides)]

    @nn.compact
    def __call__(self, features, strides, index, train=False, drop=False):
        """Decodes the maps of a batch; see `Decoder`."""
        self.check(features, strides)
        fine = features[self._finer(strides)]
        x = self._pyramid(features[-1], strides[-1], train)
        x = ChannelDropout(self.dropout)(x, index, train or drop)
        low = self.conv(self.low, 1, name="low")(fine, train)
        x = jnp.concatenate([enlarge(x, *fine.shape[1:3]), low], -1)
        for number in range(2):
            x = self.conv(self.width, 3, separable=True, name=f"refine{number}")(x, train)
        return x

    def _pyramid(self, x, stride, train):
        branches = [self.conv(self.width, 1, name="aspp_point")(x, train)]
        for number, rate in enumerate(self.rates):
            options = {"separable": True, "dilation": max(1, round(rate * 16 / stride))}
            branches.append(self.conv(self.width, 3, name=f"aspp{number}", **options)(x, train))
        mean = jnp.mean(x, (1, 2), keepdims=True)
        mean = self.conv(self.width, 1, name="aspp_mean")(mean, train)
        branches.append(jnp.broadcast_to(mean, branches[0].shape))
        return self.conv(self.width, 1, name="aspp")(jnp.concatenate(branches, -1), train)

    @nn.nowrap
    def _finer(self, strides):
        finer = tuple(stride for stride in strides if stride < strides[-1])
        if not finer:
            raise ValueError(
                "DeepLabV3Plus needs an encoder with a map that is finer than its deepest; this "
                f"one has strides {strides}: take SegFormerHead, UPerNet, FPN or LinearProbe"
            )
        return finest_from(finer, self.finest)
