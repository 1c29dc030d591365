"""Nets: Flax modules, named in configs as `jaxgen.nets:MLPEncoder`."""

from jaxgen.nets.draw import DrawNet
from jaxgen.nets.encoder_decoder import ConvDecoder, ConvEncoder, MLPDecoder, MLPEncoder
from jaxgen.nets.feature_net import FeatureNet
from jaxgen.nets.gan import (
    DCGANDiscriminator,
    DCGANGenerator,
    MLPDiscriminator,
    ResidualDiscriminator,
    ResidualGenerator,
)
from jaxgen.nets.inception import InceptionV3
from jaxgen.nets.pixelcnn import PixelCNN
from jaxgen.nets.pixelrnn import PixelRNN
from jaxgen.nets.translation import PatchDiscriminator, UNetGenerator

__all__ = [
    "ConvDecoder",
    "ConvEncoder",
    "DCGANDiscriminator",
    "DCGANGenerator",
    "DrawNet",
    "FeatureNet",
    "InceptionV3",
    "MLPDecoder",
    "MLPDiscriminator",
    "MLPEncoder",
    "PatchDiscriminator",
    "PixelCNN",
    "PixelRNN",
    "ResidualDiscriminator",
    "ResidualGenerator",
    "UNetGenerator",
]
