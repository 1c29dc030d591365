"""Nets: Flax modules, named in configs as `jaxseg.nets:UNet`."""

from jaxseg.nets.cnn import CNN
from jaxseg.nets.unet import UNet

__all__ = ["CNN", "UNet"]
