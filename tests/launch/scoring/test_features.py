"""The feature nets: one that is trained once and kept, a random one, Inception, a user's own."""

from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from launch.config.errors import UserError
from launch.scoring import features
from tests.launch.scoring import stand_ins

HERE = "tests.launch.scoring"
RECIPE = """
from configs.classifier import get_config as classifier


def get_config(variant=""):
    config = classifier(variant)
    config.model.update(widths=(4,), size=6)
    config.data.update(batch_size=16, augment=[])
    config.train.steps = config.eval.every = config.checkpoint.every = 4
    return config
"""


def build(name, force=False, **arguments):
    section = stand_ins.data_section()
    return features.build({"name": name, **arguments}, section, "test", force)


def test_a_classifier_is_trained_once_and_refused_below_its_least_accuracy(
    tmp_path, monkeypatch, caplog
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "recipe.py").write_text(RECIPE)
    name, recipe = "launch.scoring.features:classifier", str(tmp_path / "recipe.py")
    with caplog.at_level("INFO", "segen"):
        with pytest.raises(UserError, match=r"only \d.* on the test split .*than 90%.*--force"):
            build(name, recipe=recipe)
        assert "training it once" in caplog.text
        caplog.clear()
        net = build(name, force=True, recipe=recipe)  # the refused one is kept
        assert "training it once" not in caplog.text
    (folder,) = [path for path in (tmp_path / "segen" / "classifiers").iterdir() if path.is_dir()]
    assert folder.name.startswith("tests.launch.scoring.stand-ins-images-train-")
    card = net.card
    accuracy = card["accuracy"]
    assert 0 <= accuracy < 0.9
    assert (card["features"], card["step"], card["size"]) == ("classifier", 4, 6)
    assert (card["data"], card["accuracy_split"]) == (f"{HERE}.stand_ins:images train", "test")
    assert card["weights"] == features.weights_hash(net.params)
    assert (net.size, net.classes) == (6, 4)
    images = stand_ins.images("train")["image"] / np.float32(255)
    values, logits = net.apply(net.params, images)
    assert logits.shape == (90, 4)
    assert np.sqrt(np.mean(np.square(values))) == pytest.approx(1, rel=1e-4)
    test = stand_ins.images("test")
    _, logits = net.apply(net.params, test["image"] / np.float32(255))
    assert np.mean(logits.argmax(-1) == test["label"]) == pytest.approx(accuracy)
    assert build(name, recipe=recipe, min_accuracy=accuracy).card == card
    with pytest.raises(UserError, match=r"less than \d"):
        build(name, recipe=recipe, min_accuracy=accuracy + 1e-6)


def test_a_random_net_is_scaled_and_decided_by_its_seed(monkeypatch):
    monkeypatch.setattr(features, "FeatureNet", partial(features.FeatureNet, widths=(4,)))
    net = build("launch.scoring.features:random", size=5)
    images = stand_ins.images("train")["image"] / np.float32(255)
    values, _ = net.apply(net.params, images)
    assert values.shape == (90, 5)
    assert np.sqrt(np.mean(np.square(values))) == pytest.approx(1, rel=1e-4)
    assert (net.size, net.classes) == (5, 0)
    weights = features.weights_hash(net.params)
    assert net.card == {"features": "random", "seed": 0, "weights": weights, "size": 5}
    other = build("launch.scoring.features:random", size=5, seed=1)
    assert other.card["weights"] != weights


def test_128_random_features_of_seed_0_unless_told_otherwise(monkeypatch):
    monkeypatch.setattr(features, "FeatureNet", partial(features.FeatureNet, widths=(4,)))
    card = build("launch.scoring.features:random").card
    assert (card["size"], card["seed"]) == (128, 0)


