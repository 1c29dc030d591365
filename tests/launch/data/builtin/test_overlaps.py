import numpy as np
import pytest

from launch.data.builtin import overlaps as module


def test_a_split_holds_what_scene_draws():
    whole, stars = module.overlaps("val"), module.overlaps("val", ("star", "disc"))
    assert (len(whole), whole.classes) == (100, ("disc", "box", "triangle", "star"))
    image, labels = module.scene("val", 7)
    assert (image.shape, labels.shape) == ((64, 64, 3), (64, 64, 4))
    assert image.dtype == labels.dtype == np.uint8
    np.testing.assert_array_equal(whole[7]["image"], image)
    np.testing.assert_array_equal(whole[7]["labels"], labels)
    np.testing.assert_array_equal(stars[7]["labels"], labels[..., [3, 0]])
    assert stars.classes == ("star", "disc")
    with pytest.raises(IndexError):
        whole[100]


def test_the_splits_have_their_sizes_and_share_no_scene():
    assert module.SIZES == {"train": 2000, "val": 100, "test": 200}
    assert len({module.scene(split, 0)[0].tobytes() for split in module.SIZES}) == 3


def test_every_class_is_common_and_many_pixels_have_several():
    labels = np.stack([module.scene("train", number)[1] for number in range(60)])
    assert set(np.unique(labels)) == {0, 1, 255}
    share = (labels == 1).mean((0, 1, 2))
    assert share.min() > 0.04
    assert ((labels == 1).sum(-1) > 1).mean() > 0.05
    assert 0 < (labels == 255).mean() < 0.01


def test_a_shape_shines_through_those_above_it():
    """Where two shapes overlap, the picture is neither the one nor the other alone."""
    images, labels = zip(*[module.scene("train", number) for number in range(60)], strict=True)
    images, labels = np.stack(images).astype(float), np.stack(labels) == 1
    stripes = labels[..., 3]  # of a star: they differ from pixel to pixel
    change = np.abs(np.diff(images, axis=2)).mean(-1)
    inside = stripes[:, :, 1:] & stripes[:, :, :-1]
    below = inside & labels[:, :, 1:, 0] & labels[:, :, :-1, 0]  # beside a disc, which is plain
    nothing = ~labels[:, :, 1:].any(-1) & ~labels[:, :, :-1].any(-1)
    assert change[below].mean() > 1.5 * change[nothing].mean()


def test_an_unknown_split_or_class_is_refused():
    with pytest.raises(ValueError, match="no split 'all'"):
        module.overlaps("all")
    for classes in (("ring",), ()):
        with pytest.raises(ValueError, match="must be some of disc, box"):
            module.overlaps("val", classes)
