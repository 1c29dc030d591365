"""InceptionV3 for FID: the net, its preprocessing, and the names of its weights.

The net of the archive inception-2015-12-05 (Szegedy et al. 2016, with batch
normalisation after every convolution), by which Heusel et al. 2017 defined FID. Modules have
the names of the usual PyTorch port of its weights, pt_inception-2015-12-05. It differs from
torchvision's InceptionV3 in three points: 1008 logits; average pooling without the padding;
and a maximum in place of the average in the last block.
"""

from functools import cache
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

SIDE = 299  # height and width of the net's input, in pixels
FEATURES, LOGITS = 2048, 1008
TOOLS = ("torch-fidelity", "pytorch-fid")


class ConvNorm(nn.Module):
    """A convolution without bias, batch normalisation by fixed statistics, ReLU.

    Attributes:
      width: output channels.
      kernel: (rows, columns).
      stride: in both directions.
      padding: "SAME" or "VALID".
    """

    width: int
    kernel: tuple[int, int]
    stride: int = 1
    padding: str = "SAME"

    @nn.compact
    def __call__(self, x):
        """[B, H, W, C] -> [B, H', W', width]."""
        x = nn.Conv(
            self.width,
            self.kernel,
            self.stride,
            self.padding,
            use_bias=False,
            precision="highest",
            name="conv",
        )(x)
        return nn.relu(nn.BatchNorm(use_running_average=True, epsilon=1e-3, name="bn")(x))


class Mixed(nn.Module):
    """Parallel branches, concatenated along the channels.

    Attributes:
      branches: each a tuple of steps: the name of a pooling; (name, width, kernel, ...) for
        a `ConvNorm`; or a tuple of such, in parallel.
    """

    branches: tuple[tuple, ...]

    @nn.compact
    def __call__(self, x):
        """[B, H, W, C] -> [B, H', W', sum of the widths]."""

        def run(step, x):
            if isinstance(step, str):
                return _POOLS[step](x)
            if isinstance(step[0], tuple):
                return jnp.concatenate([run(part, x) for part in step], axis=-1)
            return ConvNorm(*step[1:], name=step[0])(x)

        outputs = []
        for branch in self.branches:
            y = x
            for step in branch:
                y = run(step, y)
            outputs.append(y)
        return jnp.concatenate(outputs, axis=-1)


def _mean(x):
    return nn.avg_pool(x, (3, 3), (1, 1), "SAME", count_include_pad=False)


_POOLS = {
    "mean": _mean,
    "max": lambda x: nn.max_pool(x, (3, 3), (1, 1), "SAME"),
    "halve": lambda x: nn.max_pool(x, (3, 3), (2, 2), "VALID"),
}
_ONE, _THREE, _FIVE, _ROW, _COLUMN = (1, 1), (3, 3), (5, 5), (1, 7), (7, 1)


def _block_a(pooled):
    return (
        (("branch1x1", 64, _ONE),),
        (("branch5x5_1", 48, _ONE), ("branch5x5_2", 64, _FIVE)),
        (
            ("branch3x3dbl_1", 64, _ONE),
            ("branch3x3dbl_2", 96, _THREE),
            ("branch3x3dbl_3", 96, _THREE),
        ),
        ("mean", ("branch_pool", pooled, _ONE)),
    )


def _block_b():
    return (
        (("branch3x3", 384, _THREE, 2, "VALID"),),
        (
            ("branch3x3dbl_1", 64, _ONE),
            ("branch3x3dbl_2", 96, _THREE),
            ("branch3x3dbl_3", 96, _THREE, 2, "VALID"),
        ),
        ("halve",),
    )


