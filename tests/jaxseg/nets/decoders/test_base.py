import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.nets import decoders
from jaxseg.nets.decoders.base import Decoder, finest_from
from tests.jaxseg.nets.decoders.reference import INDEX, maps_of, variables_of

SMALL = {
    "DeepLabV3Plus": {"width": 8, "low": 4, "rates": (1, 2)},
    "FPN": {"width": 8, "branch": 8},
    "LinearProbe": {},
    "SegFormerHead": {"width": 8},
    "UNetDecoder": {"widths": (8, 8, 8, 8, 8)},
    "UPerNet": {"width": 8, "regions": (1, 2)},
}
STRIDES, CHANNELS = (2, 4, 8), (4, 6, 8)


def make(name, **options):
    return getattr(decoders, name)(**SMALL[name], **options)


def shape_of(decoder, size, strides):
    maps = maps_of(size, strides, range(4, 4 + len(strides)))
    rngs = {"params": jax.random.key(0), "dropout": jax.random.key(0)}
    call = lambda: decoder.init_with_output(rngs, maps, strides, INDEX, True)[0]
    return jax.eval_shape(call)


@pytest.mark.parametrize("name", decoders.__all__)
@pytest.mark.parametrize(
    "strides", [(2, 4, 8, 16, 32), (4, 8, 16, 32), (8, 16), (2, 8), (4, 14), (14, 14), (14,)]
)
def test_the_map_has_the_stride_that_the_decoder_says(name, strides):
    decoder, size = make(name), (np.lcm.reduce(strides), 2 * np.lcm.reduce(strides))
    if name in ("DeepLabV3Plus", "UNetDecoder") and len(set(strides)) == 1:
        with pytest.raises(ValueError, match=f"{name} needs"):
            shape_of(decoder, size, strides)
        return
    stride = decoder.stride(strides)
    shape = shape_of(decoder, size, strides).shape
    assert shape[:3] == (2, size[0] // stride, size[1] // stride)


@pytest.mark.parametrize("name", decoders.__all__)
def test_gradients_reach_every_parameter(name):
    decoder = make(name, norm="group")
    maps = maps_of((16, 24), STRIDES, CHANNELS)
    variables = variables_of(decoder, maps, STRIDES)

    @jax.jit
    def gradients(params):
        def loss(params):
            y = decoder.apply({"params": params}, maps, STRIDES, INDEX, True)
            return jnp.sum(y * jnp.cos(jnp.arange(y.size).reshape(y.shape)))

        return jax.grad(loss)(params)

    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients(variables["params"])):
        assert np.abs(leaf).max() > 1e-4, jax.tree_util.keystr(path)


@pytest.mark.parametrize("name", decoders.__all__)
def test_a_map_does_not_depend_on_the_rest_of_the_batch(name):
    decoder = make(name, norm="group", dropout=0.4)
    maps = maps_of((16, 24), STRIDES, CHANNELS)
    variables = variables_of(decoder, maps, STRIDES)

    @jax.jit
    def run(maps, index, key):
        return decoder.apply(variables, maps, STRIDES, index, True, rngs={"dropout": key})

    both = run(maps, INDEX, jax.random.key(1))
    swapped = run(tuple(x[::-1] for x in maps), INDEX[::-1], jax.random.key(1))
    np.testing.assert_allclose(swapped[::-1], both, rtol=1e-5, atol=1e-5)
    other = run(maps, INDEX[::-1], jax.random.key(1))
    assert np.abs(other - both).max() > 0.1  # another example's dropout


@pytest.mark.parametrize("name", decoders.__all__)
def test_dropout_is_off_outside_training_unless_asked_for(name):
    maps = maps_of((16, 24), STRIDES, CHANNELS)
    plain, decoder = make(name), make(name, dropout=0.4)
    variables, rngs = variables_of(decoder, maps, STRIDES), {"dropout": jax.random.key(1)}

    @jax.jit
    def run(maps):
        arguments = variables, maps, STRIDES, INDEX, False
        dropped = decoder.apply(*arguments, drop=True, rngs=rngs)
        return plain.apply(*arguments), decoder.apply(*arguments), dropped

    without, off, on = run(maps)
    np.testing.assert_array_equal(without, off)
    assert np.abs(on - off).max() > 0.1


@pytest.mark.parametrize("name", decoders.__all__)
def test_frozen_statistics_make_training_like_evaluation(name):
    decoder = make(name, frozen_statistics=True)
    maps = maps_of((16, 24), STRIDES, CHANNELS)
    variables = variables_of(decoder, maps, STRIDES)

    @jax.jit
    def run(maps):
        off = decoder.apply(variables, maps, STRIDES, INDEX)
        on, stats = decoder.apply(variables, maps, STRIDES, INDEX, True, mutable=["batch_stats"])
        return off, on, stats

    off, on, changed = run(maps)
    np.testing.assert_array_equal(off, on)
    jax.tree.map(
        np.testing.assert_array_equal, changed.get("batch_stats"), variables["batch_stats"]
    )


@pytest.mark.parametrize("name", decoders.__all__)
def test_the_map_has_the_dtype_of_the_computation(name):
    # Flax's norms promote bfloat16 to float32, which strict promotion refuses.
    with jax.numpy_dtype_promotion("standard"):
        got = shape_of(make(name, dtype=jnp.bfloat16), (16, 16), STRIDES)
    assert got.dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("options", "maps", "strides", "message"),
    [
        ({"norm": "layer"}, 3, STRIDES, "FPN: norm must be one of batch, group; got 'layer'"),
        ({"dropout": 1.0}, 3, STRIDES, r"FPN: dropout must be in \[0, 1\), got 1.0"),
        ({}, 3, (8, 4, 2), r"FPN: strides must rise from 1 or more, got \(8, 4, 2\)"),
        ({}, 3, (0, 2, 4), "FPN: strides must rise"),
        ({}, 2, STRIDES, r"FPN: 2 maps for 3 strides \(2, 4, 8\)"),
    ],
)
def test_what_does_not_fit_is_said(options, maps, strides, message):
    features = maps_of((16, 16), STRIDES, CHANNELS)[:maps]
    with pytest.raises(ValueError, match=message):
        make("FPN", **options).check(features, strides)


def test_a_decoder_must_say_its_stride():
    with pytest.raises(NotImplementedError, match="Decoder does not say its stride"):
        Decoder().stride(STRIDES)


def test_finest_from_takes_the_first_large_enough_stride():
    assert [finest_from((2, 4, 8), least) for least in (1, 2, 3, 4, 8, 9)] == [0, 0, 1, 1, 2, 2]
