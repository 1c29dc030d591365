import json

import numpy as np
import pytest
import tifffile
from PIL import Image

from launch.config import schema
from launch.config.errors import UserError
from launch.inference.decisions.exclusive import Exclusive
from launch.inference.decisions.prediction import Settings
from launch.inference.geotiff import Header
from launch.inference.results import Place

NAMES, PLAIN = ("a", "b", "c"), Settings()


def random_strips(shape=(30, 20), classes=3, seed=0):
    """Probabilities of an image in strips of seven rows, and the whole."""
    powers = np.random.default_rng(seed).random((*shape, classes)).astype(np.float32)
    probability = powers / powers.sum(-1, keepdims=True)
    parts = [
        {"probability": probability[top : top + 7], "entropy": probability[top : top + 7, :, 0]}
        for top in range(0, shape[0], 7)
    ]
    return parts, probability


def decision_of(names=NAMES, settings=PLAIN, uncertain=False, **predict):
    section = schema.defaults().predict
    section.update(predict)
    return Exclusive(names, section, settings, uncertain)


def image_of(probability):
    return np.zeros((*probability.shape[:2], 3), np.uint8)


def test_the_most_probable_class_is_taken_strip_by_strip():
    strips, probability = random_strips()
    found = decision_of().decide(strips, image_of(probability))
    assert found.labels.dtype == np.uint8
    np.testing.assert_array_equal(found.labels, probability.argmax(-1))
    assert found.entropy == pytest.approx(probability[..., 0].mean())
    assert (found.uncertainty, found.maps) == ({}, None)


def test_maps_are_kept_where_they_are_asked_for():
    strips, probability = random_strips()
    found = decision_of(settings=Settings(maps=True)).decide(strips, image_of(probability))
    np.testing.assert_array_equal(found.maps, probability)
    strips, _ = random_strips()
    found = decision_of(uncertain=True).decide(strips, image_of(probability))
    np.testing.assert_array_equal(found.uncertainty["entropy"], probability[..., 0])


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.8])
def test_a_threshold_is_the_least_probability_of_the_second_of_two_classes(threshold):
    strips, probability = random_strips(classes=2)
    decision = decision_of(("no", "yes"), Settings(threshold=threshold))
    found = decision.decide(strips, image_of(probability)).labels
    np.testing.assert_array_equal(found, probability[..., 1] >= threshold)


@pytest.mark.parametrize(
    ("names", "settings", "message"),
    [
        (NAMES, Settings(threshold=0.5), "--threshold .* of two classes; this run has 3 classes"),
        (NAMES, Settings(fill_holes=(1, 3)), "no class 3; ids are 0 to 2"),
        (("a",), Settings(), "has 1 classes; masks can hold 2 to 255"),
    ],
)
def test_settings_that_do_not_fit_the_classes(names, settings, message):
    with pytest.raises(UserError, match=message):
        decision_of(names, settings)


def reverse(image, probability, by=1):
    """Refines: needs the image in [0, 1]; moves each class by `by`."""
    assert image.dtype == np.float32
    assert image.max() == 1.0
    return np.roll(probability, by, -1)


def add(labels, number):
    assert labels.dtype == np.int32
    return (labels + number) * 2


def test_refinement_and_postprocessing_run_in_their_order():
    strips, probability = random_strips()
    module = __name__
    predict = {
        "refine": [{"name": f"{module}:reverse"}],
        "postprocess": [{"name": f"{module}:add", "number": n} for n in (1, 5)],
    }
    decision = decision_of(settings=Settings(maps=True), **predict)
    found = decision.decide(strips, np.full((30, 20, 3), 255, np.uint8))
    assert found.labels.dtype == np.uint8
    moved = (probability.argmax(-1) + 1) % 3
    np.testing.assert_array_equal(found.labels, (moved + 1) * 4 + 10)
    np.testing.assert_array_equal(found.maps, np.roll(probability, 1, -1))


def test_flags_clean_up_after_the_config():
    strips, probability = random_strips()
    found = decision_of(settings=Settings(min_size=10_000)).decide(strips, image_of(probability))
    assert len(np.unique(found.labels)) == 1


def test_pixels_without_data_are_void(tmp_path):
    strips, probability = random_strips()
    decision = decision_of()
    found, image = decision.decide(strips, image_of(probability)), image_of(probability)
    empty = np.zeros((30, 20), bool)
    empty[:10] = True
    place = Place(tmp_path, "sub/x", Header(3, False, False, (), -1.0), empty)
    decision.save(place, image, found)
    written = tifffile.imread(tmp_path / "masks" / "sub" / "x.tif")
    np.testing.assert_array_equal(written, np.where(empty, 255, found.labels))
    assert (tmp_path / "overlays" / "sub" / "x.png").is_file()
    summary = decision.summary(found, place)
    assert json.loads(json.dumps(summary)) == summary
    shares = np.bincount(found.labels[10:].ravel(), minlength=3) / 400
    np.testing.assert_allclose(list(summary["shares"].values()), shares, atol=1e-6)
    truth = np.zeros((30, 20), np.uint8)
    truth[20:] = 255
    confusion = decision.sums(found, truth, place)["confusion"]
    np.testing.assert_array_equal(confusion[0], np.bincount(found.labels[10:20].ravel()))
    assert not confusion[1:].any()


def test_masks_of_other_images_are_pngs_with_a_palette(tmp_path):
    strips, probability = random_strips()
    decision = decision_of()
    found = decision.decide(strips, image_of(probability))
    decision.save(Place(tmp_path, "x"), image_of(probability), found)
    with Image.open(tmp_path / "masks" / "x.png") as mask:
        assert mask.mode == "P"
        np.testing.assert_array_equal(np.asarray(mask), found.labels)


def test_classes_have_the_colours_of_the_data(tmp_path):
    strips, probability = random_strips()
    colours = tuple((10 * n, 200 - n, 7) for n in range(len(NAMES)))
    section = schema.defaults().predict
    decision = Exclusive(NAMES, section, PLAIN, uncertain=False, colours=colours)
    found = decision.decide(strips, image_of(probability))
    decision.save(Place(tmp_path, "x"), image_of(probability), found)
    with Image.open(tmp_path / "masks" / "x.png") as mask:
        shown = np.asarray(mask.convert("RGB"))
    np.testing.assert_array_equal(shown, np.array(colours)[found.labels])
    with Image.open(tmp_path / "overlays" / "x.png") as overlay:
        inside = found.labels > 0
        np.testing.assert_array_equal(np.asarray(overlay)[inside], shown[inside] // 2)