def _block_c(width):
    return (
        (("branch1x1", 192, _ONE),),
        (("branch7x7_1", width, _ONE), ("branch7x7_2", width, _ROW), ("branch7x7_3", 192, _COLUMN)),
        (
            ("branch7x7dbl_1", width, _ONE),
            ("branch7x7dbl_2", width, _COLUMN),
            ("branch7x7dbl_3", width, _ROW),
            ("branch7x7dbl_4", width, _COLUMN),
            ("branch7x7dbl_5", 192, _ROW),
        ),
        ("mean", ("branch_pool", 192, _ONE)),
    )


def _block_d():
    return (
        (("branch3x3_1", 192, _ONE), ("branch3x3_2", 320, _THREE, 2, "VALID")),
        (
            ("branch7x7x3_1", 192, _ONE),
            ("branch7x7x3_2", 192, _ROW),
            ("branch7x7x3_3", 192, _COLUMN),
            ("branch7x7x3_4", 192, _THREE, 2, "VALID"),
        ),
        ("halve",),
    )


def _block_e(pool):
    fork = lambda name: ((f"{name}a", 384, (1, 3)), (f"{name}b", 384, (3, 1)))
    return (
        (("branch1x1", 320, _ONE),),
        (("branch3x3_1", 384, _ONE), fork("branch3x3_2")),
        (("branch3x3dbl_1", 448, _ONE), ("branch3x3dbl_2", 384, _THREE), fork("branch3x3dbl_3")),
        (pool, ("branch_pool", 192, _ONE)),
    )


_STEM = (
    ("Conv2d_1a_3x3", 32, _THREE, 2, "VALID"),
    ("Conv2d_2a_3x3", 32, _THREE, 1, "VALID"),
    ("Conv2d_2b_3x3", 64, _THREE),
    "halve",
    ("Conv2d_3b_1x1", 80, _ONE),
    ("Conv2d_4a_3x3", 192, _THREE, 1, "VALID"),
    "halve",
)
_BLOCKS = {
    "Mixed_5b": _block_a(32),
    "Mixed_5c": _block_a(64),
    "Mixed_5d": _block_a(64),
    "Mixed_6a": _block_b(),
    "Mixed_6b": _block_c(128),
    "Mixed_6c": _block_c(160),
    "Mixed_6d": _block_c(160),
    "Mixed_6e": _block_c(192),
    "Mixed_7a": _block_d(),
    "Mixed_7b": _block_e("mean"),
    "Mixed_7c": _block_e("max"),
}


class InceptionV3(nn.Module):
    """InceptionV3; its features are the mean over the last map, 8 x 8."""

    @nn.compact
    def __call__(self, x):
        """Computes features and logits.

        Args:
          x: images [B, 299, 299, 3] from `prepare`; other sizes from 75 pixels work too.

        Returns:
          Features [B, 2048] and logits [B, 1008].
        """
        for step in _STEM:
            x = _POOLS[step](x) if isinstance(step, str) else ConvNorm(*step[1:], name=step[0])(x)
        for name, branches in _BLOCKS.items():
            x = Mixed(branches, name=name)(x)
        x = jnp.mean(x, axis=(1, 2))
        return x, nn.Dense(LOGITS, precision="highest", name="fc")(x)


def prepare(images: jax.Array, tool: str = TOOLS[0]) -> jax.Array:
    """Prepares images for the net exactly as one of the usual tools does.

    Grey images get three equal channels. Images are resized bilinearly without smoothing,
    also where they shrink. "torch-fidelity" follows TensorFlow 1, where pixels are points
    that start in the corner, and scales levels v of 256 to (v - 128) / 128, as the first FID
    did; "pytorch-fid" takes pixels as squares, and scales to v / 127.5 - 1. Their scores
    differ, most of all for small images.

    Args:
      images: float [B, H, W, C] in [0, 1], C 1 or 3.
      tool: the tool whose scores are compared: "torch-fidelity" or "pytorch-fid".

    Returns:
      float32 [B, 299, 299, 3].

    Raises:
      ValueError: another number of channels, or an unknown tool.
    """
    if tool not in TOOLS:
        raise ValueError(f"tool must be one of {', '.join(TOOLS)}; got {tool!r}")
    if images.shape[-1] not in (1, 3):
        raise ValueError(f"InceptionV3 needs images of 1 or 3 channels, not {images.shape[-1]}")
    rows, columns = (_resizing(side, tool == "pytorch-fid") for side in images.shape[1:3])
    x = images.astype(jnp.float32) * 255.0
    x = jnp.einsum("bhwc,hi->biwc", x, rows, precision="highest")
    x = jnp.einsum("biwc,wj->bijc", x, columns, precision="highest")
    x = (x - 128.0) / 128.0 if tool == "torch-fidelity" else x / 127.5 - 1.0
    return jnp.broadcast_to(x, (*x.shape[:3], 3))


