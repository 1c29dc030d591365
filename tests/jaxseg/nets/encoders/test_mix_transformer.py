import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.nets.encoders.mix_transformer import MixTransformer, MixTransformerBlock
from tests.jaxseg.nets.encoders.random_nets import picture, run, shapes_of, sizes_of
from tests.tools import encoder_parity

NETS = [f"small_mit_{tool}" for tool in ("original", "transformers", "transformers5")]
SMALL = MixTransformer(widths=(8, 8, 10, 8), depths=(1, 1, 1, 1), stochastic_depth=0.9)


@pytest.mark.parametrize("net", NETS)
def test_a_tensor_without_a_place_and_one_that_is_missing_are_named(net):
    tensors, image, _ = encoder_parity.golden(net)
    encoder = encoder_parity.build(net)
    value = next(
        name for name in tensors if name.endswith(("kv.weight", "value.weight", "v_proj.weight"))
    )
    missing = {name: tensor for name, tensor in tensors.items() if name != value}
    with pytest.raises(ValueError, match="nothing fills params/stage0_block0/key_value/kernel"):
        encoder_parity.adapted_variables(encoder, missing, image.shape)
    more = {**tensors, f"{value}s": tensors[value]}
    with pytest.raises(ValueError, match=f"{value}s is not of this architecture"):
        encoder_parity.adapted_variables(encoder, more, image.shape)


@pytest.mark.parametrize(
    ("net", "prefix", "unused"),
    [
        ("small_mit_original", "", ["head.weight", "head.bias"]),
        ("small_mit_original", "backbone.", ["decode_head.conv_seg.weight"]),
        ("small_mit_transformers", "segformer.", ["decode_head.linear_c.0.proj.weight"]),
        ("small_mit_transformers5", "segformer.", ["classifier.weight", "classifier.bias"]),
    ],
)
def test_whole_nets_give_their_encoder(net, prefix, unused):
    tensors, image, _ = encoder_parity.golden(net)
    whole = {f"{prefix}{name}": tensor for name, tensor in tensors.items()}
    whole |= {name: np.zeros(1, np.float32) for name in unused}
    _, adapted = encoder_parity.adapted_variables(encoder_parity.build(net), whole, image.shape)
    assert adapted.unused == tuple(unused)


@pytest.mark.parametrize(("size", "count"), [("B0", 3.3), ("B1", 13.2), ("B2", 24.2)])
def test_the_sizes_are_those_of_the_paper(size, count):
    leaves = shapes_of(MixTransformer(size)).values()
    # Millions; table 1 of the paper says 3.4, 13.1 and 24.2.
    assert round(sum(leaf.size for leaf in leaves) / 1e6, 1) == count


@pytest.mark.parametrize("size", [(1, 1), (33, 70), (64, 32)])
def test_any_size_has_maps_that_cover_it(size):
    covered = [tuple(-(-side // stride) for side in size) for stride in SMALL.strides]
    widths = (8, 8, 10, 8)
    assert sizes_of(SMALL, (2, *size, 3)) == [
        (2, *sides, width) for sides, width in zip(covered, widths, strict=True)
    ]


def test_a_map_smaller_than_a_square_makes_one_key():
    maps = run(SMALL, picture(1, 5, 3, 3), [0])
    assert all(np.isfinite(each).all() for each in maps)


def test_efficient_attention_reads_means_of_squares():
    """With kernels that take means, keys are those of the reduced map, by numpy."""
    block, index = MixTransformerBlock(2, 2, 0.0, 1e-6, jnp.float32), np.zeros(1, np.int32)
    x, random = picture(1, 4, 6, 8), np.random.default_rng(1)
    spec = jax.eval_shape(lambda x: block.init(jax.random.key(0), x, index, False), x)
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), spec["params"])
    for name in ("query", "key_value", "projection"):
        shape = params[name]["kernel"].shape
        params[name]["kernel"] = np.float32(random.normal(size=shape) / np.sqrt(8))
    for name in ("norm1", "reduction_norm"):
        params[name]["scale"] += 1.0
    params["reduction"]["kernel"] += np.eye(8, dtype=np.float32) / 4
    norm = lambda v: (v - v.mean(-1, keepdims=True)) / np.sqrt(v.var(-1, keepdims=True) + 1e-6)
    kernel = lambda name: params[name]["kernel"]
    normed = norm(x)
    keys = norm(normed.reshape(1, 2, 2, 3, 2, 8).mean((2, 4))).reshape(6, 8)
    query = (normed.reshape(24, 8) @ kernel("query")).reshape(24, 2, 4)
    key, value = np.split(keys @ kernel("key_value"), 2, -1)
    scores = np.einsum("qhd,khd->hqk", query, key.reshape(6, 2, 4)) / 2.0
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    joined = np.einsum("hqk,khd->qhd", weights, value.reshape(6, 2, 4)).reshape(1, 4, 6, 8)
    expected = x + joined @ kernel("projection")
    y = jax.jit(lambda x: block.apply({"params": params}, x, index, False))(x)
    np.testing.assert_allclose(y, expected, atol=1e-4)
    assert np.abs(expected - x).max() > 0.1


@pytest.mark.parametrize("mode", [{"train": True}, {"drop": True}])
def test_branches_are_left_out_by_example(mode):
    x = picture(6, 32, 32, 3)
    index, order = np.arange(6), np.array([3, 0, 5, 4, 1, 2])
    maps = run(SMALL, x, index, **mode)
    for one, other in zip(run(SMALL, x[order], index[order], **mode), maps, strict=True):
        np.testing.assert_allclose(one, other[order], atol=1e-5)
    still = run(SMALL, x, index)
    np.testing.assert_allclose(maps[0], still[0], atol=1e-5)  # the first is never left out
    assert np.abs(maps[3] - still[3]).max() > 1e-3


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
        ({"size": "B3"}, "size must be one of B0, B1, B2; got 'B3'"),
        ({"widths": (8, 8, 8, 8)}, r"widths\[2\] must be a multiple of 5, got 8"),
        ({"widths": (8, 8)}, "has four stages"),
        ({"depths": (1, 0, 1, 1)}, "depths must be at least 1"),
    ],
)
def test_attributes_out_of_range_are_named(options, message):
    net = SMALL.clone(**options)
    with pytest.raises(ValueError, match=message):
        shapes_of(net)
