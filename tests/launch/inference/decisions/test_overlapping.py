from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import jaccard_score

from launch.config import schema
from launch.config.errors import UserError
from launch.inference.decisions.overlapping import Overlapping
from launch.inference.decisions.prediction import Settings
from launch.inference.input_files import Named
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


def segmenter_of(decision, reading=None, ignore=255):
    config = SimpleNamespace(data=SimpleNamespace(kwargs={"ignore": ignore}, path=""))
    split = SimpleNamespace(classes=())
    restored = SimpleNamespace(config=config, data=SimpleNamespace(split=split))
    return SimpleNamespace(names=NAMES, decision=decision, reading=reading, restored=restored)


def test_scores_by_a_mask_for_each_class(tmp_path):
    decision = decision_of()
    truth, found = presence_of(seed=1) > 0.6, decided(decision, presence_of())
    for number, name in enumerate(("disc", "open_water")):
        (tmp_path / "masks" / name).mkdir(parents=True)
        mask = Image.fromarray(truth[..., number].astype(np.uint8) * (7 + number))
        mask.save(tmp_path / "masks" / name / "x.png")
    image = Named(tmp_path / "x.jpg", "x")
    (files,) = decision.masks([image], tmp_path / "masks")
    item, empty = Files(image.path, files, None), np.zeros((30, 20), bool)
    empty[4:, 3] = True
    read = decision.truth(segmenter_of(decision), item, (30, 20), False)
    scores = decision.scores(decision.sums(found, read, Place(tmp_path, "x", empty=empty)))
    for number, name in enumerate(NAMES):
        pair = truth[~empty][:, number], found.labels[~empty][:, number]
        assert scores[f"iou/{name}"] == pytest.approx(jaccard_score(*pair))
    soft = np.zeros((30, 20), np.uint8)
    soft[0, :2] = 40, 200
    Image.fromarray(soft).save(tmp_path / "soft.png")
    uneven = item._replace(mask=(tmp_path / "soft.png", None))
    with pytest.raises(ValueError, match="a mask of one class with the values 0, 40, 200"):
        decision.truth(segmenter_of(decision), uneven, (30, 20), False)
    with pytest.raises(ValueError, match=r"x\.png.* 20 x 30"):
        decision.truth(segmenter_of(decision), item, (20, 30), False)


def test_scores_by_masks_of_ids(tmp_path):
    decision, ids = decision_of(), np.random.default_rng(2).integers(0, 3, (30, 20))
    ids[:5] = 9
    Image.fromarray(ids.astype(np.uint8)).save(tmp_path / "x.png")
    (file,) = decision.masks([Named(Path("x.jpg"), "x")], tmp_path)
    item, segmenter = Files(Path("x.jpg"), file, None), segmenter_of(decision, ignore=9)
    truth = decision.truth(segmenter, item, (30, 20), False)
    np.testing.assert_array_equal(truth[5:], ids[5:, :, None] == [1, 2])
    assert np.all(truth[:5] == 255)
    sums = decision.sums(
        decided(decision, np.ones((30, 20, 2), np.float32)), truth, Place(tmp_path, "x")
    )
    np.testing.assert_array_equal(sums["hit"] + sums["extra"], [500, 500])
    assert decision.masks([Named(Path("x.jpg"), "x")], None) == [None]
    assert decision.truth(segmenter, item._replace(mask=None), (30, 20), False) is None
    Image.fromarray(np.full((30, 20), 3, np.uint8)).save(tmp_path / "x.png")
    with pytest.raises(ValueError, match="id 3, but there are 3 classes"):
        decision.truth(segmenter, item, (30, 20), False)
