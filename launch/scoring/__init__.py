"""Scores of generated images: the nets that they use, the sets that they compare, the metrics."""
