"""Class likelihoods, priors and MAP decisions."""
