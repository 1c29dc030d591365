"""Losses and bounds, named in configs as `jaxgen.losses:hinge`."""

from jaxgen.losses.adversarial import hinge, least_squares, non_saturating, wasserstein

__all__ = ["hinge", "least_squares", "non_saturating", "wasserstein"]
