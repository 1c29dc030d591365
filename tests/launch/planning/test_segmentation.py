"""The plan: decisions from facts, times and memory; messages where nothing fits."""

import numpy as np
import pytest
from PIL import Image

from launch.config import loading, planned
from launch.config.errors import UserError
from launch.planning import segmentation
from launch.planning.facts import Facts
from tests.launch.planning.small import SEGMENT, plan

ROADS = Facts(
    images=367,
    held_out=101,
    size=(360, 480),
    largest=(360, 480),
    channels=3,
    classes=("road", "car"),
    shares=(0.9, 0.1),
    widths=(80.0, 16.0),
    mean=(0.4117, 0.5, 0.6),
    std=(0.25, 0.25, 0.0),
    upright=0.8,
)
CELLS = ROADS._replace(
    images=50,
    held_out=5,
    size=(520, 696),
    largest=(1040, 1388),
    channels=1,
    shares=(0.6, 0.4),
    widths=(30.0, 12.0),
    upright=0.01,
)
VESSELS = ROADS._replace(
    images=20,
    held_out=2,
    size=(960, 999),
    largest=(960, 999),
    shares=(0.93, 0.07),
    widths=(72.0, 4.0),
    upright=0.0,
)


def decided(found, *flags, minutes=10.0, platform="cpu"):
    """What the plan decides of the examples and the net."""
    config = loading.override(loading.load(SEGMENT), list(flags))
    draft = segmentation.Draft(config)
    segmentation._plan_examples(draft, found, minutes, platform)
    segmentation._plan_channels(draft, found)
    segmentation._plan_net(draft, found)
    segmentation._plan_loss(draft, found)
    return draft.values


def test_many_large_images_are_scaled_until_the_time_goes_over_them_often_enough():
    values = decided(ROADS)
    assert values["data.kwargs.scale"] == 0.5
    assert values["data.kwargs.size"] == (180, 240)
    warp = values["data.augment"][0]
    assert (warp["crop"], warp["balance"], warp["turns"]) == ((), 0.0, 1)
    assert decided(ROADS, minutes=60.0)["data.kwargs.scale"] == 1.0
    assert decided(ROADS, platform="gpu")["data.kwargs.scale"] == 1.0


def test_images_of_several_sizes_keep_their_scale_and_are_cut_and_cropped():
    values = decided(CELLS)
    assert values["data.kwargs.scale"] == 1.0
    assert values["data.kwargs.size"] == (347, 463)  # thirds of 1040 x 1388
    warp = values["data.augment"][0]
    assert (warp["crop"], warp["balance"], warp["turns"]) == ((192, 192), 0.33, 4)


def test_images_are_resampled_and_recoloured_only_where_they_are_seen_often():
    assert len(decided(ROADS)["data.augment"]) == 1
    few = ROADS._replace(images=20)
    warp, colour = decided(few)["data.augment"]
    assert (warp["share"], warp["rotate"], warp["turns"], colour["share"]) == (0.2, 10.0, 1, 0.2)
    # Right angles blur nothing, so it begins sooner where up and down look alike.
    assert len(decided(VESSELS, minutes=1.0)["data.augment"]) == 1
    for found in (VESSELS, CELLS):
        warp, _ = decided(found)["data.augment"]
        assert (warp["rotate"], warp["turns"]) == (180.0, 4)
    assert len(decided(VESSELS._replace(upright=0.5))["data.augment"]) == 1


def test_thin_classes_keep_the_resolution():
    values = decided(VESSELS, minutes=1.0)
    assert values["data.kwargs.scale"] == 0.625  # 2.5 pixels are left of 4
    assert values["model.stem"] == 1
    assert decided(ROADS)["model.stem"] == 2


def test_every_channel_has_mean_0_and_an_empty_one_is_left_small(monkeypatch):
    values = decided(ROADS)
    assert values["model.mean"] == (0.412, 0.5, 0.6)
    assert values["model.std"] == (0.25, 0.25, 0.01)
    monkeypatch.setattr(f"{__name__}.SEGMENT", f"{SEGMENT}:lite0")  # its encoder has its own
    assert not {"model.mean", "model.std"} & decided(ROADS).keys()


def test_rare_classes_weigh_more_but_even_ones_and_two_alike():
    def weights(*shares):
        found = ROADS._replace(shares=shares)
        return decided(found)["task.loss.terms"][0]["class_weights"]

    assert weights(0.3, 0.4, 0.3) == (1.0, 1.0, 1.0)
    assert weights(0.93, 0.07) == (1.0, 1.0)
    frequent, _, rare = weights(0.7, 0.2, 0.1)
    assert rare / frequent == pytest.approx(np.sqrt(7), rel=0.05)


@pytest.mark.parametrize(
    ("width", "platform", "side"),
    [(4.0, "cpu", 128), (12.0, "cpu", 192), (40.0, "cpu", 256), (4.0, "gpu", 512)],
)
def test_crops_span_several_objects(width, platform, side):
    found = CELLS._replace(widths=(30.0, width))
    warp = decided(found, platform=platform)["data.augment"][0]
    assert warp["crop"] == (side, side)


def test_what_the_user_gives_stays_and_is_followed():
    values = decided(ROADS, "--config.data.kwargs.scale=1.0", "--config.model.stem=4")
    assert "data.kwargs.scale" not in values
    assert "model.stem" not in values
    assert values["data.kwargs.size"] == (360, 480)
    warp = decided(CELLS, "--config.data.kwargs.size=(128, 300)")["data.augment"][0]
    assert warp["crop"] == (128, 192)


def test_objects_and_labels_are_planned_too(root):
    for path in root.glob("*/masks/*.png"):
        mask = np.zeros((16, 16), np.uint8)
        mask[1:4, 1:4], mask[8:12, 8:12], mask[1:5, 9:14] = 1, 2, 3
        Image.fromarray(mask).save(path)
    values = plan(root, variant="objects").to_dict()
    assert values["data"]["augment"][0]["balance"] == 0.0
    assert values["task"]["name"] == "jaxseg.instances:instances"
    (first, _) = plan(root, variant="labels").task.loss.terms
    assert first["name"] == "jaxseg.multilabel_losses:binary_cross_entropy"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--config.plan.minutes=-1"], "minutes=-1.0 and memory_mib=0 must be >= 0"),
        (["--config.data.split=train[:3]"], "3 images to train on; a plan needs 4"),
    ],
)
def test_what_cannot_be_planned_is_refused(root, flags, words):
    with pytest.raises(UserError, match=words):
        plan(root, *flags)


def test_a_class_that_training_does_not_show_is_refused(root):
    for path in (root / "val" / "masks").iterdir():
        mask = np.array(Image.open(path))
        mask[0] = 2
        Image.fromarray(mask).save(path)
    with pytest.raises(UserError, match="class 2: pixels in 'val', none in 'train'"):
        plan(root)


def test_images_scaled_each_by_its_own_are_refused(root):
    with pytest.raises(UserError, match=r"config.data.kwargs.scale=0 .* give a scale above 0"):
        plan(root, "--config.data.kwargs.scale=0")


def test_no_folder_is_refused():
    with pytest.raises(UserError, match=r"config.data.path is missing"):
        planned.values(loading.load(SEGMENT))
