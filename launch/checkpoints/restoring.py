"""Loads the state of a checkpoint onto devices, by Orbax."""

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from launch.checkpoints import state_files
from launch.config.errors import UserError


def restore(folder: Path, step: int, template: Any) -> Any:
    """Loads the whole state of a step.

    Args:
      folder: a run's checkpoints folder.
      step: a step that `newest_whole` or `check_whole` has checked.
      template: a pytree of ShapeDtypeStructs with shardings, which need not be those of the
        run that saved the state.

    Returns:
      A pytree of arrays, with the structure, shapes and shardings of the template.

    Raises:
      UserError: the state has other leaves or shapes than the template.
    """
    path = state_files.for_orbax(folder / str(step) / "state")
    _check_tree(path, template)
    with ocp.StandardCheckpointer() as reader:
        return reader.restore(path, template)


def restore_params(folder: Path, step: int, template: Any) -> Any:
    """Loads only `params` of a step's state; the optimiser of that run does not matter.

    Args:
      folder: a run's checkpoints folder.
      step: a step that `newest_whole` or `check_whole` has checked.
      template: the parameters as ShapeDtypeStructs with shardings.

    Returns:
      The parameters, with the structure, shapes and shardings of the template.

    Raises:
      UserError: the saved parameters lack leaves of the template, or have other shapes.
    """
    path = state_files.for_orbax(folder / str(step) / "state")
    item = {"params": template}
    _check_tree(path, item, partial=True)
    args = ocp.args.PyTreeRestore(
        item=item,
        restore_args=ocp.checkpoint_utils.construct_restore_args(item),
        partial_restore=True,
    )
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
        return reader.restore(path, args=args)["params"]


def _check_tree(path, template, partial=False):
    """Refuses a saved state that does not fit the template; if `partial`, it may hold more."""
    with ocp.StandardCheckpointer() as reader:
        saved = _shapes(reader.metadata(path).item_metadata.tree)
    expected = _shapes(template)
    for name, shape in expected.items():
        if name not in saved:
            raise UserError(f"checkpoint {path} has no {name}, which the model of this config has")
        if saved[name] != shape:
            raise UserError(
                f"checkpoint {path}: {name} is {list(saved[name])}, "
                f"the model of this config has {list(shape)}"
            )
    if not partial and (extra := sorted(saved.keys() - expected.keys())):
        raise UserError(
            f"checkpoint {path} has {extra[0]}, which the model of this config does not have"
        )


def _shapes(tree):
    """{"params/net/kernel": shape} of every array of a pytree."""

    def name(path):
        keys = (getattr(k, "key", getattr(k, "name", getattr(k, "idx", k))) for k in path)
        return "/".join(str(key) for key in keys)

    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {name(path): tuple(leaf.shape) for path, leaf in leaves if hasattr(leaf, "shape")}
