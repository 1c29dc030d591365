import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.augmentations import diffaugment

KEY = jax.random.key(0)
INDEX = jnp.arange(40)
ALL = (diffaugment.colour(), diffaugment.translation(), diffaugment.cutout())


augment = jax.jit(diffaugment.augment, static_argnums=0)


def images(shape=(17, 12, 3)):
    rng = np.random.default_rng(0)
    return rng.uniform(-1.0, 1.0, (len(INDEX), *shape)).astype(np.float32)


def test_no_augmentations_and_those_of_no_size_change_nothing():
    x = images()
    assert diffaugment.augment((), x, KEY, INDEX) is x
    still = (diffaugment.colour(0.0, 0.0, 0.0), diffaugment.cutout(0.0))
    np.testing.assert_allclose(augment(still, x, KEY, INDEX), x, atol=1e-6)


@pytest.mark.parametrize(
    ("ratio", "shape", "reach"),
    [((0.25,), (17, 12, 3), (4, 3)), ((), (24, 3, 1), (3, 1))],  # an eighth, and at least 1
)
def test_translation_moves_and_fills_with_black(ratio, shape, reach):
    x = images(shape)
    moved = np.asarray(augment((diffaugment.translation(*ratio),), x, KEY, INDEX))
    (down, right), (height, width) = reach, shape[:2]
    padded = np.pad(x, ((0, 0), (down,) * 2, (right,) * 2, (0, 0)), constant_values=-1.0)
    places = set()
    for row, image in enumerate(moved):
        found = [
            (top, left)
            for top in range(2 * down + 1)
            for left in range(2 * right + 1)
            if np.array_equal(image, padded[row, top : top + height, left : left + width])
        ]
        assert len(found) == 1
        places.update(found)
    assert len(places) > 14  # of 63 or 21 places, by 40 draws
    assert np.ptp(list(places), axis=0).tolist() == [2 * down, 2 * right]


@pytest.mark.parametrize(("side", "reach"), [(20, 3), (28, 4), (12, 2), (8, 1), (3, 1), (19, 2)])
def test_translation_reaches_as_far_as_the_published_code(side, reach):
    """int(side / 8 + 0.5) pixels, but at least one: half a pixel counts as a whole one."""
    move = jax.jit(jax.vmap(diffaugment.translation(), (None, 0)))
    marked = jnp.full((side, side, 1), -1.0).at[side // 2, side // 2].set(1.0)
    moved = np.asarray(move(marked, jax.random.split(KEY, 200)))[..., 0]
    rows, columns = (np.unique(moved.max(axis).argmax(1)) - side // 2 for axis in (2, 1))
    np.testing.assert_array_equal(rows, np.arange(-reach, reach + 1))
    np.testing.assert_array_equal(columns, rows)


def test_cutout_greys_a_rectangle():
    x = images() + 2.0  # nowhere 0
    cut = np.asarray(augment((diffaugment.cutout(),), x, KEY, INDEX))
    lengths = set()
    for before, after in zip(np.asarray(x), cut, strict=True):
        gone = (after == 0).all(-1)
        rows, columns = np.flatnonzero(gone.any(1)), np.flatnonzero(gone.any(0))
        assert np.ptp(rows) + 1 == len(rows) <= 9
        assert np.ptp(columns) + 1 == len(columns) <= 6
        assert gone.sum() == len(rows) * len(columns)
        lengths.add((len(rows), len(columns)))
        np.testing.assert_array_equal(after[~gone], before[~gone])
    assert (9, 6) in lengths  # half of each side


@pytest.mark.parametrize(("side", "length", "first", "last"), [(8, 4, -2, 6), (6, 3, -1, 4)])
def test_cutout_reaches_every_place_that_the_published_code_reaches(side, length, first, last):
    """Its centre is uniform over the image: a rectangle may reach over the edge by half."""
    cutout, rows, columns = jax.jit(jax.vmap(diffaugment.cutout(0.5), (None, 0))), set(), set()
    ones = jnp.ones((side, side, 1))
    for image in np.asarray(cutout(ones, jax.random.split(KEY, 200)))[..., 0]:
        for gone, places in (((image == 0).any(1), rows), ((image == 0).any(0), columns)):
            places.add((int(gone.argmax()), side - int(gone[::-1].argmax())))
    wanted = {(max(0, at), min(side, at + length)) for at in range(first, last + 1)}
    assert rows == columns == wanted


def test_colour_is_the_published_formula():
    image, key = np.asarray(images()[0], np.float64), jax.random.key(5)
    shift, tint, spread = np.asarray(jax.random.uniform(key, (3,), minval=-1.0, maxval=1.0))
    wanted = image + 0.5 * shift
    grey = wanted.mean(-1, keepdims=True)
    wanted = grey + (wanted - grey) * (1 + tint)
    wanted = wanted.mean() + (wanted - wanted.mean()) * (1 + 0.5 * spread)
    found = jax.jit(diffaugment.colour())(jnp.float32(image), key)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_an_image_is_augmented_by_its_own_key():
    x = images()
    whole = np.asarray(augment(ALL, x, KEY, INDEX))
    some = np.array([7, 3, 30])
    found = augment(ALL, x[some], KEY, some)
    np.testing.assert_allclose(found, whole[some], atol=2e-6)
    other = augment(ALL, x, jax.random.key(1), INDEX)
    assert np.abs(other - whole).max() > 0.1


@pytest.mark.parametrize("number", range(3))
def test_gradients_pass_through_it(number):
    x = images()
    direction = np.random.default_rng(2).normal(size=x.shape).astype(np.float32)
    augmentation = ALL[number : number + 1]
    total = lambda x: jnp.sum(direction * diffaugment.augment(augmentation, x, KEY, INDEX))
    total, gradient = jax.jit(total), jax.jit(jax.grad(total))
    slope = jnp.sum(gradient(x) * direction)
    numerical = (total(x + 1e-2 * direction) - total(x - 1e-2 * direction)) / 2e-2
    assert float(slope) == pytest.approx(float(numerical), rel=1e-2)
    assert float(slope) > 1.0
