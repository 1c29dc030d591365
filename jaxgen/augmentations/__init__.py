"""Augmentations: of examples (`geometric`) and of a discriminator's inputs (`diffaugment`)."""

from jaxgen import lazy

_MODULES = {
    "augment": "diffaugment",
    "colour": "diffaugment",
    "cutout": "diffaugment",
    "flip": "geometric",
    "shift": "geometric",
    "translation": "diffaugment",
}
__all__ = list(_MODULES)
__getattr__ = lazy(__name__, _MODULES)
