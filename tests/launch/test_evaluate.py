"""Scores of images by the command: what is compared, and the card of the scores."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxgen import task as generation
from jaxseg import task as segmentation
from launch import evaluate, train
from launch.config import schema
from launch.config.errors import UserError
from launch.engine import trained_runs
from launch.scoring import reals, score_card
from tests.launch.scoring import stand_ins

STAND_INS = "tests.launch.scoring.stand_ins"
PARTS = {
    "init": lambda rng, batch: {"weight": jnp.zeros(2)},
    "train_step": lambda state, batch, rng: (state, {"loss": jnp.zeros(())}),
    "eval_step": lambda state, batch, rng: {"loss": jnp.zeros(())},
    "finish": lambda sums: {"loss": float(sums["loss"])},
    "figures": lambda state, batch, rng: {},
}


def pictures(split):
    """Masks of two classes, and pictures of them: class 1 is white, but for a corner."""
    rng = np.random.default_rng(["train", "test"].index(split))
    masks = rng.integers(0, 2, (160, 6, 6, 1)).astype(np.uint8)
    images = masks * np.full(3, 255, np.uint8)
    images[:, :3, :3] = 0
    return {"image": images, "segmentation": masks}


def maker(model, optimizer, example, classes):
    """Makes noise by seed and class, and gives each image back, but half as bright."""
    sample = lambda state, batch, rng: stand_ins.sample(0, batch)
    complete = lambda state, batch, rng: batch["image"] / np.float32(510)
    return generation.Task(**PARTS, sample=sample, complete=complete, given="image")


def painter(model, optimizer, example):
    """Makes an image of a mask: class 1 is white."""
    ink = lambda mask: jnp.repeat(mask.astype(jnp.float32), 3, axis=-1)
    complete = lambda state, batch, rng: ink(batch["segmentation"])
    return generation.Task(**PARTS, complete=complete, given="segmentation")


def reader(model, optimizer, example):
    """Labels what is white as class 1."""
    label = lambda batch: (batch["image"][..., :1] > 127).astype(jnp.uint8)

    def eval_step(state, batch, rng):
        right = jnp.mean(label(batch) == batch["segmentation"], axis=(1, 2, 3))
        return {"loss": jnp.sum((1 - right) * batch["mask"]), "count": jnp.sum(batch["mask"] * 1.0)}

    def finish(sums):
        wrong = float(sums["loss"] / sums.get("count", 1.0))
        return {"loss": wrong, "accuracy": 1 - wrong, "nothing": float("nan")}

    predict = lambda state, batch, rng: {"labels": label(batch)}
    parts = PARTS | {"eval_step": eval_step, "finish": finish}
    return segmentation.Task(**parts, predict=predict)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of each task, after one step."""
    folders = {}
    for name, data in (
        ("maker", f"{STAND_INS}:images"),
        ("painter", f"{__name__}:pictures"),
        ("reader", f"{__name__}:pictures"),
    ):
        config = schema.defaults()
        config.data.name = data
        with config.unlocked():
            config.task = {"name": f"{__name__}:{name}"}
            if name == "maker":
                config.task.classes = 4
            config.model = {"name": "jaxgen.nets:MLPDecoder"}
            config.optimizer = {"name": "optax:sgd", "learning_rate": 0.1}
            config.score.features = {"name": f"{STAND_INS}:quarters"}
        config.data.batch_size = 8
        config.mesh.data = 1
        config.train.steps = config.eval.every = config.checkpoint.every = 1
        folders[name] = tmp_path_factory.mktemp("runs") / name
        train.train(config, folders[name])
    return folders


@pytest.fixture
def run(capsys, runs):
    def run(name, *arguments):
        places = [argument.replace("READER", str(runs["reader"])) for argument in arguments]
        places = [argument.replace("MAKER", str(runs["maker"])) for argument in places]
        evaluate.main([f"--workdir={runs[name]}", *places, "--config.mesh.data=1"])
        return json.loads(capsys.readouterr().out)

    return run


def test_exact_metrics_of_a_split(run):
    found = run("reader", "--split=train")
    images = pictures("train")
    right = (images["image"][..., :1] > 127) == images["segmentation"]
    assert found.pop("accuracy") == pytest.approx(right.mean(), abs=1e-6)
    loss, nothing = found.pop("loss"), found.pop("nothing")
    assert loss == pytest.approx(1 - right.mean(), abs=1e-6)
    assert nothing is None  # JSON has no NaN
    assert found == {"step": 1, "split": f"{__name__}:pictures train", "examples": 160}


