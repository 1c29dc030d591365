"""Decoders: from an encoder's maps to one map, named as `jaxseg.nets.decoders:UNetDecoder`.

A decoder's file is imported when the decoder is first used.
"""

import importlib

_MODULES = {
    "DeepLabV3Plus": "deeplab",
    "FPN": "fpn",
    "LinearProbe": "linear_probe",
    "SegFormerHead": "segformer_head",
    "UNetDecoder": "unet_decoder",
    "UPerNet": "upernet",
}
__all__ = ["FPN", "DeepLabV3Plus", "LinearProbe", "SegFormerHead", "UNetDecoder", "UPerNet"]


def __getattr__(name):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__():
    return __all__
