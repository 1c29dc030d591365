import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.nets.decoders import FPN
from tests.jaxseg.nets.decoders import reference


def test_it_is_the_slow_one():
    strides = (2, 4, 8, 16)  # that of stride 2 is not used
    maps = reference.maps_of((32, 48), strides, (4, 5, 6, 7))
    got, variables = reference.decoded(FPN(width=8, branch=6), maps, strides)
    fine, middle, deep = (
        reference.convolve(x, variables["params"][f"lateral{n}"]) for n, x in enumerate(maps[1:])
    )
    middle = middle + reference.bilinear(deep, 4, 6)
    fine = fine + reference.bilinear(middle, 8, 12)
    fine = reference.conv_norm(fine, variables, "branch0_0")
    middle = reference.bilinear(reference.conv_norm(middle, variables, "branch1_0"), 8, 12)
    deep = reference.bilinear(reference.conv_norm(deep, variables, "branch2_1"), 4, 6)
    deep = reference.bilinear(reference.conv_norm(deep, variables, "branch2_0"), 8, 12)
    reference.same(got, fine + middle + deep)


def test_identity_kernels_give_the_sum_of_the_maps():
    strides, maps = (4, 8), tuple(np.abs(x) for x in reference.maps_of((16, 16), (4, 8), (3, 3)))
    decoder = FPN(width=3, branch=3)

    def plain(path, leaf):
        if path[-1].key == "kernel":
            middle = leaf.shape[0] // 2
            return jnp.zeros(leaf.shape).at[middle, middle].set(jnp.eye(3))
        return jnp.full(leaf.shape, {"scale": np.sqrt(1 + 1e-5), "var": 1.0}.get(path[-1].key, 0.0))

    variables = reference.variables_of(decoder, maps, strides)
    variables = jax.tree_util.tree_map_with_path(plain, variables)
    got = jax.jit(lambda maps: decoder.apply(variables, maps, strides, reference.INDEX))(maps)
    wanted = maps[0] + 2 * reference.bilinear(maps[1], 4, 4)  # in the pyramid, and in its branch
    np.testing.assert_allclose(got, wanted, rtol=1e-5)


@pytest.mark.parametrize(("finest", "stride"), [(1, 2), (2, 2), (4, 4), (64, 32)])
def test_the_finest_map_is_chosen(finest, stride):
    assert FPN(finest=finest).stride((2, 4, 8, 16, 32)) == stride
