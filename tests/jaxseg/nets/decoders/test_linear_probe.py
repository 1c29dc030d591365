import jax
import numpy as np

from jaxseg.nets.decoders import LinearProbe
from tests.jaxseg.nets.decoders import reference


def test_it_is_the_normalised_last_map():
    maps = reference.maps_of((28, 42), (7, 14), (3, 5))
    got, variables = reference.decoded(LinearProbe(), maps, (7, 14))
    layers = variables["params"]["norm"]["BatchNorm_0"], variables["batch_stats"]["norm"]
    reference.same(got, reference.batch_norm(maps[1], layers[0], layers[1]["BatchNorm_0"]))


def test_training_normalises_by_the_batch():
    maps = reference.maps_of((28, 42), (14,), (5,))
    variables = LinearProbe().init(jax.random.key(0), maps, (14,), reference.INDEX)
    got, _ = LinearProbe().apply(
        variables, maps, (14,), reference.INDEX, True, mutable=["batch_stats"]
    )
    mean, var = (f(maps[0], (0, 1, 2)) for f in (np.mean, np.var))
    reference.same(np.asarray(got), (maps[0] - mean) / np.sqrt(var + 1e-5))
