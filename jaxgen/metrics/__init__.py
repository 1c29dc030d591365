"""Scores of sets of images: one family of scores in each module."""
