"""Scores of images by the command, and the classifier that they rest on."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxgen import task as generation
from jaxseg import task as segmentation
from launch import evaluate, train
from launch.config import loading, schema
from launch.config.errors import UserError
from launch.scoring import classifier

RECIPE = """
from configs.classifier import get_config as classifier


def get_config(variant=""):
    config = classifier(variant)
    config.model.update(widths=(8, 8), size=16)
    config.data.augment = []
    config.train.steps = config.eval.every = config.checkpoint.every = 40
    return config
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache folder of the module's own, and a recipe of two seconds."""
    folder = tmp_path_factory.mktemp("cache")
    (folder / "recipe.py").write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def workdir(cache, tmp_path_factory, data_dir):
    """A class-conditional VAE after a few steps, scored by that recipe."""
    config = loading.load("configs/vae.py:conditional")
    config.data.data_dir = data_dir
    config.model.encoder.widths = config.model.decoder.widths = (16,)
    config.data.resident, config.train.steps_per_dispatch = False, 1
    config.train.steps = config.eval.every = config.checkpoint.every = 20
    with config.unlocked():
        config.score.features.recipe = str(cache / "recipe.py")
    folder = tmp_path_factory.mktemp("runs") / "vae"
    train.train(config, folder)
    return folder


def run(capsys, workdir, *arguments):
    evaluate.main([f"--workdir={workdir}", *arguments])
    out, err = capsys.readouterr()
    return json.loads(out), err


def test_a_classifier_below_its_least_accuracy_is_refused(capsys, workdir, cache):
    with pytest.raises(UserError, match=r"names only \d.*rightly, less than 90%.*--force"):
        run(capsys, workdir, "--samples=60")
    assert "training it once" in capsys.readouterr().err
    (folder,) = [path for path in (cache / "segen" / "classifiers").iterdir() if path.is_dir()]
    assert folder.name.startswith("digits-1.0.0-train-")
    found, err = run(capsys, workdir, "--samples=60", "--force", "--neighbours=0")
    assert "training it once" not in err  # what was refused is kept all the same
    assert 0.1 < found["card"]["accuracy"] < 0.9
    assert found["card"]["device"] == "cpu"


def test_all_scores_with_their_card(capsys, workdir):
    flags = ("--samples=64", "--reals=80", "--completions", "--floor", "--force", "--neighbours=5")
    found, _ = run(capsys, workdir, *flags)
    card = found.pop("card")
    assert card["features"] == "classifier"
    assert card["data"] == "digits:1.0.0 train"
    assert (card["reals"], card["samples"], card["size"], card["k"]) == (80, 64, 16, 5)
    assert (card["seeds"], card["completions"], card["floor"]) == ("0-63", 80, 64)
    assert len(card["weights"]) == 64
    names = {
        "fid",
        "kid",
        "kid_standard_error",
        "precision",
        "recall",
        "density",
        "coverage",
        "ms_ssim",
        "feature_variance",
        "class_coverage",
        "least_class_share",
        "most_class_share",
    }
    kinds = {f"{kind}{name}" for kind in ("", "completions/", "floor/") for name in names}
    told = {"step", "split", "examples", "class_agreement", "real/ms_ssim"}
    assert found.keys() == kinds | told
    assert found["floor/fid"] < found["fid"]  # digits against what 20 steps make of them
    written = workdir / "scores" / "samples+completions+floor-00000020.json"
    assert json.loads(written.read_text())["card"] == card
    picture = Image.open(workdir / "figures" / "neighbours-00000020.png")
    assert np.asarray(picture).shape[1] > np.asarray(picture).shape[0]
    other, _ = run(capsys, workdir, "--samples=64", "--reals=80", "--force", "--batch_size=16")
    assert other["fid"] == pytest.approx(found["fid"], rel=1e-3)
    assert other["card"]["weights"] == card["weights"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--samples=39",), "--samples: .* needs at least 40 images; there are 39"),
        (
            ("--samples=64", "--reals=30", "--force"),
            "--reals.* needs at least 40 images; there are 30",
        ),
        (("--samples=0",), "--samples must be at least 1"),
        (("--samples=64", "--inception=nothing.pth"), "no such file of weights: nothing.pth"),
        (("--floor", "--split=train", "--force"), "train is the training split; give another"),
        (("--segmenter=DIR",), "makes images from `image`, not from `segmentation`"),
    ],
)
def test_mistakes_are_named_before_anything_is_drawn(capsys, workdir, flags, message):
    flags = [flag.replace("DIR", str(workdir)) for flag in flags]
    with pytest.raises(UserError, match=message):
        run(capsys, workdir, *flags)


def test_weights_of_another_net_are_refused(capsys, workdir, tmp_path):
    np.savez(tmp_path / "weights.npz", **{"Conv2d_1a_3x3.bn.bias": np.zeros(31)})
    with pytest.raises(UserError, match=r"Conv2d_1a_3x3.bn.bias is \[31\]; it must be \[32\]"):
        run(capsys, workdir, "--samples=64", f"--inception={tmp_path / 'weights.npz'}")


