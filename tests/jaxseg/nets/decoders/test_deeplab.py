import numpy as np
import pytest

from jaxseg.nets.decoders import DeepLabV3Plus
from tests.jaxseg.nets.decoders import reference


@pytest.mark.parametrize(("deepest", "dilations"), [(16, (2, 3)), (32, (1, 2)), (8, (4, 6))])
def test_it_is_the_slow_one(deepest, dilations):
    strides = (2, 4, deepest)
    maps = reference.maps_of((4 * deepest, 6 * deepest), strides, (4, 5, 6))
    decoder = DeepLabV3Plus(width=8, low=3, rates=(2, 3))
    got, variables = reference.decoded(decoder, maps, strides)
    deep = maps[2]
    mean = reference.conv_norm(deep.mean((1, 2), keepdims=True), variables, "aspp_mean")
    branches = [
        reference.conv_norm(deep, variables, "aspp_point"),
        *(reference.conv_norm(deep, variables, f"aspp{n}", d) for n, d in enumerate(dilations)),
        np.broadcast_to(mean, (*deep.shape[:3], 8)),
    ]
    x = reference.conv_norm(np.concatenate(branches, -1), variables, "aspp")
    x = reference.bilinear(x, *maps[1].shape[1:3])
    x = np.concatenate([x, reference.conv_norm(maps[1], variables, "low")], -1)
    for name in ("refine0", "refine1"):
        x = reference.conv_norm(x, variables, name)
    reference.same(got, x)


@pytest.mark.parametrize("strides", [(14,), (16, 16)])
def test_it_needs_a_finer_map(strides):
    with pytest.raises(
        ValueError, match=r"DeepLabV3Plus needs an encoder .* finer .*take SegFormerHead"
    ):
        DeepLabV3Plus().stride(strides)


@pytest.mark.parametrize(
    ("strides", "stride"), [((2, 4, 8, 16, 32), 4), ((8, 16, 32), 8), ((1, 2, 4), 2), ((2, 8), 2)]
)
def test_the_finer_map_has_at_least_stride_4_where_there_is_one(strides, stride):
    assert DeepLabV3Plus().stride(strides) == stride
