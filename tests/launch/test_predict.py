"""Masks, overlays, scores and mistakes of predict; the segmenter has a test of its own."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from ml_collections import ConfigDict
from PIL import Image
from sklearn import metrics as sklearn_metrics

from jaxseg.inference.postprocess import regions
from launch import evaluate, predict, train
from launch.config import loading, schema
from launch.config.errors import UserError
from launch.data import images
from launch.distributed import ALONE
from launch.inference.decisions.exclusive import Exclusive
from launch.inference.decisions.prediction import Prediction, Settings
from launch.inference.members import Files
from tests.launch.distributed.test_processes import everyone, groups
from tests.tools import runs

COLOURS = np.array([[30, 30, 30], [220, 60, 60], [60, 60, 220]], np.uint8)
SMALL = {
    "task": {"name": "jaxseg.segmentation:segmentation", "classes": -1},
    "model": {
        "name": "jaxseg.nets:UNet",
        "widths": (8,),
        "convolutions": 1,
        "norm": "none",
        "dropout": 0.1,
    },
    "optimizer": {"name": "optax:adam", "learning_rate": 3e-2},
    "data": {"name": "launch.data.folders:folder", "batch_size": 8},
    "train": {"steps": 30},
    "eval": {"every": 30, "batch_size": 4},
    "checkpoint": {"every": 30},
    "log": {"every": 30},
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
    return Files(folder / "images" / f"s{seed}.png", folder / "masks" / f"s{seed}.png", None)


def read(path):
    with Image.open(path) as image:
        return np.asarray(image)


class Threshold:
    """A segmenter without a net: the id is the nearest colour's."""

    def __init__(self, classes=3, binary=False, known=(), path="", ignore=255, group=ALONE):
        self.names = tuple("abc"[:classes])
        self.decision = Exclusive(self.names, schema.defaults().predict, Settings(), False)
        data = SimpleNamespace(kwargs={"ignore": ignore}, path=str(path))
        split = SimpleNamespace(classes=known)
        how = {"values": "ids", "ids": (), "stored": False}
        self.reading = SimpleNamespace(**how, binary=True) if binary else None
        self.restored = SimpleNamespace(
            step=7,
            group=group,
            config=SimpleNamespace(data=data),
            data=SimpleNamespace(split=split),
        )

        self.members = [SimpleNamespace(restored=self.restored)]

    def read(self, files):
        return [{"image": images.read_image(files.image)}]

    def label(self, examples, prior):
        apart = np.abs(examples[0]["image"][..., None, :].astype(int) - COLOURS).sum(-1)
        labels = apart[..., : len(self.names)].argmin(-1).astype(np.uint8)
        return Prediction(labels, 0.123456789, {"information": apart[..., 0] / 600})


def test_the_report_of_one_image(tmp_path):
    item = write(tmp_path, 3, (17, 40))
    ids = read(item.mask).copy()
    ids[:, :8], ids[3, 9] = 255, (ids[3, 9] + 1) % 3
    Image.fromarray(ids).save(item.mask)
    out = tmp_path / "out"
    entry, sums = predict.predict_one(Threshold(), item, out, None, False)
    labels = scene(3, (17, 40))[1]
    assert (entry["width"], entry["height"]) == (40, 17)
    assert entry["image"] == str(item.image)
    assert entry["mean_entropy"] == 0.123457
    assert 0 < entry["seconds"] < 600
    assert entry["seconds"] == float(f"{entry['seconds']:.3f}")
    shares = np.bincount(labels.ravel(), minlength=3) / labels.size
    assert list(entry["shares"].values()) == [float(f"{share:.6f}") for share in shares]
    assert list(entry["shares"]) == ["a", "b", "c"]
    expected = sklearn_metrics.confusion_matrix(ids[:, 8:].ravel(), labels[:, 8:].ravel())
    np.testing.assert_array_equal(sums["confusion"], expected)
    assert entry["scores"]["pixel_accuracy"] == pytest.approx(1 - 1 / (17 * 32))
    np.testing.assert_array_equal(read(out / "masks" / "s3.png"), labels)
    assert read(out / "information" / "s3.png").shape == (17, 40)
    overlay, image = read(out / "overlays" / "s3.png"), read(item.image)
    np.testing.assert_array_equal(overlay[labels == 0], image[labels == 0])
    assert (overlay[labels == 1] != image[labels == 1]).any()


