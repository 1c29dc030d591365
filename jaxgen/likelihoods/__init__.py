"""Likelihoods of images given the outputs of a net.

`images`: of a whole image at once, for VAEs. `pixels`: of one value given the values before
it, for autoregressive nets. Configs name them as `jaxgen.likelihoods:bernoulli`.
"""

from jaxgen import lazy

_MODULES = {
    "Likelihood": "images",
    "PixelLikelihood": "pixels",
    "bernoulli": "images",
    "binary": "pixels",
    "bits_per_dim": "images",
    "codes": "pixels",
    "discretized_logistic": "images",
    "draw": "pixels",
    "gaussian": "images",
    "logistic_log_mass": "images",
    "logistic_mixture": "pixels",
    "softmax": "pixels",
    "softplus": "images",
}
__all__ = list(_MODULES)
__getattr__ = lazy(__name__, _MODULES)
