from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from launch.config import schema
from launch.config.errors import UserError
from launch.inference.decisions.overlapping import Overlapping
from launch.inference.decisions.prediction import Settings
from launch.inference.members import Files
from launch.inference.results import Place

NAMES, PLAIN = ("disc", "open water"), Settings()


def presence_of(shape=(30, 20), seed=0):
    return np.random.default_rng(seed).random((*shape, 2)).astype(np.float32)


def decision_of(thresholds=(), settings=PLAIN, **predict):
    section = schema.defaults().predict
    section.update(predict)
    return Overlapping(NAMES, section, thresholds, settings)


def decided(decision, presence):
    strips = [{"presence": presence[top : top + 7]} for top in range(0, len(presence), 7)]
    return decision.decide(strips, None)


@pytest.mark.parametrize(
    ("thresholds", "settings", "expected"),
    [
        ((), Settings(), (0.5, 0.5)),
        ((0.2, 0.9), Settings(), (0.2, 0.9)),
        ((0.2, 0.9), Settings(threshold=0.7, maps=True), (0.7, 0.7)),
    ],
)
def test_each_class_has_a_threshold(thresholds, settings, expected):
    presence = presence_of()
    found = decided(decision_of(thresholds, settings), presence)
    np.testing.assert_array_equal(found.labels, presence >= np.float32(expected))
    assert (found.maps is None) != settings.maps
    if settings.maps:
        np.testing.assert_array_equal(found.maps, presence)


def test_each_mask_is_cleaned_up_alone():
    presence = np.zeros((9, 9, 2), np.float32)
    presence[1:8, 1:8, 0], presence[4, 4, 0] = 1, 0
    presence[4, 4, 1] = presence[0, :, 1] = 1
    found = decided(decision_of(settings=Settings(min_size=5, fill_holes=(1,))), presence)
    expected = presence > 0
    expected[4, 4] = True, False
    np.testing.assert_array_equal(found.labels, expected)


def test_a_mask_for_each_class(tmp_path):
    decision, presence = decision_of(), presence_of()
    image, found = np.full((30, 20, 3), 90, np.uint8), decided(decision, presence)
    decision.save(Place(tmp_path, "sub/x"), image, found)
    for number, name in enumerate(("disc", "open_water")):
        with Image.open(tmp_path / "masks" / "sub" / f"x.{name}.png") as mask:
            np.testing.assert_array_equal(np.asarray(mask), found.labels[..., number] * 255)
    with Image.open(tmp_path / "overlays" / "sub" / "x.png") as overlay:
        shown = (np.asarray(overlay) != 90).any(-1)
    np.testing.assert_array_equal(shown, found.labels.any(-1))
    shares = list(decision.summary(found, Place(tmp_path, "x"))["shares"].values())
    np.testing.assert_allclose(shares, found.labels.mean((0, 1)), atol=1e-6)


def test_pixels_without_data_are_of_no_class(tmp_path):
    decision, empty = decision_of(), np.zeros((30, 20), bool)
    empty[:, :10] = True
    found = decided(decision, np.ones((30, 20, 2), np.float32))
    place = Place(tmp_path, "x", empty=empty)
    assert list(decision.summary(found, place)["shares"].values()) == [1.0, 1.0]
    decision.save(place, np.zeros((30, 20, 3), np.uint8), found)
    with Image.open(tmp_path / "masks" / "x.disc.png") as mask:
        np.testing.assert_array_equal(np.asarray(mask) == 0, empty)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Settings(crf=True), "--crf .* those of this run may overlap"),
        (Settings(fill_holes=(2,)), "--fill_holes: each class .* write 1"),
    ],
)
def test_settings_for_classes_that_exclude_each_other(settings, message):
    with pytest.raises(UserError, match=message):
        decision_of(settings=settings)


def test_true_masks_cannot_say_that_classes_overlap(tmp_path):
    item = Files(tmp_path / "x.png", None, None)
    segmenter = SimpleNamespace()
    assert decision_of().truth(segmenter, item, (2, 2), False) is None
    with pytest.raises(UserError, match=r"--masks: .* launch.evaluate scores them"):
        decision_of().truth(segmenter, item._replace(mask=tmp_path / "m.png"), (2, 2), False)
