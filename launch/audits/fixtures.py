"""The models that an audit checks, and random examples for them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from launch.config.errors import UserError
from launch.data import batches
from launch.engine import compiled_steps, experiments, validate

SEED = 20  # of examples, noise and samples: an audit repeats itself exactly
NLL_SAMPLES = 50  # of estimated likelihoods, which are unbiased for any number


class AuditedModel(NamedTuple):
    """A task with its parameters, at one image size.

    Attributes:
      task: the pure functions.
      state: the task's state.
      example: shape and dtype of each array of one example.
      classes: number of ids that a label or a mask can have.
      title: whether the parameters are trained, and the size: "trained, 28 x 28 x 1".
    """

    task: Any
    state: Any
    example: dict[str, jax.ShapeDtypeStruct]
    classes: int
    title: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, C) of an image."""
        return self.example["image"].shape


class ModelFactory(NamedTuple):
    """Makes the model of one config at any image size.

    Attributes:
      config: from `fit_for_audit`.
      data: a split with the shapes of the training data.
      trained: the state of a run, or None.
    """

    config: ConfigDict
    data: batches.Data
    trained: Any = None

    def at(
        self, shape: tuple[int, int, int] | None = None, untrained: bool = False
    ) -> AuditedModel:
        """Makes the model at one image size.

        It has the parameters of the run if there is a run and they fit that size; else
        fresh ones moved by noise, because fresh parameters are zero in many places.

        Args:
          shape: (H, W, C); None for that of the training data.
          untrained: whether to take fresh parameters even if those of the run fit.

        Raises:
          UserError: a value of the config does not work at that size.
          ValueError: the net cannot make images of that size.
        """
        example = resized(self.data.example, shape) if shape else self.data.example
        made, _ = experiments.make_task(self.config, example, self.data.split.classes)
        task = validate.with_optional_fields(made, self.config.task.name)
        rng = compiled_steps.stream(self.config.seed, compiled_steps.INIT)
        classes = self.config.task.get("classes", 0) or len(self.data.split.classes)
        model = AuditedModel(task, None, example, max(classes, 1), "")
        batch = examples(model, 2)
        needed = jax.eval_shape(task.init, rng, batch)
        size = _by(model.shape)
        if self.trained is not None and not untrained and _same_leaves(needed, self.trained):
            return model._replace(state=self.trained, title=f"trained, {size}")
        state = perturbed(jax.jit(task.init)(rng, batch))
        return model._replace(state=state, title=f"untrained, {size}")


def fit_for_audit(config: ConfigDict, keep_ema: bool) -> ConfigDict:
    """A copy of a config for one device, with few samples of estimated likelihoods.

    Args:
      config: any complete config.
      keep_ema: whether to keep the moving average of the parameters. In a fresh state
        the average would hide the noise on the parameters.
    """
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.parallel = "jit"
        if "nll_samples" in config.task:
            config.task.nll_samples = min(config.task.nll_samples, NLL_SAMPLES)
        several = [] if "name" in config.optimizer else list(config.optimizer.values())
        for optimizer in () if keep_ema else (config.optimizer, *several):
            kept = {"ema", "power_ema"} & set(optimizer)
            for key in kept:
                del optimizer[key]
            if kept:
                optimizer.ema = 0.0
    return config


def resized(example: dict, shape: tuple[int, int, int]) -> dict:
    """The same example with an image of another shape.

    Args:
      example: shape and dtype of each array of one example.
      shape: (H, W, C) of the image; arrays that were as high and wide as the image get
        the new height and width.
    """
    size = example["image"].shape[:2]

    def leaf(key, spec):
        if key == "image":
            return jax.ShapeDtypeStruct(shape, spec.dtype)
        if spec.shape[:2] == size:
            return jax.ShapeDtypeStruct((*shape[:2], *spec.shape[2:]), spec.dtype)
        return spec

    return {key: leaf(key, spec) for key, spec in example.items()}


