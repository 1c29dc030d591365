"""A random generator without chance, for exact tests of what draws by one."""

import numpy as np


class Extreme:
    """Takes the place of a NumPy generator: every draw lies at `share` of its range.

    Normal numbers lie one standard deviation above their mean; white noise is one impulse,
    whose spectrum is flat.
    """

    def __init__(self, share, random=0.9):
        self.share, self._random = share, random

    def uniform(self, low, high, size=None):
        value = np.asarray(low) + self.share * (np.asarray(high) - np.asarray(low))
        return value[()] if size is None else np.full(size, value)

    def integers(self, low, high=None, size=None):
        low, high = (0, low) if high is None else (low, high)
        value = low + round(self.share * (high - 1 - low))
        return value if size is None else np.full(size, value)

    def normal(self, mean=0.0, sigma=1.0, size=None):
        return np.full(size, mean + sigma)

    def standard_normal(self, size):
        impulse = np.zeros(size)
        impulse[0, 0] = 1
        return impulse

    def random(self, size):
        return np.full(size, self._random)

    def permutation(self, count):
        return np.arange(count)[::-1]
