"""Strict arithmetic: no array of the library changes its rank or dtype implicitly."""

import jax
import pytest


@pytest.fixture(autouse=True)
def strict_arithmetic():
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        yield
