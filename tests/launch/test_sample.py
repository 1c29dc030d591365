"""Samples by seed and class, completions of given files, strips and animations."""

from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from jaxgen.task import Task
from launch import sample, train
from launch.config import loading
from launch.config.errors import UserError
from launch.distributed import ALONE, Group

COLOURS = np.array([[0, 0, 0], [200, 40, 40], [40, 40, 200]], np.uint8)


class State(NamedTuple):
    params: dict


def painter(optimizer, example):
    """Paints each class of a mask in one colour, a little off by the seed: no sample()."""
    del optimizer
    colours = jnp.asarray(COLOURS / np.float32(255.0))

    def complete(state, batch, rng):
        noise = jax.vmap(lambda i: jax.random.uniform(jax.random.fold_in(rng, i)))(batch["index"])
        return colours[batch["segmentation"][..., 0]] * (1 - 0.1 * noise[:, None, None, None])

    sums = lambda state, batch, rng: {"loss": jnp.sum(batch["mask"] * 1.0)}
    return Task(
        init=lambda rng, batch: State({"w": jnp.zeros(3)}),
        train_step=lambda state, batch, rng: (state, sums(state, batch, rng)),
        eval_step=sums,
        finish=lambda sums: {"loss": float(sums["loss"])},
        figures=lambda state, batch, rng: {"images": batch["image"]},
        complete=complete,
        given="segmentation",
    )


class Blocks(list):
    """Examples of image and mask, 6 x 5; the classes have names."""

    classes = ("ground", "red", "blue")


def blocks(split):
    rng = np.random.default_rng(len(split))
    ids = rng.integers(0, 3, (12, 6, 5, 1)).astype(np.uint8)
    return Blocks({"image": COLOURS[one[..., 0]], "segmentation": one} for one in ids)


@pytest.fixture(scope="module")
def masked(tmp_path_factory):
    """A run that makes images from masks."""
    config = {
        "task": {"name": "tests.launch.test_sample:painter"},
        "optimizer": {"name": "optax:sgd", "learning_rate": 0.1},
        "data": {"name": "tests.launch.test_sample:blocks", "batch_size": 4},
        "train": {"steps": 2},
        "eval": {"every": 2, "batch_size": 4},
        "mesh": {"data": 1},
    }
    workdir = tmp_path_factory.mktemp("runs") / "painter"
    train.train(loading.with_defaults(ConfigDict(config), "painter"), workdir)
    return workdir


def sketcher(optimizer, example, classes):
    """Noise by seed, brighter by class: samples, strips and images from given ones."""
    del optimizer
    shape = example["image"].shape

    def noise(rng, index, label):
        one = lambda i: jax.random.uniform(jax.random.fold_in(rng, i), shape)
        return 0.6 * jax.vmap(one)(index) + 0.4 * label[:, None, None, None] / classes

    def sample(state, batch, rng):
        return noise(rng, batch["index"], batch["label"])

    def interpolate(state, batch, rng):
        ends = [noise(rng, batch[key], batch["label"])[:, None] for key in ("index", "end")]
        steps = jnp.linspace(0, 1, 10)[:, None, None, None]
        return ends[0] + steps * (ends[1] - ends[0])

    def complete(state, batch, rng):
        added = sample(state, batch, rng)
        image = batch["image"] / np.float32(255)
        return jnp.where(batch.get("keep", False), image, 0.9 * image + 0.1 * added)

    makers = {"sample": sample, "interpolate": interpolate, "complete": complete}
    return painter(None, example)._replace(**makers, given="image", keeps_pixels=True)


def sketches(split):
    rng = np.random.default_rng(len(split))
    return {
        "image": rng.integers(0, 256, (12, 8, 8, 1)).astype(np.uint8),
        "label": (np.arange(12) * 7 + 5) % 10,
    }