@pytest.mark.parametrize(("accuracy", "force"), [(0.899, False), (0.9, False), (0.5, True)])
def test_a_classifier_is_right_in_nine_of_ten(monkeypatch, accuracy, force):
    asked = []

    def train_classifier(data, eval_split, recipe, classes):
        asked.append((recipe, classes))
        split = SimpleNamespace(title="digits")
        data = SimpleNamespace(split=split)
        return SimpleNamespace(accuracy=accuracy, data=data, workdir="w", step=1)

    def restore(*arguments):
        raise LookupError("it is used")

    monkeypatch.setattr(features, "train_classifier", train_classifier)
    monkeypatch.setattr(features.trained_runs, "restore", restore)
    told = (UserError, r"only 89\.9%.*less than 90%"), (LookupError, "it is used")
    error, message = told[accuracy != 0.899]
    with pytest.raises(error, match=message):
        build("launch.scoring.features:classifier", force=force)
    assert asked == [("configs/classifier.py", 0)]


def test_a_users_own_function_is_given_the_data_the_split_and_force():
    name = f"{HERE}.stand_ins:quarters"
    assert build(name, force=True, classes=0).card["force"] is True
    net = build(name)
    assert (net.classes, net.card["force"], net.card["eval_split"]) == (4, False, "test")
    with pytest.raises(UserError, match=r"stand_ins:images takes no argument"):
        build(f"{HERE}.stand_ins:images")
    with pytest.raises(UserError, match=r"test_features:nothing must return .*Features, got dict"):
        build(f"{HERE}.test_features:nothing")


def nothing(data, eval_split, force):
    return {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "needs weights=FILE"),
        ({"weights": "a.pth", "tool": "clean"}, "tool=clean: use torch-fidelity or pytorch-fid"),
        ({"weights": "nothing.pth"}, "no such weights file: nothing.pth"),
        ({"weights": "FILE"}, r"not hold this InceptionV3: .*bias is \[31\]; it must be \[32\]"),
    ],
)
def test_inception_needs_its_own_weights(arguments, message, tmp_path):
    path = tmp_path / "weights.npz"
    np.savez(path, **{"Conv2d_1a_3x3.bn.bias": np.zeros(31)})
    arguments = {key: str(path) if v == "FILE" else v for key, v in arguments.items()}
    with pytest.raises(UserError, match=message):
        build("launch.scoring.features:inception", **arguments)


def test_inception_prepares_the_images_as_its_tool_does(tmp_path, monkeypatch):
    class Net:
        def apply(self, params, images):
            return images, params

    inception = features.inception_v3
    monkeypatch.setattr(inception, "InceptionV3", Net)
    monkeypatch.setattr(inception, "from_port", lambda tensors: {"w": tensors["w"]})
    monkeypatch.setattr(inception, "prepare", lambda images, tool: (images, tool))
    path = tmp_path / "weights.npz"
    np.savez(path, w=np.ones(3))
    name = "launch.scoring.features:inception"
    net = build(name, weights=str(path), tool="pytorch-fid")
    assert net.apply(net.params, 5) == ((5, "pytorch-fid"), net.params)
    assert (net.size, net.classes) == (2048, 0)
    assert net.card["file"] == "weights.npz"
    assert net.card["tool"] == "pytorch-fid"
    assert build(name, weights=str(path)).card["tool"] == "torch-fidelity"


def test_the_hash_of_weights_depends_on_names_shapes_dtypes_and_values():
    trees = [
        {"a": np.zeros(4, np.float32)},
        {"b": np.zeros(4, np.float32)},
        {"a": np.zeros((2, 2), np.float32)},
        {"a": np.zeros(4, np.int32)},
        {"a": np.array([0, 0, 0, 1], np.float32)},
    ]
    hashes = {features.weights_hash(tree) for tree in trees}
    assert len(hashes) == 5
    assert {len(digest) for digest in hashes} == {64}
    on_device = jax.tree.map(jnp.asarray, trees[0])
    assert features.weights_hash(on_device) == features.weights_hash(trees[0])
