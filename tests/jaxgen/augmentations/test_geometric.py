import jax
import numpy as np

from jaxgen.augmentations import geometric

IMAGE = np.arange(1, 13, dtype=np.uint8).reshape(3, 4, 1)
KEYS = jax.random.split(jax.random.key(0), 200)


def test_flip_mirrors_half_of_the_images():
    flip = lambda key: geometric.flip({"image": IMAGE}, key)["image"]
    images = np.asarray(jax.jit(jax.vmap(flip))(KEYS))
    flipped = (images == IMAGE[:, ::-1]).all((1, 2, 3))
    np.testing.assert_array_equal(images[~flipped], np.broadcast_to(IMAGE, images[~flipped].shape))
    assert 70 < flipped.sum() < 130


def test_shift_reaches_every_offset_and_nothing_else():
    shift = lambda key: geometric.shift({"image": IMAGE, "label": 3}, key)
    images = np.asarray(jax.jit(jax.vmap(shift))(KEYS)["image"])
    padded = np.pad(IMAGE, ((1, 1), (1, 1), (0, 0)))
    expected = {padded[i : i + 3, j : j + 4].tobytes() for i in range(3) for j in range(3)}
    assert {image.tobytes() for image in images} == expected


def test_shift_reaches_as_far_as_it_is_allowed_to():
    shift = lambda key: geometric.shift({"image": IMAGE}, key, 2)["image"]
    images = np.asarray(jax.jit(jax.vmap(shift))(KEYS))
    padded = np.pad(IMAGE, ((2, 2), (2, 2), (0, 0)))
    expected = {padded[i : i + 3, j : j + 4].tobytes() for i in range(5) for j in range(5)}
    assert {image.tobytes() for image in images} == expected
