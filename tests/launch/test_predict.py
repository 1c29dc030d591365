"""From a folder of images and masks to a trained net, masks, overlays and scores."""

import json

import numpy as np
import pytest
from PIL import Image
from sklearn import metrics as theirs

from jaxseg.inference.postprocess import regions
from launch import evaluate, predict, train
from launch.config import loading
from launch.config.errors import UserError
from launch.engine import trained_runs
from launch.inference.segmenter import Segmenter

COLOURS = np.array([[30, 30, 30], [220, 60, 60], [60, 60, 220]], np.uint8)
SMALL = {
    "task": {"name": "jaxseg.segmentation:segmentation", "classes": -1},
    "model": {
        "name": "jaxseg.nets:UNet",
        "widths": (8, 8),
        "convolutions": 1,
        "norm": "batch",
        "dropout": 0.1,
    },
    "optimizer": {"name": "optax:adam", "learning_rate": 1e-2},
    "data": {"name": "launch.data.folders:folder", "batch_size": 8},
    "train": {"steps": 40},
    "eval": {"every": 40, "batch_size": 4},
    "checkpoint": {"every": 40},
    "log": {"every": 20},
    "mesh": {"data": 1},
}


def scene(seed, shape=(24, 32)):
    """Blocks of three colours, and their ids."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 3, (-(-shape[0] // 8), -(-shape[1] // 8))).repeat(8, 0).repeat(8, 1)
    ids = ids[: shape[0], : shape[1]].astype(np.uint8)
    noise = rng.integers(-20, 20, (*shape, 3))
    return np.clip(COLOURS[ids] + noise, 0, 255).astype(np.uint8), ids


def write(folder, seed, shape=(24, 32)):
    image, ids = scene(seed, shape)
    for name, array in {"images": image, "masks": ids}.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(folder / name / f"s{seed}.png")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a data set, and the workdir of a net that was trained on it."""
    root = tmp_path_factory.mktemp("own")
    for split, seeds in {"train": range(16), "test": range(20, 26)}.items():
        for seed in seeds:
            write(root / "data" / split, seed)
    (root / "data" / "classes.csv").write_text("id,name\n0,dark\n1,red\n2,blue\n")
    from ml_collections import ConfigDict

    config = loading.complete(ConfigDict(SMALL), "small")
    config.data.path = str(root / "data")
    train.train(config, root / "run")
    return root / "data", root / "run"


def call(capsys, module, *arguments):
    """Runs a command in this process; returns its JSON and what it said."""
    module.main(list(map(str, arguments)))
    said = capsys.readouterr()
    return (json.loads(said.out) if said.out else None), said.err