def test_the_report_of_all_images(tmp_path, capsys):
    items = [write(tmp_path, seed, (16, 24)) for seed in (1, 2)]
    items.append(write(tmp_path, 3)._replace(mask=None))
    bad = tmp_path / "images" / "bad.png"
    bad.write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 40)
    failed = predict.predict(Threshold(), [*items, Files(bad, None, None)], tmp_path / "out", None)
    assert len(failed) == 1
    assert failed[0].startswith(f"{bad}: cannot be read")
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["step"], report["classes"], report["failed"]) == (7, ["a", "b", "c"], failed)
    assert [entry["image"] for entry in report["images"]] == [str(item.image) for item in items]
    assert ["scores" in entry for entry in report["images"]] == [True, True, False]
    assert report["scores"]["mean_iou"] == 1.0
    streams = capsys.readouterr()
    assert json.loads(streams.out) == report["scores"]
    assert "1/4 s1.png: 24 x 16, " in streams.err
    assert ", ETA 0 s" in streams.err
    assert f"4/4 {failed[0]}" in streams.err


def test_several_processes_share_the_images_out(tmp_path, capsys, caplog):
    """Process 0 writes the report that one process writes, in the order of the images."""
    items = [write(tmp_path, seed, (16, 24)) for seed in range(4)]
    bad = tmp_path / "images" / "bad.png"
    bad.write_bytes(b"")
    items.insert(2, Files(bad, None, None))
    one, both = tmp_path / "one", tmp_path / "both"
    failed = predict.predict(Threshold(), items, one, None)
    lines = capsys.readouterr().out
    work = lambda group: predict.predict(Threshold(group=group), items, both, None)
    assert everyone(groups(2), work) == [failed, failed]
    assert capsys.readouterr().out == lines
    reports = [json.loads((out / "report.json").read_text()) for out in (one, both)]
    for entry in (*reports[0]["images"], *reports[1]["images"]):
        del entry["seconds"]
    assert reports[0] == reports[1]
    names = lambda out: {path.relative_to(out) for path in out.rglob("*")}
    assert names(one) == names(both)


def test_scores_add_up_over_the_images(tmp_path):
    """The confusion of all pixels, not the mean over images of other sizes."""
    items = [write(tmp_path, 1, (8, 8)), write(tmp_path, 2, (32, 40))]
    Image.fromarray((scene(1, (8, 8))[1] + 1) % 3).save(items[0].mask)
    predict.predict(Threshold(), items, tmp_path / "out", None)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["scores"]["pixel_accuracy"] == pytest.approx(1280 / 1344)


