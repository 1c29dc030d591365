"""Our encoders beside the nets of torchvision, timm and transformers, stage by stage.

  python -m tests.tools.encoder_parity --torch=/path/to/python --net=resnet18
  python -m tests.tools.encoder_parity --torch=/path/to/python --net=small_resnet10 --golden

PyTorch is no dependency of this project: --torch is the interpreter of an environment that has
it, with torchvision, timm, transformers, segmentation_models_pytorch and safetensors. That side
fills a reference net with random numbers, which tell every wrong tensor, padding and epsilon,
and writes its weights file, an image of odd size and every feature map. This side reads the
file as a user's and computes the maps. Prints one line of JSON: `worst` is the largest
difference, relative to the largest value of its map; more than `BAR` is an error.

--golden keeps what the PyTorch side says, for the tests of the suite: the names and shapes of
the tensors, the image and the maps. `encoder_numbers` gives the random numbers again.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from launch import cli
from launch.config.errors import CommandExit, UserError
from tests.tools import encoder_numbers
from tests.tools.torch_speed import check_torch

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "jaxseg" / "nets" / "encoders" / "golden"
BAR = 1e-4
SMALL_LITE0 = {"widths": (8,) * 7, "repeats": (1, 1, 1, 2, 1, 1, 1)}

SMALL_CONVNEXT = ("ConvNeXt", {"widths": (8, 8, 16, 16), "depths": (1, 1, 2, 1)})
# Hugging Face computes with another epsilon than the original.
HF_MIT = {"epsilon": 1e-5}
SMALL_MIT = ("MixTransformer", {"widths": (4, 8, 10, 16), "depths": (1, 1, 2, 1), **HF_MIT})
SMALL_VIT = {"width": 16, "depth": 2, "heads": 2, "grid": 5, "layers": (0, 1)}

# {net: (encoder, its attributes)}; `encoder_references.NETS` has the same names. Those that
# begin with "small_" have golden files.
CASES = {
    "resnet18": ("ResNet", {"depth": 18}),
    "resnet34": ("ResNet", {"depth": 34}),
    "resnet50": ("ResNet", {"depth": 50}),
    "resnet50_timm": ("ResNet", {"depth": 50}),
    "resnet18_transformers": ("ResNet", {"depth": 18}),
    "resnet50_transformers": ("ResNet", {"depth": 50}),
    "small_resnet10": ("ResNet", {"depth": 10, "width": 8}),
    "small_resnet14": ("ResNet", {"depth": 14, "width": 8}),
    "small_resnet10_transformers": ("ResNet", {"depth": 10, "width": 8}),
    "small_resnet14_transformers": ("ResNet", {"depth": 14, "width": 8}),
    "lite0": ("EfficientNetLite0", {}),
    "lite0_tf_timm": ("EfficientNetLite0", {}),
    "lite0_timm": ("EfficientNetLite0", {"origin": "timm"}),
    "small_lite0": ("EfficientNetLite0", SMALL_LITE0),
    "small_lite0_timm": ("EfficientNetLite0", SMALL_LITE0 | {"origin": "timm", "stem": 8}),
    "convnext_tiny": ("ConvNeXt", {}),
    "convnext_tiny_timm": ("ConvNeXt", {}),
    "convnext_tiny_transformers": ("ConvNeXt", {}),
    "convnext_tiny_original": ("ConvNeXt", {}),
    "small_convnext_torchvision": ("ConvNeXt", {**SMALL_CONVNEXT[1], "depths": (1, 1, 1, 1)}),
    "small_convnext_timm": SMALL_CONVNEXT,
    "small_convnext_transformers": SMALL_CONVNEXT,
    "small_convnext_original": SMALL_CONVNEXT,
    "mit_b0": ("MixTransformer", HF_MIT),
    "mit_b0_original": ("MixTransformer", HF_MIT),
    "mit_b1": ("MixTransformer", {"size": "B1", **HF_MIT}),
    "mit_b2": ("MixTransformer", {"size": "B2", **HF_MIT}),
    "small_mit_transformers": SMALL_MIT,
    "small_mit_transformers5": SMALL_MIT,
    "small_mit_original": SMALL_MIT,
    "dinov2_small": ("DINOv2", {}),
    "dinov2_small_timm": ("DINOv2", {}),
    "dinov2_small_registers": ("DINOv2", {"registers": 4}),
    "dinov2_small_registers_original": ("DINOv2", {"registers": 4}),
    "dinov2_small_registers_timm": ("DINOv2", {"registers": 4}),
    "small_dinov2_transformers": ("DINOv2", SMALL_VIT),
    "small_dinov2_original": ("DINOv2", SMALL_VIT),
    "small_dinov2_registers_transformers5": ("DINOv2", {**SMALL_VIT, "registers": 2}),
    "small_dinov2_registers_original": ("DINOv2", {**SMALL_VIT, "registers": 2}),
    "small_dinov2_registers_timm": ("DINOv2", {**SMALL_VIT, "registers": 4}),
}


def main(argv: list[str]) -> None:
    """Parses the command line and compares."""
    parser = argparse.ArgumentParser(prog="python -m tests.tools.encoder_parity")
    parser.add_argument("--net", choices=CASES, required=True)
    parser.add_argument("--torch", default=sys.executable, help="an interpreter with PyTorch")
    parser.add_argument("--golden", action="store_true", help="keep the reference for the tests")
    options = parser.parse_args(argv)
    if options.golden and not options.net.startswith("small_"):
        raise UserError(f"--golden is for nets named small_...; got --net={options.net}")
    check_torch(options.torch)
    with tempfile.TemporaryDirectory() as folder:
        reference(options.net, options.torch, Path(folder))
        report = compare(options.net, Path(folder))
        print(json.dumps(report))
        if not report["worst"] <= BAR:
            raise CommandExit(f"--net={options.net} differs by {report['worst']:.1e}")
        if options.golden:
            keep(options.net, Path(folder))


def reference(net: str, torch: str, folder: Path) -> None:
    """Runs the PyTorch side, which writes weights.safetensors, reference0.npz, ..."""
    command = [torch, "-m", "tests.tools.encoder_references", f"--net={net}", f"--folder={folder}"]
    if subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL).returncode:
        raise UserError(f"--net={net}: the PyTorch side failed; what it said stands above")


def compare(net: str, folder: Path) -> dict:
    """The line of JSON for a net whose reference lies in a folder."""
    from launch.weights import files

    tensors = files.read(folder / "weights.safetensors")
    found = {}
    for number, size in enumerate(encoder_numbers.sizes(net)):
        with np.load(folder / f"reference{number}.npz") as stored:
            expected = [stored[f"stage{stage}"] for stage in range(len(stored.files) - 1)]
            maps, adapted = ours(net, tensors, stored["image"])
        found["x".join(map(str, size))] = differences(maps, expected)
    return {
        "net": net,
        "naming": adapted.naming,
        "tensors": len(tensors),
        "unused": len(adapted.unused),
        "numbers": sum(value.size for value in adapted.variables.values()),
        "stages": [each.shape[-1] for each in expected],
        "differences": {
            size: [float(f"{error:.1e}") for error in errors] for size, errors in found.items()
        },
        "worst": max(max(errors) for errors in found.values()),
    }


def ours(net: str, tensors: dict[str, np.ndarray], image: np.ndarray):
    """Our feature maps with the tensors of a file, and what became of the tensors."""
    import jax

    encoder = build(net)
    variables, adapted = adapted_variables(encoder, tensors, image.shape)
    index = np.zeros(len(image), np.int32)
    maps = jax.jit(lambda variables, image: encoder.apply(variables, image, index))
    return [np.asarray(each) for each in maps(variables, image)], adapted


def build(net: str):
    """Our encoder of a case."""
    from jaxseg.nets import encoders

    name, attributes = CASES[net]
    return getattr(encoders, name)(**attributes)


def adapted_variables(encoder, tensors: dict[str, np.ndarray], image_shape: tuple[int, ...]):
    """The variables of an encoder as Flax nests them, and what became of the tensors."""
    import jax
    from flax import traverse_util

    from jaxseg.nets.encoders import naming

    spec = jax.ShapeDtypeStruct(image_shape, np.float32)
    index = np.zeros(image_shape[0], np.int32)
    tree = jax.eval_shape(lambda x: encoder.init(jax.random.key(0), x, index), spec)
    shapes = {key: leaf.shape for key, leaf in traverse_util.flatten_dict(tree, sep="/").items()}
    adapted = naming.adapt(tensors, shapes, encoder.namings, encoder.image_kernel)
    return traverse_util.unflatten_dict(adapted.variables, sep="/"), adapted


def differences(maps, expected) -> list[float]:
    """Of each map the largest difference, relative to the largest value expected."""
    shapes = [each.shape for each in expected]
    if [each.shape for each in maps] != shapes:
        raise CommandExit(f"maps are {[each.shape for each in maps]}, the reference's {shapes}")
    pairs = zip(maps, expected, strict=True)
    return [float(np.abs(one - other).max() / np.abs(other).max()) for one, other in pairs]


def keep(net: str, folder: Path) -> None:
    """Writes the golden file of a net."""
    from launch.weights import files

    tensors = files.read(folder / "weights.safetensors")
    shapes = json.dumps({name: list(tensor.shape) for name, tensor in tensors.items()})
    GOLDEN.mkdir(exist_ok=True)
    with np.load(folder / "reference0.npz") as stored:
        np.savez_compressed(GOLDEN / f"{net}.npz", shapes=shapes, **stored)


def golden(net: str):
    """What `keep` wrote: {name: tensor}, image [1, H, W, C], feature maps."""
    with np.load(GOLDEN / f"{net}.npz") as stored:
        shapes = json.loads(str(stored["shapes"]))
        maps = [stored[f"stage{number}"] for number in range(len(stored.files) - 2)]
        return encoder_numbers.tensors(shapes), stored["image"], maps


if __name__ == "__main__":
    cli.run(main)
