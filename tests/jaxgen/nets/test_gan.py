import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxgen import nets
from jaxgen.nets import gan, translation

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
    """Shapes alone: nothing is computed."""
    z, x = jnp.zeros((3, 5)), jnp.zeros((3, *shape))
    for net in GENERATORS.values():
        made = jax.eval_shape(lambda z, net=net: net.init_with_output(KEY, z, shape)[0], z)
        assert made.shape == (3, *shape)
        assert made.dtype == np.float32
    for net in DISCRIMINATORS.values():
        for told in (None, jnp.zeros((3, 7))):
            judged = jax.eval_shape(
                lambda x, net=net, c=told: net.init_with_output(KEY, x, c)[0], x
            )
            assert judged.shape == (3,)
    unet = translation.UNetGenerator((4, 6))
    made = jax.eval_shape(lambda x: unet.init_with_output(KEY, x, z, shape)[0], x)
    assert made.shape == (3, *shape)
    patches = translation.PatchDiscriminator((4, 6))
    judged = jax.eval_shape(lambda x: patches.init_with_output(KEY, x)[0], x)
    assert judged.shape == (3, -(-shape[0] // 4), -(-shape[1] // 4))


@settings(max_examples=30)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 6))
def test_sizes_halve_rounding_up_or_are_refused(height, width, halvings):
    if min(height, width) < 2**halvings:
        with pytest.raises(
            ValueError, match=rf"at least {2**halvings} x {2**halvings} pixels; got"
        ):
            gan.sizes((height, width, 1), halvings)
        return
    found = gan.sizes((height, width, 1), halvings)
    wanted = [(-(-height // 2**k), -(-width // 2**k)) for k in range(halvings + 1)]
    assert found == wanted


@pytest.mark.parametrize(
    "net",
    [
        gan.DCGANGenerator((4, 4, 4)),
        gan.ResidualGenerator((4, 4, 4)),
    ],
)
def test_a_size_that_a_generator_cannot_make_is_refused(net):
    with pytest.raises(ValueError, match=r"8 x 8 pixels; got 7 x 30.*fewer widths"):
        jax.eval_shape(lambda z: net.init(KEY, z, (7, 30, 1)), jnp.zeros((1, 2)))


def test_a_size_that_a_discriminator_cannot_judge_is_refused():
    for net in (gan.DCGANDiscriminator((4, 4, 4)), gan.ResidualDiscriminator((4,) * 3)):
        with pytest.raises(ValueError, match="8 x 8 pixels; got 30 x 7"):
            jax.eval_shape(lambda x, net=net: net.init(KEY, x), jnp.zeros((1, 30, 7, 1)))


def test_pixel_shuffle_lays_four_channels_out_as_two_by_two():
    x = jnp.arange(2 * 3 * 5 * 8).reshape(2, 3, 5, 8)
    found = gan.pixel_shuffle(x)
    assert found.shape == (2, 6, 10, 2)
    for row in range(2):
        for column in range(2):
            first = 2 * (2 * row + column)
            np.testing.assert_array_equal(found[:, row::2, column::2], x[..., first : first + 2])


def rows_alone(net, *args):
    """A net on two rows, and on each by itself."""

    def both(x):
        variables = net.init(KEY, x, *args)
        each = [net.apply(variables, row[None], *args) for row in x]
        return net.apply(variables, x, *args), jnp.concatenate(each)

    return both


def test_rows_do_not_meet():
    """What a net makes of one image does not depend on the others."""
    x, z = jax.random.normal(KEY, (2, 8, 8, 1)), jax.random.normal(KEY, (2, 5))
    found = jax.jit(rows_alone(translation.PatchDiscriminator((4, 6))))(x)
    np.testing.assert_allclose(*found, atol=1e-5)
    found = jax.jit(rows_alone(GENERATORS["dcgan"], (8, 8, 1)))(z)
    np.testing.assert_allclose(*found, atol=1e-5)


def test_the_class_enters_by_projection():
    """Miyato and Koyama 2018, equation 3: logits = linear(h) + <embedding(class), h>."""
    net, x = gan.MLPDiscriminator((6,)), jax.random.normal(KEY, (4, 3, 3, 1))
    told = jax.nn.one_hot(jnp.array([0, 2, 1, 2]), 3)
    variables = net.init(KEY, x, told)
    params = jax.tree.map(np.asarray, variables["params"])
    hidden = x.reshape(4, -1) @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"]
    hidden = np.where(hidden > 0, hidden, 0.2 * hidden)
    wanted = (hidden @ params["logit"]["kernel"])[:, 0] + params["logit"]["bias"]
    wanted += (params["classes"]["kernel"][[0, 2, 1, 2]] * hidden).sum(1)
    np.testing.assert_allclose(net.apply(variables, x, told), wanted, atol=1e-5)


def test_nets_compute_in_bfloat16_with_float32_parameters_and_outputs():
    for net in (
        gan.DCGANGenerator((4,), dtype=jnp.bfloat16),
        nets.MLPDecoder((4,), dtype=jnp.bfloat16),
    ):
        made, variables = jax.eval_shape(
            lambda z, net=net: net.init_with_output(KEY, z, (8, 8, 1)), jnp.zeros((1, 4))
        )
        assert made.dtype == np.float32
        assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype("float32")}


def test_an_unknown_norm_is_refused():
    with pytest.raises(ValueError, match="norm must be group, pixel or none; got 'batch'"):
        gan.Norm("batch").init(KEY, jnp.zeros((1, 2, 2, 4)))
