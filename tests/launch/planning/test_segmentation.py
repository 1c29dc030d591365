"""The plan: decisions from facts, times and memory; messages where nothing fits."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from launch.config import loading, planned
from launch.config.errors import UserError
from launch.planning import segmentation, timing
from launch.planning.facts import Facts

SEGMENT = str(Path(__file__).parents[3] / "configs" / "segment.py")
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
    (warp, _) = values["data.augment"]
    assert (warp["crop"], warp["balance"], warp["rotate"]) == ((), 0.0, 10.0)
    assert decided(ROADS, minutes=60.0)["data.kwargs.scale"] == 1.0
    assert decided(ROADS, platform="gpu")["data.kwargs.scale"] == 1.0


def test_images_of_several_sizes_keep_their_scale_and_are_cut_and_cropped():
    values = decided(CELLS)
    assert values["data.kwargs.scale"] == 1.0
    assert values["data.kwargs.size"] == (347, 463)  # thirds of 1040 x 1388
    (warp, _) = values["data.augment"]
    assert (warp["crop"], warp["balance"], warp["rotate"]) == ((192, 192), 0.33, 180.0)


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
    (warp, _) = decided(found, platform=platform)["data.augment"]
    assert warp["crop"] == (side, side)


def test_what_the_user_gives_stays_and_is_followed():
    values = decided(ROADS, "--config.data.kwargs.scale=1.0", "--config.model.stem=4")
    assert "data.kwargs.scale" not in values
    assert "model.stem" not in values
    assert values["data.kwargs.size"] == (360, 480)
    (warp, _) = decided(CELLS, "--config.data.kwargs.size=(128, 300)")["data.augment"]
    assert warp["crop"] == (128, 192)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Four images of 16 x 16 to train on, one to check on; a step takes 0.1 s."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for number in range(5):
        mask = np.zeros((16, 16), np.uint8)
        mask[:, :8] = 1
        image = np.full((16, 16, 3), 40 * number + 1, np.uint8)
        for kind, array in (("images", image), ("masks", mask)):
            path = tmp_path / "d" / ("val" if number > 3 else "train") / kind / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)
    took = timing.Timing(step=0.1, drawing=0.5, compiling=5.0, memory=100 * 2**20)
    monkeypatch.setattr(timing, "measure", lambda config, data: took)
    return tmp_path / "d"


def plan(root, *flags):
    config = loading.override(loading.load(SEGMENT), [f"--config.data.path={root}", *flags])
    return planned.filled(config, planned.values(config))


def test_steps_fill_the_time(root, caplog):
    caplog.set_level("INFO", "segen")
    config = plan(root)
    spent = segmentation.STARTING + 7.5 + timing.SECONDS + 8 * (segmentation.REPORTING + 0.04)
    assert 599 <= 0.1 * config.train.steps + spent <= 600
    assert 7 < config.train.steps / config.eval.every <= 8
    assert config.eval.every == config.checkpoint.every
    assert config.log.every % 10 == 0
    assert config.eval.every % config.log.every == 0
    assert 2 <= config.eval.every / config.log.every <= 7
    assert (config.train.steps_per_dispatch, config.data.resident) == (10, True)
    assert plan(root, "--config.plan.minutes=20").train.steps > 2 * config.train.steps
    short = plan(root, "--config.plan.minutes=2")  # in which evaluations take a tenth of the time
    assert 3 < short.train.steps / short.eval.every <= 4
    assert "plan: steps          " in caplog.text
    assert "(10 minutes, 100 ms a step, 8 s compiling)" in caplog.text


@pytest.mark.parametrize("flag", ["parallel=pmap", "train.remat=all"])
def test_a_program_that_is_compiled_again_to_train_leaves_less_time(root, flag):
    assert plan(root, f"--config.{flag}").train.steps <= plan(root).train.steps - 40


def test_frozen_steps_are_constants_of_a_program(root, monkeypatch):
    monkeypatch.setattr(f"{__name__}.SEGMENT", f"{SEGMENT}:lite0")
    once = plan(root)
    monkeypatch.setattr(f"{__name__}.SEGMENT", f"{SEGMENT}_probe")
    probe = plan(root)
    assert probe.train.steps <= once.train.steps - 40


def test_objects_and_labels_are_planned_too(root, monkeypatch):
    for path in root.glob("*/masks/*.png"):
        mask = np.zeros((16, 16), np.uint8)
        mask[1:4, 1:4], mask[8:12, 8:12], mask[1:5, 9:14] = 1, 2, 3
        Image.fromarray(mask).save(path)
    monkeypatch.setattr(f"{__name__}.SEGMENT", f"{SEGMENT}:objects")
    values = plan(root).to_dict()
    assert values["data"]["augment"][0]["balance"] == 0.0
    assert values["task"]["name"] == "jaxseg.instances:instances"
    monkeypatch.setattr(f"{__name__}.SEGMENT", SEGMENT.replace("objects", "labels"))
    assert plan(root).task.loss.terms[0]["name"] == "jaxseg.multilabel_losses:binary_cross_entropy"


def test_given_steps_are_reported_in_eighths(root):
    config = plan(root, "--config.train.steps=400")
    assert (config.train.steps, config.eval.every, config.log.every) == (400, 50, 10)


@pytest.mark.parametrize(("steps", "stride", "every"), [(100, 10, 20), (75, 1, 10), (8, 1, 1)])
def test_any_number_of_steps_is_reported(root, steps, stride, every):
    config = plan(root, f"--config.train.steps={steps}")
    assert (config.train.steps_per_dispatch, config.eval.every) == (stride, every)
    assert 0 < config.log.every <= config.eval.every


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--config.plan.minutes=0.4"], "too short. A step takes 0.1 s .* 0.5 minutes would do"),
        (["--config.plan.memory_mib=50"], "needs 100 MiB, 50 are allowed; give --config.data.batc"),
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


def test_no_folder_is_refused():
    with pytest.raises(UserError, match=r"config.data.path is missing"):
        planned.values(loading.load(SEGMENT))
