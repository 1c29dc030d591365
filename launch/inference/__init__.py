"""Trained runs applied to the files of a user."""
