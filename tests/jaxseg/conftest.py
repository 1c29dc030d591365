"""Strict arithmetic: no implicit broadcasting of ranks, no implicit promotion of dtypes."""

import jax
import pytest


@pytest.fixture(autouse=True, scope="module")
def strict_arithmetic():
    """Runs a module's tests and their fixtures under strict rank and dtype promotion."""
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        yield
