"""Data sets that a user's function returns."""

from collections.abc import Mapping, Sequence

from launch.config import by_name
from launch.config.errors import UserError
from launch.data.sources import Split, canonical, local_folder


def open_function(data, split: str, where: str = "config.data") -> Split:
    """Opens one split of a data set named "package.module:function".

    Args:
      data: `config.data`.
      split: what the function takes as `split`.
      where: the config section, for messages.

    Raises:
      UserError: the function cannot be called, or returns no examples.
    """
    place = {"path": local_folder(data.path)} if data.path else {}
    wanted = by_name.required(data.name, f"{where}.name")
    if "path" in wanted and "path" not in {**place, **data.kwargs}:
        raise UserError(
            f"config.data.path: {data.name} reads a folder; give --config.data.path=DIR"
        )
    spec = {"name": data.name, "split": split, **place, **_fold(data, where), **data.kwargs}
    records = by_name.instantiate(spec, where)
    title = f"{data.name} {split}"
    if not isinstance(records, Mapping):
        if not isinstance(records, Sequence) and not hasattr(records, "__getitem__"):
            raise UserError(f"{where}.name: {data.name} must return a dict of arrays or a sequence")
        # What launch.data.folders says of its records, and any other class may say.
        facts = ("fingerprint", ""), ("folder", None), ("classes", ())
        said = {key: getattr(records, key, default) for key, default in facts}
        return Split(records, len(records), title, **said)
    records = canonical(records)
    sizes = {key: len(array) for key, array in records.items()}
    if len(set(sizes.values())) > 1:
        raise UserError(f"{where}.name: arrays of {data.name} differ in length: {sizes}")
    return Split(records, next(iter(sizes.values()), 0), title)


def _fold(data, where):
    """The argument `fold` of the user's function, where there is a fold."""
    if not data.fold:
        return {}
    if not by_name.accepts(data.name, "fold", f"{where}.name"):
        raise UserError(
            f"config.data.fold={data.fold}: {data.name} takes no argument `fold`, so its data "
            "cannot be divided; give no fold, or a function that takes one"
        )
    if "fold" in data.kwargs:
        raise UserError(
            f"config.data.fold={data.fold} and config.data.kwargs.fold={data.kwargs.fold}: give "
            "the first alone"
        )
    return {"fold": data.fold}
