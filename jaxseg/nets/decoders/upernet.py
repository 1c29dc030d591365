"""UPerNet (Xiao et al. 2018, "Unified Perceptual Parsing for Scene Understanding")."""

import flax.linen as nn
import jax.numpy as jnp

from jaxseg.nets.decoders.base import Decoder, finest_from
from jaxseg.nets.decoders.enlargement import enlarge
from jaxseg.nets.decoders.layers import pool_to, top_down
from jaxseg.nets.unet import ChannelDropout


class UPerNet(Decoder):
    """Pyramid pooling on the deepest map, a feature pyramid, and all its levels joined.

    Pyramid pooling (Zhao et al. 2017, PSPNet) adds means over regions to the deepest map. The
    pyramid (Lin et al. 2017) takes it from there to the finer maps. A 3 x 3 convolution joins
    all levels at the size of the finest (section 3.1 of the paper). Called as every `Decoder`
    is. Works with a single map too.

    Attributes:
      width: channels of every level and of the result, D. The paper takes 512; the cost grows
        with its square.
      regions: regions along each axis that the deepest map is averaged over.
      finest: the smallest stride of a map that is used, and the stride of the result.
      dropout: rate at which whole channels of the result are dropped.
    """

    width: int = 128
    regions: tuple[int, ...] = (1, 2, 3, 6)
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
        maps = [
            self.conv(self.width, 1, name=f"lateral{number}")(x, train)
            for number, x in enumerate(features[:-1])
        ]
        maps = top_down([*maps, self._pooled(features[-1], train)])
        # The deepest map has had its 3 x 3 convolution in the pooling.
        maps = [
            x
            if number == len(maps) - 1
            else self.conv(self.width, 3, name=f"level{number}")(x, train)
            for number, x in enumerate(maps)
        ]
        x = jnp.concatenate([enlarge(x, *features[0].shape[1:3]) for x in maps], -1)
        x = self.conv(self.width, 3, name="join")(x, train)
        return ChannelDropout(self.dropout)(x, index, train or drop)

    def _pooled(self, x, train):
        parts = [x]
        for side in self.regions:
            mean = self.conv(self.width, 1, name=f"pool{side}")(pool_to(x, side), train)
            parts.append(enlarge(mean, *x.shape[1:3]))
        return self.conv(self.width, 3, name="pooled")(jnp.concatenate(parts, -1), train)