def _resizing(side, centred):
    """Weights [side, 299] of bilinear interpolation along one axis."""
    places = np.arange(SIDE, dtype=np.float32)
    scale = np.float32(side / SIDE)
    source = np.maximum((places + 0.5) * scale - 0.5, 0) if centred else places * scale
    low = np.minimum(source.astype(int), side - 1)
    part = np.float32(source - low)
    weights = np.zeros((side, SIDE), np.float32)
    np.add.at(weights, (low, np.arange(SIDE)), 1 - part)
    np.add.at(weights, (np.minimum(low + 1, side - 1), np.arange(SIDE)), part)
    return weights


# The last part of a leaf's name, here and in the port, and the permutation of its axes.
_LEAVES = {
    ("conv", "kernel"): ("weight", (3, 2, 0, 1)),
    ("bn", "scale"): ("weight", (0,)),
    ("bn", "bias"): ("bias", (0,)),
    ("bn", "mean"): ("running_mean", (0,)),
    ("bn", "var"): ("running_var", (0,)),
    ("fc", "kernel"): ("weight", (1, 0)),
    ("fc", "bias"): ("bias", (0,)),
}


def layout() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors of the PyTorch port that the net needs.

    Returns:
      {name: shape}.
    """
    shapes = {}
    for path, leaf in _leaves():
        name, axes = _port_name(path)
        shapes[name] = tuple(leaf.shape[axis] for axis in axes)
    return shapes


def from_port(tensors: dict[str, Any]) -> dict:
    """Converts tensors of the PyTorch port to variables of `InceptionV3`.

    Args:
      tensors: with the names and shapes of `layout`; others, such as those of the auxiliary
        classifier, are not used.

    Returns:
      {"params": ..., "batch_stats": ...}.

    Raises:
      ValueError: names the first tensor that is missing or has another shape.
    """
    for name, shape in sorted(layout().items()):
        if name not in tensors:
            raise ValueError(f"{name} is missing; it must be {list(shape)}")
        if tuple(np.shape(tensors[name])) != shape:
            raise ValueError(f"{name} is {list(np.shape(tensors[name]))}; it must be {list(shape)}")
    variables = {}
    for path, _ in _leaves():
        name, axes = _port_name(path)
        branch = variables
        for key in path[:-1]:
            branch = branch.setdefault(key, {})
        array = np.transpose(np.asarray(tensors[name], np.float32), np.argsort(axes))
        branch[path[-1]] = np.ascontiguousarray(array)
    return variables


@cache
def _leaves():
    """((collection, module, ..., name), shape) of each of the net's own arrays."""
    image = jax.ShapeDtypeStruct((1, 75, 75, 3), jnp.float32)
    tree = jax.eval_shape(InceptionV3().init, jax.eval_shape(lambda: jax.random.key(0)), image)
    flat = jax.tree_util.tree_leaves_with_path(tree)
    return tuple((tuple(entry.key for entry in path), leaf) for path, leaf in flat)


def _port_name(path):
    """Name in the port, and the permutation of axes from this array to the port's."""
    name, axes = _LEAVES[path[-2:]]
    return ".".join((*path[1:-1], name)), axes
