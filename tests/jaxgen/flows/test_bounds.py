import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.flows import bounds, parametrisations

KEY = jax.random.key(0)


def test_the_bound_of_the_best_net_is_the_entropy():
    """Of independent binary values, whose best clean image is known."""
    p = np.array([0.1, 0.5, 0.8, 0.97], np.float32).reshape(2, 2, 1)
    x = np.where(np.random.default_rng(0).uniform(size=(4000, 2, 2, 1)) < p, 1.0, -1.0)
    x = x.astype(np.float32)
    output = jnp.broadcast_to(0.5 * np.log(p / (1 - p)), x.shape)
    denoise = lambda z, t: parametrisations.binary().image(output, z, t)
    index = np.arange(len(x), dtype=np.int32)
    terms = bounds.bound_terms(denoise, x, 2, (-10.0, 4.0), KEY, index, 8)
    entropy = -np.sum(p * np.log(p) + (1 - p) * np.log(1 - p))
    assert float(jnp.mean(terms["negative_elbo"])) == pytest.approx(entropy, abs=0.03)
    assert float(jnp.mean(terms["prior"])) < 1e-3
    assert float(jnp.mean(terms["reconstruction"])) < 1e-3


def test_the_bound_of_another_net_is_larger():
    x = np.where(np.random.default_rng(0).uniform(size=(2000, 2, 2, 1)) < 0.9, 1.0, -1.0)
    x, index = x.astype(np.float32), np.arange(2000, dtype=np.int32)
    bound = lambda p: float(
        jnp.mean(
            bounds.bound_terms(
                lambda z, t: parametrisations.binary().image(
                    jnp.full(z.shape, 0.5 * np.log(p / (1 - p)), jnp.float32), z, t
                ),
                *(x, 2, (-10.0, 4.0), KEY, index, 8),
            )["negative_elbo"]
        )
    )
    cross = -4 * (0.9 * np.log(0.6) + 0.1 * np.log(0.4))
    assert bound(0.9) < bound(0.6)
    assert bound(0.6) == pytest.approx(cross, abs=0.05)  # independent values: no gap


def test_grey_levels_are_told_apart_at_the_clean_end():
    x = np.linspace(-1, 1, 256, dtype=np.float32).reshape(1, 16, 16, 1)
    noise = jax.random.normal(KEY, x.shape)
    clear = bounds._reconstruction(x, noise, 256, 13.0)
    # sigma is 0.38 of the distance of two levels
    assert 0 < float(clear[0]) / 256 < 0.6
    assert float(bounds._reconstruction(x, noise, 256, 2.0)[0]) > 4 * 256
