import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.augmentations import diffaugment

KEY = jax.random.key(0)
INDEX = jnp.arange(40)
ALL = (diffaugment.colour(), diffaugment.translation(), diffaugment.cutout())


def images(shape=(17, 12, 3)):
    return jax.random.uniform(KEY, (len(INDEX), *shape), minval=-1.0, maxval=1.0)


def test_an_empty_policy_and_one_of_no_size_change_nothing():
    x = images()
    assert diffaugment.augment((), x, KEY, INDEX) is x
    still = (diffaugment.colour(0.0, 0.0, 0.0), diffaugment.cutout(0.0))
    np.testing.assert_allclose(diffaugment.augment(still, x, KEY, INDEX), x, atol=1e-6)


def test_translation_moves_and_fills_with_black():
    x = images()
    moved = np.asarray(diffaugment.augment((diffaugment.translation(0.25),), x, KEY, INDEX))
    padded = np.pad(x, ((0, 0), (4, 4), (3, 3), (0, 0)), constant_values=-1.0)
    places = set()
    for row, image in enumerate(moved):
        found = [
            (top, left)
            for top in range(9)
            for left in range(7)
            if np.array_equal(image, padded[row, top : top + 17, left : left + 12])
        ]
        assert len(found) == 1
        places.update(found)
    assert len(places) > 20  # of 63 places, by 40 draws


def test_cutout_greys_a_rectangle():
    x = images() + 2.0  # nowhere 0
    cut = np.asarray(diffaugment.augment((diffaugment.cutout(0.5),), x, KEY, INDEX))
    for before, after in zip(np.asarray(x), cut, strict=True):
        gone = (after == 0).all(-1)
        rows, columns = np.flatnonzero(gone.any(1)), np.flatnonzero(gone.any(0))
        assert np.ptp(rows) + 1 == len(rows) <= 9
        assert np.ptp(columns) + 1 == len(columns) <= 6
        assert gone.sum() == len(rows) * len(columns)
        np.testing.assert_array_equal(after[~gone], before[~gone])


def test_colour_is_the_published_formula():
    image, key = np.asarray(images()[0], np.float64), jax.random.key(5)
    shift, tint, spread = np.asarray(jax.random.uniform(key, (3,), minval=-1.0, maxval=1.0))
    wanted = image + 0.5 * shift
    grey = wanted.mean(-1, keepdims=True)
    wanted = grey + (wanted - grey) * (1 + tint)
    wanted = wanted.mean() + (wanted - wanted.mean()) * (1 + 0.5 * spread)
    np.testing.assert_allclose(diffaugment.colour()(jnp.float32(image), key), wanted, atol=1e-5)


def test_what_happens_to_an_image_is_its_own_affair():
    x = images()
    whole = diffaugment.augment(ALL, x, KEY, INDEX)
    some = jnp.array([7, 3, 30])
    found = diffaugment.augment(ALL, x[some], KEY, some)
    np.testing.assert_allclose(found, whole[some], atol=2e-6)
    other = diffaugment.augment(ALL, x, jax.random.key(1), INDEX)
    assert np.abs(other - whole).max() > 0.1


@pytest.mark.parametrize("number", range(3))
def test_the_generator_feels_through_it(number):
    x, direction = images(), jax.random.normal(jax.random.key(2), images().shape)
    total = lambda x: jnp.sum(
        direction * diffaugment.augment(ALL[number : number + 1], x, KEY, INDEX)
    )
    slope = jnp.sum(jax.grad(total)(x) * direction)
    numerical = (total(x + 1e-2 * direction) - total(x - 1e-2 * direction)) / 2e-2
    assert float(slope) == pytest.approx(float(numerical), rel=1e-2)
    assert float(slope) > 1.0