def test_the_time_left_is_estimated_by_the_images_before(tmp_path, monkeypatch, capsys):
    now = [1000.0]

    def predict_one(segmenter, item, *arguments):
        now[0] += 10.0
        if item.image.name == "b.png":
            raise ValueError("is odd")
        return {"width": 30, "height": 20, "seconds": 9.876}, {}

    monkeypatch.setattr(predict, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(predict, "predict_one", predict_one)
    items = [Files(tmp_path / f"{name}.png", None, None) for name in "abcd"]
    failed = predict.predict(Threshold(), items, tmp_path / "out", None)
    assert failed == [f"{items[1].image}: is odd"]
    assert capsys.readouterr().err.splitlines() == [
        "1/4 a.png: 30 x 20, 9.88 s, ETA 30 s",
        f"2/4 {failed[0]}",
        "3/4 c.png: 30 x 20, 9.88 s, ETA 10 s",
        "4/4 d.png: 30 x 20, 9.88 s, ETA 0 s",
        f"3 images in {tmp_path / 'out'} (masks/, overlays/, report.json)",
    ]


def test_without_masks_there_are_no_scores(tmp_path, capsys):
    item = write(tmp_path, 1)._replace(mask=None)
    assert predict.predict(Threshold(), [item], tmp_path / "out", None) == []
    assert "scores" not in json.loads((tmp_path / "out" / "report.json").read_text())
    assert capsys.readouterr().out == ""


def test_an_error_that_does_not_name_its_image_gets_its_name(tmp_path):
    item = write(tmp_path, 1)
    segmenter = Threshold()
    segmenter.read = lambda files: [{"image": int("x")}]
    (line,) = predict.predict(segmenter, [item], tmp_path / "out", None)
    assert line.startswith(f"{item.image}: invalid literal")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ids": 7}, r"s3.png \(x 5, y 2\): id 7"),
        ({"shape": (24, 31)}, r"masks/s3.png: is 31 x 24, its image 32 x 24"),
        ({"names": "0,red\n1,dark\n2,blue\n"}, "id 0 is 'red' there, but 'dark' in the data of"),
    ],
)
def test_masks_that_do_not_fit_are_refused(tmp_path, change, message):
    item = write(tmp_path, 3)
    ids = np.zeros(change.get("shape", (24, 32)), np.uint8)
    ids[2, 5] = change.get("ids", 0)
    Image.fromarray(ids).save(item.mask)
    (tmp_path / "classes.csv").write_text(change.get("names", "0,dark\n1,red\n2,blue\n7,more\n"))
    segmenter = Threshold(known=("dark", "red", "blue"))
    with pytest.raises(ValueError, match=message):
        predict.predict_one(segmenter, item, tmp_path / "out", None, False)


@pytest.mark.parametrize("beside", ["masks", "training"])
def test_masks_in_colours(tmp_path, beside):
    item = write(tmp_path / "new", 3)
    table = "0,a,30,30,30\n1,b,220,60,60\n2,c,60,60,220\n"
    folder = tmp_path / ("new" if beside == "masks" else "old")
    folder.mkdir(exist_ok=True)
    (folder / "classes.csv").write_text(table)
    Image.fromarray(COLOURS[scene(3)[1]]).save(item.mask)
    segmenter = Threshold(path=tmp_path / "old")
    entry, _ = predict.predict_one(segmenter, item, tmp_path / "out", None, False)
    assert entry["scores"]["pixel_accuracy"] == 1.0


