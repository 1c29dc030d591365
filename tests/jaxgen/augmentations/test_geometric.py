import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.augmentations import geometric

IMAGE = jnp.arange(1, 13, dtype=jnp.uint8).reshape(3, 4, 1)
KEYS = jax.random.split(jax.random.key(0), 200)


def test_flip_mirrors_half_of_the_images():
    images = jax.vmap(lambda key: geometric.flip({"image": IMAGE}, key)["image"])(KEYS)
    flipped = (images == IMAGE[:, ::-1]).all((1, 2, 3))
    np.testing.assert_array_equal(images[~flipped], np.broadcast_to(IMAGE, images[~flipped].shape))
    assert 70 < flipped.sum() < 130


def test_shift_reaches_every_offset_and_nothing_else():
    shift = lambda key: geometric.shift({"image": IMAGE, "label": 3}, key)
    images = np.asarray(jax.vmap(shift)(KEYS)["image"])
    padded = np.pad(IMAGE, ((1, 1), (1, 1), (0, 0)))
    expected = {padded[i : i + 3, j : j + 4].tobytes() for i in range(3) for j in range(3)}
    assert {image.tobytes() for image in images} == expected