def test_all_scores_with_their_card(run, runs):
    flags = ("--samples=64", "--reals=80", "--completions", "--floor", "--force", "--neighbours=5")
    found = run("maker", *flags)
    card = found.pop("card")
    assert card.pop("ms_ssim_scales") == 1
    assert card == {
        "features": "quarters",
        "force": True,
        "eval_split": "test",
        "reals": 80,
        "samples": 64,
        "seeds": "0-63",
        "completions": 80,
        "floor": 64,
        "seed": 0,
        "k": 5,
        "kid_blocks": 20,
        "device": "cpu",
    }
    names = {
        *("fid", "kid", "kid_standard_error", "precision", "recall", "density", "coverage"),
        *("ms_ssim", "feature_variance"),
        *("class_coverage", "least_class_share", "most_class_share"),
    }
    kinds = {f"{kind}{name}" for kind in ("", "completions/", "floor/") for name in names}
    header = {"step", "split", "examples"}
    assert found.keys() == kinds | header | {"class_agreement", "copied", "real/ms_ssim"}
    assert found["copied"] == 0.0  # noise is far from every image
    assert (found["step"], found["examples"]) == (1, 90)
    assert found["floor/fid"] < found["fid"]  # real images against noise
    # What is half as bright varies a quarter as much, and shows the same classes.
    assert found["completions/feature_variance"] == pytest.approx(0.25, abs=0.01)
    label = stand_ins.images("test")["label"][:80]
    share = np.bincount(label, minlength=4) / 80
    assert found["completions/most_class_share"] == pytest.approx(share.max())
    drawn = stand_ins.sample(0, {"index": np.arange(64), "label": np.arange(64) % 4})
    classes = stand_ins.quarters().apply(np.arange(6), drawn)[1].argmax(-1)
    assert found["class_agreement"] == pytest.approx(np.mean(classes == np.arange(64) % 4))
    file = runs["maker"] / "scores" / "samples+completions+floor-00000001.json"
    written = json.loads(file.read_text())
    assert "examples" not in written
    assert written.pop("card") == card | {"ms_ssim_scales": 1}
    assert written.items() <= found.items()
    with Image.open(runs["maker"] / "figures" / "neighbours-00000001.png") as picture:
        assert picture.size == ((5 * 9 - 1) * 6, (3 * 9 - 1) * 6)  # 5 samples, 3 rows


def test_real_images_are_measured_once_for_a_grid(runs, monkeypatch, capsys):
    """Two points: the second extracts the features of its samples and completions alone."""
    calls, make, build = [], reals.sample_metrics.make_extractor, reals.features.build
    monkeypatch.setattr(reals.features, "build", lambda *a: calls.append("net") or build(*a))

    def counting(*arguments):
        extract = make(*arguments)
        return lambda *batch: calls.append(len(batch[1])) or extract(*batch)

    monkeypatch.setattr(reals.sample_metrics, "make_extractor", counting)
    restored = trained_runs.restore(runs["maker"], ["--config.mesh.data=1"], None, "")
    grid = [(restored, {"guidance": value}) for value in (1.0, 2.0)]
    monkeypatch.setattr(evaluate, "_grid", lambda *arguments: iter(grid))
    flags = ["--samples=64", "--completions", "--floor", "--batch_size=64", "--neighbours=2"]
    evaluate.main([f"--workdir={runs['maker']}", *flags])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    # 90 real images and 64 of the floor; 64 samples, 90 completions; 90 training images.
    assert calls == ["net", *[64] * (2 + 1), *[64] * (1 + 2 + 2), *[64] * (1 + 2)]
    for line, value in zip(lines, (1.0, 2.0), strict=True):
        assert line.pop("guidance") == value
    assert lines[0] == lines[1]


def test_a_mistake_in_a_later_point_is_found_before_the_first_is_scored(tmp_path, monkeypatch):
    def grid(*arguments):
        yield None, {"guidance": 1.0}
        raise UserError("guidance=2.0 needs classes")

    monkeypatch.setattr(evaluate, "_grid", grid)
    monkeypatch.setattr(evaluate, "evaluate", lambda *arguments: 1 / 0)
    with pytest.raises(UserError, match="needs classes"):
        evaluate.main([f"--workdir={tmp_path}", "--samples=64", "--guidance=1,2"])


def test_a_figure_or_a_file_that_fails_does_not_lose_the_scores(run, monkeypatch, capsys):
    def fail(*arguments):
        raise OSError("the disk of the figures is gone")

    monkeypatch.setattr(score_card.image_files, "save", fail)
    with pytest.raises(OSError, match="of the figures"):
        run("maker", "--samples=64", "--reals=80", "--force")
    assert json.loads(capsys.readouterr().out)["fid"] > 0
    monkeypatch.setattr(evaluate, "replacing", fail)
    with pytest.raises(OSError, match="is gone"):
        run("maker", "--samples=64", "--reals=80", "--force", "--neighbours=0")
    assert json.loads(capsys.readouterr().out)["fid"] > 0


