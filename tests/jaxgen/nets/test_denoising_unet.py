import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.nets.denoising_unet import DenoisingUNet

KEY = jax.random.key(0)
NET = DenoisingUNet(width=8, multiples=(1, 2), blocks=1, attention=(4,), heads=2)


def random_params(net, *arguments):
    shapes = jax.eval_shape(net.init, KEY, *arguments)
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: jnp.asarray(0.3 * rng.normal(size=leaf.shape), leaf.dtype), shapes
    )


def make_input(shape=(2, 8, 8, 3)):
    z = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    return z, np.linspace(0.0, 1.0, shape[0], dtype=np.float32)


def test_a_fresh_net_gives_zero():
    z, t = make_input()
    np.testing.assert_array_equal(NET.init_with_output(KEY, z, t)[0], np.zeros_like(z))


def test_every_pixel_sees_all_of_its_own_image_and_no_other():
    z, t = make_input()
    params = random_params(NET, z, t)
    found = NET.apply(params, z, t)
    assert (found.shape, found.dtype) == (z.shape, np.float32)
    other = z.copy()
    other[0, 0, 0] += 1.0
    changed = np.abs(NET.apply(params, other, t) - found)
    assert changed[0].max(-1).min() > 0
    assert changed[1].max() == 0


def test_patches_come_back_as_pixels():
    net, (z, t) = NET.clone(patch=2, attention=(2,)), make_input()
    params = random_params(net, z, t)
    found = net.apply(params, z, t)
    assert found.shape == z.shape
    assert params["params"]["first"]["kernel"].shape == (3, 3, 4 * 3, 8)
    other = z.copy()
    other[1, 7, 7] += 1.0
    changed = np.abs(net.apply(params, other, t) - found)
    assert changed[1].max(-1).min() > 0
    assert changed[0].max() == 0
    with pytest.raises(ValueError, match="2 levels and patch=3 need sides that are multiples of 6"):
        NET.clone(patch=3).init(KEY, z, t)


def test_it_depends_on_the_time_and_the_class():
    z, t = make_input()
    classes = np.eye(2, dtype=np.float32)
    params = random_params(NET, z, t, classes)
    base = NET.apply(params, z, t, classes)
    for other in ((t[::-1], classes), (t, classes[::-1])):
        assert np.abs(NET.apply(params, z, *other) - base).max() > 1e-3


def test_attention_is_at_the_maps_that_ask_for_it():
    names = jax.eval_shape(NET.init, KEY, *make_input())["params"]
    attended = {name for name in names if name.endswith("attention")}
    assert attended == {
        "middle_attention",
        "down1_0_attention",
        "up1_0_attention",
        "up1_1_attention",
    }


@pytest.mark.parametrize(
    ("net", "words"),
    [(NET.clone(multiples=(1, 1, 1, 1, 1)), "multiples of 16"), (NET.clone(heads=3), "heads=3")],
)
def test_sizes_that_do_not_fit_are_refused(net, words):
    with pytest.raises(ValueError, match=words):
        net.init(KEY, *make_input())
