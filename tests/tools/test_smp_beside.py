import json
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from jaxseg.nets.encoders import efficientnet
from launch.config import loading
from launch.config.errors import UserError
from launch.data.folders import folder
from tests.tools import smp_beside, smp_side


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Noise of several sizes with three classes and void, in two splits."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    (root / "classes.txt").write_text("ground\na\nb\n")
    for split, sizes in {"train": [(24, 32)] * 4, "test": [(24, 33), (9, 41), (24, 32)]}.items():
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for number, size in enumerate(sizes):
            image = rng.integers(0, 256, (*size, 3), np.uint8)
            mask = rng.choice(np.array([0, 1, 2, 255], np.uint8), size)
            for kind, array in (("images", image), ("masks", mask)):
                Image.fromarray(array).save(root / split / kind / f"{number}.png")
    return root


@pytest.mark.parametrize(
    ("kwargs", "shape"),
    [({"scale": 0.75, "size": (10, 12)}, (18, 25)), ({"size": (12, 16)}, (12, 16))],
)
def test_smp_is_handed_the_pixels_that_ours_is_scored_on(root, tmp_path, kwargs, shape):
    train, test = (folder(split, str(root), **kwargs) for split in ("train", "test"))
    truth = smp_beside.hand_over(train, test, tmp_path / "data.npz")
    counts = np.zeros(3, int)
    for number in range(len(test)):  # tiles or padded images, as the engine scores them
        ids = test[number]["segmentation"]
        counts += np.bincount(ids[ids < 255], minlength=3)
    whole = np.concatenate([mask.ravel() for mask in truth])
    np.testing.assert_array_equal(np.bincount(whole[whole < 255], minlength=3), counts)
    assert truth[0].shape == shape
    images, masks, tests = smp_side.read(tmp_path / "data.npz")
    assert (len(images), len(masks), len(tests)) == (3, 3, 3)  # one is taken for val
    assert [image.shape[:2] for image in tests] == [mask.shape for mask in truth]
    np.testing.assert_array_equal(tests[0][:10, :12], test[0]["image"][:10, :12])


def test_the_scores_are_those_of_one_matrix_over_all_images():
    rng = np.random.default_rng(0)
    shapes = [(5, 7), (3, 4)]
    truth = [rng.choice(np.array([0, 1, 255], np.uint8), shape) for shape in shapes]
    guess = [rng.integers(0, 3, shape).astype(np.uint8) for shape in shapes]
    found = smp_beside.selected(smp_beside.scores(guess, truth, ("a", "b", "c", "d")))
    true, told = (np.concatenate([part.ravel() for part in parts]) for parts in (truth, guess))
    true, told = true[true < 255], told[true < 255]
    both = np.array([np.sum((true == k) & (told == k)) for k in range(3)])
    sizes = np.array([np.sum(true == k) + np.sum(told == k) for k in range(3)])
    iou = both / (sizes - both)
    assert found == {
        "mean_iou": round(iou.mean(), 4),
        "mean_dice": round((2 * both / sizes).mean(), 4),
        "iou": dict(zip("abcd", [*iou.round(4).tolist(), None], strict=True)),
    }


def test_names_of_the_weights_file_go_where_ours_go():
    ours, timm = efficientnet.EfficientNetLite0().namings
    variable = lambda naming, key: next(
        match.expand(rule.path)
        for rule in naming.rules
        if (match := smp_side.re.fullmatch(rule.pattern, key))
    )
    layers = {"_conv_stem": ["weight"], "_bn0": ["weight", "bias", "running_mean", "running_var"]}
    keys = [f"{layer}.{leaf}" for layer, leaves in layers.items() for leaf in leaves]
    for block in range(16):
        parts = ["_depthwise_conv", "_project_conv"] + ["_expand_conv"] * (block > 0)
        keys += [f"_blocks.{block}.{part}.weight" for part in parts]
        norms = ["_bn1", "_bn2"] + ["_bn0"] * (block > 0)
        keys += [f"_blocks.{block}.{norm}.{leaf}" for norm in norms for leaf in layers["_bn0"]]
    found = smp_side.timm_tensors(
        dict.fromkeys([*keys, "_bn1.bias", "_fc.bias", "_conv_head.weight"])
    )
    assert len(found) == len(keys) == 240  # and 48 numbers of batches tracked
    for key in keys:
        assert variable(timm, smp_side.timm_name(key)) == variable(ours, key), key