def read(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_the_number_of_classes_and_their_names_come_from_the_data(run):
    _, workdir = run
    record = json.loads((workdir / "config.json").read_text())
    assert record["config"]["task"]["classes"] == 3
    assert record["data"]["classes"] == ["dark", "red", "blue"]
    assert record["data"]["example"]["image"] == ["uint8", 24, 32, 3]
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["split"] == "test"
    assert lines[-1]["mean_iou"] > 0.9
    names = {path.name for path in (workdir / "figures").iterdir()}
    assert names == {"curves.png", "classes-00000040.png", "predictions-00000040.png"}


def test_a_run_goes_on_though_its_config_does_not_say_how_many_classes(run):
    from ml_collections import ConfigDict

    data, workdir = run
    config = loading.complete(ConfigDict(SMALL), "small")
    config.data.path = str(data)
    train.train(config, workdir)  # is done: neither refused nor begun again
    assert config.task.classes == 3


def test_masks_overlays_and_exact_scores(run, tmp_path, capsys):
    data, workdir = run
    images, masks = data / "test" / "images", data / "test" / "masks"
    scores, said = call(
        capsys,
        predict,
        f"--workdir={workdir}",
        f"--images={images}/*.png",
        f"--masks={masks}",
        f"--out={tmp_path}",
    )
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["scores"] == scores
    assert report["failed"] == []
    assert len(report["images"]) == 6
    found = np.stack([read(path) for path in sorted((tmp_path / "masks").iterdir())])
    truth = np.stack([read(path) for path in sorted(masks.iterdir())])
    every = theirs.jaccard_score(truth.ravel(), found.ravel(), average=None)
    assert scores["mean_iou"] == pytest.approx(every.mean())
    assert scores["iou/red"] == pytest.approx(every[1])
    assert "ETA" in said
    # The window is as large as the training images, so this is what evaluate says.
    evaluated, _ = call(capsys, evaluate, f"--workdir={workdir}")
    assert evaluated["mean_iou"] == pytest.approx(scores["mean_iou"], abs=1e-9)
    overlay = read(tmp_path / "overlays" / "s20.png")
    image, ids = read(images / "s20.png"), found[0]
    np.testing.assert_array_equal(overlay[ids == 0], image[ids == 0])
    assert (overlay[ids == 1] != image[ids == 1]).any()


@pytest.mark.parametrize("shape", [(1, 1), (17, 301), (100, 90)])
def test_images_of_any_size(run, tmp_path, capsys, shape):
    _, workdir = run
    write(tmp_path, 7, shape)
    call(
        capsys,
        predict,
        f"--workdir={workdir}",
        f"--images={tmp_path}/images",
        f"--out={tmp_path}/out",
        "--batch_size=2",
    )
    found = read(tmp_path / "out" / "masks" / "s7.png")
    assert found.shape == shape
    if min(shape) > 1:
        assert (found == scene(7, shape)[1]).mean() > 0.95


def test_images_of_many_sizes_are_one_compilation(run):
    _, workdir = run
    restored = trained_runs.restore(workdir, [], None, None)
    segmenter = Segmenter(restored, 1, False)
    for shape in ((5, 9), (24, 32), (40, 33), (31, 80)):
        segmenter.label({"image": scene(3, shape)[0]}, None)
    assert restored.experiment.compiled.predict._cache_size() == 1


def test_images_are_scaled_as_in_training(run, tmp_path, capsys):
    """A net that saw blocks of 8 pixels labels blocks of 16 as well at half the scale."""
    _, workdir = run
    image, ids = scene(9)
    large = Image.fromarray(image).resize((64, 48), Image.Resampling.NEAREST)
    (tmp_path / "images").mkdir()
    large.save(tmp_path / "images" / "large.png")
    call(
        capsys,
        predict,
        f"--workdir={workdir}",
        f"--images={tmp_path}/images",
        f"--out={tmp_path}/out",
        "--config.predict.scale=0.5",
    )
    found = read(tmp_path / "out" / "masks" / "large.png")
    assert found.shape == (48, 64)
    assert (found == ids.repeat(2, 0).repeat(2, 1)).mean() > 0.9


def test_refinement_and_postprocessing_are_named(run, tmp_path, capsys):
    data, workdir = run
    out = {}
    for name, change in {
        "plain": [],
        "clean": ["--min_size=200", "--fill_holes=1,2"],
        "crf": ["--crf"],
    }.items():
        call(
            capsys,
            predict,
            f"--workdir={workdir}",
            f"--images={data}/test/images/s20.png",
            f"--out={tmp_path / name}",
            *change,
        )
        out[name] = read(tmp_path / name / "masks" / "s20.png")
    sizes = [
        np.unique(regions(labels), return_counts=True)[1] for labels in (out["plain"], out["clean"])
    ]
    assert sizes[0].min() < 200 <= sizes[1].min()
    assert (out["crf"] == scene(20)[1]).mean() > 0.9


def test_the_prior_of_the_target_can_be_given_or_estimated(run, tmp_path, capsys):
    data, workdir = run
    base = [f"--workdir={workdir}", f"--images={data}/test/images"]
    call(capsys, predict, *base, f"--out={tmp_path}/a", "--prior=1,0,0")
    assert not any(read(path).any() for path in (tmp_path / "a" / "masks").iterdir())
    _, said = call(capsys, predict, *base, f"--out={tmp_path}/b", "--prior=estimate")
    shares = dict(part.split() for part in said.split("shares: ")[1].split("\n")[0].split(", "))
    truth = [read(path) for path in (data / "test" / "masks").iterdir()]
    expected = np.bincount(np.ravel(truth), minlength=3) / np.size(truth)
    for name, share in zip(("dark", "red", "blue"), expected, strict=True):
        assert float(shares[name]) == pytest.approx(share, abs=0.03)


def test_dropout_samples_give_a_map_of_the_uncertainty(run, tmp_path, capsys):
    data, workdir = run
    call(
        capsys,
        predict,
        f"--workdir={workdir}",
        f"--images={data}/test/images/s20.png",
        f"--out={tmp_path}",
        "--passes=4",
        "--flips",
    )
    assert read(tmp_path / "information" / "s20.png").shape == (24, 32)


def test_one_bad_image_does_not_cost_the_others(run, tmp_path, capsys):
    _, workdir = run
    for seed in (1, 2):
        write(tmp_path, seed)
    (tmp_path / "images" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 40)
    (tmp_path / "images" / "._s1.png").write_bytes(b"of another system, and hidden")
    with pytest.raises(UserError, match=r"1 of 3 images could not be predicted.*\n.*bad.png"):
        call(
            capsys,
            predict,
            f"--workdir={workdir}",
            f"--images={tmp_path}/images",
            f"--out={tmp_path}/out",
        )
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert len(report["images"]) == 2
    assert "bad.png" in report["failed"][0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--images=nowhere/*.jpg"], "no such file"),
        (
            ["--images={data}/test/images", "--masks={data}/train/masks"],
            "no file of the stem 's20'",
        ),
        (["--images={data}/test/images", "--prior=0.5,0.5"], "give 3 shares"),
        (["--images={data}/test/images", "--batch_size=0"], "at least 1"),
        (["--images={data}/test/images", "--fill_holes=1,3"], "no class 3; ids are 0 to 2"),
        (["--images={data}/test/images", "--config.predict.overlap=1.5"], "overlap"),
    ],
)
def test_mistakes_are_named(run, tmp_path, capsys, arguments, message):
    data, workdir = run
    arguments = [argument.format(data=data) for argument in arguments]
    with pytest.raises(UserError, match=message):
        call(capsys, predict, f"--workdir={workdir}", f"--out={tmp_path}", *arguments)


def test_masks_whose_ids_mean_something_else_are_refused(run, tmp_path, capsys):
    _, workdir = run
    write(tmp_path, 3)
    (tmp_path / "classes.csv").write_text("id,name\n0,red\n1,dark\n2,blue\n")
    with pytest.raises(UserError, match="id 0 is 'red' there, but 'dark' in the data of training"):
        call(
            capsys,
            predict,
            f"--workdir={workdir}",
            f"--images={tmp_path}/images",
            f"--masks={tmp_path}/masks",
            f"--out={tmp_path}/out",
        )


def test_an_id_that_is_no_class_never_scores(run, tmp_path, capsys):
    _, workdir = run
    write(tmp_path, 3)
    ids = scene(3)[1]
    ids[2, 5] = 7
    Image.fromarray(ids).save(tmp_path / "masks" / "s3.png")
    with pytest.raises(UserError, match=r"s3.png \(x 5, y 2\): id 7"):
        call(
            capsys,
            predict,
            f"--workdir={workdir}",
            f"--images={tmp_path}/images",
            f"--masks={tmp_path}/masks",
            f"--out={tmp_path}/out",
        )


def test_255_is_void_unless_all_masks_of_the_folder_say_0_and_255(tmp_path, capsys):
    from ml_collections import ConfigDict

    data, masks = tmp_path / "data", tmp_path / "masks"
    for split, seed in {"train": 1, "test": 2}.items():
        write(data / split, seed)
        path = data / split / "masks" / f"s{seed}.png"
        ids = read(path) % 2
        ids[:, :5] = 255
        Image.fromarray(ids).save(path)
    config = loading.complete(ConfigDict(SMALL | {"train": {"steps": 1}}), "small")
    config.data.path = str(data)
    train.train(config, tmp_path / "run")
    masks.mkdir()
    ids = np.where(np.arange(32) < 12, 255, np.zeros((24, 1), int)).astype(np.uint8)
    Image.fromarray(ids).save(masks / "S2_mask.png")
    arguments = [f"--workdir={tmp_path}/run", f"--images={data}/test/images", f"--masks={masks}"]
    Image.fromarray(ids // 255).save(masks / "other.png")
    scores, _ = call(capsys, predict, *arguments, f"--out={tmp_path}/out")
    found = read(tmp_path / "out" / "masks" / "s2.png")
    assert scores["pixel_accuracy"] == pytest.approx(np.mean(found[:, 12:] == 0))
    (masks / "other.png").unlink()
    scores, _ = call(capsys, predict, *arguments, f"--out={tmp_path}/out")
    assert scores["pixel_accuracy"] == pytest.approx(np.mean(found == ids // 255))


def test_augmentation_that_fails_is_named_before_anything_compiles(run, tmp_path):
    from ml_collections import ConfigDict

    data, _ = run
    config = loading.complete(ConfigDict(SMALL), "small")
    config.data.path = str(data)
    config.data.augment = [{"name": "jaxseg.cues.depth:drop"}]
    with pytest.raises(UserError, match=r"config.data.augment.*drop needs examples with `depth`"):
        train.train(config, tmp_path / "run")
