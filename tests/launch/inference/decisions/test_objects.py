from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from PIL import Image

from launch.config import schema
from launch.config.errors import UserError
from launch.inference.decisions.objects import Objects
from launch.inference.decisions.prediction import Prediction, Settings
from launch.inference.geotiff import Header
from launch.inference.members import Files
from launch.inference.results import Place

PLAIN = Settings()
TASK = {"name": "mine:task", "threshold": 0.5, "seed": 0.5, "min_size": 4, "levels": 16}
CENTRES = ((20, 20), (20, 31), (50, 12))  # of discs of radius 8, 8 and 2; two of them touch
RADII = (8, 8, 2)


def maps(shape=(60, 45)):
    """Foreground and distance of the discs, and the truth."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    depth = np.stack(
        [1 - np.hypot(y - v, x - u) / r for (v, u), r in zip(CENTRES, RADII, strict=True)]
    )
    inside = depth.max(0) > 0
    distance = np.where(inside, depth.max(0), 0).astype(np.float32)
    return inside.astype(np.float32), distance, np.where(inside, depth.argmax(0) + 1, 0)


def decision_of(settings=PLAIN, **predict):
    section = schema.defaults().predict
    section.update(predict)
    return Objects(section, TASK, settings)


def decided(decision, foreground, distance):
    strips = [
        {"foreground": foreground[top : top + 9], "distance": distance[top : top + 9]}
        for top in range(0, len(foreground), 9)
    ]
    return decision.decide(strips, None)


@pytest.fixture(scope="module")
def found():
    """The maps and the prediction of the three discs, by one compilation."""
    foreground, distance, truth = maps()
    decision = decision_of(Settings(maps=True))
    return decision, decided(decision, foreground, distance), foreground, truth


def test_objects_that_touch_are_divided(found):
    _, prediction, foreground, truth = found
    assert prediction.labels.max() == 3
    for number in range(1, 4):
        mine = truth == prediction.labels[CENTRES[number - 1]]
        assert (mine == (prediction.labels == number)).mean() > 0.98
    np.testing.assert_array_equal(prediction.maps[..., 0], foreground)


def test_masks_hold_the_numbers_and_overlays_the_outlines(found, tmp_path):
    decision, prediction, *_ = found
    image = np.full((60, 45, 1), 90, np.uint8)
    decision.save(Place(tmp_path, "sub/x"), image, prediction)
    with Image.open(tmp_path / "masks" / "sub" / "x.png") as mask:
        assert mask.mode == "I;16"
        np.testing.assert_array_equal(np.asarray(mask), prediction.labels)
    with Image.open(tmp_path / "overlays" / "sub" / "x.png") as overlay:
        shown = (np.asarray(overlay) != 90).any(-1)
    assert not shown[prediction.labels == 0].any()
    assert not shown[CENTRES[0]]
    assert shown[20, 12:14].any()


def test_the_summary_and_the_scores(found):
    decision, prediction, foreground, truth = found
    summary = decision.summary(prediction, Place(None, "x"))
    assert summary["objects"] == 3
    assert summary["foreground"] == pytest.approx(foreground.mean(), abs=1e-6)
    sums = decision.sums(prediction, truth, Place(None, "x"))
    twice = {key: 2 * value for key, value in sums.items()}
    scores = decision.scores(twice)
    assert (scores["ap50"], scores["count_error"]) == (1.0, 0.0)
    lost = np.where(prediction.labels == 1, 0, prediction.labels)
    scores = decision.scores(decision.sums(Prediction(lost), truth, Place(None, "x")))
    assert scores["ap50"] == pytest.approx(2 / 3)


def test_pixels_without_data_are_void(found, tmp_path):
    decision, prediction, _, truth = found
    empty = np.zeros((60, 45), bool)
    empty[40:] = True  # where the third disc lies
    place = Place(tmp_path, "x", Header(1, False, False, (), 0.0), empty)
    decision.save(place, np.zeros((60, 45, 1), np.uint8), prediction)
    written = tifffile.imread(tmp_path / "masks" / "x.tif")
    assert written.dtype == np.uint16
    np.testing.assert_array_equal(written, np.where(empty, 65535, prediction.labels))
    assert decision.summary(prediction, place)["objects"] == 2
    none = Prediction(np.where(empty, 0, prediction.labels))
    assert decision.scores(decision.sums(none, truth, place))["ap50"] == 1.0


def test_flags_go_before_the_options_of_the_task():
    foreground, distance, _ = maps()
    large = decided(decision_of(Settings(min_size=50)), foreground, distance)
    assert large.labels.max() == 2
    none = decided(decision_of(Settings(threshold=0.9)), foreground * 0.8, distance)
    assert not none.labels.any()


def test_more_objects_than_16_bits_number(tmp_path):
    numbers = np.arange(65536, dtype=np.int32).reshape(256, 256)
    with pytest.raises(ValueError, match="65,535 objects are more than 16 bits can number"):
        decision_of().save(Place(tmp_path, "x"), None, Prediction(numbers))


def test_settings_for_classes_are_refused():
    refine = [{"name": "numpy:add"}]
    for settings, more in ((Settings(crf=True), {}), (Settings(), {"refine": refine})):
        with pytest.raises(UserError, match="are for classes; this run finds objects"):
            decision_of(settings, **more)


def test_true_masks_are_numbers(tmp_path):
    item = Files(tmp_path / "x.png", tmp_path / "m.png", None)
    section = SimpleNamespace(kwargs={"ignore": 300})
    restored = SimpleNamespace(config=SimpleNamespace(data=section))
    segmenter = SimpleNamespace(reading=None, restored=restored)
    numbers = np.array([[0, 300], [65535, 2]], np.uint16)
    Image.fromarray(numbers).save(item.mask)
    truth = decision_of().truth(segmenter, item, (2, 2), False)
    np.testing.assert_array_equal(truth, [[0, 65535], [65535, 2]])
    section.kwargs = {}
    np.testing.assert_array_equal(decision_of().truth(segmenter, item, (2, 2), False), numbers)
    with pytest.raises(ValueError, match=r"m.png: is 2 x 2, its image 3 x 2"):
        decision_of().truth(segmenter, item, (2, 3), False)
    assert decision_of().truth(segmenter, item._replace(mask=None), (2, 2), False) is None