@pytest.fixture(scope="module")
def sketched(tmp_path_factory):
    """A run of a class-conditional model that samples, interpolates and completes."""
    config = {
        "task": {"name": "tests.launch.test_sample:sketcher", "classes": 10},
        "optimizer": {"name": "optax:sgd", "learning_rate": 0.1},
        "data": {"name": "tests.launch.test_sample:sketches", "batch_size": 4},
        "train": {"steps": 2},
        "eval": {"every": 2, "batch_size": 4},
        "mesh": {"data": 1},
    }
    workdir = tmp_path_factory.mktemp("runs") / "sketcher"
    train.train(loading.with_defaults(ConfigDict(config), "sketcher"), workdir)
    return workdir


def call(workdir, out, *arguments):
    """Runs the command in this process; returns what it wrote."""
    arguments = [f"--workdir={workdir}", f"--out={out}", "--batch_size=8", *arguments]
    sample.main([*map(str, arguments), "--config.mesh.data=1"])
    if out.suffix == ".npy":
        return np.load(out)
    with Image.open(out) as picture:
        return np.asarray(picture.convert("RGB"))


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def test_a_seed_gives_the_same_bits_in_any_company(sketched, tmp_path):
    out = tmp_path / "images.npy"
    whole = call(sketched, out, "--seeds=0-20")
    assert whole.shape == (21, 8, 8, 1)
    for seeds in ([3], [20, 3, 11], [5, 5]):
        some = call(sketched, out, f"--seeds={','.join(map(str, seeds))}")
        np.testing.assert_array_equal(some, whole[seeds])
    other = call(sketched, out, "--seeds=0-20", "--batch_size=5")
    np.testing.assert_allclose(other, whole, atol=1e-6)


def test_a_grid_has_a_column_for_each_class(sketched, tmp_path):
    picture = call(sketched, tmp_path / "grid.png", "--seeds=0-24")
    assert picture.shape == ((3 * 9 - 1) * 6, (10 * 9 - 1) * 6, 3)
    assert (picture[-48:, 5 * 54 : 5 * 54 + 48] == 0).all()  # seeds end in the fifth column
    assert picture[-48:, 4 * 54 : 4 * 54 + 48].max() > 0
    one = call(sketched, tmp_path / "one.npy", "--seeds=14", "--class=4")
    np.testing.assert_array_equal(one, call(sketched, tmp_path / "turn.npy", "--seeds=14"))
    other = call(sketched, tmp_path / "other.npy", "--seeds=14", "--class=5")
    assert np.abs(other - one).max() > 1e-3


def test_strips_lead_from_each_seed_to_the_next(sketched, tmp_path):
    arguments = ("--seeds=2,13,4", "--class=7")
    strips = call(sketched, tmp_path / "strips.npy", *arguments, "--interpolate")
    ends = call(sketched, tmp_path / "ends.npy", *arguments)
    assert strips.shape == (2, 10, 8, 8, 1)
    np.testing.assert_allclose(strips[:, 0], ends[:2], atol=1e-5)
    np.testing.assert_allclose(strips[:, -1], ends[1:], atol=1e-5)
    picture = call(sketched, tmp_path / "strips.png", *arguments, "--interpolate")
    assert picture.shape == ((2 * 9 - 1) * 6, (10 * 9 - 1) * 6, 3)


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_an_animation_goes_there_and_back(sketched, tmp_path, suffix):
    out = tmp_path / f"way{suffix}"
    call(sketched, out, "--seeds=2,13", "--interpolate")
    with Image.open(out) as picture:
        assert picture.size == (192, 192)
        assert 10 < picture.n_frames <= 10 + 8  # frames that look alike are shown as one
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


