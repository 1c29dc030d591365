import jax
import jax.numpy as jnp
import pytest

from jaxgen.nets.latent_maps import MapDecoder, MapEncoder

KEY = jax.random.key(0)


def test_images_become_maps_and_maps_images():
    x = jnp.zeros((2, 8, 12, 3))
    z, _ = MapEncoder(4, widths=(4, 6, 8)).init_with_output(KEY, x)
    assert z.shape == (2, 2, 3, 4)
    back, _ = MapDecoder(3, widths=(4, 6, 8)).init_with_output(KEY, z)
    assert back.shape == x.shape
    half, _ = MapEncoder(4, widths=(4, 6), dtype=jnp.bfloat16).init_with_output(KEY, x)
    assert (half.shape, half.dtype) == ((2, 4, 6, 4), jnp.float32)


def test_sides_that_cannot_be_halved_are_refused():
    with pytest.raises(ValueError, match="multiples of 4; these are 6 x 8"):
        MapEncoder(4, widths=(4, 6, 8)).init(KEY, jnp.zeros((1, 6, 8, 1)))
