"""Feature maps of reference nets, kept by `python -m tests.tools.encoder_parity --golden`."""

import math

import pytest

from tests.tools import encoder_parity as parity

SMALL = sorted(path.stem for path in parity.GOLDEN.glob("*.npz"))


@pytest.mark.parametrize("net", SMALL)
def test_maps_are_those_of_the_reference(net):
    tensors, image, expected = parity.golden(net)
    maps, adapted = parity.ours(net, tensors, image)
    assert max(parity.differences(maps, expected)) <= 1e-5
    assert len(adapted.variables) + len(adapted.unused) <= len(tensors)


@pytest.mark.parametrize("net", SMALL)
def test_golden_files_are_small_and_have_maps_of_every_stride(net):
    assert (parity.GOLDEN / f"{net}.npz").stat().st_size < 100_000
    _, image, maps = parity.golden(net)
    strides = parity.build(net).strides
    for one, stride in zip(maps, strides, strict=True):
        assert one.shape[1:3] == tuple(math.ceil(side / stride) for side in image.shape[1:3])