# The command, from a folder of images and masks to a trained net.


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a data set, and the workdir of a net that was trained on it."""
    root = tmp_path_factory.mktemp("own")
    for split, seeds in {"train": range(16), "test": range(20, 26)}.items():
        for seed in seeds:
            write(root / "data" / split, seed)
    (root / "data" / "classes.csv").write_text("id,name\n0,dark\n1,red\n2,blue\n")
    train.train(config_of(root / "data"), root / "run")
    return root / "data", root / "run"


def config_of(data):
    config = loading.with_defaults(ConfigDict(SMALL), "small")
    config.data.path = str(data)
    return config


def call(capsys, module, *arguments):
    """Runs a command in this process; returns its JSON and its messages."""
    module.main(list(map(str, arguments)))
    streams = capsys.readouterr()
    return (json.loads(streams.out) if streams.out else None), streams.err


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
    assert names == {"curves.png", "bars-00000030.png", "predictions-00000030.png"}


def test_a_run_goes_on_though_its_config_does_not_say_how_many_classes(run):
    data, workdir = run
    train.train(config_of(data), workdir)  # is done: neither refused nor begun again


def test_masks_overlays_and_exact_scores(run, tmp_path, capsys):
    data, workdir = run
    test = data / "test"
    arguments = (f"--images={test}/images/*.png", f"--masks={test}/masks", f"--out={tmp_path}")
    scores, _ = call(capsys, predict, f"--workdir={workdir}", *arguments)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["scores"] == scores
    assert len(report["images"]) == 6
    found = np.stack([read(path) for path in sorted((tmp_path / "masks").iterdir())])
    truth = np.stack([read(path) for path in sorted((test / "masks").iterdir())])
    every = sklearn_metrics.jaccard_score(truth.ravel(), found.ravel(), average=None)
    assert scores["mean_iou"] == pytest.approx(every.mean())
    assert scores["iou/red"] == pytest.approx(every[1])
    # The window is as large as the training images, so evaluate gives the same.
    evaluated, _ = call(capsys, evaluate, f"--workdir={workdir}")
    assert evaluated["mean_iou"] == pytest.approx(scores["mean_iou"], abs=1e-9)


def test_two_processes_predict_what_one_predicts(run, tmp_path, capsys):
    """Each on its own device, so to the bit."""
    for seed in (90, 91, 92):
        write(tmp_path, seed, (20, 30))
    arguments = [f"--workdir={run[1]}", f"--images={tmp_path / 'images'}", "--prior=estimate"]
    arguments += [f"--masks={tmp_path / 'masks'}"]
    predict.main([*arguments, f"--out={tmp_path / 'one'}", "--config.mesh.data=1"])
    scores = json.loads(capsys.readouterr().out)
    local = ("local", "--processes=2", "--restarts=0", "predict", "--")
    done = runs.run(*local, *arguments, f"--out={tmp_path / 'two'}")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == scores
    files = {path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.png")}
    assert len(files) == 6
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_flags_change_the_prediction(run, tmp_path, capsys):
    data, workdir = run
    common = (f"--workdir={workdir}", f"--images={data}/test/images/s20.png")
    found = {}
    for name, flags in {
        "refined": ("--crf", "--passes=2", "--flips"),
        "clean": ("--min_size=200", "--fill_holes=1,2"),
        "prior": ("--prior=1,0,0",),
    }.items():
        call(capsys, predict, *common, f"--out={tmp_path / name}", *flags)
        found[name] = read(tmp_path / name / "masks" / "s20.png")
    truth = scene(20)[1]
    assert np.unique(regions(truth), return_counts=True)[1].min() < 200
    assert np.unique(regions(found["clean"]), return_counts=True)[1].min() >= 200
    assert (found["refined"] == truth).mean() > 0.9
    assert read(tmp_path / "refined" / "information" / "s20.png").shape == (24, 32)
    assert not found["prior"].any()


def test_the_mean_of_several_runs(run, tmp_path, capsys):
    """Each predicts on its own, and the command has their mean; of one run twice it is the same."""
    data, workdir = run
    folds = [tmp_path / "cv" / f"fold{number}" for number in (1, 2)]
    for fold in folds:
        shutil.copytree(workdir, fold)
    parameters = lambda *more: [f"--images={data}/test/images", "--probabilities=npy", *more]
    scores = f"--masks={data}/test/masks"
    one, _ = call(
        capsys, predict, f"--workdir={workdir}", *parameters(f"--out={tmp_path}/one", scores)
    )
    both, said = call(
        capsys, predict, f"--workdir={tmp_path}/cv", *parameters(f"--out={tmp_path}/both", scores)
    )
    assert f"{tmp_path}/cv: fold1, fold2" in said
    assert "(masks/, overlays/, entropy/, information/, probabilities/, report.json)" in said
    assert both == one
    report = json.loads((tmp_path / "both" / "report.json").read_text())
    assert report["members"] == [{"workdir": str(fold), "step": 30} for fold in folds]
    assert "step" not in report
    for name in ("s20", "s25"):
        maps = [
            np.load(tmp_path / out / "probabilities" / f"{name}.npy") for out in ("one", "both")
        ]
        np.testing.assert_allclose(*maps, atol=1e-6)
        np.testing.assert_array_equal(
            read(tmp_path / "one" / "masks" / f"{name}.png"), maps[0].argmax(-1)
        )
    with pytest.raises(UserError, match=f"--workdir: {workdir} is given twice"):
        predict.main(["--workdir", str(workdir), str(workdir), *parameters(f"--out={tmp_path}/no")])


def test_maps_of_the_earth_stay_where_they_are(run, tmp_path, capsys):
    """GeoTIFFs in folders, one of them with pixels without data."""
    image, ids = scene(50, (40, 30))
    image[:8] = 0
    place = [(33550, "d", 3, (2.0, 2.0, 0.0), True), (42113, "s", 0, "0", True)]
    for day in ("mon", "tue"):
        for folder, array in {"images": image, "masks": ids}.items():
            path = tmp_path / folder / day / "a.tif"
            path.parent.mkdir(parents=True)
            tifffile.imwrite(path, array, extratags=place, metadata=None)
    arguments = [f"--workdir={run[1]}", f"--images={tmp_path}/images", f"--masks={tmp_path}/masks"]
    with pytest.raises(UserError, match=r"its results might replace .*masks/mon/a.tif"):
        predict.main([*arguments, f"--out={tmp_path}"])
    out = tmp_path / "out"
    scores, said = call(capsys, predict, *arguments, f"--out={out}")
    assert "2/2 tue/a.tif: 30 x 40, " in said
    assert scores["mean_iou"] > 0.9  # of the pixels with data
    for day in ("mon", "tue"):
        with tifffile.TiffFile(out / "masks" / day / "a.tif") as file:
            found, tags = file.asarray(), file.pages[0].tags
            assert (tags[33550].value, tags[42113].value) == ((2.0, 2.0, 0.0), "255")
        assert (found[:8] == 255).all()
        assert (found[8:] == ids[8:]).mean() > 0.9
        assert (out / "overlays" / day / "a.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--images=nowhere/*.jpg"], "no such file"),
        (
            ["--images={data}/test/images", "--masks={data}/train/masks"],
            "no file of the stem 's20'",
        ),
        (["--images={data}/test/images", "--prior=0.5,0.5"], "give 3 shares"),
        (["--images={data}/test/images", "--batch_size=0"], "at least 1, got 0"),
        (["--images={data}/test/images", "--min_size=-1"], "must not be negative"),
        (["--images={data}/test/images", "--passes=-1"], "must not be negative"),
        (["--images={data}/test/images", "--fill_holes=1,3"], "no class 3; ids are 0 to 2"),
        (["--images={data}/test/images", "--config.predict.overlap=1.5"], "overlap"),
        (["--images={data}/test/images", "--threshold=1"], "between 0 and 1, got 1.0"),
        (["--images={data}/test/images", "--threshold=0.4"], "of two classes; this run has 3"),
        (["--images={bad}"], r"1 of 1 images could not be predicted:\n.*bad.png"),
    ],
)
def test_mistakes_are_named(run, tmp_path, arguments, message):
    data, workdir = run
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    arguments = [argument.format(data=data, bad=bad) for argument in arguments]
    with pytest.raises(UserError, match=message):
        predict.main([f"--workdir={workdir}", f"--out={tmp_path}/out", *arguments])


NEEDED = ("--workdir=w", "--images=i", "--out=o")


def test_a_plain_prediction_is_not_postprocessed(capsys):
    options, overrides = predict._parse([*NEEDED, "--config.seed=1"])
    assert overrides == ["--config.seed=1"]
    assert (options.min_size, options.fill_holes, options.passes, options.prior) == (0, (), 0, "")
    assert (options.flips, options.crf, options.batch_size) == (False, False, 1)
    assert (options.masks, options.depth, options.step) == (None, None, None)
    assert (options.threshold, options.probabilities, len(options.workdir)) == (None, "", 1)
    for left_out in range(3):
        with pytest.raises(SystemExit):
            predict._parse([*NEEDED[:left_out], *NEEDED[left_out + 1 :]])


def test_ids_are_a_list_of_numbers(capsys):
    with pytest.raises(SystemExit):
        predict.main(["--workdir=w", "--images=i", "--out=o", "--fill_holes=1,x"])
    assert "'1,x' is not a list of class ids; write 1 or 1,2" in capsys.readouterr().err


def test_augmentation_that_fails_is_named_before_anything_compiles(run, tmp_path):
    config = config_of(run[0])
    config.data.augment = [{"name": "jaxseg.cues.depth:drop"}]
    with pytest.raises(UserError, match=r"config.data.augment.*drop needs examples with `depth`"):
        train.train(config, tmp_path / "run")
