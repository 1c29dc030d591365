"""What determines a classifier, and when its training is done."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from launch.config.errors import UserError
from launch.scoring import classifier
from tests.launch.scoring import stand_ins

RECIPE = "configs/classifier.py"


def example(**leaves):
    shapes = {"image": (8, 8, 1)} | {key: shape for key, (_, shape) in leaves.items()}
    dtypes = {"image": "uint8"} | {key: dtype for key, (dtype, _) in leaves.items()}
    return {key: jax.ShapeDtypeStruct(shapes[key], np.dtype(dtypes[key])) for key in shapes}


def test_the_recipe_gets_the_data_of_the_run():
    section = stand_ins.data_section(split="train", batch_size=7, cache_mib=3)
    config = classifier.make_config(section, "validation", RECIPE, 4)
    assert config.data.name == section.name
    assert config.data.cache_mib == 3
    assert config.data.batch_size == 64  # the recipe's own
    assert (config.eval.split, config.task.classes) == ("validation", 4)
    assert (config.mesh.data, config.mesh.fsdp) == (1, 1)


def test_other_data_or_another_recipe_are_another_classifier():
    data, section = stand_ins.open_images("train"), stand_ins.data_section()
    make = lambda: classifier.make_config(section, "test", RECIPE, 4)
    config = make()
    key = classifier.key(config, data)
    assert len(key) == 16
    config.log.every = 7  # how often it logs determines nothing
    assert classifier.key(config, data) == key
    for name, value in (("model.size", 17), ("train.steps", 9), ("eval.split", "x"), ("seed", 1)):
        config = make()
        config.update_from_flattened_dict({name: value})
        assert classifier.key(config, data) != key, name
    assert classifier.key(make(), stand_ins.open_images("test")) != key
    named = dataclasses.replace(data, split=dataclasses.replace(data.split, fingerprint="a"))
    assert classifier.key(make(), named) != key


def test_data_that_stream_without_a_fingerprint_are_told_apart_by_their_place():
    data, config = (
        stand_ins.open_images(),
        classifier.make_config(stand_ins.data_section(), "test", RECIPE, 4),
    )
    streamed = dataclasses.replace(data, arrays=None)
    key = classifier.key(config, streamed)
    smaller = dataclasses.replace(streamed, split=dataclasses.replace(data.split, size=80))
    assert classifier.key(config, smaller) != key
    config.data.path = "elsewhere"
    assert classifier.key(config, streamed) != key


def test_classes_are_those_of_the_user_the_data_or_the_labels():
    data = stand_ins.open_images()
    assert classifier.count_classes(data) == 4
    assert classifier.count_classes(data, 9) == 9
    named = dataclasses.replace(data, split=dataclasses.replace(data.split, classes=("a", "b")))
    assert classifier.count_classes(named) == 2
    assert classifier.count_classes(named, 9) == 9
    streamed = dataclasses.replace(data, arrays=None)
    assert classifier.count_classes(streamed, 9) == 9
    with pytest.raises(UserError, match=r"streams and names no classes: .*\"classes\": K"):
        classifier.count_classes(streamed)


@pytest.mark.parametrize(
    "leaves", [{}, {"label": ("float32", ())}, {"label": ("int32", (1,))}], ids=str
)
def test_labels_must_be_one_integer(leaves):
    data = dataclasses.replace(stand_ins.open_images(), example=example(**leaves))
    with pytest.raises(UserError, match=r"learns from an integer `label`; .* only image.*--inc"):
        classifier.count_classes(data)


def test_a_training_is_done_at_its_last_step_with_its_accuracy(tmp_path, monkeypatch):
    whole = {"step": 40, "metrics": {"accuracy": 0.5}}
    monkeypatch.setattr(classifier.checkpoints, "newest_whole", lambda folder: whole["step"])
    monkeypatch.setattr(
        classifier.checkpoints, "metrics", lambda folder, step: whole["metrics"] if step else None
    )
    assert classifier._final_accuracy(tmp_path, 40) is None  # never begun
    (tmp_path / "config.json").write_text(json.dumps({}))
    assert classifier._final_accuracy(tmp_path, 40) == 0.5
    assert classifier._final_accuracy(tmp_path, 50) is None
    whole["metrics"] = {}
    assert classifier._final_accuracy(tmp_path, 40) is None


def test_a_process_waits_while_another_trains(tmp_path, monkeypatch, caplog):
    workdir, called = tmp_path / "classifiers" / "one", []

    def held(path, busy):
        called.append(path)
        busy("process 7 on here")

    monkeypatch.setattr(classifier.file_lock, "held", held)
    with caplog.at_level("INFO", "segen"):
        classifier._only_process(workdir)
    assert called == [tmp_path / "classifiers" / "one.lock"]
    assert workdir.parent.is_dir()
    message = f"process 7 on here trains the classifier in {workdir}; waiting for it"
    assert caplog.messages == [message]
