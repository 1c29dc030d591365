"""Steps that compute activations again: the same gradients, less memory, plain refusals."""

from types import SimpleNamespace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from jaxseg.nets import EncoderDecoder
from jaxseg.nets.decoders import FPN
from jaxseg.nets.encoders import ResNet
from launch.config import loading, schema
from launch.config.errors import UserError
from launch.engine import experiments, remat
from tests.launch.engine.small import one_device
from tests.tools import runs

# With momentum 0, the state of the optimiser is the gradient.
SGD = {"name": "optax:sgd", "learning_rate": 1e-3, "momentum": 0.0}
IMAGE = {"image": jax.ShapeDtypeStruct((8, 8, 3), np.uint8)}
UNET = {"model.widths": (4, 6), "model.norm": "batch", "model.dropout": 0.5, "task.classes": 3}
RESIDUAL = {"task.penalty": "r1", "task.penalty_weight": 1.0}
NETS = {
    "unet": ("unet", UNET | {"model.deep_supervision": True}, "segmentation"),
    "edges": ("edges", {"model.widths": (4, 4), "model.side": 4, "model.groups": 2}, "edges"),
    "cnn": ("cnn", {"model.widths": (4,), "model.hidden": 4, "task.classes": 3}, "label"),
    "vae": ("vae:conv", {"model.encoder.widths": (4,), "model.decoder.widths": (4,)}, None),
    "dcgan": (
        "gan:conv",
        {"model.generator.widths": (4,), "model.discriminator.widths": (4,)},
        None,
    ),
    "sngan": (
        "gan:residual",
        RESIDUAL | {"model.generator.widths": (4, 4), "model.discriminator.widths": (4, 4)},
        None,
    ),
    "pix2pix": (
        "gan:pix2pix",
        {
            "model.generator.widths": (4, 4),
            "model.discriminator.widths": (4,),
            "task.classes": 3,
        },
        "segmentation",
    ),
    "row": ("rnn:row_lstm", {"model.layers": 2, "model.features": 4, "model.head": 4}, None),
    "diagonal": ("rnn", {"model.layers": 1, "model.features": 4, "model.head": 4}, None),
    "pixelcnn": ("rnn:pixelcnn", {"model.layers": 2, "model.features": 4, "model.head": 4}, None),
    "draw": ("rnn:draw", {"model.glimpses": 3, "model.hidden": 8, "model.read_size": 2}, None),
}


def small_task(name):
    """A task of a config with a small net, its name, and a batch of three examples."""
    spec, changes, truth = NETS[name]
    file, _, variant = spec.partition(":")
    config = loading.load(f"configs/{file}.py" + (variant and f":{variant}"))
    plain = SGD if "name" in config.model else dict.fromkeys(config.model, SGD)
    if name == "vae":
        plain = SGD
    config = schema.with_values(config, changes | {"optimizer": ConfigDict(plain)})
    example = dict(IMAGE)
    if truth == "label":
        example["label"] = jax.ShapeDtypeStruct((), np.int32)
    elif truth:
        example[truth] = jax.ShapeDtypeStruct((8, 8, 1), np.uint8)
    draw = np.random.default_rng(0)
    batch = {
        key: draw.integers(0, 256 if key == "image" else 3, (3, *leaf.shape))
        for key, leaf in example.items()
    }
    if truth == "edges":
        batch[truth] = 255 * (batch[truth] > 1)
    batch = {key: jnp.asarray(value, example[key].dtype) for key, value in batch.items()}
    batch |= {"index": jnp.arange(3, dtype=jnp.int32), "mask": jnp.array([True, True, False])}
    return experiments.make_task(config, example)[0], config.task.name, batch


@pytest.mark.parametrize("name", NETS)
def test_gradients_statistics_and_sums_are_the_same(name):
    task, title, batch = small_task(name)
    key = jax.random.key(0)
    state = jax.jit(task.init)(key, batch)
    step = remat.with_remat(task.train_step, "all", title, state, batch, key)
    options = remat.compiler_options(one_device())
    wanted = jax.jit(task.train_step)(state, batch, key)
    found = jax.jit(step, compiler_options=options)(state, batch, key)
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    sizes = [float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(wanted[0].opt_state)]
    assert max(sizes) > 1e-3
    for (path, leaf), other in zip(
        jax.tree.leaves_with_path(wanted), jax.tree.leaves(found), strict=True
    ):
        np.testing.assert_allclose(other, leaf, rtol=1e-6, atol=1e-6, err_msg=str(path))


