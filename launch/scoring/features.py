"""Feature nets: the networks that scores compare images by.

`config.score.features` names a function and its own arguments:

    {"name": "launch.scoring.features:classifier", "min_accuracy": 0.8}

The function is called with three more keyword arguments, and returns `Features`:

    data: the data section of the run that is scored (`config.data`)
    eval_split: the name of that run's evaluation split
    force: whether to use the net where its own checks would refuse it
    group: the processes that call it together; only if the function takes it

Your own function is named in the same way: "my_package.my_module:function".
"""

import base64
import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import serialization
from ml_collections import ConfigDict

from jaxgen.batches import ema_params
from jaxgen.nets import inception as inception_v3
from jaxgen.nets.feature_net import FeatureNet
from launch import distributed
from launch.config import by_name
from launch.config.errors import UserError
from launch.data import batches
from launch.distributed import child_process
from launch.engine import experiments, trained_runs
from launch.scoring.classifier import make_config, train_classifier
from launch.weights.files import read

SCALE_IMAGES = 500  # training images from which the scale of the features is measured


class Features(NamedTuple):
    """A feature net with its parameters.

    Attributes:
      apply: (params, images float [B, H, W, C] in [0, 1]) -> features float [B, F] and
        logits float [B, K]; pure and not compiled.
      params: the net's parameters.
      size: F.
      classes: K if the logits are of the classes of the data; 0 if they are of others.
      card: what a score must report about the net: features, data, accuracy, weights
        (a hash), ...
    """

    apply: Callable
    params: Any
    size: int
    classes: int
    card: dict[str, Any]


def build(
    spec: Mapping,
    data: ConfigDict,
    eval_split: str,
    force: bool = False,
    group: distributed.Group = distributed.ALONE,
) -> Features:
    """Builds the feature net that `config.score.features` names.

    Args:
      spec: {"name": "package.module:function", **arguments}.
      data: the data section of the run that is scored.
      eval_split: the name of that run's evaluation split.
      force: whether to use a net that its own checks would refuse.
      group: the processes that call this together.

    Raises:
      UserError: there is no such function, it has no weights or data to work with, its
        accuracy is too low, or processes get different nets.
    """
    where, more = "config.score.features", {}
    if by_name.accepts(spec["name"], "group", where):
        more["group"] = group
    net = by_name.instantiate(spec, where, data=data, eval_split=eval_split, force=force, **more)
    if not isinstance(net, Features):
        raise UserError(
            f"{where}: {spec['name']} must return launch.scoring.features.Features, "
            f"got {type(net).__name__}"
        )
    group.check_same("the feature net", {"card": net.card})
    return net


def classifier(
    data: ConfigDict,
    eval_split: str,
    force: bool = False,
    recipe: str = "configs/classifier.py",
    classes: int = 0,
    min_accuracy: float = 0.9,
    group: distributed.Group = distributed.ALONE,
) -> Features:
    """A small classifier of the run's own data; see `launch.scoring.classifier`.

    Of several processes, process 0 alone trains it, on one CPU device, and the others take
    its weights.

    Args:
      data: the data section of the run that is scored.
      eval_split: the split that the accuracy is measured on.
      force: use the classifier even if its accuracy is below `min_accuracy`.
      recipe: config file of the classifier's training; its data section is replaced by
        that of the run. The net must take `features=True`, as
        `jaxgen.nets.feature_net.FeatureNet` does.
      classes: K; 0 for the number that the data names or that its labels show.
      min_accuracy: the accuracy on `eval_split` below which the classifier is refused.
      group: the processes that call this together.

    Raises:
      UserError: the examples have no labels, or the accuracy is too low.
    """
    prepare = partial(_prepare_classifier, data, eval_split, force, recipe, classes, min_accuracy)
    if group.processes > 1:  # a training of one process cannot run inside of several
        prepare = partial(child_process.on_one_cpu_device, prepare)
    made = group.on_process_zero("the classifier", prepare, distributed.WORK_SECONDS)
    params, count = _from_text(made["params"]), made["classes"]
    config = make_config(data, eval_split, recipe, count)
    net = experiments.make_net(config.model, "config.model", config.dtype).clone(classes=count)
    return Features(_make_apply(net), params, made["size"], count, made["card"])


