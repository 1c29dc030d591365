import numpy as np

from jaxseg.nets.decoders import UPerNet
from tests.jaxseg.nets.decoders import reference


def test_it_is_the_slow_one():
    strides = (2, 4, 8, 16)
    maps = reference.maps_of((64, 96), strides, (4, 5, 6, 7))
    got, variables = reference.decoded(UPerNet(width=8, regions=(1, 2)), maps, strides)
    deep, (height, width) = maps[3], maps[3].shape[1:3]
    halves = deep.reshape(2, 2, height // 2, 2, width // 2, 7).mean((2, 4))
    parts = [deep]
    for name, mean in (("pool1", deep.mean((1, 2), keepdims=True)), ("pool2", halves)):
        mean = reference.conv_norm(mean, variables, name)
        parts.append(reference.bilinear(mean, height, width))
    deep = reference.conv_norm(np.concatenate(parts, -1), variables, "pooled")
    middle = reference.conv_norm(maps[2], variables, "lateral1") + reference.bilinear(deep, 8, 12)
    fine = reference.conv_norm(maps[1], variables, "lateral0") + reference.bilinear(middle, 16, 24)
    fine = reference.conv_norm(fine, variables, "level0")
    middle = reference.bilinear(reference.conv_norm(middle, variables, "level1"), 16, 24)
    joined = np.concatenate([fine, middle, reference.bilinear(deep, 16, 24)], -1)
    reference.same(got, reference.conv_norm(joined, variables, "join"))