class Parts(nn.Module):
    """A net of two parts, whose blocks lie one level deeper."""

    parts = ("encoder",)

    @nn.compact
    def __call__(self, x):
        return nn.Dense(1)(Deep(name="encoder")(x))


def test_blocks_of_parts_are_those_below_the_parts():
    net, x = Parts(), jax.ShapeDtypeStruct((4, 16), np.float32)
    params = jax.eval_shape(net.init, jax.random.key(0), x)
    nets, _ = remat._find(lambda params, x: net.apply(params, x), (params, x))
    (blocks,) = nets.values()
    assert {(kind, path[0]) for kind, path in blocks} == {(Wide, "encoder")}
    assert len(blocks) == 6


def test_blocks_of_an_encoder_with_a_decoder_are_those_of_both():
    net = EncoderDecoder(ResNet(18, width=4), FPN(width=8), classes=2)
    x, index = jax.ShapeDtypeStruct((2, 32, 32, 3), np.float32), np.arange(2)
    variables = jax.eval_shape(net.init, jax.random.key(0), x, index)
    nets, _ = remat._find(lambda *arguments: net.apply(*arguments, index), (variables, x))
    blocks = [block for found in nets.values() for block in found]
    assert sum(kind.__name__ == "ResNetBlock" for kind, _ in blocks) == 8
    assert all(len(path) == 2 for _, path in blocks)


class Wide(nn.Module):
    """A block that keeps eight arrays for its backward pass, and passes one on."""

    @nn.compact
    def __call__(self, x):
        for _ in range(4):
            x = jnp.sin(nn.Dense(x.shape[-1])(x))
        return x


class Deep(nn.Module):
    @nn.compact
    def __call__(self, x):
        for _ in range(6):
            x = Wide()(x)
        return x


def memory_of(net, choice):
    """Bytes of temporaries of a gradient of a net."""
    x = jax.ShapeDtypeStruct((512, 16), np.float32)
    params = jax.eval_shape(net.init, jax.random.key(0), x)
    step = jax.grad(lambda params, x: net.apply(params, x).sum())
    options = {}
    if choice != "nothing":
        step = remat.with_remat(step, choice, "task", params, x)
        options = remat.compiler_options(one_device())
    compiled = jax.jit(step, compiler_options=options).lower(params, x).compile()
    return compiled.memory_analysis().temp_size_in_bytes


def test_only_the_inputs_of_blocks_are_kept():
    """Without the compiler's option, XLA would merge what is computed again and keep it."""
    one = 512 * 16 * 4
    plain, blocks, layers = (memory_of(Deep(), choice) for choice in ("nothing", "blocks", "all"))
    assert plain > 2 * 4 * 6 * one * 0.9
    # The inputs of six blocks, what one block keeps, and gradients on their way.
    assert blocks < (6 + 2 * 4 + 4) * one
    assert layers < 1.05 * blocks  # no layer of this net keeps more than its input


@pytest.mark.parametrize(
    ("net", "choice", "count"), [(Deep(), "blocks", 6), (Wide(), "blocks", 1), (Wide(), "all", 5)]
)
def test_a_net_without_blocks_is_one_block(net, choice, count):
    x = jnp.ones((2, 3))
    params = net.init(jax.random.key(0), x)
    # A function that was traced before is traced again.
    forward = lambda params, x: net.apply(params, x)
    jax.eval_shape(forward, params, x)
    step = remat.with_remat(forward, choice, "task", params, x)
    assert str(jax.make_jaxpr(step)(params, x)).count("prevent_cse=") == count


def test_a_step_without_nets_is_refused():
    with pytest.raises(UserError, match=r"remat=all has no effect: train_step\(\) of mine "):
        remat.with_remat(lambda x: 2 * x, "all", "mine", np.ones(3))


def test_an_unknown_choice_is_one_message():
    done = runs.call("train", *runs.SHORT, "--config.train.remat=layers")
    assert done.returncode == 2
    assert done.stderr.strip().endswith(
        "config.train.remat must be nothing, blocks or all, got 'layers'"
    )


def test_other_devices_need_no_option():
    device = SimpleNamespace(platform="gpu")
    assert remat.compiler_options(SimpleNamespace(devices=np.array([[device]]))) == {}
