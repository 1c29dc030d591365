import jax
import numpy as np

from jaxgen.nets.noise_level import Level

KEY = jax.random.key(0)


def test_levels_are_told_apart_at_both_ends_and_finite_everywhere():
    t = np.array([0.0, 1e-4, 1e-3, 0.5, 0.999, 0.9999, 1.0], np.float32)
    found, _ = Level(16).init_with_output(KEY, t, None)
    assert np.all(np.isfinite(found))
    apart = np.abs(found[:, None] - found[None]).max(-1)
    assert np.all(apart[~np.eye(len(t), dtype=bool)] > 1e-3)


def test_a_class_is_added():
    t, classes = np.full(3, 0.5, np.float32), np.eye(3, dtype=np.float32)
    found, params = Level(16).init_with_output(KEY, t, classes)
    kernel = params["params"]["classes"]["kernel"]
    alone = Level(16).apply(params, t, np.zeros_like(classes))
    np.testing.assert_allclose(found - alone, kernel, atol=1e-5)
