import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.nets import translation
from tests.jaxgen.nets.test_encoder_decoder import conv, dense
from tests.jaxgen.nets.test_gan import pixel_norm, relu, rows_alone, shuffled
from tests.jaxgen.nets.test_masked import normal, parameters

KEY = jax.random.key(0)


@pytest.mark.parametrize("shape", [(8, 8, 1), (17, 30, 3), (5, 4, 1), (28, 28, 1)])
def test_nets_fit_any_size(shape):
    """Shapes only: nothing is computed."""
    x, unet = jnp.zeros((3, *shape)), translation.UNetGenerator((4, 6))
    for z in (jnp.zeros((3, 0)), jnp.zeros((3, 5))):
        made = jax.eval_shape(lambda x, z=z: unet.init_with_output(KEY, x, z, shape)[0], x)
        assert made.shape == (3, *shape)
        assert made.dtype == np.float32
    patches = translation.PatchDiscriminator((4, 6))
    logits = jax.eval_shape(lambda x: patches.init_with_output(KEY, x)[0], x)
    assert logits.shape == (3, -(-shape[0] // 4), -(-shape[1] // 4))


def test_widths_where_none_are_given():
    """An image of 8 x 8 has a smallest map of one pixel after three halvings."""
    x, z = jnp.zeros((1, 8, 8, 1)), jnp.zeros((1, 5))
    unet = jax.eval_shape(lambda: translation.UNetGenerator().init(KEY, x, z, (8, 8, 1)))
    patches = jax.eval_shape(lambda: translation.PatchDiscriminator().init(KEY, x))
    widths = lambda net: [
        net["params"][name]["bias"].shape[0] for name in net["params"] if "Norm" not in name
    ]
    assert sorted(widths(unet)) == sorted([32, 64, 64, 64, 4 * 64, 4 * 32, 4 * 32, 1])
    assert sorted(widths(patches)) == sorted([32, 64, 2 * 64, 1])


def test_rows_are_independent():
    """Group norm is of one example only."""
    found = rows_alone(translation.PatchDiscriminator((4, 6)), normal(2, 8, 8, 1))
    np.testing.assert_allclose(*found, atol=1e-5)


def test_the_unet_against_numpy():
    net = translation.UNetGenerator((4, 6), norm="pixel")
    condition, z, shape = normal(2, 5, 7, 3), normal(2, 3, seed=1), (5, 7, 2)
    params = parameters(net, condition, z, shape, size=0.3)
    first = relu(conv(condition, params["Conv_0"], stride=2), 0.2)
    x = relu(pixel_norm(conv(first, params["Conv_1"], stride=2)), 0.2)
    noise = relu(dense(z, params["Dense_0"])).reshape(2, 2, 2, 6)
    x = np.concatenate([x, noise], axis=-1)
    for number, skip in ((2, first), (3, condition)):
        x = shuffled(conv(x, params[f"Conv_{number}"]))[:, : skip.shape[1], : skip.shape[2]]
        x = np.concatenate([relu(pixel_norm(x)), skip], axis=-1)
    wanted = conv(x, params["Conv_4"])
    found = jax.jit(lambda c: net.apply({"params": params}, c, z, shape))(condition)
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_the_patch_discriminator_against_numpy():
    net = translation.PatchDiscriminator((4,), norm="pixel")
    x, condition = normal(2, 5, 7, 1), normal(2, 5, 7, 2, seed=1)
    params = parameters(net, x, condition, size=0.3)
    h = np.concatenate([x, condition], axis=-1)
    h = relu(conv(h, params["Conv_0"], stride=2), 0.2)
    h = relu(pixel_norm(conv(h, params["Conv_1"])), 0.2)
    wanted = conv(h, params["Conv_2"])[..., 0]
    found = jax.jit(lambda x: net.apply({"params": params}, x, condition))(x)
    np.testing.assert_allclose(found, wanted, atol=1e-4)
