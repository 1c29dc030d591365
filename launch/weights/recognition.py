"""Which encoder a weights file is for, by the names and shapes of its tensors."""

import math
from pathlib import Path
from typing import Any, NamedTuple

from jaxseg.nets.encoders.naming import nearest
from launch.config.errors import UserError
from launch.engine import experiments
from launch.weights import encoders, files


class Recognised(NamedTuple):
    """An encoder that a file fits.

    Attributes:
      title: such as "ResNet-34".
      spec: {"name": "jaxseg.nets.encoders:ResNet", "depth": 34}.
      naming: the tools that name tensors so.
    """

    title: str
    spec: dict[str, Any]
    naming: str


MODULE = "jaxseg.nets.encoders"
# The sizes of each encoder whose weights people share.
KNOWN = {
    "ResNet-18": {"name": f"{MODULE}:ResNet", "depth": 18},
    "ResNet-34": {"name": f"{MODULE}:ResNet", "depth": 34},
    "ResNet-50": {"name": f"{MODULE}:ResNet", "depth": 50},
    "EfficientNet-Lite0": {"name": f"{MODULE}:EfficientNetLite0"},
    "ConvNeXt-T": {"name": f"{MODULE}:ConvNeXt"},
    "MiT-B0": {"name": f"{MODULE}:MixTransformer", "size": "B0"},
    "MiT-B1": {"name": f"{MODULE}:MixTransformer", "size": "B1"},
    "MiT-B2": {"name": f"{MODULE}:MixTransformer", "size": "B2"},
    "DINOv2 ViT-S/14": {"name": f"{MODULE}:DINOv2"},
    "DINOv2 ViT-S/14 with registers": {"name": f"{MODULE}:DINOv2", "registers": 4},
}


def recognise(path: Path) -> Recognised:
    """Finds the encoder that a file fits.

    The names of the tensors tell the encoder, and how many numbers they have its size; then all
    shapes are compared.

    Args:
      path: a weights file.

    Raises:
      UserError: the file is damaged, or fits none of `KNOWN`.
    """
    tensors = files.read(path, say=lambda _: None)
    nets = {title: experiments.make_net(spec, title) for title, spec in KNOWN.items()}
    fits = {title: nearest(tensors, net.namings) for title, net in nets.items()}
    most = max(len(placed) for _, placed in fits.values())
    if not most:
        raise UserError(
            f"config.encoder.weights: {path} is of no encoder that is known here ({_known()}); its "
            f"tensors are {encoders.folded([*tensors][:3])}, ..."
        )

    def distance(title):
        """By how many numbers the tensors of the file and those of an encoder differ."""
        shapes = encoders.shapes_of(encoders.template_of(nets[title])).values()
        return abs(sum(map(math.prod, shapes)) - sum(tensors[key].size for key in fits[title][1]))

    best = min((title for title, (_, placed) in fits.items() if len(placed) == most), key=distance)
    try:
        encoders.check(path, {"encoder": KNOWN[best]})
    except UserError as error:
        raise UserError(
            f"{error}. {best} is the nearest of those that are known here ({_known()}). For "
            "another size of it, take configs/segment.py:lite0 with --config.model.encoder.name="
            f"{KNOWN[best]['name']} and its arguments, --config.model.encoder.KEY=VALUE"
        )
    return Recognised(best, KNOWN[best], fits[best][0].title)


def _known():
    return ", ".join(KNOWN)
