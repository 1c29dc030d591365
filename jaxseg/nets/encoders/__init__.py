"""Encoders that read pretrained weights, named in configs as `jaxseg.nets.encoders:ResNet`.

An encoder is called as (x [B, H, W, C], index int32 [B], train, drop=False) with images that
are normalised by its `mean` and `std`. It returns feature maps, finest first; the map of stride
s is [B, ceil(H / s), ceil(W / s), channels], and `strides` says the stride of each. An encoder's
file is imported when the encoder is first used.
"""

import importlib

_MODULES = {
    "ConvNeXt": "convnext",
    "DINOv2": "dinov2",
    "EfficientNetLite0": "efficientnet",
    "MixTransformer": "mix_transformer",
    "ResNet": "resnet",
}
__all__ = ["ConvNeXt", "DINOv2", "EfficientNetLite0", "MixTransformer", "ResNet"]


def __getattr__(name):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__():
    return __all__