@pytest.mark.parametrize("label", [["--class=7"], []])
def test_an_animation_shows_every_image_of_the_strips(sketched, tmp_path, monkeypatch, label):
    """Where classes come by turns, a seed's two images are of two classes."""
    shown = []
    keep = lambda path, frames: shown.append(np.stack(frames))
    monkeypatch.setattr(sample.image_files, "animate", keep)
    arguments = [
        f"--workdir={sketched}",
        "--seeds=2,13,4",
        "--batch_size=8",
        "--interpolate",
        *label,
    ]
    sample.main([*arguments, f"--out={tmp_path / 'way.gif'}", "--config.mesh.data=1"])
    strips = call(sketched, tmp_path / "strips.npy", "--seeds=2,13,4", "--interpolate", *label)
    np.testing.assert_array_equal(shown[0][:20], strips.reshape(20, 8, 8, 1))
    assert len(shown[0]) == 20 + 18  # and back, without the two ends
    np.testing.assert_array_equal(shown[0][20:], shown[0][1:19][::-1])
    joint = np.abs(shown[0][9] - shown[0][10]).max()
    assert joint < 1e-5 if label else joint > 1e-3


def test_given_images_are_rebuilt(sketched, tmp_path):
    rng = np.random.default_rng(0)
    files = [
        save(tmp_path / "in" / f"{n}.png", rng.integers(0, 256, (8, 8)).astype(np.uint8))
        for n in range(3)
    ]
    all_three = call(sketched, tmp_path / "all.npy", f"--condition={tmp_path}/in/*.png")
    one = call(sketched, tmp_path / "one.npy", f"--condition={files[1]}", "--seeds=1")
    np.testing.assert_array_equal(one[0], all_three[1])
    several = call(sketched, tmp_path / "many.npy", f"--condition={files[1]}", "--seeds=1,11,21")
    assert several.shape == (3, 8, 8, 1)  # one image for all seeds, which share a class
    picture = call(sketched, tmp_path / "pairs.png", f"--condition={tmp_path}/in")
    with Image.open(files[0]) as given:
        np.testing.assert_array_equal(picture[:48:6, :48:6, 0], np.asarray(given))


def test_what_is_black_in_a_mask_stays(sketched, tmp_path):
    rng, folder = np.random.default_rng(2), tmp_path / "in"
    given = rng.integers(0, 256, (2, 8, 8)).astype(np.uint8)
    keep = np.indices((8, 8)) > np.array([2, 4])[:, None, None]
    for number in range(2):
        save(folder / f"{number}.png", given[number])
        save(tmp_path / "holes" / f"{number}_mask.png", np.uint8(255) * ~keep[number])
    command = (f"--condition={folder}", f"--mask={tmp_path / 'holes'}")
    images = call(sketched, tmp_path / "out.npy", *command)[..., 0]
    rounded = np.round(255 * images).astype(np.uint8)
    np.testing.assert_array_equal(rounded[keep], given[keep])
    assert np.abs(images - given / 255)[~keep].min() > 0
    picture = call(sketched, tmp_path / "out.png", *command)[::6, ::6, 0]
    np.testing.assert_array_equal(picture[:8, :8], np.where(keep[0], given[0], 128))
    np.testing.assert_array_equal(picture[:8, 9:17], rounded[0])
    # One mask for all, one image for several seeds: each is that of its seed alone.
    command = (f"--condition={folder / '0.png'}", f"--mask={tmp_path / 'holes' / '0_mask.png'}")
    several = call(sketched, tmp_path / "many.npy", *command, "--seeds=0-3")
    np.testing.assert_array_equal(several[0, ..., 0], images[0])
    assert np.abs(several[1:] - several[:1])[:, ~keep[0]].max() > 0
    alone = call(sketched, tmp_path / "one.npy", *command, "--seeds=3")
    np.testing.assert_array_equal(alone[0], several[3])


def test_masks_become_images(masked, tmp_path):
    ids = np.random.default_rng(1).integers(0, 3, (2, 6, 5)).astype(np.uint8)
    for number, one in enumerate(ids):
        save(tmp_path / "masks" / f"{number}.png", one)
    images = call(masked, tmp_path / "drawn.npy", f"--condition={tmp_path}/masks")
    np.testing.assert_allclose(images, COLOURS[ids] / 255.0, atol=0.1)
    assert call(masked, tmp_path / "drawn.png", f"--condition={tmp_path}/masks").any()


