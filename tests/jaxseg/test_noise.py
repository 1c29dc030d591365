import jax
import numpy as np

from jaxseg import noise


def test_an_example_s_numbers_depend_on_its_index_alone():
    draw = lambda key: jax.random.normal(key, (3,))
    one = noise.per_example(draw, jax.random.key(0), np.int32([5, 9, 5]))
    np.testing.assert_array_equal(one[0], one[2])
    assert not np.array_equal(one[0], one[1])
    other = noise.per_example(draw, jax.random.key(0), np.int32([9]))
    np.testing.assert_array_equal(other[0], one[1])
    assert not np.array_equal(noise.per_example(draw, jax.random.key(1), np.int32([9])), other)
    alone = jax.random.normal(jax.random.fold_in(jax.random.key(0), 9), (3,))
    np.testing.assert_array_equal(other[0], alone)
