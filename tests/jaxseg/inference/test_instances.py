import jax
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import ndimage

from jaxseg.inference import instances as module

SHAPE = (9, 11)
divide = jax.jit(module.instances, static_argnames=("threshold", "seed", "min_size", "levels"))
components = jax.jit(module.components)


def neighbours(pixel):
    y, x = pixel
    around = ((y - 1, x), (y, x - 1), (y, x + 1), (y + 1, x))
    return [(v, u) for v, u in around if 0 <= v < SHAPE[0] and 0 <= u < SHAPE[1]]


def by_hand(foreground, distance, min_size, levels=16, seed=0.5):
    """The same definition, pixel by pixel, with scipy's components."""
    inside = foreground >= 0.5
    cores, _ = ndimage.label(inside & (distance >= seed))
    objects, count = cores.copy(), cores.max()
    for level in range(int(seed * levels), -1, -1):
        while True:
            taken = {}
            for pixel in zip(*np.nonzero(inside & (objects == 0)), strict=True):
                near = [objects[other] for other in neighbours(pixel) if objects[other]]
                if near and np.floor(distance[pixel] * levels) >= level:
                    taken[pixel] = min(near)
            if not taken:
                break
            for pixel, number in taken.items():
                objects[pixel] = number
    alone, _ = ndimage.label(inside & (objects == 0))
    objects[alone > 0] = count + alone[alone > 0]
    # scipy numbers cores, and pieces without one, by their first pixels; both together:
    firsts = {}
    for number in range(1, objects.max() + 1):
        own = cores == number if number <= count else objects == number
        if (objects == number).sum() >= min_size:
            firsts[np.flatnonzero(own)[0]] = number
    result = np.zeros(SHAPE, int)
    for new, first in enumerate(sorted(firsts), 1):
        result[objects == firsts[first]] = new
    return result


@st.composite
def maps(draw):
    """Maps of hills: noise, smoothed more or less."""
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    width = draw(st.sampled_from([0.0, 0.7, 1.5]))
    smooth = [ndimage.gaussian_filter(rng.random(SHAPE), width) for _ in range(2)]
    ranks = [(np.argsort(np.argsort(m, None)).reshape(SHAPE) + 0.5) / m.size for m in smooth]
    # Multiples of 1 / 64: float32 holds them, and times 16 they have no rounding.
    return [np.float32(np.floor(64 * m) / 64) for m in ranks]


@given(maps(), st.sampled_from([1, 3]))
@example([np.zeros(SHAPE, np.float32)] * 2, 1)
@example([np.ones(SHAPE, np.float32)] * 2, 1)
def test_objects_are_those_of_the_definition(drawn, min_size):
    foreground, distance = drawn
    foreground = np.sqrt(foreground)  # more foreground than background
    found = divide(foreground, distance, min_size=min_size)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, by_hand(foreground, distance, min_size))


@given(st.integers(0, 2**16), st.sampled_from([0.3, 0.6, 0.8]))
def test_components_are_those_of_scipy(seed, share):
    mask = np.random.default_rng(seed).random(SHAPE) < share
    labels, count = ndimage.label(mask)
    firsts = np.array([-1, *(np.flatnonzero(labels == n)[0] for n in range(1, count + 1))])
    np.testing.assert_array_equal(components(mask), firsts[labels])


def test_a_long_winding_component_is_one():
    mask = np.zeros((17, 19), bool)
    mask[::2] = True
    mask[1::4, -1] = mask[3::4, 0] = True
    found = np.asarray(components(mask))
    assert np.unique(found[mask]).tolist() == [0]
    assert (found[~mask] == -1).all()


def test_two_hills_that_touch_are_two_objects_and_meet_in_the_valley():
    y, x = np.mgrid[:17, :33]
    depth = np.maximum(1 - np.hypot(y - 8, x - 8) / 7, 1 - np.hypot(y - 8, x - 21) / 7)
    found = np.asarray(divide(np.float32(depth > 0), np.float32(np.clip(depth, 0, 1))))
    np.testing.assert_array_equal(found, np.where(depth > 0, 1 + (x > 14), 0))


def test_a_lower_seed_divides_less():
    x = np.arange(21) + np.zeros((9, 1))
    depth = np.maximum(1 - np.abs(x - 5) / 8, 1 - np.abs(x - 15) / 8)  # the valley at 3 / 8
    maps = np.ones((9, 21), np.float32), np.float32(depth)
    assert np.max(divide(*maps, seed=0.5)) == 2
    assert np.max(divide(*maps, seed=0.3)) == 1


def test_options_out_of_range_are_refused():
    flat = np.zeros((4, 4), np.float32)
    for options in ({"threshold": 0.0}, {"seed": 1.0}, {"min_size": 0}, {"levels": 0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            module.instances(flat, flat, **options)
    with pytest.raises(ValueError, match=r"\(4, 4\) and distance \(4, 3\)"):
        module.instances(flat, flat[:, 1:])