def test_without_conditions_rows_of_the_evaluation_split_are_completed(masked, tmp_path):
    truth = np.stack([one["image"] for one in blocks("test")]) / 255.0
    images = call(masked, tmp_path / "rows.npy")
    np.testing.assert_allclose(images, truth, atol=0.1)
    some = call(masked, tmp_path / "some.npy", "--seeds=11,2")
    np.testing.assert_array_equal(some, images[[11, 2]])
    other = call(masked, tmp_path / "train.npy", "--split=train")
    assert np.abs(other - truth).max() > 0.5


@pytest.mark.parametrize(("label", "labels"), [(None, [5, 7]), (3, [3, 3])])
def test_a_row_has_its_own_label_unless_one_is_asked_for(label, labels):
    config = loading.with_defaults(ConfigDict({"data": {"name": f"{__name__}:sketches"}}), "here")
    task = SimpleNamespace(get={"classes": 10}.get)
    restored = SimpleNamespace(
        config=SimpleNamespace(data=config.data, eval=config.eval, task=task),
        experiment=SimpleNamespace(example={"label": None}),
        group=ALONE,
    )
    rows = sketches("train")
    seeds = [int(np.flatnonzero(rows["label"] == wanted)[0]) for wanted in (5, 7)]
    options = SimpleNamespace(split="train", seeds=seeds, label=label)
    found, given, classes = sample._read_rows(restored, options, "image")
    assert found == seeds
    np.testing.assert_array_equal(given, rows["image"][seeds])
    assert classes.tolist() == labels


@pytest.mark.parametrize(
    ("run", "arguments", "message"),
    [
        ("sketched", ["--class=10"], r"--class=10: the model has 10 classes, 0 to 9"),
        ("sketched", ["--class=-1"], r"--class=-1: the model has 10 classes"),
        ("masked", ["--class=1"], r"--class=1: the model has no classes"),
        (
            "sketched",
            ["--out=a.webp"],
            r"--out=a.webp: write a .png or a .npy file, or with --interp",
        ),
        ("sketched", ["--batch_size=0"], r"--batch_size must be at least 1, got 0"),
        ("sketched", ["--interpolate", "--seeds=4"], r"at least two --seeds"),
        ("sketched", ["--interpolate", "--condition=IN/small.png"], r"takes no --condition"),
        (
            "sketched",
            ["--start=0.5"],
            r"--start has no effect here: it is for the images of --cond",
        ),
        ("sketched", ["--mask=IN/hole.png"], r"--mask has no effect here: it is for the images of"),
        (
            "sketched",
            ["--condition=IN/small.png", "--mask=IN/hole.png", "--start=0.5"],
            r"--mask keeps pixels as given, and --start keeps none; give one of them",
        ),
        (
            "sketched",
            ["--condition=IN/small.png", "--mask=IN/small.png"],
            r"--mask: .*small.png: has no white pixel",
        ),
        (
            "masked",
            ["--condition=IN/ids.png", "--mask=IN/hole.png"],
            r"--mask: .*painter as this run has it cannot keep pixels as given; a flow of pixels",
        ),
        ("sketched", ["--start=0"], r"--start=0 must be above 0 and below 1"),
        ("masked", ["--interpolate"], r"test_sample:painter has no interpolate\(\)"),
        ("sketched", ["--condition=IN/nothing.png"], r"--condition=.*nothing.png: no such file"),
        (
            "sketched",
            ["--condition=IN/wide.png"],
            r"wide.png: is 9 x 8, the model takes 8 x 8\. Crop or scale",
        ),
        (
            "sketched",
            ["--condition=IN/coloured.png"],
            r"coloured.png \(x 3, y 2\): has 3 channels, such as the colour \(200, 40, 40\)",
        ),
        (
            "sketched",
            ["--condition=IN/s*.png", "--seeds=0-4"],
            r"2 images for 5 seeds; give one for each \(--seeds=0-1\), or one for all",
        ),
        ("masked", ["--condition=IN/small.png"], r"small.png: is 8 x 8, the model takes 5 x 6"),
        (
            "masked",
            ["--condition=IN/ids.png"],
            r"ids.png \(x 1, y 0\): id 7, but there are 3 classes",
        ),
        (
            "sketched",
            ["--seeds=0-1048576"],
            r"out.png: 1,048,577 images have 67,108,928 pixels, and a picture takes 67,108,864",
        ),
        ("sketched", ["--split=test"], r"--split has no effect here: no row of a split is compl"),
        ("masked", ["--split=test", "--condition=IN/ids.png"], r"--split has no effect here"),
        ("masked", ["--seeds=10-12"], r"12 rows to complete, 0 to 11; seed 12 is beyond"),
    ],
)
def test_what_cannot_be_made_is_named(run, arguments, message, request, tmp_path):
    save(tmp_path / "small.png", np.zeros((8, 8), np.uint8))
    save(tmp_path / "similar.png", np.zeros((8, 8), np.uint8))
    save(tmp_path / "hole.png", np.eye(8, dtype=np.uint8) * 255)
    save(tmp_path / "wide.png", np.zeros((8, 9), np.uint8))
    coloured = np.zeros((8, 8, 3), np.uint8)
    coloured[2, 3] = COLOURS[1]
    save(tmp_path / "coloured.png", coloured)
    save(tmp_path / "ids.png", np.tile(np.array([0, 7], np.uint8), (6, 3))[:, :5])
    arguments = [argument.replace("IN", str(tmp_path)) for argument in arguments]
    with pytest.raises(UserError, match=message):
        call(request.getfixturevalue(run), tmp_path / "out.png", *arguments)
    assert not (tmp_path / "out.png").exists()


