"""Scores of sets of images, from features: each module has one family."""
