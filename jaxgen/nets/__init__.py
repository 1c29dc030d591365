"""Nets: Flax modules, named in configs as `jaxgen.nets:MLPEncoder`."""

from jaxgen import lazy

_MODULES = {
    "ConvDecoder": "encoder_decoder",
    "ConvEncoder": "encoder_decoder",
    "DCGANDiscriminator": "gan",
    "DCGANGenerator": "gan",
    "DenoisingUNet": "denoising_unet",
    "DrawNet": "draw",
    "FeatureNet": "feature_net",
    "ImageTransformer": "image_transformer",
    "InceptionV3": "inception",
    "Ladder": "ladder",
    "MapDecoder": "latent_maps",
    "MapEncoder": "latent_maps",
    "MLPDecoder": "encoder_decoder",
    "MLPDiscriminator": "gan",
    "MLPEncoder": "encoder_decoder",
    "PatchDiscriminator": "translation",
    "PixelCNN": "pixelcnn",
    "PixelRNN": "pixelrnn",
    "ResidualDiscriminator": "gan",
    "ResidualGenerator": "gan",
    "UNetGenerator": "translation",
}
__all__ = list(_MODULES)
__getattr__ = lazy(__name__, _MODULES)
