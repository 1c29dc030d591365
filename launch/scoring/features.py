"""The nets whose features scores compare; config.score.features names one.

Each is a function (config, force, own arguments) -> Features, where config is that of
the run that is scored. A user's own is named the same way, "my_package.my_module:net".
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxgen.batches import ema_params
from jaxgen.nets import inception as inception_v3
from jaxgen.nets.feature_net import FeatureNet
from launch import checkpoints
from launch.config import by_name
from launch.config.errors import UserError
from launch.data import batches
from launch.engine import experiments, trained_runs
from launch.scoring import classifier as classifiers
from launch.weights.files import read

SCALED = 500  # training images whose features give the scale of all


class Features(NamedTuple):
    """A net that scores compare images by.

    Attributes:
      apply: (params, images float [B, H, W, C] in [0, 1]) -> features [B, F] and logits
        [B, K]; pure, compiled by whoever calls it.
      params: of the net.
      size: F.
      classes: K, where they are the classes of the data; 0 where they are others.
      card: what a score must say of it: features, data, accuracy, weights (a hash), ...
    """

    apply: Callable
    params: Any
    size: int
    classes: int
    card: dict[str, Any]


def build(config: ConfigDict, force: bool = False) -> Features:
    """What `config.score.features` names, ready to use.

    Args:
      config: of the run that is scored.
      force: whether a classifier that is too often wrong is used all the same.

    Raises:
      UserError: the net cannot be had, or cannot be trusted.
    """
    where = "config.score.features"
    found = by_name.instantiate(config.score.features, where, config=config, force=force)
    if not isinstance(found, Features):
        raise UserError(
            f"{where}: {config.score.features.name} must return launch.scoring.features.Features, "
            f"got {type(found).__name__}"
        )
    return found


def classifier(
    config: ConfigDict,
    force: bool = False,
    recipe: str = "configs/classifier.py",
    classes: int = 0,
    least: float = 0.9,
) -> Features:
    """A small classifier of the run's own data, trained the first time and kept.

    It is kept under what decides it: the recipe and the content of the training split.
    An interrupted training goes on the next time.

    Args:
      config: of the run that is scored.
      force: use it even when it is less accurate than `least`.
      recipe: config of the training; its data section is replaced by the run's own. The
        net must take `features=True` as `jaxgen.nets.feature_net.FeatureNet` does.
      classes: K; 0 for as many as the data names or its labels show.
      least: accuracy on the run's evaluation split below which it is refused.

    Raises:
      UserError: examples without labels, or too low an accuracy.
    """
    folder, step, recipe, data = classifiers.trained(config, recipe, classes)
    title = data.split.title
    accuracy = checkpoints.metrics(folder / "checkpoints", step)["accuracy"]
    if accuracy < least and not force:
        raise UserError(
            f"the classifier that scores would rest on names only {accuracy:.1%} of {title}'s "
            f"{config.eval.split} split rightly, less than {least:.0%}. --force of evaluate uses "
            "it all the same; config.score.features names another net, or recipe=FILE.py of "
            "launch.scoring.features:classifier a better training"
        )
    restored = trained_runs.restore(folder, [], step, None)
    params = ema_params(restored.state.opt_state, restored.state.params)
    net = experiments.make_net(recipe, recipe.model, "model").clone(classes=recipe.task.classes)
    params, size = _scaled(net, params, data)
    card = {
        "features": "classifier",
        "data": title,
        "accuracy": float(accuracy),
        "accuracy_split": config.eval.split,
        "step": step,
        "weights": weights_hash(params),
        "size": size,
    }
    return Features(_apply(net), params, size, recipe.task.classes, card)


def random(config: ConfigDict, force: bool = False, seed: int = 0, size: int = 128) -> Features:
    """The same net with random weights, for data without labels.

    It tells less than a trained one, but favours no data (Naeem et al. 2020 compare both).
    """
    del force
    data = batches.open_data(config.data, config.data.split, "config.data")
    net, shape = FeatureNet(classes=1, size=size), data.example["image"].shape
    start = jax.jit(lambda key: net.init(key, jnp.zeros((1, *shape)))["params"])
    params, size = _scaled(net, start(jax.random.key(seed)), data)
    card = {"features": "random", "seed": seed, "weights": weights_hash(params), "size": size}
    return Features(_apply(net), params, size, 0, card)


def inception(
    config: ConfigDict, force: bool = False, weights: str = "", tool: str = "torch-fidelity"
) -> Features:
    """InceptionV3 as FID was defined by, for figures that compare with published ones.

    Args:
      config: of the run that is scored.
      force: as for `classifier`; nothing here to force.
      weights: file of the PyTorch port, pt_inception-2015-12-05, as .pth, .safetensors or
        .npz: tensors by its names and of its shapes.
      tool: whose preprocessing; see `jaxgen.nets.inception.prepare`.

    Raises:
      UserError: no file, or tensors of another net; names the first that differs.
    """
    del config, force
    if not weights:
        raise UserError(
            "launch.scoring.features:inception needs weights=FILE: pt_inception-2015-12-05 of "
            "pytorch-fid or torch-fidelity, or its tensors as .safetensors or .npz"
        )
    if tool not in inception_v3.TOOLS:
        raise UserError(
            f"launch.scoring.features:inception: tool={tool}: use {' or '.join(inception_v3.TOOLS)}"
        )
    path = Path(weights).expanduser()
    try:
        params = inception_v3.from_port(read(path))
    except ValueError as error:
        raise UserError(f"{path} is not that InceptionV3: {error}")

    def apply(params, images):
        return inception_v3.InceptionV3().apply(params, inception_v3.prepare(images, tool))

    card = {
        "features": "inception",
        "tool": tool,
        "file": path.name,
        "weights": weights_hash(params),
        "size": inception_v3.FEATURES,
    }
    return Features(apply, params, inception_v3.FEATURES, 0, card)


def weights_hash(params: Any) -> str:
    """SHA-256 over every array of a tree, with its name, dtype and shape."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(jax.device_get(params)):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _apply(net):
    """(params, images) -> features and logits, the features divided by their size."""

    def apply(params, images):
        found, logits = net.apply({"params": params["net"]}, 2.0 * images - 1.0, features=True)
        return found / params["scale"], logits

    return apply


def _scaled(net, params, data):
    """Params of `_apply` that give features of root mean square 1, and their number.

    So distances by two classifiers are of one order, and the cube of KID's kernel is not
    ruled by the few largest products.
    """
    count = min(SCALED, data.split.size)
    images = np.stack(
        [data.arrays["image"][i] if data.arrays else data.split[i]["image"] for i in range(count)]
    ) / np.float32(255)
    unscaled = {"net": params, "scale": np.float32(1)}
    features, _ = jax.device_get(jax.jit(_apply(net))(unscaled, images))
    scale = np.sqrt(np.mean(np.square(features, dtype=np.float64)))
    return {"net": params, "scale": np.float32(max(scale, 1e-12))}, features.shape[-1]
