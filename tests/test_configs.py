"""Every variant of every config is complete, and names what exists."""

import ast
import re
from pathlib import Path

import pytest

from launch.config import by_name, loading, schema

ROOT = Path(__file__).resolve().parents[1]
VARIANTS = {
    "vae": (
        *("", "conv", "conditional", "ladder", "folder"),
        *("mnist", "mnist_conv", "mnist_iwae", "mnist_ladder"),
    ),
    "unet": (
        "",
        "texture",
        "texture_cue",
        "depth",
        "depth_cue",
        "depth_streams",
        "folder",
        "camvid",
        "camvid_large",
        "pets",
        "cityscapes",
    ),
    "gan": (
        "",
        "least_squares",
        "hinge",
        "wgan_gp",
        "conditional",
        "conv",
        "residual",
        "image",
        "pix2pix",
        "folder",
        "mnist",
        "mnist_least_squares",
        "mnist_hinge",
        "mnist_wgan_gp",
        "mnist_conditional",
        "mnist_conv",
        "mnist_residual",
        "mnist_image",
    ),
    "rnn": (
        "",
        "row_lstm",
        "diagonal_bilstm",
        "pixelcnn",
        "draw",
        "conditional",
        "softmax",
        "mixture",
        "folder",
        "codes",
        "mnist",
        "mnist_row_lstm",
        "mnist_diagonal_bilstm",
        "mnist_pixelcnn",
        "mnist_draw",
        "mnist_codes",
        "gpu_pixelcnn",
        "gpu_diagonal_bilstm",
    ),
    "flow": (
        *("", "unet", "conditional", "shortcut", "edm", "vdm", "folder", "cifar10"),
        *("mnist", "mnist_conditional", "mnist_vdm", "mnist_gpu", "meanflow", "distilled"),
        *("latent", "mnist_latent", "vector", "mnist_vector"),
    ),
    "autoencoder": ("", "fsq", "mnist", "mnist_fsq"),
    "cnn": ("", "shortcut", "founding"),
    "classifier": ("",),
    "edges": ("", "gpu"),
    "segment": ("", "lite0", "lite0_probe", "labels", "objects"),
    "instances": ("", "weighted"),
    "multilabel": ("", "binary"),
}
SPECS = [
    f"configs/{name}.py{variant and ':' + variant}"
    for name, variants in VARIANTS.items()
    for variant in variants
]


def names(tree):
    """Every name of an object in a config, however deep."""
    if isinstance(tree, dict):
        if isinstance(tree.get("name"), str) and re.fullmatch(r"[\w.]+:[\w.]+", tree["name"]):
            yield tree["name"]
        tree = list(tree.values())
    if isinstance(tree, list | tuple):
        for item in tree:
            yield from names(item)


def test_all_configs_are_here():
    files = {path.stem for path in (ROOT / "configs").glob("*.py")} - {"__init__"}
    assert files == set(VARIANTS)


@pytest.mark.parametrize("spec", SPECS)
def test_a_variant_is_complete_and_names_what_exists(spec):
    config = loading.load(spec)
    schema.check_values(config)
    found = list(names(config.to_dict()))
    assert found
    for name in found:
        by_name.resolve(name, spec)


@pytest.mark.parametrize("name", ["unet", "edges"])
def test_a_schedule_fits_any_number_of_steps(name):
    config = loading.load(f"configs/{name}.py")
    rate = config.optimizer.learning_rate
    assert (rate.warmup_steps, rate.decay_steps) == (100, config.train.steps)
    for steps, rise in {1: 0, 2: 1, 150: 75, 1000: 100}.items():
        config.train.steps = steps
        assert (rate.warmup_steps, rate.decay_steps) == (rise, steps)
        by_name.instantiate(rate, "rate")


@pytest.mark.parametrize("name", VARIANTS)
def test_an_unknown_variant_is_refused(name):
    with pytest.raises(Exception, match="no variant 'nothing'"):
        loading.load(f"configs/{name}.py:nothing")


@pytest.mark.parametrize("name", VARIANTS)
def test_the_docstring_lists_every_variant(name):
    text = ast.get_docstring(ast.parse((ROOT / "configs" / f"{name}.py").read_text()))
    listed = re.findall(r"(?:(?<=\s)\w+|\(none\))(?=[,;:.])", text.partition("Variants: ")[2])
    assert {variant or "(none)" for variant in VARIANTS[name]} <= {"(none)", *listed}
    assert "Variants: (none)" in text
