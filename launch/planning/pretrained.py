"""The net for pretrained weights of the user: `config.encoder.net` of configs/segment.py."""

import logging
from pathlib import Path
from typing import Any

from launch.config import loading, schema
from launch.weights import encoders, recognition

logger = logging.getLogger("segen")

SEGMENT = Path(__file__).parents[2] / "configs" / "segment.py"
# The encoder's learning rate as a share of the decoder's 6e-3. Convolutions with batch norm take
# a tenth (measured with EfficientNet-Lite0: docs/own-data.md), all others 6e-5, as SegFormer's
# encoder in its paper.
SHARES = {"ResNet": 0.1, "EfficientNetLite0": 0.1}
OTHERS = 0.01


def net(weights: str) -> dict[str, Any]:
    """The encoder that a weights file fits, with the decoder and optimiser of `:lite0`.

    Prints what was decided, and why.

    Args:
      weights: `config.encoder.weights`, a file or the name of a package.

    Returns:
      {dotted key: value} of `config.model` and `config.optimizer`.

    Raises:
      UserError: no such file, or it fits no encoder that is known.
    """
    path = encoders.find(weights)
    found = recognition.recognise(path)
    lite0 = loading.load(f"{SEGMENT}:lite0")
    model, optimizer = lite0.model.to_dict(), lite0.optimizer.to_dict()
    name = found.spec["name"].partition(":")[2]
    model["encoder"] = dict(found.spec)
    if name == "DINOv2":  # its maps all have one stride, and a U-Net needs several
        model["encoder"]["layers"] = (2, 5, 8, 11)
        model["decoder"] = {"name": "jaxseg.nets.decoders:SegFormerHead"}
    optimizer["encoder"] = SHARES.get(name, OTHERS)
    peak = optimizer.pop("learning_rate")["peak_value"]
    decoder = model["decoder"]["name"].partition(":")[2]
    reason = f"{path.name} has its tensors, by the names of {found.naming}"
    logger.info(f"plan: {'net':14} {found.title}, pretrained, and {decoder}  ({reason})")
    if name == "EfficientNetLite0" and found.naming == "timm":
        logger.info(
            "  this is tf_efficientnet_lite0; efficientnet_lite0 has the same names, and needs "
            "--config.model.encoder.origin=timm"
        )
    reason = "what is trained already moves less; unless given"
    share = f"{optimizer['encoder']:g} of it for the encoder"
    logger.info(f"plan: {'learning rate':14} {peak:g} at its peak, {share}  ({reason})")
    flat = schema.flatten(optimizer, "optimizer.")
    return {"model": model, "optimizer.learning_rate.peak_value": peak} | flat
