import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxseg.nets.encoders.dinov2 import DINOv2, cubic_weights, resample_positions
from tests.jaxseg.nets.encoders.random_nets import picture, run, shapes_of, sizes_of
from tests.tools import encoder_parity

NETS = [
    *("small_dinov2_original", "small_dinov2_transformers", "small_dinov2_registers_original"),
    *("small_dinov2_registers_transformers5", "small_dinov2_registers_timm"),
]
SMALL = DINOv2(width=8, depth=2, heads=2, grid=3, layer_scale=1.0, stochastic_depth=0.9)


@pytest.mark.parametrize("net", NETS)
def test_only_the_token_of_hidden_patches_has_no_place(net):
    tensors, image, _ = encoder_parity.golden(net)
    _, adapted = encoder_parity.adapted_variables(encoder_parity.build(net), tensors, image.shape)
    assert all(name.endswith("mask_token") for name in adapted.unused)
    assert len(adapted.unused) == (not net.endswith("timm"))


@pytest.mark.parametrize("net", NETS)
def test_a_tensor_without_a_place_and_one_that_is_missing_are_named(net):
    tensors, image, _ = encoder_parity.golden(net)
    encoder = encoder_parity.build(net)
    ends = ("qkv.weight", "key.weight", "k_proj.weight")
    key = next(name for name in tensors if name.endswith(ends))
    missing = {name: tensor for name, tensor in tensors.items() if name != key}
    with pytest.raises(ValueError, match="nothing fills params/block0/qkv/kernel"):
        encoder_parity.adapted_variables(encoder, missing, image.shape)
    more = {**tensors, f"{key}s": tensors[key]}
    with pytest.raises(ValueError, match=f"{key}s is not of this architecture"):
        encoder_parity.adapted_variables(encoder, more, image.shape)


def test_registers_of_a_file_need_those_of_the_net():
    tensors, image, _ = encoder_parity.golden("small_dinov2_registers_original")
    encoder = encoder_parity.build("small_dinov2_registers_original").clone(registers=0)
    message = "register_tokens has no place: there is no variable params/registers"
    with pytest.raises(ValueError, match=message):
        encoder_parity.adapted_variables(encoder, tensors, image.shape)


def test_the_default_is_the_small_net_of_the_original():
    leaves = shapes_of(DINOv2()).values()
    # The original's 22,056,576 less its mask token.
    assert sum(leaf.size for leaf in leaves) == 22_056_192


@pytest.mark.parametrize("size", [(1, 1), (28, 43)])
def test_any_size_has_a_map_that_covers_it(size):
    assert SMALL.strides == (14,)
    expected = (2, -(-size[0] // 14), -(-size[1] // 14), 8)
    assert sizes_of(SMALL, (2, *size, 3)) == [expected]


def test_layers_are_returned_in_the_order_asked_for():
    x = picture(1, 28, 28, 3)
    first, last = run(SMALL.clone(layers=(0, 1)), x, [0])
    again, early = run(SMALL.clone(layers=(1, 0)), x, [0])
    np.testing.assert_array_equal(first, early)
    np.testing.assert_array_equal(last, again)
    np.testing.assert_allclose(run(SMALL, x, [0])[0], last, atol=1e-6)
    assert SMALL.clone(layers=(0, 1)).strides == (14, 14)


@pytest.mark.parametrize("mode", [{"train": True}, {"drop": True}])
def test_branches_are_left_out_by_example(mode):
    net = SMALL.clone(layers=(0, 1))
    x = picture(6, 28, 28, 3)
    index, order = np.arange(6), np.array([3, 0, 5, 4, 1, 2])
    maps = run(net, x, index, **mode)
    for one, other in zip(run(net, x[order], index[order], **mode), maps, strict=True):
        np.testing.assert_allclose(one, other[order], atol=1e-5)
    still = run(net, x, index)
    np.testing.assert_allclose(maps[0], still[0], atol=1e-5)  # the first is never left out
    assert np.abs(maps[1] - still[1]).max() > 1e-3


@pytest.mark.parametrize("antialias", [False, True])
def test_positions_of_their_own_grid_stay(antialias):
    position = picture(9, 4)
    resampled = resample_positions(position, (3, 3), antialias)
    np.testing.assert_allclose(resampled, position, atol=1e-6)


def test_positions_go_to_their_rows_and_columns():
    position = np.arange(9, dtype=np.float32).reshape(9, 1)
    resampled = np.asarray(resample_positions(position, (2, 4), True)).reshape(2, 4)
    rows, columns = np.diff(resampled, axis=0), np.diff(resampled, axis=1)
    assert (rows > 3).all()
    assert ((columns > 0.4) & (columns < 1)).all()


@pytest.mark.parametrize(("size", "target"), [(5, 3), (37, 10), (3, 8), (4, 4), (7, 1)])
def test_weights_with_antialiasing_are_those_of_pillow(size, target):
    for place in range(size):
        one = np.zeros((1, size), np.float32)
        one[0, place] = 1.0
        expected = Image.fromarray(one).resize((target, 1), Image.Resampling.BICUBIC)
        weights = cubic_weights(size, target, True)[:, place]
        np.testing.assert_allclose(weights, np.asarray(expected)[0], atol=1e-6)


def test_weights_without_antialiasing_repeat_the_border():
    # Keys's kernel with a = -3/4 at 1.25, 0.25, 0.75 and 1.75, as PyTorch and OpenCV have it.
    far, near, middle, end = -0.10546875, 0.87890625, 0.26171875, -0.03515625
    weights = cubic_weights(4, 8, False)
    np.testing.assert_allclose(weights[3], [far, near, middle, end])
    np.testing.assert_allclose(weights[0], [end + middle + near, far, 0, 0], atol=1e-7)
    np.testing.assert_allclose(weights[7], [0, 0, far, end + middle + near], atol=1e-7)
    np.testing.assert_allclose(cubic_weights(37, 10, False).sum(1), 1.0, atol=1e-6)
    assert (np.count_nonzero(cubic_weights(37, 10, False), axis=1) <= 4).all()


def test_half_precision_computes_and_keeps_its_parameters_whole():
    net = SMALL.clone(dtype=jnp.bfloat16, registers=2)
    x = picture(1, 28, 28, 3)
    # Flax's norms promote bfloat16 to float32, which strict promotion refuses.
    with jax.numpy_dtype_promotion("standard"):
        leaves = shapes_of(net, x.shape).values()
        maps, exact = run(net, x, [0]), run(net.clone(dtype=jnp.float32), x, [0])
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")}
    assert {each.dtype for each in maps} == {jnp.dtype("bfloat16")}
    assert max(encoder_parity.differences(maps, exact)) < 0.05


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 9}, "width=9 must be a multiple of heads=2"),
        ({"layers": (0, 2)}, r"layers must be from 0 to 1, got \(0, 2\)"),
        ({"registers": -1}, "registers at least 0"),
        ({"depth": 0}, "depth, heads, patch and grid must be at least 1"),
    ],
)
def test_attributes_out_of_range_are_named(options, message):
    net = SMALL.clone(**options)
    with pytest.raises(ValueError, match=message):
        shapes_of(net)
