"""What an audit looks at: a task with parameters, at some size, and examples for it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from launch.config.errors import UserError
from launch.data import batches
from launch.engine import compiled_steps, experiments

SEED = 20  # of examples, perturbations and samples: an audit repeats itself exactly
NLL_SAMPLES = 50  # of estimated likelihoods, which are unbiased for any number


class AuditedModel(NamedTuple):
    """A task with its parameters.

    Attributes:
      task: the pure functions.
      state: its state.
      example: shape and dtype of each array of one example.
      classes: number of ids that a label or a mask may have.
      title: whose parameters at what size, such as "trained, 28 x 28 x 1".
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
    """Makes subjects of one config at any size.

    Attributes:
      config: the config, fit for an audit.
      data: of the shapes of training.
      trained: the state of a run, or None.
    """

    config: ConfigDict
    data: batches.Data
    trained: Any = None

    def at(
        self, shape: tuple[int, int, int] | None = None, untrained: bool = False
    ) -> AuditedModel:
        """The task at an image size, None for its own.

        The run's own parameters where there is a run and they fit that size; else fresh
        ones, moved by noise: those of initialisation are often zero where it matters.

        Args:
          shape: (H, W, C).
          untrained: take fresh parameters even so.

        Raises:
          UserError, ValueError: the net cannot make that size.
        """
        example = resized(self.data.example, shape) if shape else self.data.example
        task, _ = experiments.make_task(self.config, example, self.data.split.classes, mapped=False)
        rng = compiled_steps.stream(self.config.seed, compiled_steps.INIT)
        count = self.config.task.get("classes", 0) or len(self.data.split.classes)
        subject = AuditedModel(task, None, example, max(count, 1), "")
        batch = examples(subject, 2)
        wanted = jax.eval_shape(task.init, rng, batch)
        size = " x ".join(map(str, subject.shape))
        if self.trained is not None and not untrained and _alike(wanted, self.trained):
            return subject._replace(state=self.trained, title=f"trained, {size}")
        state = perturbed(jax.jit(task.init)(rng, batch))
        return subject._replace(state=state, title=f"untrained, {size}")


def fit_for_audit(config: ConfigDict, average: bool) -> ConfigDict:
    """A copy of a config for one device, with few samples of estimated likelihoods.

    Args:
      config: any complete config.
      average: whether to leave the moving average of the parameters on; in a fresh
        state it would hide the perturbed parameters.
    """
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.parallel = "jit"
        if "nll_samples" in config.task:
            config.task.nll_samples = min(config.task.nll_samples, NLL_SAMPLES)
        several = [] if "name" in config.optimizer else list(config.optimizer.values())
        for optimizer in () if average else (config.optimizer, *several):
            if "ema" in optimizer:
                optimizer.ema = 0.0
    return config


def resized(example: dict, shape: tuple[int, int, int]) -> dict:
    """The same example with an image of another shape, and all maps of its size with it."""
    size = example["image"].shape[:2]

    def leaf(key, spec):
        if key == "image":
            return jax.ShapeDtypeStruct(shape, spec.dtype)
        if spec.shape[:2] == size:
            return jax.ShapeDtypeStruct((*shape[:2], *spec.shape[2:]), spec.dtype)
        return spec

    return {key: leaf(key, spec) for key, spec in example.items()}


def examples(subject: AuditedModel, count: int, images: np.ndarray | None = None) -> dict:
    """A batch of `count` random examples, always the same; with given images if any."""
    rng = np.random.default_rng(SEED)
    batch = {}
    for key, leaf in sorted(subject.example.items()):
        size = (count, *leaf.shape)
        if leaf.dtype == np.uint8 and key != "segmentation":
            batch[key] = rng.integers(0, 256, size).astype(np.uint8)
        elif leaf.dtype.kind in "iu":
            batch[key] = rng.integers(0, subject.classes, size).astype(leaf.dtype)
        else:
            batch[key] = rng.uniform(size=size).astype(leaf.dtype)
    batch |= {"image": batch["image"] if images is None else images}
    return batch | {"index": np.arange(count, dtype=np.int32), "mask": np.ones(count, np.bool_)}


def perturbed(state: Any) -> Any:
    """A state whose parameters are moved by seeded noise; the same if it has no `params`.

    A kernel is moved by half the width of its usual initialisation, a bias by a quarter.
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
    return state._replace(params=jax.tree.unflatten(tree, moved))


def first_that_fits(builder: ModelFactory, shapes: list[tuple], **options) -> tuple[Any, str]:
    """The subject at the first size that the net takes, or None and why there is none."""
    reason = ""
    for shape in shapes:
        try:
            return builder.at(shape, **options), ""
        except (UserError, ValueError) as error:
            reason = f"the net takes no {' x '.join(map(str, shape))}: {first_line(error)}"
    return None, reason


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:150]


def key(purpose: int) -> jax.Array:
    """A key of the audit's own."""
    return jax.random.fold_in(jax.random.key(SEED), purpose)


def in_chunks(function: Callable, batch: dict, size: int) -> Any:
    """Applies a compiled function to blocks of rows and puts the results together."""
    rows = len(batch["index"])
    parts = []
    for start in range(0, rows, size):
        places = np.minimum(np.arange(start, start + size), rows - 1)  # one shape for all
        part = {name: leaf[places] for name, leaf in batch.items()}
        parts.append(jax.device_get(function(part))[: rows - start])
    return np.concatenate(parts)


def _alike(wanted, state):
    same = lambda a, b: a.shape == b.shape and a.dtype == b.dtype
    if jax.tree.structure(wanted) != jax.tree.structure(state):
        return False
    return all(map(same, jax.tree.leaves(wanted), jax.tree.leaves(state)))
