import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.nets import EncoderDecoder, UNet, subpixel
from jaxseg.nets.decoders import UNetDecoder
from jaxseg.nets.encoders import ResNet


def test_channels_become_the_pixels_of_a_block():
    x = np.arange(2 * 3 * 4 * 12).reshape(2, 3, 4, 12)
    found = subpixel.spread(jnp.asarray(x), (2, 3))
    assert found.shape == (2, 6, 12, 2)
    for row, column in np.ndindex(6, 12):
        first = 2 * (3 * (row % 2) + column % 3)
        wanted = x[:, row // 2, column // 3, first : first + 2]
        np.testing.assert_array_equal(found[:, row, column], wanted)


class Fine(nn.Module):
    """From a map to one twice as high and three times as wide."""

    @nn.compact
    def __call__(self, x):
        return subpixel.convolution(5, 3, (2, 3), "head")(x)


def test_at_first_the_pixels_of_a_block_are_alike():
    x = jax.random.normal(jax.random.key(0), (1, 4, 5, 7))
    found, variables = Fine().init_with_output(jax.random.key(1), x)
    assert found.shape == (1, 8, 15, 5)
    assert variables["params"]["head"]["kernel"].shape == (3, 3, 7, 30)
    blocks = found.reshape(4, 2, 5, 3, 5)
    np.testing.assert_allclose(blocks, np.broadcast_to(blocks[:, :1, :, :1], blocks.shape))
    deviation = np.std(variables["params"]["head"]["kernel"])
    assert deviation == pytest.approx(np.sqrt(1 / 63), rel=0.1)  # as one convolution's to 5


NETS = {
    "unet": UNet(3, (8, 16), stem=2, head=3, subpixel=True, deep_supervision=True),
    "encoder-decoder": EncoderDecoder(
        ResNet(depth=10, width=8),
        UNetDecoder(widths=(32, 16, 16, 8)),
        classes=3,
        head=3,
        subpixel=True,
    ),
}


@pytest.mark.parametrize("name", NETS)
def test_logits_have_the_size_of_any_image(name):
    net, x, index = NETS[name], jnp.zeros((2, 37, 50, 3)), jnp.zeros(2, jnp.int32)
    logits, _ = jax.eval_shape(net.init_with_output, jax.random.key(0), x, index)
    assert logits.shape == (2, 37, 50, 3)
