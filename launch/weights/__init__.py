"""Weights files of other libraries."""
