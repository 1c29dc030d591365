"""Regions of an image without training."""
