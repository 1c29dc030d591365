"""Variables of an encoder from tensors that another tool named."""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

# Tools that wrap a net put these before its names.
PREFIX = r"(?:(?:module|_orig_mod|model|net|teacher|student|encoder|backbone)\.)*"


class Rule(NamedTuple):
    """Where tensors of a file go.

    Attributes:
      pattern: regular expression of a whole key of the file.
      path: the variable, as "params/stem/kernel"; \\1, \\2, ... are groups of the pattern.
      part: (number, parts): the tensor fills one of several equal parts of the variable's last
        axis, as query, key and value of a joint projection.
      change: of the tensor, in place of the usual change of axes.
    """

    pattern: str
    path: str
    part: tuple[int, int] = (0, 1)
    change: Callable[[np.ndarray], np.ndarray] | None = None


class Naming(NamedTuple):
    """How a tool names the tensors of an encoder.

    Attributes:
      title: the tools, for messages.
      rules: the first that fits a key decides.
      unused: regular expression of the keys that have no place here, as those of a classifier.
    """

    title: str
    rules: tuple[Rule, ...]
    unused: str = r"$^"


class Adapted(NamedTuple):
    """What became of the tensors of a file.

    Attributes:
      variables: {"params/stem/kernel": array}, every variable of the encoder.
      naming: the title of the naming that fits.
      unused: keys of the file that have no place in an encoder, such as a classifier's.
      notes: what was changed, for people.
    """

    variables: dict[str, np.ndarray]
    naming: str
    unused: tuple[str, ...]
    notes: tuple[str, ...]


def adapt(
    tensors: Mapping[str, np.ndarray],
    shapes: Mapping[str, tuple[int, ...]],
    namings: tuple[Naming, ...],
    image_kernel: str,
) -> Adapted:
    """Fills every variable of an encoder from the tensors of a file.

    Axes change as PyTorch's layers differ from Flax's: kernels [O, I, H, W] become
    [H, W, I, O], matrices [O, I] become [I, O].

    Args:
      tensors: {key of the file: array}.
      shapes: {variable: shape} of the encoder, as "params/stem/kernel".
      namings: those that the encoder knows.
      image_kernel: the variable of the first convolution, [H, W, C, O]; for other than the
        file's channels C see `fit_channels`.

    Returns:
      The variables and what is left over.

    Raises:
      ValueError: the tensors are of another architecture; the message names keys of the file
        without a place, variables that stay empty, and shapes that differ.
    """
    naming, placed = nearest(tensors, namings)
    if not placed:
        titles, keys = "; ".join(naming.title for naming in namings), ", ".join([*tensors][:3])
        raise ValueError(f"no key is known here. Known are names of {titles}; got {keys or 'none'}")
    filled, parts, notes, wrong = {}, {}, [], []
    for key, (rule, path) in placed.items():
        if path not in shapes:
            wrong.append(f"{key} has no place: there is no variable {path}")
            continue
        value = rule.change(tensors[key]) if rule.change else _axes(tensors[key])
        if path == image_kernel and value.ndim == 4 and value.shape[2] != shapes[path][2]:
            notes.append(f"{key}: {value.shape[2]} channels made {shapes[path][2]}")
            value = fit_channels(value, shapes[path][2])
        target = _part(filled.setdefault(path, np.zeros(shapes[path], np.float32)), *rule.part)
        numbers = parts.setdefault(path, set())
        if problem := _problem(value, target, path, rule.part[0] in numbers):
            wrong.append(f"{key} {problem}")
        else:
            target[...] = value
        numbers.add(rule.part[0])
    unplaced = [key for key in tensors if key not in placed]
    unused = tuple(key for key in unplaced if re.fullmatch(f"{PREFIX}(?:{naming.unused})", key))
    wrong += [f"{key} is not of this architecture" for key in unplaced if key not in unused]
    wrong += _gaps(shapes, placed, parts)
    if wrong:
        more = f"; {len(wrong) - 5:,} more" if len(wrong) > 5 else ""
        raise ValueError(f"by the names of {naming.title}: {'; '.join(wrong[:5])}{more}")
    return Adapted(filled, naming.title, unused, tuple(notes))


def nearest(
    tensors: Mapping[str, np.ndarray], namings: tuple[Naming, ...]
) -> tuple[Naming, dict[str, tuple[Rule, str]]]:
    """The naming that fits the most keys of a file.

    Args:
      tensors: {key of the file: array}.
      namings: those that an encoder knows.

    Returns:
      The naming, and {key: (rule, variable)} of the keys that it fits.
    """
    placed = [_placed(tensors, naming) for naming in namings]
    best = max(range(len(namings)), key=lambda number: len(placed[number]))
    return namings[best], placed[best]


def fit_channels(kernel: np.ndarray, channels: int) -> np.ndarray:
    """The first convolution for images of another number of channels.

    One channel takes the sum over those of the file; of n channels, channel i takes that of
    i mod C, times C / n, so that the sums stay as large (segmentation_models_pytorch).

    Args:
      kernel: [H, W, C, O].
      channels: n.

    Returns:
      [H, W, n, O].
    """
    count = kernel.shape[2]
    if channels == 1:
        return kernel.sum(2, keepdims=True)
    return kernel[:, :, np.arange(channels) % count] * (count / channels)


def _placed(tensors, naming):
    """{key: (rule, variable)} of the keys that a rule fits."""
    found = {}
    for key in tensors:
        for rule in naming.rules:
            if match := re.fullmatch(f"{PREFIX}(?:{rule.pattern})", key):
                found[key] = rule, match.expand(rule.path)
                break
    return found


def _problem(value, target, path, taken):
    """Why a tensor cannot go to a variable or to a part of it; None where it can."""
    if value.shape != target.shape:
        return f"has shape {list(value.shape)}, {path} {list(target.shape)}"
    if taken:
        return f"is one too many for {path}"
    return None if np.isfinite(value).all() else "has numbers that are not finite"


def _gaps(shapes, placed, parts):
    """Messages for variables that are not filled; `parts`: {variable: parts that are filled}."""
    wanted = {path: rule.part[1] for rule, path in placed.values()}
    return [
        f"nothing fills {path}{' wholly' if path in parts else ''}"
        for path in shapes
        if len(parts.get(path, ())) < wanted.get(path, 1)
    ]


def _part(whole, number, parts):
    """One of several equal parts of an array's last axis."""
    if parts == 1:
        return whole
    width = whole.shape[-1] // parts
    return whole[..., number * width : (number + 1) * width]


def _axes(tensor):
    """A tensor of PyTorch as Flax orders its axes."""
    if tensor.ndim == 4:
        return tensor.transpose(2, 3, 1, 0)
    return tensor.T if tensor.ndim == 2 else tensor
