"""Likelihoods of images given what a net predicts.

`images`: of a whole image at once, for VAEs. `pixels`: of one value given those before it,
for autoregressive nets.
"""

from jaxgen.likelihoods.images import (
    Likelihood,
    bernoulli,
    bits_per_dim,
    discretized_logistic,
    gaussian,
    logistic_log_mass,
    softplus,
)
from jaxgen.likelihoods.pixels import (
    PixelLikelihood,
    binary,
    draw,
    logistic_mixture,
    softmax,
)

__all__ = [
    "Likelihood",
    "PixelLikelihood",
    "bernoulli",
    "binary",
    "bits_per_dim",
    "discretized_logistic",
    "draw",
    "gaussian",
    "logistic_log_mass",
    "logistic_mixture",
    "softmax",
    "softplus",
]
