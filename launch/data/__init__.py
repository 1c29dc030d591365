"""Data: from a name in a config to batches that depend on (seed, step) alone."""
