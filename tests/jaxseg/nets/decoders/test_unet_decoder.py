import numpy as np
import pytest

from jaxseg.nets.decoders import UNetDecoder
from tests.jaxseg.nets.decoders import reference


@pytest.mark.parametrize("stop", [1, 2, 4])
def test_it_is_the_slow_one(stop):
    strides = (2, 4, 8)
    maps = reference.maps_of((16, 24), strides, (4, 5, 6))
    got, variables = reference.decoded(
        UNetDecoder(widths=(8, 6, 7), stop_stride=stop), maps, strides
    )
    x, stride = maps[-1], 8
    for level, skip in enumerate((maps[1], maps[0], None)):
        if stride == stop:
            break
        stride //= 2
        x = reference.bilinear(x, 16 // stride, 24 // stride)
        x = reference.convolve(x, variables["params"][f"up{level}"])
        x = x if skip is None else np.concatenate([x, skip], -1)
        params, stats = (variables[key][f"level{level}"] for key in ("params", "batch_stats"))
        for number in range(2):
            norm = f"BatchNorm_{number}"
            x = reference.convolve(x, params[f"Conv_{number}"])
            x = np.maximum(reference.batch_norm(x, params[norm], stats[norm]), 0.0)
    assert stride == stop
    reference.same(got, x)


@pytest.mark.parametrize(
    ("strides", "stop", "levels"),
    [
        ((2, 4, 8, 16, 32), 2, [16, 8, 4, 2]),
        ((2, 4, 8, 16, 32), 1, [16, 8, 4, 2, 1]),
        ((2, 4, 8, 16, 32), 4, [16, 8, 4]),
        ((2, 4, 8, 16, 32), 3, [16, 8, 4]),
        ((2, 4, 8, 16, 32), 16, [16]),
        ((4, 8, 16, 32), 1, [16, 8, 4, 2, 1]),
        ((8, 32), 1, [8, 4, 2, 1]),
        ((7, 14), 2, [7]),
    ],
)
def test_levels_follow_the_encoder_and_go_on_by_halves(strides, stop, levels):
    decoder = UNetDecoder(stop_stride=stop)
    assert decoder.stride(strides) == levels[-1]
    assert decoder._levels(strides) == levels


@pytest.mark.parametrize(
    ("options", "strides", "message"),
    [
        ({}, (14,), r"at least two maps.*strides \(14,\): take SegFormerHead"),
        ({}, (7, 14, 14), "each of another stride"),
        ({"stop_stride": 0}, (2, 4), "stop_stride=0 must be at least 1"),
        ({"stop_stride": 5}, (4, 8), r"stop_stride=5 .*not above the last but one.*\(4, 8\)"),
        (
            {"widths": (8, 8)},
            (2, 4, 8, 16),
            "it needs 3, at least 1 each, for levels of stride 8, 4, 2",
        ),
        ({"widths": (8, 0)}, (2, 4), "at least 1 each"),
    ],
)
def test_what_does_not_fit_is_said(options, strides, message):
    with pytest.raises(ValueError, match=message):
        UNetDecoder(**options).stride(strides)
