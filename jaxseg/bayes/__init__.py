"""Class-conditional likelihoods, priors and decisions.

- `decision`: priors that are counted, posteriors, and the maximum-a-posteriori decision.
- `likelihoods`: histograms, Gaussians and Gaussian mixtures per class, fitted by counting.
- `normal_densities`: mixtures of normal densities, which `likelihoods` fits.
- `potts`: label maps with short borders, by total variation.
- `prior_shift`: correction of posteriors for other class frequencies.
"""