def test_64_images_or_strips_between_9_seeds_unless_told_otherwise():
    options = sample._arguments().parse_args(["--workdir=w"])
    assert (options.batch_size, options.interpolate, str(options.out)) == (64, False, "samples.png")
    assert (options.label, options.seeds, options.condition, options.split) == (None, None, "", "")
    assert (range(64), range(9)) == (sample.SEEDS, sample.STRIP_SEEDS)
    options.batch_size = 1
    sample._check_options(options)
    options.interpolate, options.seeds = True, [4, 5]
    sample._check_options(options)
    with pytest.raises(SystemExit):
        sample._arguments().parse_args([])


@pytest.mark.parametrize(
    ("classes", "label", "columns"),
    [(0, None, 0), (1, None, 0), (2, None, 2), (40, None, 40), (41, None, 0), (10, 3, 0)],
)
def test_up_to_40_classes_have_columns(monkeypatch, classes, label, columns):
    saved = []
    images = np.zeros((80, 2, 2, 1))
    monkeypatch.setattr(sample.sampling, "sample_images", lambda *arguments: images)
    monkeypatch.setattr(sample.sampling, "class_count", lambda restored: classes)
    monkeypatch.setattr(sample.image_files, "save", lambda *arguments: saved.append(arguments))
    example = {"image": np.zeros((2, 2, 1))}
    restored = SimpleNamespace(experiment=SimpleNamespace(example=example), group=ALONE)
    options = SimpleNamespace(seeds=range(80), label=label, batch_size=8, out=Path("x.png"))
    assert sample._sample(restored, options) is images
    ((out, grid),) = saved
    assert out == Path("x.png")
    shape = (80 // columns, columns, 2, 2, 1) if columns else images.shape
    assert grid.shape == shape


class Second(Group):
    """Process 1 of two."""

    process, processes = 1, 2


def test_a_process_that_does_not_write_takes_no_memory(tmp_path):
    restored = SimpleNamespace(group=Second())
    with sample._allocator(restored, tmp_path / "a.npy", 2**40) as allocate:
        images = allocate((2**40, 8, 8, 1), np.float32)
        images[3:5] = 1.0
    assert len(images) == 2**40
    assert not list(tmp_path.iterdir())
