"""Losses: of GANs (`adversarial`), named in configs as `jaxgen.losses:hinge`, and bounds on
the likelihood (`bounds`).
"""

from jaxgen import lazy

_MODULES = {
    "hinge": "adversarial",
    "least_squares": "adversarial",
    "non_saturating": "adversarial",
    "wasserstein": "adversarial",
}
__all__ = list(_MODULES)
__getattr__ = lazy(__name__, _MODULES)
