"""Benchmarks by their published protocols, each a command."""
