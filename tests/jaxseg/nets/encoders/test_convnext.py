import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.nets.encoders.convnext import ConvNeXt, ConvNeXtBlock
from tests.jaxseg.nets.encoders.random_nets import picture, run, shapes_of, sizes_of
from tests.tools import encoder_parity

NETS = [f"small_convnext_{tool}" for tool in ("torchvision", "timm", "original", "transformers")]
SMALL = ConvNeXt(widths=(8, 8, 8, 8), depths=(1, 1, 1, 1), layer_scale=1.0, stochastic_depth=0.9)


@pytest.mark.parametrize("net", NETS)
def test_the_last_norm_belongs_to_the_classifier(net):
    tensors, image, _ = encoder_parity.golden(net)
    _, adapted = encoder_parity.adapted_variables(encoder_parity.build(net), tensors, image.shape)
    last = {"torchvision": "classifier.0", "timm": "head.norm", "transformers": "layernorm"}
    norm = last.get(net.rpartition("_")[2], "norm")
    assert {f"{norm}.weight", f"{norm}.bias"} <= set(adapted.unused)


@pytest.mark.parametrize("net", NETS)
def test_a_tensor_without_a_place_and_one_that_is_missing_are_named(net):
    tensors, image, _ = encoder_parity.golden(net)
    encoder = encoder_parity.build(net)
    first = next(name for name, tensor in tensors.items() if tensor.shape == (8, 3, 4, 4))
    missing = {name: tensor for name, tensor in tensors.items() if name != first}
    with pytest.raises(ValueError, match="nothing fills params/stem/kernel"):
        encoder_parity.adapted_variables(encoder, missing, image.shape)
    block = next(name for name in tensors if name.endswith(("gamma", "parameter", "layer_scale")))
    more = {**tensors, f"{block}s": tensors[block]}
    with pytest.raises(ValueError, match=f"{block}s is not of this architecture"):
        encoder_parity.adapted_variables(encoder, more, image.shape)


def test_the_default_is_the_tiny_net_of_the_paper():
    leaves = shapes_of(ConvNeXt()).values()
    # 28,589,128 of the paper's classifier, less its last norm and its 1000 classes.
    assert sum(leaf.size for leaf in leaves) == 28_589_128 - 2 * 768 - 769_000


@pytest.mark.parametrize("size", [(1, 1), (33, 70), (64, 32)])
def test_any_size_has_maps_that_cover_it(size):
    assert SMALL.strides == (4, 8, 16, 32)
    expected = [(2, *(-(-side // stride) for side in size), 8) for stride in SMALL.strides]
    assert sizes_of(SMALL, (2, *size, 3)) == expected


def test_odd_sizes_are_completed_by_the_edges():
    x = picture(1, 20, 33, 3)
    whole = np.pad(x, ((0, 0), (0, 12), (0, 31), (0, 0)), mode="edge")
    for one, other in zip(run(SMALL, x, [0]), run(SMALL, whole, [0]), strict=True):
        np.testing.assert_allclose(one, other[:, : one.shape[1], : one.shape[2]], atol=1e-6)


@pytest.mark.parametrize("mode", [{"train": True}, {"drop": True}])
def test_blocks_are_left_out_by_example_and_more_often_the_deeper_they_lie(mode):
    x = picture(6, 32, 32, 3)
    index, order = np.arange(6), np.array([3, 0, 5, 4, 1, 2])
    maps = run(SMALL, x, index, **mode)
    for one, other in zip(run(SMALL, x[order], index[order], **mode), maps, strict=True):
        np.testing.assert_allclose(one, other[order], atol=1e-6)
    still = run(SMALL, x, index)
    np.testing.assert_allclose(maps[0], still[0], atol=1e-6)  # the first is never left out
    assert np.abs(maps[3] - still[3]).max() > 1e-3


def test_a_branch_begins_at_the_layer_scale():
    block, x = ConvNeXtBlock(1e-3, 0.0, jnp.float32), picture(1, 4, 5, 8)
    y, variables = block.init_with_output(jax.random.key(0), x, np.zeros(1, np.int32), False)
    variables["params"]["scale"] *= 500.0
    grown = block.apply(variables, x, np.zeros(1, np.int32), False)
    np.testing.assert_allclose(500.0 * (y - x), grown - x, atol=1e-4)
    np.testing.assert_array_equal(variables["params"]["scale"], np.full(8, 0.5, np.float32))


def test_half_precision_computes_and_keeps_its_parameters_whole():
    net = SMALL.clone(dtype=jnp.bfloat16)
    x = picture(1, 32, 32, 3)
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
        ({"depths": (1, 1)}, "depths and widths must be as many"),
        ({"depths": ()}, "depths and widths must be as many"),
        ({"widths": (8, 8, 0, 8)}, "at least 1"),
        ({"stochastic_depth": 1.0}, "stochastic_depth must be in"),
    ],
)
def test_attributes_out_of_range_are_named(options, message):
    net = SMALL.clone(**options)
    with pytest.raises(ValueError, match=message):
        shapes_of(net)
