"""Segmenters around nets of numpy, whose classes are the channels of the image."""

import numpy as np
import pytest

from launch.config.errors import UserError
from launch.inference.decisions.objects import Objects
from launch.inference.decisions.overlapping import Overlapping
from launch.inference.decisions.prediction import Settings
from launch.inference.members import Files
from launch.inference.segmenter import Segmenter
from tests.launch.inference.test_members import (
    READING,
    Net,
    bands,
    entropy_of,
    picture,
    probability_of,
    restored_of,
    saved,
)


def segmenter_of(*arguments, **options):
    return Segmenter([restored_of(*arguments, **options)], 1, False)


def labelled(segmenter, image, prior=None):
    return segmenter.label([{"image": image}] * len(segmenter.members), prior)


@pytest.mark.parametrize("shape", [(1, 1), (17, 301), (100, 90)])
def test_one_run_takes_the_most_probable_class(shape):
    image = picture(*shape)
    found = labelled(segmenter_of(), image)
    assert found.labels.dtype == np.uint8
    np.testing.assert_array_equal(found.labels, image.argmax(-1))
    assert found.entropy == pytest.approx(entropy_of(probability_of(image)).mean(), rel=1e-5)
    assert (found.uncertainty, found.maps) == ({}, None)


def test_another_prior_changes_the_decision():
    image = picture(20, 30)
    prior = np.array([0.6, 0.3, 0.1]), np.array([0.1, 0.1, 0.8])
    found = labelled(segmenter_of(), image, prior)
    expected = (probability_of(image) * prior[1] / prior[0]).argmax(-1)
    np.testing.assert_array_equal(found.labels, expected)
    assert (found.labels != image.argmax(-1)).any()


def test_dropout_samples_give_maps_of_the_uncertainty():
    image = picture(50, 40)
    found = labelled(segmenter_of(task={"passes": 2}), image)
    assert set(found.uncertainty) == {"entropy", "information"}
    np.testing.assert_allclose(found.uncertainty["information"], image[..., 0] / 255, atol=1e-6)


def other(state, batch):
    """Another net: the classes in the other order."""
    found = Net()(state, {**batch, "image": batch["image"][..., ::-1]})
    return {key: found[key] for key in ("probability", "entropy")}


def test_the_probabilities_of_several_runs_are_averaged():
    """With windows of their own; the mean decides."""
    runs = [restored_of(predict={"window": 12}), restored_of(other, predict={"scale": 1.0})]
    image = picture(70, 50)
    found = labelled(Segmenter(runs, 1, False, Settings(maps=True)), image)
    mean = np.mean([probability_of(image), probability_of(image[..., ::-1])], 0)
    np.testing.assert_allclose(found.maps, mean, atol=1e-6)
    np.testing.assert_array_equal(found.labels, found.maps.argmax(-1))
    np.testing.assert_allclose(found.uncertainty["entropy"], entropy_of(mean), atol=1e-5)
    assert (found.labels != image.argmax(-1)).any()


def test_runs_that_read_alike_share_what_they_read(tmp_path):
    files, values = bands(tmp_path, 3, np.uint16)
    how = {**READING, "dtype": "uint16"}
    narrow, wide = ({**how, "ranges": [[0, high]] * 3} for high in (100, 1000))
    runs = [restored_of(reading=reading) for reading in (narrow, wide, narrow)]
    first, second, third = Segmenter(runs, 1, False).read(files)
    assert first is third
    np.testing.assert_array_equal(second["image"], np.round(values * 0.255).astype(np.uint8))
    assert (first["image"] > second["image"]).any()


def test_the_prior_can_be_given():
    segmenter = segmenter_of()
    assert segmenter.prior("", []) is None
    old, new = segmenter.prior("2,1,1", [])
    np.testing.assert_allclose(old, [0.5, 0.25, 0.25])
    np.testing.assert_allclose(new, [0.5, 0.25, 0.25])
    np.testing.assert_allclose(segmenter.prior("0,0,3", [])[1], [0, 0, 1])


def test_the_prior_is_estimated_from_images_that_can_be_read(tmp_path, capsys):
    ids = np.random.default_rng(0).choice(3, (90, 120), p=(0.2, 0.7, 0.1))
    certain = saved(tmp_path, (255 * np.eye(3)).astype(np.uint8)[ids])
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"none")
    net = lambda state, batch: {
        "probability": batch["image"] / np.float32(255),
        "entropy": 0 * batch["image"][..., 0],
    }
    items = [Files(bad, None, None), Files(certain, None, None)]
    task = {"names": ("sky", "sea", "sand")}
    old, new = segmenter_of(net, task=task, predict={"window": 120}).prior("estimate", items)
    np.testing.assert_allclose(old, [0.5, 0.25, 0.25])
    used = np.bincount(ids[2::4, 2::4].ravel(), minlength=3) / ids[2::4, 2::4].size
    np.testing.assert_allclose(new, used, atol=2e-3)
    said = capsys.readouterr().err
    assert "left out of the estimate: " in said
    assert f"estimated class shares: sky {new[0]:.3f}, sea {new[1]:.3f}, sand" in said


@pytest.mark.parametrize("classes", [0, 1, 256])
def test_more_or_fewer_classes_than_masks_hold(classes):
    with pytest.raises(UserError, match=f"has {classes} classes; masks can hold 2 to 255"):
        segmenter_of(task={"classes": classes})


def test_the_fewest_and_the_most_classes():
    assert len(segmenter_of(task={"classes": 2}).names) == 2
    assert len(segmenter_of(task={"classes": 255}).names) == 255


def test_classes_have_the_names_of_the_config_or_the_data_or_numbers():
    assert segmenter_of(classes=("a", "b", "c")).names == ("a", "b", "c")
    assert segmenter_of(classes=("a", "b")).names == ("0", "1", "2")
    assert segmenter_of(task={"names": ("x", "y", "z")}, classes=("a", "b", "c")).names[0] == "x"


def maps_of(*names):
    return lambda state, batch: dict.fromkeys(names, batch["image"][..., 0])


def test_the_maps_decide_what_becomes_of_them():
    presence = segmenter_of(maps_of("presence"), classes=("a", "b", "c"))
    assert isinstance(presence.decision, Overlapping)
    assert presence.names == ("a", "b", "c")
    assert isinstance(segmenter_of(maps_of("foreground", "distance")).decision, Objects)
    with pytest.raises(UserError, match="mine:task predicts strength; masks are made of prob"):
        segmenter_of(maps_of("strength"))
    with pytest.raises(UserError, match="--prior: only classes that exclude each other"):
        presence.prior("1,1,1", [])