def test_other_data_or_another_recipe_are_another_classifier(cache, data_dir):
    config = loading.load("configs/vae.py")
    config.data.data_dir = data_dir
    data = classifier.batches.open_data(config.data, "train")
    recipe = classifier._recipe(config, str(cache / "recipe.py"), 10)
    key = classifier._key(recipe, data)
    assert classifier._key(classifier._recipe(config, str(cache / "recipe.py"), 10), data) == key
    recipe.log.every = 7  # how often it reports decides nothing
    assert classifier._key(recipe, data) == key
    recipe.model.size = 17
    assert classifier._key(recipe, data) != key
    recipe.model.size = 16
    less = classifier.batches.open_data(config.data, "train[:100]")
    assert classifier._key(recipe, less) != key
    # What streams and says nothing of its content is told apart by where it lies.
    split = dataclasses.replace(less.split, fingerprint="")
    unknown = dataclasses.replace(less, split=split, arrays=None)
    here = classifier._key(recipe, unknown)
    recipe.data.path = "elsewhere"
    assert classifier._key(recipe, unknown) != here


# Data without labels, a task that paints masks, and one that knows its paint.


def pictures(split):
    """Masks of two classes, and pictures of them: class 1 is white, but for a corner."""
    rng = np.random.default_rng(["train", "test"].index(split))
    masks = rng.integers(0, 2, (160, 6, 6, 1)).astype(np.uint8)
    images = masks * np.full(3, 255, np.uint8)
    images[:, :3, :3] = 0
    return {"image": images, "segmentation": masks}


PARTS = {
    "init": lambda rng, batch: {"weight": jnp.zeros(2)},
    "train_step": lambda state, batch, rng: (state, {"loss": jnp.zeros(())}),
    "eval_step": lambda state, batch, rng: {"loss": jnp.zeros(())},
    "finish": lambda sums: {"loss": float(sums["loss"])},
    "figures": lambda state, batch, rng: {},
}


def painter(model, optimizer, example):
    """Makes an image of a mask: class 1 is white."""
    ink = lambda mask: jnp.repeat(mask.astype(jnp.float32), 3, axis=-1)
    complete = lambda state, batch, rng: ink(batch["segmentation"])
    return generation.Task(**PARTS, complete=complete, given="segmentation")


def reader(model, optimizer, example):
    """Labels what is white as class 1."""
    label = lambda batch: (batch["image"][..., :1] > 127).astype(jnp.uint8)

    def eval_step(state, batch, rng):
        right = jnp.mean(label(batch) == batch["segmentation"], axis=(1, 2, 3))
        return {"loss": jnp.sum((1 - right) * batch["mask"]), "count": jnp.sum(batch["mask"] * 1.0)}

    def finish(sums):
        wrong = float(sums["loss"] / sums.get("count", 1.0))
        return {"loss": wrong, "accuracy": 1 - wrong}

    predict = lambda state, batch, rng: {"labels": label(batch)}
    parts = PARTS | {"eval_step": eval_step, "finish": finish}
    return segmentation.Task(**parts, predict=predict)


@pytest.fixture(scope="module")
def painted(tmp_path_factory):
    folders = {}
    for name in ("painter", "reader"):
        config = schema.defaults()
        config.data.name = f"{__name__}:pictures"
        with config.unlocked():
            config.task.name = f"{__name__}:{name}"
            config.model = {"name": "jaxgen.nets:MLPDecoder"}
            config.optimizer = {"name": "optax:sgd", "learning_rate": 0.1}
        config.data.batch_size = 8
        config.train.steps = config.eval.every = config.checkpoint.every = 1
        folders[name] = tmp_path_factory.mktemp("runs") / name
        train.train(config, folders[name])
    return folders


def test_images_made_of_masks_are_labelled_by_a_segmenter(capsys, painted):
    found, _ = run(capsys, painted["painter"], f"--segmenter={painted['reader']}", "--reals=40")
    masks = pictures("test")
    seen = (masks["image"][:40, ..., :1] > 127) == masks["segmentation"][:40]
    assert found["segmenter/accuracy"] == pytest.approx(1)
    assert found["segmenter/real/accuracy"] == pytest.approx(seen.mean(), abs=1e-6)
    assert found["segmenter/real/accuracy"] < 0.95
    card = found["card"]["segmenter"]
    assert (card["workdir"], card["step"], card["images"]) == (str(painted["reader"]), 1, 40)
    assert (painted["painter"] / "scores" / "segmenter-00000001.json").is_file()


def test_a_segmenter_that_cannot_serve_is_refused(capsys, painted, workdir):
    with pytest.raises(UserError, match="painter labels no images"):
        run(capsys, painted["painter"], f"--segmenter={painted['painter']}")
    with pytest.raises(UserError, match=r"reader has no sample\(\)"):
        run(capsys, painted["reader"], "--samples=64")
    with pytest.raises(UserError, match=r"reader has no complete\(\)"):
        run(capsys, painted["reader"], "--completions")


def test_data_without_labels_are_scored_by_other_features(capsys, painted):
    with pytest.raises(UserError, match=r"learns from an integer `label`.*--inception=FILE"):
        run(capsys, painted["painter"], "--completions")
    random = "--config.score.features.name=launch.scoring.features:random"
    found, _ = run(capsys, painted["painter"], "--completions", random, "--reals=150")
    assert found["card"]["features"] == "random"
