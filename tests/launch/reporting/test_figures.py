import time

import numpy as np
import pytest

from launch.reporting import figures, sheets
from launch.reporting.figures import Chosen


def table(scores, rows=40):
    made = np.zeros((rows, 2))
    for index, score in scores.items():
        made[index] = score, 1
    return made


def chosen(scores, size=40):
    return [(one.index, one.kind) for one in figures.choose(table(scores), size, "mean_iou")]


def test_the_worst_the_middle_and_the_best_examples_are_chosen():
    scores = {index: (index * 7 % 40) / 40 for index in range(40)}
    by_score = sorted(scores, key=scores.get)
    assert chosen(scores) == [
        *((index, "worst") for index in by_score[:3]),
        *((index, "typical") for index in by_score[18:21]),
        *((index, "best") for index in by_score[38:]),
    ]


def test_of_equal_scores_the_smaller_index_is_first():
    found = chosen(dict.fromkeys(range(20), 0.5))
    assert [index for index, _ in found] == [0, 1, 2, 8, 9, 10, 18, 19]


@pytest.mark.parametrize("count", range(1, 12))
def test_of_few_examples_each_is_shown_once(count):
    found = chosen({index + 3: index / 20 for index in range(count)})
    indices = [index for index, _ in found]
    assert indices == sorted(set(indices))
    assert len(found) == min(count, 8)
    kinds = [kind for _, kind in found]
    assert kinds == sorted(kinds, key=["worst", "typical", "best"].index)


def test_without_scores_the_first_examples_are_shown():
    assert chosen({}, size=3) == [(0, ""), (1, ""), (2, "")]
    assert len(chosen({}, size=40)) == 8
    assert chosen({5: 0.1}, size=5) == [(k, "") for k in range(5)]  # row 5 is of no example


def test_scores_are_named():
    assert figures.choose(table({2: 0.25}), 40, "mean_iou")[0].score == "mean IoU 0.250"


def parts(count=8, height=60, width=80, classes=3):
    rng = np.random.default_rng(0)
    ids = rng.integers(0, classes, (2, count, height, width, 1)).astype(np.uint8)
    return {
        "predictions/image": rng.integers(0, 256, (count, height, width, 3)).astype(np.uint8),
        "predictions/truth": ids[0],
        "predictions/prediction": ids[1],
    }


def joined(images, rows, **options):
    options = {"classes": ("background", "b", "c"), "heading": "step 3"} | options
    return figures.join(images, rows, **options)


def test_parts_become_one_picture_and_whole_figures_stay(monkeypatch):
    drawn = []
    monkeypatch.setattr(sheets, "draw", lambda *given: drawn.append(given) or np.zeros((4, 5, 3)))
    rows, whole = [Chosen(7, "worst", "mean IoU 0.1"), Chosen(2)], np.zeros((2, 4, 4, 1))
    found = joined(parts() | {"samples": whole}, rows, title_of=lambda index: f"{index}.png")
    assert found["samples"] is whole
    assert found["predictions"].shape == (1, 4, 5, 3)
    ((heading, titles, lines, legends),) = drawn
    assert heading == "step 3"
    assert titles == ("image", "truth", "prediction", "errors")
    assert [row.heading for row in lines] == [("worst", "7.png   mean IoU 0.1"), ("", "2.png")]
    assert {len(row.tiles) for row in lines} == {4}
    assert [legend.title for legend in legends] == ["classes", "errors"]


@pytest.mark.parametrize(
    ("kind", "shape", "legends"),
    [("classes", (2, 3, 9, 8, 1), ["classes", "errors"]), ("objects", (2, 9, 8, 1), ["objects"])],
)
def test_columns_of_labels_are_compared(monkeypatch, kind, shape, legends):
    drawn = []
    monkeypatch.setattr(sheets, "draw", lambda *given: drawn.append(given) or np.zeros((4, 5, 3)))
    columns = {"image": np.ones((2, 9, 8, 3), np.uint8)}
    columns |= {f"{word} {kind}": np.ones(shape, np.float32) for word in ("predicted", "true")}
    joined({f"predictions/{name}": column for name, column in columns.items()}, [Chosen(0)])
    ((_, titles, ((_, tiles),), found),) = drawn
    assert titles == ("image", f"true {kind}", f"predicted {kind}", "errors")
    assert [tile.shape for tile in tiles] == [(35 * 9, 35 * 8, 3)] * 4
    assert [legend.title for legend in found][: len(legends)] == legends


def test_other_columns_are_images(monkeypatch):
    drawn = []
    monkeypatch.setattr(sheets, "draw", lambda *given: drawn.append(given) or np.zeros((4, 5, 3)))
    image = np.zeros((2, 100, 90, 3), np.uint8)
    image[:, :50, :40] = 9
    strength = np.full((2, 100, 90, 1), 0.5, np.float32)
    columns = {"prediction": strength, "annotators": strength * 4, "image": image}
    joined({f"edges/{name}": column for name, column in columns.items()}, [Chosen(0)])
    ((_, titles, ((heading, tiles),), legends),) = drawn
    assert (titles, heading, legends) == (
        ["image", "annotators", "prediction"],
        ("", "example 0"),
        (),
    )
    assert [tile.shape for tile in tiles] == [(300, 240, 3)] * 3  # cut, and enlarged six times
    assert (tiles[0] == 9).all()
    assert (tiles[1] == 255).all()
    assert (tiles[2] == 128).all()


@pytest.mark.parametrize("size", [(7, 9), (64, 64), (512, 512), (1024, 300), (300, 1024)])
def test_pictures_are_bounded(size):
    picture = joined(parts(2, *size), [Chosen(0), Chosen(1)])["predictions"][0]
    assert picture.dtype == np.uint8
    assert 600 < picture.shape[1] <= 1600
    assert picture.shape[0] < 1000


def test_a_picture_of_eight_rows_takes_less_than_a_second():
    images = parts(8, 512, 512)
    joined(parts(1), [Chosen(0)])  # opens the fonts
    began = time.process_time()
    joined(images, [Chosen(k) for k in range(8)])
    assert time.process_time() - began < 1.0
