import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import nets
from jaxgen.nets import gan
from tests.jaxgen.nets.test_encoder_decoder import conv, dense
from tests.jaxgen.nets.test_masked import normal, parameters

KEY = jax.random.key(0)
SHAPES = [(8, 8, 1), (17, 30, 3), (5, 4, 1), (28, 28, 1)]
GENERATORS = {
    "dcgan": gan.DCGANGenerator((4, 6)),
    "pixel norm": gan.DCGANGenerator((4, 6), norm="pixel"),
    "residual": gan.ResidualGenerator((4, 6)),
}
DISCRIMINATORS = {
    "dcgan": gan.DCGANDiscriminator((4, 6)),
    "mlp": gan.MLPDiscriminator((8,)),
    "residual": gan.ResidualDiscriminator((4, 6)),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_nets_fit_any_size(shape):
    """Shapes only: nothing is computed."""
    z, x = jnp.zeros((3, 5)), jnp.zeros((3, *shape))
    for net in GENERATORS.values():
        made = jax.eval_shape(lambda z, net=net: net.init_with_output(KEY, z, shape)[0], z)
        assert made.shape == (3, *shape)
        assert made.dtype == np.float32
    for net in DISCRIMINATORS.values():
        for condition in (None, jnp.zeros((3, 7))):
            logits = jax.eval_shape(
                lambda x, net=net, c=condition: net.init_with_output(KEY, x, c)[0], x
            )
            assert logits.shape == (3,)


@pytest.mark.parametrize(
    "net",
    [
        gan.DCGANGenerator((4, 4, 4)),
        gan.ResidualGenerator((4, 4, 4)),
    ],
)
def test_a_size_that_a_generator_cannot_make_is_refused(net):
    with pytest.raises(ValueError, match=r"8 pixels; got 7 x 30.*fewer widths"):
        jax.eval_shape(lambda z: net.init(KEY, z, (7, 30, 1)), jnp.zeros((1, 2)))


def test_a_size_that_a_discriminator_cannot_halve_is_refused():
    for net in (gan.DCGANDiscriminator((4, 4, 4)), gan.ResidualDiscriminator((4,) * 3)):
        with pytest.raises(ValueError, match="8 pixels; got 30 x 7"):
            jax.eval_shape(lambda x, net=net: net.init(KEY, x), jnp.zeros((1, 30, 7, 1)))


def test_pixel_shuffle_lays_four_channels_out_as_two_by_two():
    x = jnp.arange(2 * 3 * 5 * 8).reshape(2, 3, 5, 8)
    found = gan.pixel_shuffle(x)
    assert found.shape == (2, 6, 10, 2)
    for row in range(2):
        for column in range(2):
            first = 2 * (2 * row + column)
            np.testing.assert_array_equal(found[:, row::2, column::2], x[..., first : first + 2])


def rows_alone(net, x, *args):
    """The outputs of a net for two rows, and for each row by itself."""
    params = parameters(net, x, *args, size=0.2)
    apply = lambda x: net.apply({"params": params}, x, *args)
    return jax.jit(lambda x: (apply(x), jnp.concatenate([apply(row[None]) for row in x])))(x)


def test_rows_are_independent():
    """The output for one image does not depend on the others."""
    found = rows_alone(GENERATORS["dcgan"], normal(2, 5), (8, 8, 1))
    np.testing.assert_allclose(*found, atol=1e-5)


def relu(x, slope=0.0):
    return np.where(x > 0, x, slope * x)


def shuffled(x):
    """Four channels as 2 x 2 pixels."""
    batch, height, width, channels = x.shape
    found = np.zeros((batch, 2 * height, 2 * width, channels // 4), np.float32)
    for number in range(4):
        part = x[..., number * (channels // 4) : (number + 1) * (channels // 4)]
        found[:, number // 2 :: 2, number % 2 :: 2] = part
    return found


def pixel_norm(x):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-8)


def group_norm(x, params, groups):
    batch, height, width, channels = x.shape
    parts = x.reshape(batch, height, width, groups, channels // groups)
    mean, var = (f(parts, axis=(1, 2, 4), keepdims=True) for f in (np.mean, np.var))
    parts = ((parts - mean) / np.sqrt(var + 1e-6)).reshape(x.shape)
    return parts * params["scale"] + params["bias"]


def test_the_dcgan_generator_doubles_and_crops():
    net, z, shape = gan.DCGANGenerator((4, 3), norm="pixel"), normal(2, 5), (5, 7, 2)
    params = parameters(net, z, shape)
    h = dense(z, params["Dense_0"]).reshape(2, 2, 2, 3)
    for number, size in enumerate([(3, 4), (5, 7)]):
        h = conv(relu(pixel_norm(h)), params[f"Conv_{number}"])
        h = shuffled(h)[:, : size[0], : size[1]]
    found = jax.jit(lambda z: net.apply({"params": params}, z, shape))(z)
    np.testing.assert_allclose(found, h, atol=1e-4)


def test_the_residual_generator_doubles_and_crops():
    net, z, shape = gan.ResidualGenerator((16,), norm="group"), normal(2, 5), (5, 7, 2)
    params = parameters(net, z, shape, size=0.2)
    twice = lambda x: x.repeat(2, axis=1).repeat(2, axis=2)[:, :5, :7]
    level = params["level0"]
    norm = lambda x, params: group_norm(x, params["GroupNorm_0"], 8)
    x = dense(z, params["Dense_0"]).reshape(2, 3, 4, 16)
    y = conv(twice(relu(norm(x, level["Norm_0"]))), level["Conv_0"])
    y = conv(relu(norm(y, level["Norm_1"])), level["Conv_1"])
    x = y + twice(conv(x, level["Conv_2"]))
    wanted = conv(relu(norm(x, params["Norm_0"])), params["Conv_0"])
    found = jax.jit(lambda z: net.apply({"params": params}, z, shape))(z)
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def project(h, params, condition):
    """Miyato and Koyama 2018, equation 3: linear(h) + <embedding(class), h>."""
    return dense(h, params["logit"])[:, 0] + ((condition @ params["classes"]["kernel"]) * h).sum(1)


def test_the_dcgan_discriminator_halves():
    net, x, condition = gan.DCGANDiscriminator((4, 3)), normal(2, 5, 8, 1), np.eye(2, dtype="f")
    params = parameters(net, x, condition)
    h = x
    for number in range(2):
        h = relu(conv(h, params[f"Conv_{number}"], stride=2), 0.2)
    found = jax.jit(lambda x: net.apply({"params": params}, x, condition))(x)
    np.testing.assert_allclose(found, project(h.reshape(2, -1), params, condition), atol=1e-4)


def pooled(x):
    """Means of 2 x 2 pixels; of fewer at an odd edge."""
    batch, height, width, channels = x.shape
    found = np.zeros((batch, -(-height // 2), -(-width // 2), channels), np.float32)
    for i, j in np.ndindex(found.shape[1:3]):
        found[:, i, j] = x[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean((1, 2))
    return found


def test_the_residual_discriminator_halves_and_sums():
    net, x, condition = gan.ResidualDiscriminator((4, 3)), normal(2, 5, 6, 1), np.eye(2, dtype="f")
    params = parameters(net, x, condition, size=0.3)
    h = x
    for level in range(2):
        block = params[f"level{level}"]
        y = conv(relu(h) if level else h, block["Conv_0"])
        y = conv(relu(y), block["Conv_1"])
        h = pooled(y) + conv(pooled(h), block["Conv_2"])
    y = conv(relu(h), params["Conv_0"])
    h = relu(h + conv(relu(y), params["Conv_1"])).sum((1, 2))
    found = jax.jit(lambda x: net.apply({"params": params}, x, condition))(x)
    np.testing.assert_allclose(found, project(h, params, condition), atol=1e-3)


def test_the_class_enters_by_projection():
    net, x, condition = gan.MLPDiscriminator((6,)), normal(4, 3, 3, 1), np.eye(3)[[0, 2, 1, 2]]
    params = parameters(net, x, condition)
    hidden = relu(dense(x.reshape(4, -1), params["Dense_0"]), 0.2)
    wanted = project(hidden, params, condition)
    np.testing.assert_allclose(net.apply({"params": params}, x, condition), wanted, atol=1e-4)


def test_nets_compute_in_bfloat16_with_float32_parameters_and_outputs():
    for net in (
        gan.DCGANGenerator((4,), dtype=jnp.bfloat16),
        nets.MLPDecoder((4,), dtype=jnp.bfloat16),
    ):
        # Flax's group norm mixes bfloat16 with float32.
        with jax.numpy_dtype_promotion("standard"):
            made, variables = jax.eval_shape(
                lambda z, net=net: net.init_with_output(KEY, z, (8, 8, 1)), jnp.zeros((1, 4))
            )
        assert made.dtype == np.float32
        assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype("float32")}


@pytest.mark.parametrize(
    ("net", "widths"),
    [
        (gan.DCGANGenerator(), [64 * 4, 4 * 32, 4 * 1]),
        (gan.ResidualGenerator(), [64 * 4, *[64] * 6, 1]),
        (gan.DCGANDiscriminator(), [32, 64, 1]),
        (gan.MLPDiscriminator(), [256, 256, 1]),
        (gan.ResidualDiscriminator(), [*[64] * 8, 1]),
    ],
)
def test_widths_where_none_are_given(net, widths):
    """An image of 8 x 8 has a smallest map of 2 x 2 pixels."""
    generates = "Generator" in type(net).__name__
    arguments = (jnp.zeros((1, 3)), (8, 8, 1)) if generates else (jnp.zeros((1, 8, 8, 1)),)
    params = jax.eval_shape(lambda: net.init(KEY, *arguments))["params"]
    layers = [
        leaf.shape[0]
        for path, leaf in jax.tree.leaves_with_path(params)
        if "bias" in str(path[-1]) and "Norm" not in str(path)
    ]
    assert sorted(layers) == sorted(widths)


def test_pixel_norm_of_small_features_rests_on_its_floor():
    x = jnp.full((1, 1, 1, 3), 1e-4)  # whose mean square is 1e-8, as large as the floor
    np.testing.assert_allclose(gan.Norm("pixel").apply({}, x), np.sqrt(0.5), rtol=1e-5)


def test_an_unknown_norm_is_refused():
    with pytest.raises(ValueError, match="norm must be group, pixel or none; got 'batch'"):
        gan.Norm("batch").init(KEY, jnp.zeros((1, 2, 2, 4)))