@pytest.mark.parametrize("key", ["_blocks.0._expand_conv.weight", "_swish.weight", "_bn2.bias"])
def test_a_tensor_without_a_place_is_refused(key):
    with pytest.raises(KeyError, match=r"no tensor of an EfficientNet-Lite0"):
        smp_side.timm_tensors({key: 0})


@pytest.mark.parametrize(
    ("sizes", "frame"),
    [([(180, 240), (100, 250)], (192, 256)), ([(320, 320)], (320, 320)), ([(9, 321)], (256, 256))],
)
def test_images_are_whole_where_they_are_small(sizes, frame):
    assert smp_side.frame_of([np.zeros((*size, 3), np.uint8) for size in sizes]) == frame


@pytest.mark.parametrize("frame", [(8, 8), (8, 6)])
@pytest.mark.parametrize("turns", [False, True])
def test_images_and_masks_vary_alike(frame, turns):
    rng = np.random.default_rng(0)
    image = np.arange(1, 1 + 7 * 10, dtype=np.uint8).reshape(7, 10, 1)
    seen, upside_down = set(), 0
    for _ in range(40):
        x, y = smp_side.varied(image, image[..., 0], frame, turns, rng)
        assert (x.shape, y.shape) == ((*frame, 1), frame)
        inside = y != smp_side.VOID
        np.testing.assert_array_equal(x[inside, 0], y[inside])
        assert set(x[~inside, 0]) <= {smp_side.GREY}
        seen.add(y.tobytes())
        upside_down += not inside[0].all() and inside[-1].all()
    assert len(seen) > 5
    assert bool(upside_down) == turns


def test_an_epoch_shows_every_image_once():
    images = [np.full((4, 4, 3), number, np.uint8) for number in range(12)]
    masks = [np.zeros((4, 4), np.uint8)] * 12
    found = smp_side.batches(images, masks, (4, 4), False, np.random.default_rng(0))
    rows = np.concatenate([next(found)[0][:, 0, 0, 0] for _ in range(3)])
    assert sorted(rows[:12]) == sorted(rows[12:]) == list(range(12))


