import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import nets

SHAPES = [(8, 8, 1), (28, 28, 1), (7, 13, 3), (5, 4, 1)]
KEY = jax.random.key(0)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["MLP", "Conv"])
@pytest.mark.parametrize("conditional", [False, True])
def test_any_image_size(kind, shape, conditional):
    encoder = getattr(nets, f"{kind}Encoder")(latents=6, widths=(8, 4))
    decoder = getattr(nets, f"{kind}Decoder")(widths=(8, 4))
    x = jnp.zeros((2, *shape))
    condition = jnp.zeros((2, 3)) if conditional else None
    (mean, log_std), _ = encoder.init_with_output(KEY, x, condition)
    decoded, _ = decoder.init_with_output(KEY, mean, shape)
    assert mean.shape == log_std.shape == (2, 6)
    assert decoded.shape == (2, *shape)


@pytest.mark.parametrize("kind", ["MLP", "Conv"])
def test_bfloat16_computes_with_float32_parameters(kind):
    encoder = getattr(nets, f"{kind}Encoder")(latents=3, dtype=jnp.bfloat16)
    decoder = getattr(nets, f"{kind}Decoder")(dtype=jnp.bfloat16)
    x = jax.random.uniform(KEY, (2, 8, 8, 1))
    (mean, _), variables = encoder.init_with_output(KEY, x)
    decoded, decoder_variables = decoder.init_with_output(KEY, mean, (8, 8, 1))
    leaves = jax.tree.leaves((variables, decoder_variables))
    assert {leaf.dtype for leaf in leaves} == {np.dtype("float32")}
    assert mean.dtype == decoded.dtype == jnp.float32
    full, _ = getattr(nets, f"{kind}Encoder")(latents=3).apply(variables, x)
    assert 0 < np.abs(full - mean).max() < 0.05


def test_the_condition_reaches_the_posterior():
    for kind in ("MLP", "Conv"):
        encoder = getattr(nets, f"{kind}Encoder")(latents=3)
        x, classes = jnp.ones((2, 8, 8, 1)), jnp.eye(2)
        (mean, _), _ = encoder.init_with_output(KEY, x, classes)
        assert np.abs(mean[0] - mean[1]).max() > 1e-3


def test_images_too_small_are_refused_by_name():
    with pytest.raises(ValueError, match=r"halve the image 3 times.*at least 8 pixels; got 4 x 9"):
        nets.ConvEncoder(latents=2, widths=(4, 4, 4)).init(KEY, jnp.zeros((1, 4, 9, 1)))
    with pytest.raises(ValueError, match="halve the image 3 times"):
        nets.ConvDecoder(widths=(4, 4, 4)).init(KEY, jnp.zeros((1, 2)), (4, 9, 1))


def test_unknown_activation_is_refused_by_name():
    with pytest.raises(ValueError, match="no activation 'rleu'"):
        nets.MLPDecoder(activation="rleu").init(KEY, jnp.zeros((1, 2)), (4, 4, 1))