def _prepare_classifier(data, eval_split, force, recipe, classes, min_accuracy):
    """Trains the classifier, or finds it: its weights and facts, as JSON can hold them."""
    trained = train_classifier(data, eval_split, recipe, classes)
    title = trained.data.split.title
    if trained.accuracy < min_accuracy and not force:
        raise UserError(
            f"the classifier that scores would use has an accuracy of only {trained.accuracy:.1%} "
            f"on the {eval_split} split of {title}, less than {min_accuracy:.0%}. Use it all the "
            "same by --force of evaluate, name another net in config.score.features, or train "
            "better by recipe=FILE.py of launch.scoring.features:classifier"
        )
    restored = trained_runs.restore(trained.workdir, [], trained.step, None)
    params = ema_params(restored.state.opt_state, restored.state.params)
    count = trained.config.task.classes
    net = experiments.make_net(trained.config.model, "config.model", trained.config.dtype)
    net = net.clone(classes=count)
    params, size = _scaled(net, params, trained.data)
    card = {
        "features": "classifier",
        "data": title,
        "accuracy": trained.accuracy,
        "accuracy_split": eval_split,
        "step": trained.step,
        "weights": weights_hash(params),
        "size": size,
    }
    return {"params": _as_text(params), "size": size, "classes": count, "card": card}


def random(
    data: ConfigDict, eval_split: str, force: bool = False, seed: int = 0, size: int = 128
) -> Features:
    """A `FeatureNet` with random weights, for data without labels.

    It separates sets of images less well than a trained net, but prefers no kind of
    image (Naeem et al. 2020 compare both).

    Args:
      data: the data section of the run that is scored; gives the shape of the images and
        the scale of the features.
      eval_split: not used.
      force: not used.
      seed: of the weights.
      size: F, number of features.

    Raises:
      UserError: the training split cannot be opened.
    """
    del eval_split, force
    opened = batches.open_data(data, data.split, "config.data")
    net, shape = FeatureNet(classes=1, size=size), opened.example["image"].shape
    init = jax.jit(lambda key: net.init(key, jnp.zeros((1, *shape)))["params"])
    params, size = _scaled(net, init(jax.random.key(seed)), opened)
    card = {"features": "random", "seed": seed, "weights": weights_hash(params), "size": size}
    return Features(_make_apply(net), params, size, 0, card)


def inception(
    data: ConfigDict,
    eval_split: str,
    force: bool = False,
    weights: str = "",
    tool: str = "torch-fidelity",
) -> Features:
    """The InceptionV3 that defines FID (Heusel et al. 2017), to compare with published scores.

    Args:
      data: not used.
      eval_split: not used.
      force: not used.
      weights: file of the PyTorch port, pt_inception-2015-12-05, as .pth, .safetensors or
        .npz, with the names and shapes of its tensors.
      tool: the tool whose preprocessing is used; see `jaxgen.nets.inception.prepare`.

    Raises:
      UserError: there is no such file, or it holds another net; names the first tensor
        that differs.
    """
    del data, eval_split, force
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
        raise UserError(f"{path} does not hold this InceptionV3: {error}")

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
    """SHA-256 of a tree of arrays of any shape, as 64 hex digits.

    Args:
      params: the tree; the name, dtype, shape and values of each array are hashed.
    """
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(jax.device_get(params)):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _as_text(tree):
    """A tree of dicts and arrays as text that holds every bit."""
    return base64.b64encode(serialization.msgpack_serialize(jax.device_get(tree))).decode()


def _from_text(text):
    """The tree of dicts and arrays of `_as_text`."""
    return serialization.msgpack_restore(base64.b64decode(text))


def _make_apply(net):
    """The `Features.apply` of a FeatureNet: the features are divided by params["scale"]."""

    def apply(params, images):
        features, logits = net.apply({"params": params["net"]}, 2.0 * images - 1.0, features=True)
        return features / params["scale"], logits

    return apply


def _scaled(net, params, data):
    """Adds the scale that gives features a root mean square of 1; returns params and F.

    Distances of two classifiers are then of one order, and a few large products do not
    dominate the cubic kernel of KID.
    """
    count = min(SCALE_IMAGES, data.split.size)
    images = np.stack(
        [data.arrays["image"][i] if data.arrays else data.split[i]["image"] for i in range(count)]
    ) / np.float32(255)
    unscaled = {"net": params, "scale": np.float32(1)}
    features, _ = jax.device_get(jax.jit(_make_apply(net))(unscaled, images))
    scale = np.sqrt(np.mean(np.square(features, dtype=np.float64)))
    return {"net": params, "scale": np.float32(max(scale, 1e-12))}, features.shape[-1]
