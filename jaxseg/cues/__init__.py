"""Cues that an image gives without training: boundaries, texture, depth."""