def test_scores_of_completions_alone(run, runs):
    figure = runs["maker"] / "figures" / "neighbours-00000001.png"
    figure.unlink(missing_ok=True)
    found = run("maker", "--completions", "--reals=80", "--batch_size=32")
    card = found["card"]
    assert (card["samples"], card["seeds"], card["floor"]) == (None, None, None)
    assert (card["completions"], card["force"]) == (80, False)
    assert "fid" not in found
    assert "class_agreement" not in found
    assert found["completions/feature_variance"] == pytest.approx(0.25, abs=0.01)
    assert not figure.exists()


@pytest.mark.parametrize(
    ("name", "flags", "message"),
    [
        ("maker", ("--samples=39",), "--samples: .* needs at least 40 images; there are 39"),
        ("maker", ("--samples=64", "--reals=30"), "--reals.* at least 40 images; there are 30"),
        ("maker", ("--samples=0",), "--samples must be at least 1, got 0"),
        ("maker", ("--reals=0",), "--reals must be at least 1, got 0"),
        ("maker", ("--batch_size=0",), "--batch_size must be at least 1, got 0"),
        ("maker", ("--neighbours=-1",), "--neighbours must be at least 0, got -1"),
        ("maker", ("--reals=80",), "--reals has no effect without --samples or --completions or"),
        ("painter", ("--segmenter=READER", "--force"), "--force has no effect without --samples"),
        ("maker", ("--floor", "--neighbours=5"), "--neighbours has no effect without --samples$"),
        ("maker", ("--neighbours=0",), "--neighbours has no effect without --samples$"),
        ("maker", ("--inception=no.pth",), "--inception has no effect without --samples"),
        ("maker", ("--floor", "--interval=0,1"), "--interval has no effect without --samples or"),
        ("maker", ("--samples=64", "--interval=0,1"), "--interval: .*maker does not sample step"),
        ("maker", ("--samples=64", "--force", "--inception=no.pth"), "--force has no effect with"),
        ("maker", ("--samples=64", "--inception=no.pth"), "no such weights file: no.pth"),
        ("maker", ("--floor", "--split=train"), "train is the training split; give another"),
        ("maker", ("--segmenter=MAKER",), "makes images from `image`, not from `segmentation`"),
        ("painter", ("--segmenter=MAKER",), "maker does not label images"),
        ("reader", ("--samples=64",), r"--samples: .*reader has no sample\(\)"),
        ("reader", ("--completions",), r"--completions: .*reader has no complete\(\)"),
        ("reader", ("--segmenter=READER",), r"--segmenter: .*reader has no complete\(\)"),
    ],
)
def test_mistakes_are_named_before_anything_is_drawn(run, name, flags, message):
    with pytest.raises(UserError, match=message):
        run(name, *flags)


def test_data_without_labels_have_no_classifier(run):
    classifier = "--config.score.features.name=launch.scoring.features:classifier"
    with pytest.raises(UserError, match=r"learns from an integer `label`.*--inception=FILE"):
        run("painter", "--completions", classifier)


def test_images_made_of_masks_are_labelled_by_a_segmenter(run, runs):
    found = run("painter", "--segmenter=READER", "--reals=40")
    masks = pictures("test")
    seen = (masks["image"][:40, ..., :1] > 127) == masks["segmentation"][:40]
    assert found["segmenter/accuracy"] == pytest.approx(1)
    assert found["segmenter/real/accuracy"] == pytest.approx(seen.mean(), abs=1e-6)
    assert found["segmenter/real/accuracy"] < 0.95
    card = found["card"]["segmenter"]
    assert (card["workdir"], card["step"], card["images"]) == (str(runs["reader"]), 1, 40)
    assert found["card"].keys() == {"segmenter", "device"}
    assert (runs["painter"] / "scores" / "segmenter-00000001.json").is_file()


def test_plain_metrics_unless_scores_are_asked_for():
    options = evaluate._arguments().parse_args(["--workdir=w"])
    assert not any(getattr(options, kind) for kind in evaluate.KINDS)
    assert (options.neighbours, options.force, options.split) == (None, False, "")
    assert evaluate.NEIGHBOURS == 16
    assert (options.batch_size, options.reals, options.inception) == (None, None, None)
    options.batch_size = options.samples = options.reals = 1
    options.neighbours = 0
    evaluate._check_numbers(options)
    with pytest.raises(SystemExit):
        evaluate._arguments().parse_args([])
