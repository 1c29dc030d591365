import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from jaxgen import autoencoder, autoregressive, flow, gan_training
from jaxgen.losses import bounds
from jaxgen.metrics import frechet
from jaxseg import classification, edge_detection, instances, multilabel, segmentation
from launch.reporting import plots


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("L"))


def test_curves_have_a_panel_for_each_metric(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [
        {
            "step": step,
            "split": split,
            "loss": 1 / step,
            "iou/wall": 0.5,
            "data_wait": 0.0,
            "miou": None if split == "train" else 0.1 * step,
        }
        for step in (1, 2, 3)
        for split in ("train", "test")
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    plots.curves(path, tmp_path / "out" / "curves.png")
    two = pixels(tmp_path / "out" / "curves.png")
    assert two.shape == (286, 880)  # two panels of 4 x 2.6 inches beside each other, 110 dpi
    assert (two < 128).any()


@pytest.fixture
def drawn(monkeypatch):
    """The figures that would be written."""
    figures = []
    monkeypatch.setattr(plots, "_save", lambda figure, out: figures.append(figure))
    return figures


def test_curves_are_the_numbers_of_each_split(tmp_path, drawn):
    path = tmp_path / "metrics.jsonl"
    names = ("a", "b", "c", "d")
    lines = [
        {"step": step, "split": "train", "images_per_second": 9.0}
        | {name: 10.0 * step + k for k, name in enumerate(names)}
        for step in range(20)
    ]
    lines.append({"step": 19, "split": "test", "b": 7, "a": "text"})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    plots.curves(path, tmp_path / "curves.png")
    figure, axes = drawn[0], drawn[0].axes
    assert tuple(figure.get_size_inches()) == pytest.approx((12, 5.2))
    assert [axis.get_visible() for axis in axes] == [True] * 4 + [False] * 2
    assert [axis.get_title() for axis in axes[:4]] == list(names)
    assert {axis.get_xlabel() for axis in axes[:4]} == {"step"}
    assert [len(axis.lines) for axis in axes[:4]] == [1, 2, 1, 1]
    train, test = axes[1].lines
    np.testing.assert_array_equal(train.get_xydata(), [(k, 10.0 * k + 1) for k in range(20)])
    np.testing.assert_array_equal(test.get_xydata(), [(19, 7)])
    assert (train.get_label(), test.get_label()) == ("train", "test")
    assert (train.get_marker(), test.get_marker()) == ("", ".")  # few points are marked
    assert [axis.get_legend() is not None for axis in axes[:2]] == [True, False]


def write(tmp_path, lines):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.mark.parametrize(("best", "step"), [("-mean_iou", 20), ("mean_iou", 10)])
def test_the_best_step_is_marked(tmp_path, drawn, best, step):
    scores = {10: 0.25, 20: 0.75, 30: 0.5, 40: 0.75, 50: None}
    lines = [{"step": k, "split": "test", "loss": 1.0, "mean_iou": v} for k, v in scores.items()]
    lines += [{"step": k, "split": "train", "mean_iou": v} for k, v in ((1, 0.9), (2, 0.01))]
    plots.curves(write(tmp_path, lines), tmp_path / "curves.png", best)
    loss, iou = drawn[0].axes[:2]
    assert [line.get_xdata() for line in loss.lines[1:]] == [[step, step]]  # in all panels
    marks = [line for line in iou.lines if line.get_marker() == "*"]
    assert [line.get_xydata().tolist() for line in marks] == [[[step, scores[step]]]]
    texts = [text.get_text() for text in iou.get_legend().get_texts()]
    assert texts == ["test", "train", f"best {scores[step]:g} at step {step}"]


def test_nothing_is_marked_before_the_first_evaluation(tmp_path, drawn):
    lines = [{"step": 1, "split": "train", "loss": 1.0}]
    plots.curves(write(tmp_path, lines), tmp_path / "curves.png", "loss")
    assert len(drawn[0].axes[0].lines) == 1


def test_axes_have_units(tmp_path, drawn):
    names = {
        "mean_iou": "0 to 1",
        "nll": "nats per image",
        "nll_bits_per_dim": "bits per dimension",
        "hausdorff95": "pixels",
        "count_error": "objects per image",
        "loss_t0.3": "loss",
        "error": "",  # of a user's own task: nobody knows
    }
    plots.curves(write(tmp_path, [{"step": 1, "split": "t"} | dict.fromkeys(names, 0.5)]), None)
    found = {axis.get_title(): axis.get_ylabel() for axis in drawn[0].axes[: len(names)]}
    assert found == {
        name.replace("_", " ").replace("iou", "IoU"): unit for name, unit in names.items()
    }


def metrics_of_the_tasks():
    """What `finish` of each shipped task gives of sums of ones."""
    two, bins = np.ones((2, 2)), np.ones(15)
    one = dict.fromkeys(("loss", "count"), 1.0)
    pixels = one | {
        "confusion": two,
        "calibration": dict.fromkeys(("pixels", "confidence", "correct"), bins),
    }
    contours = dict.fromkeys(("f1", "f1_images", "hausdorff95", "hausdorff95_images"), np.ones(2))
    labels = dict.fromkeys(("hit", "extra", "missed"), np.ones(2)) | {
        "positive": two,
        "negative": two,
    }
    sizes = dict.fromkeys(("true", "iou", "dice", "count_error"), 1.0)
    sizes |= dict.fromkeys(("true_pixels", "predicted_pixels", "both_pixels"), 1.0)
    objects = one | sizes | dict.fromkeys(("matched", "predicted"), np.ones(10))
    edges = one | dict.fromkeys(("found", "drawn", "right", "predicted"), np.ones(19))
    named, offset = SimpleNamespace(names=("a", "b")), SimpleNamespace(offset_bits=0.0)
    image = SimpleNamespace(shape=(2, 2, 1), likelihood=offset, levels=(), codec=None)
    codes = SimpleNamespace(shape=(2, 2, 1), levels=(2,), codec=object())
    terms = dict.fromkeys(("negative_elbo", "prior", "reconstruction", "diffusion", "nll"), 1.0)
    terms["noise_square"] = 1.0
    times = {"count_by_time": np.ones(10), "loss_by_time": np.ones(10)}
    players = ("discriminator_loss", "d_real", "d_fake", "d_accuracy", "distance", "penalty")
    coded = one | {"error": 1.0, "kl": 1.0, "codes": np.ones(2)}
    yield segmentation.finish(named, pixels | {"contours": contours})
    yield classification.finish(named, pixels)
    yield multilabel.finish(named, one | labels)
    yield instances.finish(objects)
    yield edge_detection.finish(edges)
    yield bounds.elbo_metrics(image, one | dict.fromkeys(("reconstruction", "kl", "nll"), 1.0))
    yield flow.finish(image, one | terms | times)
    yield gan_training.finish(one | dict.fromkeys((*players, "generated", "penalised"), 1.0))
    yield from (autoencoder.finish(model, coded) for model in (image, codes))
    yield from (autoregressive.finish(model, one) for model in (image, codes))
    yield frechet.class_shares(np.ones(2))


def test_every_metric_of_the_tasks_has_a_unit():
    names = {name for metrics in metrics_of_the_tasks() for name in metrics if "/" not in name}
    assert len(names) > 50
    assert [name for name in sorted(names) if not plots.unit(name)] == []


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ((1.0, 0.009), "log"),
        ((1.0, 0.011), "linear"),
        ((5.0, 0.0), "linear"),
        ((5.0, -1.0), "linear"),
    ],
)
def test_a_loss_that_spans_decades_is_drawn_on_a_logarithmic_axis(tmp_path, drawn, values, scale):
    lines = [{"step": k, "split": "train", "loss": v, "iou": v} for k, v in enumerate(values)]
    plots.curves(write(tmp_path, lines), None)
    assert [axis.get_yscale() for axis in drawn[0].axes[:2]] == [scale, "linear"]


