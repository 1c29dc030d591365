import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.nets.cnn import CNN
from jaxseg.nets.unet import UNet, resize


def variables(net, shape, train=True):
    x = jnp.zeros((1, *shape))
    return net.init(
        {"params": jax.random.key(0), "dropout": jax.random.key(0)}, x, jnp.zeros(1, int), train
    )


def run(net, x, train=False, seed=1, index=None, **options):
    v = variables(net, x.shape[1:])
    index = jnp.arange(len(x)) if index is None else index
    rngs = {"dropout": jax.random.key(seed)}
    out = net.apply(v, x, index, train, rngs=rngs, mutable=["batch_stats"], **options)[0]
    return out


def picture(shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"block": "residual"},
        {"norm": "batch"},
        {"norm": "none"},
        {"up": "transpose"},
        {"stem": 2},
        {"second_stream": 2},
        {"widths": (4,)},
        {"dtype": jnp.bfloat16},
    ],
)
@pytest.mark.parametrize("size", [(1, 1), (5, 19)])
def test_logits_are_as_large_as_the_image(options, size):
    net = UNet(classes=3, **({"widths": (4, 8, 8)} | options))
    logits = run(net, picture((2, *size, 5)))
    assert logits.shape == (2, *size, 3)
    assert logits.dtype == jnp.float32
    assert np.isfinite(logits).all()


def test_deep_supervision_halves_the_size_and_only_in_training():
    net = UNet(classes=3, widths=(4, 8, 8), deep_supervision=True)
    x = picture((2, 21, 18, 3))
    assert [y.shape for y in run(net, x, train=True)] == [(2, 21, 18, 3), (2, 11, 9, 3)]
    assert run(net, x).shape == (2, 21, 18, 3)


def test_every_skip_reaches_the_output():
    """A U-Net that forgets its full-resolution skip still trains, only worse."""
    net = UNet(classes=2, widths=(4, 8, 8))
    v = variables(net, (16, 16, 3))
    x = picture((1, 16, 16, 3))
    base = net.apply(v, x, jnp.zeros(1, int))
    for level in range(2):
        kernel = v["params"][f"decoder{level}"]["Conv_0"]["kernel"]
        assert kernel.shape[2] == 2 * net.widths[level]  # up-sampled and skip, side by side
        changed = jax.tree.map(lambda a: a, v)
        changed["params"][f"decoder{level}"]["Conv_0"]["kernel"] = kernel.at[
            :, :, net.widths[level] :
        ].set(0)
        assert np.abs(net.apply(changed, x, jnp.zeros(1, int)) - base).max() > 1e-4


def test_what_an_image_is_padded_with_does_not_shift_it():
    """A translation by the net's stride moves the logits of a net without borders in reach."""
    net = UNet(classes=2, widths=(4, 8), norm="none", convolutions=1)
    v = variables(net, (48, 48, 1))
    x = picture((1, 48, 48, 1))
    index = jnp.zeros(1, int)
    moved = net.apply(v, jnp.roll(x, (4, 2), (1, 2)), index)
    still = jnp.roll(net.apply(v, x, index), (4, 2), (1, 2))
    np.testing.assert_allclose(moved[:, 12:-12, 12:-12], still[:, 12:-12, 12:-12], atol=1e-5)


def test_dropout_belongs_to_the_example_and_can_be_on_outside_training():
    net = UNet(classes=2, widths=(4, 8), dropout=0.5, norm="batch")
    x = picture((3, 8, 8, 3))
    index = jnp.array([5, 9, 5])
    same = jnp.concatenate([x[:1], x[1:2], x[:1]])
    out = run(net, same, index=index, drop=True)
    np.testing.assert_allclose(out[0], out[2], atol=1e-6)
    alone = run(net, same[1:2], index=index[1:2], drop=True)
    np.testing.assert_allclose(out[1], alone[0], atol=1e-6)
    assert (
        np.abs(
            run(net, x, index=index, drop=True, seed=2) - run(net, x, index=index, drop=True)
        ).max()
        > 1e-4
    )
    np.testing.assert_array_equal(run(net, x, seed=1), run(net, x, seed=2))


def test_resize_is_bilinear():
    ramp = jnp.arange(6.0).reshape(1, 6, 1, 1)
    np.testing.assert_allclose(
        resize(ramp, 2)[0, :, 0, 0],
        np.clip(np.arange(12) / 2 - 0.25, 0, 5),
        atol=1e-6,
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"block": "dense"}, "block must be one of plain, residual"),
        ({"norm": "layer"}, "norm must be one of"),
        ({"dropout": 1.0}, "dropout"),
        ({"classes": 0}, "classes >= 1"),
        ({"widths": ()}, "at least 1"),
        ({"second_stream": 3}, "the input has 3 channels"),
    ],
)
def test_arguments_that_cannot_be_meant(options, message):
    with pytest.raises(ValueError, match=message):
        run(UNet(**({"classes": 2} | options)), picture((1, 8, 8, 3)))


def test_the_founding_net_is_as_large_as_it_was():
    shapes = jax.eval_shape(lambda: variables(CNN(classes=10), (224, 224, 3)))
    convolutions = 3 * 3 * 3 * 64 + 64 + 3 * 3 * 64 * 64 + 64
    dense = 112 * 112 * 64 * 128 + 128 + 128 * 10 + 10
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == convolutions + dense