def examples(model: AuditedModel, count: int, images: np.ndarray | None = None) -> dict:
    """A batch of random examples, the same at every call.

    Args:
      model: says what an example looks like.
      count: B, number of examples.
      images: uint8 [B, H, W, C] to use as `image`; None for random ones.

    Returns:
      {name: [B, ...]}, with `index` int32 [B] and `mask` bool [B].
    """
    rng = np.random.default_rng(SEED)
    batch = {}
    for key, leaf in sorted(model.example.items()):
        size = (count, *leaf.shape)
        if leaf.dtype == np.uint8 and key != "segmentation":
            batch[key] = rng.integers(0, 256, size).astype(np.uint8)
        elif leaf.dtype.kind in "iu":
            batch[key] = rng.integers(0, model.classes, size).astype(leaf.dtype)
        else:
            batch[key] = rng.uniform(size=size).astype(leaf.dtype)
    batch |= {"image": batch["image"] if images is None else images}
    return batch | {"index": np.arange(count, dtype=np.int32), "mask": np.ones(count, np.bool_)}


def perturbed(state: Any) -> Any:
    """Adds seeded noise to the parameters of a state; a state without `params` stays as it is.

    The standard deviation is 1 / (2 sqrt(fan in)) for a kernel, half that of its usual
    initialisation, and 0.25 for a bias.

    Args:
      state: a NamedTuple with a tree of arrays `params`.
    """
    if not hasattr(state, "params") or not hasattr(state, "_replace"):
        return state
    leaves, tree = jax.tree.flatten(state.params)
    moved = []
    for number, leaf in enumerate(leaves):
        noise = jax.random.normal(jax.random.fold_in(jax.random.key(SEED), number), leaf.shape)
        scale = 0.5 / np.sqrt(np.prod(leaf.shape[:-1])) if leaf.ndim > 1 else 0.25
        real = jnp.issubdtype(leaf.dtype, jnp.floating)
        moved.append(leaf + (scale * noise).astype(leaf.dtype) if real else leaf)
    state = state._replace(params=jax.tree.unflatten(tree, moved))
    if optax.tree.get(getattr(state, "opt_state", ()), "ema") is None:
        return state
    # What evaluates by the moving average would not see the noise.
    return state._replace(opt_state=optax.tree.set(state.opt_state, ema=state.params))


def first_that_fits(
    factory: ModelFactory, shapes: list[tuple[int, int, int]], untrained: bool = False
) -> tuple[AuditedModel | None, str]:
    """The model at the first size that its net can make.

    Args:
      factory: makes the model.
      shapes: the sizes (H, W, C) to try, in this order.
      untrained: see `ModelFactory.at`.

    Returns:
      The model and ""; or None and the reason why the last size does not work.
    """
    reason = ""
    for shape in shapes:
        try:
            return factory.at(shape, untrained), ""
        except (UserError, ValueError) as error:
            reason = f"the net takes no {_by(shape)}: {first_line(error)}"
    return None, reason


def first_line(error: BaseException) -> str:
    """The first line of an error's message, at most 150 characters; else its type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:150]


def key(purpose: int) -> jax.Array:
    """A random key of the audit, a scalar; a different one for each purpose."""
    return jax.random.fold_in(jax.random.key(SEED), purpose)


def in_chunks(function: Callable, batch: dict, size: int) -> np.ndarray:
    """Applies a compiled function to blocks of rows.

    Args:
      function: {name: [size, ...]} -> [size, ...].
      batch: {name: [N, ...]}, with `index`.
      size: rows of a block; the last block repeats the last row, so that one compiled
        program serves all blocks.

    Returns:
      The results of all rows, [N, ...].
    """
    rows = len(batch["index"])
    parts = []
    for start in range(0, rows, size):
        places = np.minimum(np.arange(start, start + size), rows - 1)
        part = {name: leaf[places] for name, leaf in batch.items()}
        parts.append(jax.device_get(function(part))[: rows - start])
    return np.concatenate(parts)


def _same_leaves(needed, state):
    """Whether two states have the same tree, shapes and dtypes."""
    if jax.tree.structure(needed) != jax.tree.structure(state):
        return False
    same = lambda a, b: a.shape == b.shape and a.dtype == b.dtype
    return all(map(same, jax.tree.leaves(needed), jax.tree.leaves(state)))


def _by(shape):
    """(3, 3, 1) as "3 x 3 x 1"."""
    return " x ".join(map(str, shape))