def test_bars_are_the_numbers_of_each_class(tmp_path, drawn):
    plots.bars({"iou/a": 0.5, "iou/b": math.nan, "x/a": 2.0}, tmp_path / "bars.png")
    first, second = drawn[0].axes
    assert tuple(drawn[0].get_size_inches()) == pytest.approx((6, 2 * (0.8 + 2 * 0.22)))
    assert [bar.get_width() for bar in first.patches] == [0.5, 0.0]
    assert (first.get_title(), second.get_title()) == ("iou", "x")
    assert first.get_xlim() == pytest.approx((0, 1.12))
    assert second.get_xlim() == pytest.approx((0, 2.24))
    assert first.yaxis_inverted()
    plots.bars({f"iou/{k}": 0.1 for k in range(70)}, tmp_path / "bars.png")
    assert len(drawn[1].axes[0].patches) == 60
    assert drawn[1].get_size_inches()[1] == pytest.approx(0.8 + 60 * 0.22)


def test_bars_are_drawn_by_class_and_only_then(tmp_path):
    plots.bars({"loss": 1.0}, tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
    few = {"iou/wall": 0.5, "iou/ball": math.nan}
    plots.bars(few | {"loss": 1.0}, tmp_path / "few.png")
    plots.bars(few | {f"iou/{k}": 0.1 for k in range(20)}, tmp_path / "many.png")
    few, many = (pixels(tmp_path / f"{name}.png").shape for name in ("few", "many"))
    assert few[0] < many[0]
    assert not list(tmp_path.glob("*.tmp"))


def test_nothing_is_drawn_of_a_run_that_has_not_begun(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("")
    plots.curves(tmp_path / "metrics.jsonl", tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()
