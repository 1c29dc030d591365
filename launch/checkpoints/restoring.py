"""Loads the state of a checkpoint onto devices, by Orbax."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
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
        try:
            return reader.restore(path, template)
        except ValueError as error:
            if "structures do not match" not in str(error):
                raise
            # Parts without arrays, which the check of leaves does not see.
            part = str(error).splitlines()[1].strip().rstrip(":")
            raise UserError(
                f"checkpoint {path} has another form than this config makes, at {part}: it was "
                "saved by another version of Segen or of the task"
            ) from error


def restore_fitting(
    folder: Path, step: int, template: dict[str, Any], part: str = ""
) -> tuple[dict[str, Any], list[str]]:
    """Loads what fits of some fields of a step; the optimiser of that run does not matter.

    Args:
      folder: a run's checkpoints folder.
      step: a step that `newest_whole` or `check_whole` has checked.
      template: {field of the state: its arrays, as ShapeDtypeStructs with shardings}.
      part: the start of the names of arrays in a field that are taken, such as "encoder/"; "" for
        all.

    Returns:
      The fields, with the structure, shapes and shardings of the template, None in place of
      arrays that do not fit; and a line for each of these, and of what is not taken.

    Raises:
      UserError: nothing fits, or no name starts with `part`.
    """
    path, item = state_files.for_orbax(folder / str(step) / "state"), template
    with ocp.StandardCheckpointer() as reader:
        saved = _shapes(reader.metadata(path).item_metadata.tree)
    every = _shapes(item)
    chosen = lambda name: name.partition("/")[2].startswith(part)
    here = {name: shape for name, shape in every.items() if chosen(name)}
    if not here:
        tops = dict.fromkeys(name.split("/")[1] + "/" for name in every)
        raise UserError(
            f"config.init_part={part}: no parameter's name starts so; they start with "
            f"{', '.join(tops)}"
        )
    lines = [
        f"{name} is {list(saved[name])} there and {list(shape)} here"
        if name in saved
        else f"{name} is not there"
        for name, shape in here.items()
        if saved.get(name) != shape
    ]
    if len(lines) == len(here):
        raise UserError(f"checkpoint {path} has no parameters that fit: {'; '.join(lines[:3])}")
    names = {name for name in saved if name.partition("/")[0] in template and chosen(name)}
    lines += [f"{name} of that run is not used" for name in sorted(names - here.keys())]
    fits = jax.tree_util.tree_map_with_path(
        lambda place, leaf: _name(place) in here and saved.get(_name(place)) == leaf.shape, item
    )
    fitting = jax.tree.map(lambda fit, leaf: leaf if fit else ocp.PLACEHOLDER, fits, item)
    wanted = ocp.checkpoint_utils.construct_restore_args(item)
    plain = ocp.RestoreArgs(restore_type=np.ndarray)  # of any shape, on no device
    restore_args = jax.tree.map(lambda fit, how: how if fit else plain, fits, wanted)
    args = ocp.args.PyTreeRestore(item=fitting, restore_args=restore_args, partial_restore=True)
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
        restored = reader.restore(path, args=args)
    found = {field: restored[field] for field in template}
    return jax.tree.map(lambda fit, leaf: leaf if fit else None, fits, found), lines


def _check_tree(path, template):
    """Refuses a saved state that does not fit the template."""
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
    if extra := sorted(saved.keys() - expected.keys()):
        raise UserError(
            f"checkpoint {path} has {extra[0]}, which the model of this config does not have"
        )


def _name(place):
    """The path of a leaf as text: "params/net/kernel"."""
    keys = (getattr(k, "key", getattr(k, "name", getattr(k, "idx", k))) for k in place)
    return "/".join(str(key) for key in keys)


def _shapes(tree):
    """{"params/net/kernel": shape} of every array of a pytree."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {_name(place): tuple(leaf.shape) for place, leaf in leaves if hasattr(leaf, "shape")}
