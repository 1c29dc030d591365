import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.nets.decoders.enlargement import enlarge
from tests.jaxseg.nets.decoders import reference

SIZES = [(10, 14), (15, 7), (20, 28), (40, 56), (13, 16), (6, 14)]


def picture(size, seed=0):
    return np.random.default_rng(seed).normal(size=(2, *size, 3)).astype(np.float32)


@pytest.mark.parametrize("size", SIZES)
def test_it_is_scipys_bilinear_zoom(size):
    x = picture((5, 7))
    np.testing.assert_allclose(enlarge(x, *size), reference.bilinear(x, *size), atol=1e-5)


@pytest.mark.parametrize(("size", "large"), [((1, 1), (2, 4)), ((2, 1), (6, 2)), ((1, 3), (1, 9))])
def test_it_repeats_what_has_no_neighbour(size, large):
    x = picture(size)
    np.testing.assert_allclose(enlarge(x, *large), reference.bilinear(x, *large), atol=1e-5)


@pytest.mark.parametrize("size", [(1, 2), (2, 1), (3, 4)])
@pytest.mark.parametrize("factors", [(2, 2), (1, 3), (4, 2)])
def test_its_gradient_is_that_of_jax_image_resize(size, factors):
    x = picture(size)
    large = size[0] * factors[0], size[1] * factors[1]
    weights = picture(large, 1)

    def gradients(function):
        loss = lambda x: jnp.sum(weights * function(x) ** 2)
        return jax.jit(jax.grad(lambda x: jnp.sum(jax.grad(loss)(x) ** 3)))(x)

    wanted = gradients(lambda x: jax.image.resize(x, (2, *large, 3), "bilinear"))
    got = gradients(lambda x: enlarge(x, *large))  # of the second order
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())


def test_the_same_size_is_the_map_itself():
    x = picture((5, 7))
    assert enlarge(x, 5, 7) is x


def test_it_keeps_the_dtype():
    x = jnp.asarray(picture((2, 3)), jnp.bfloat16)
    assert enlarge(x, 4, 6).dtype == enlarge(x, 5, 7).dtype == jnp.bfloat16
