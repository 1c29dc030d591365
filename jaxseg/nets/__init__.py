"""Nets: Flax modules, named in configs as `jaxseg.nets:UNet`.

A net's file is imported when the net is first used.
"""

import importlib

_MODULES = {
    "CNN": "cnn",
    "EdgeNet": "edge_net",
    "EncoderDecoder": "encoder_decoder",
    "UNet": "unet",
}
__all__ = ["CNN", "EdgeNet", "EncoderDecoder", "UNet"]


def __getattr__(name):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__():
    return __all__
