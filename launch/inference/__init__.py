"""Applies trained runs to the files of a user."""