def test_both_sides_are_trained_and_scored(root, tmp_path, monkeypatch, capsys):
    commands = []

    def timed(command):
        commands.append(command[1:])
        if command[2] == "launch.evaluate":
            return (
                json.dumps(
                    {"step": 7, "split": "test", "mean_iou": 0.5, "mean_dice": 0.6, "iou/a": 0.5}
                ),
                9.0,
                0.0,
            )
        if command[2] == "tests.tools.smp_side":
            given = dict(part.lstrip("-").split("=") for part in command[3:] if "=" in part)
            *_, tests = smp_side.read(given["data"])
            masks = {f"{n:06d}": np.zeros(one.shape[:2], np.uint8) for n, one in enumerate(tests)}
            np.savez(given["out"], **masks)
            return json.dumps({"seconds": 301.0, "steps": 5}), 400.0, 0.25
        return "", 300.04, 0.5

    config = loading.with_defaults(configured(root), "the test")
    monkeypatch.setattr(smp_beside, "timed", timed)
    monkeypatch.setattr(smp_beside, "check_smp", lambda python: None)
    monkeypatch.setattr(smp_beside.run_config, "read_config", lambda run: config)
    monkeypatch.setattr(smp_beside.encoders, "find", lambda name: f"{name}.pth")
    options = [f"--data={root}", "--seconds=240", "--pretrained", "--torch=python9"]
    smp_beside.main([*options, f"--workdir={tmp_path / 'new'}", "--config.data.kwargs.ignore=11"])
    found = json.loads(capsys.readouterr().out)
    assert found.pop("machine")
    ids = np.concatenate([np.array(Image.open(f)).ravel() for f in (root / "test/masks").iterdir()])
    share = float(np.mean(ids[ids < 255] == 0))
    smp = found.pop("smp")
    assert smp["iou"] == {"ground": round(share, 4), "a": 0.0, "b": 0.0}
    assert smp["mean_iou"] == pytest.approx(share / 3, abs=1e-4)
    assert smp["mean_dice"] == pytest.approx(2 * share / (1 + share) / 3, abs=1e-4)
    assert (smp["seconds"], smp["steps"], smp["others_cores"]) == (301.0, 5, 0.25)
    ours = {"mean_iou": 0.5, "mean_dice": 0.6, "iou": {"a": 0.5}, "seconds": 300.0, "steps": 40}
    assert found == {
        "data": str(root),
        "seconds": 240.0,
        "pretrained": True,
        "ours": ours | {"others_cores": 0.5},
    }
    run = f"--workdir={tmp_path / 'new' / 'ours'}"
    train, evaluate, side = commands
    assert train[1:4] == [
        "launch.train",
        "--config=configs/segment.py:lite0",
        f"--config.data.path={root}",
    ]
    assert train[4:] == ["--config.plan.minutes=4.0", run, "--config.data.kwargs.ignore=11"]
    assert evaluate[1:] == ["launch.evaluate", run, "--split=test"]
    assert {"--classes=3", "--weights=efficientnet-lite0.pth", "--seconds=300.0", "--turns"} <= {
        *side
    }
    began = next(float(part[8:]) for part in side if part.startswith("--began="))
    assert 0 <= time.time() - began < 60


def configured(root):
    """A config as our run leaves it."""
    from configs import segment

    config = segment.get_config()
    config.data.path = str(root)
    config.data.kwargs.update(scale=1.0, size=(24, 41))
    config.data.augment = [{"name": "jaxseg.augment:warp", "crop": (), "rotate": 180.0}]
    config.train.steps = 40
    return config


@pytest.mark.parametrize("rotate", [10.0, 180.0])
def test_smp_turns_images_where_ours_does(rotate):
    steps = [{"name": "jaxseg.augment:colour"}, {"name": "jaxseg.augment:warp", "rotate": rotate}]
    assert smp_beside.turns_freely(steps) == (rotate == 180.0)
    assert not smp_beside.turns_freely([])


def test_a_command_is_timed_and_its_failure_named(monkeypatch):
    monkeypatch.setattr(smp_beside.in_turn, "seconds_of_others", lambda children: 0.0)
    command = [sys.executable, "-c", "print('out')"]
    output, seconds, others = smp_beside.timed(command)
    assert (output, others) == ("out\n", 0.0)
    assert 0 < seconds < 10
    with pytest.raises(UserError, match=r"tests\.no_such ended with 1"):
        smp_beside.timed([sys.executable, "-m", "tests.no_such"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seconds=20"], r"--seconds=20: give at least 30"),
        (["--data=/no/such"], r"no such directory: /no/such"),
        (["--workdir=/tmp"], r"is there already"),
        (["--config.plan.minutes=3"], r"--config\.plan\.minutes: --data and --seconds say this"),
        (["--torch=/no/python"], r"does not run .*--torch=PYTHON"),
        (["--torch=false"], r"false has no segmentation_models_pytorch"),
    ],
)
def test_arguments_that_cannot_work_are_refused(tmp_path, monkeypatch, arguments, message):
    monkeypatch.setattr(smp_beside, "timed", lambda command: pytest.fail("it started"))
    with pytest.raises(UserError, match=message):
        smp_beside.main([f"--data={tmp_path}", "--seconds=60", *arguments])


def test_the_sides_import_no_pytorch_here():
    script = "import sys, tests.tools.smp_side; print('torch' in sys.modules, 'jax' in sys.modules)"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=smp_beside.ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"
