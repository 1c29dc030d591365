"""Augmentations: of examples (`geometric`) and of what a discriminator sees (`diffaugment`)."""

from jaxgen.augmentations.diffaugment import augment, colour, cutout, translation
from jaxgen.augmentations.geometric import flip, shift

__all__ = ["augment", "colour", "cutout", "flip", "shift", "translation"]
