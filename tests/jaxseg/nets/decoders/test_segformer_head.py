import numpy as np

from jaxseg.nets.decoders import SegFormerHead
from tests.jaxseg.nets.decoders import reference


def test_it_mixes_the_enlarged_maps_as_the_paper_does():
    strides = (2, 4, 8, 16)
    maps = reference.maps_of((32, 48), strides, (4, 5, 6, 7))
    got, variables = reference.decoded(SegFormerHead(width=8), maps, strides)
    params = variables["params"]
    # As in equation 4: unified, enlarged, side by side, and one layer over all channels.
    sides = [
        reference.bilinear(reference.convolve(x, params[f"unify{number}"]), 8, 12)
        for number, x in enumerate(maps[1:])
    ]
    kernel = np.concatenate([params[f"fuse{number}"]["kernel"] for number in range(3)], 2)
    x = reference.convolve(np.concatenate(sides, -1), {"kernel": kernel})
    norms = params["norm"]["BatchNorm_0"], variables["batch_stats"]["norm"]["BatchNorm_0"]
    reference.same(got, np.maximum(reference.batch_norm(x, *norms), 0.0))
