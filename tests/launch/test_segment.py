import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from launch import segment
from launch.config.errors import UserError


def read(path):
    with Image.open(path) as image:
        return np.asarray(image)


def call(*arguments):
    segment.main(list(map(str, arguments)))


@pytest.fixture
def halves(tmp_path):
    """A picture whose halves differ in brightness, and a depth map of the same halves."""
    picture = np.full((40, 48, 3), 60, np.uint8)
    picture[:, 24:] = 190
    Image.fromarray(picture).save(tmp_path / "picture.png")
    depth = np.full((40, 48), 1000, np.uint16)
    depth[:, 24:] = 3000
    depth[5:8, 5:8] = 0
    Image.fromarray(depth).save(tmp_path / "depth.png")
    return tmp_path


def test_boundaries_divide_the_halves(halves):
    arguments = (f"--images={halves}/picture.png", f"--out={halves}/out", "--threshold=0.2")
    call("--cue=boundary", *arguments)
    labels = read(halves / "out" / "regions" / "picture.png")
    assert len(np.unique(labels)) == 2
    assert (labels[:, :23] == labels[0, 0]).all()
    assert (labels[:, 25:] == labels[0, 47]).all()
    canny = read(halves / "out" / "canny" / "picture.png")
    assert canny[5:-5, 22:26].any(1).all()
    assert not canny[:, 30:].any()
    names = {path.name for path in (halves / "out").iterdir()}
    assert names == {"strength", "canny", "contours", "regions", "overlays", "report.json"}


def test_depth_has_layers_and_unknown_pixels_none(halves):
    call("--cue=depth", f"--images={halves}/depth.png", f"--out={halves}/out", "--layers=2")
    labels = read(halves / "out" / "regions" / "depth.png")
    assert (labels[5:8, 5:8] == 255).all()
    with Image.open(halves / "out" / "regions" / "depth.png") as file:
        assert set(file.convert("RGB").getpixel((6, 6))) == {128}  # unknown is grey
    assert (labels[10:, :24] == 0).all()
    assert (labels[:, 24:] == 1).all()
    assert len(np.unique(read(halves / "out" / "surfaces" / "depth.png"))) == 3
    normals = read(halves / "out" / "normals" / "depth.png")
    assert normals.shape == (40, 48, 3)
    facing = normals[20, 5]  # in a plane that faces the camera
    assert facing[:2].tolist() == [128, 128]
    assert facing[2] in (0, 255)
    assert read(halves / "out" / "filled" / "depth.png")[20, [5, 40]].tolist() == [0, 255]


def test_normals_are_colours():
    normals = np.array([[[-1.0, 0.0, 1.0], [0.5, -0.5, 0.25]]])
    np.testing.assert_allclose(segment.normals_image(normals), [[[0, 0.5, 1], [0.75, 0.25, 0.625]]])


def test_a_report_of_a_cue(tmp_path, capsys):
    paths = [tmp_path / name for name in ("a.png", "b.png", "c.png")]

    def cue(path):
        if path.name == "b.png":
            raise ValueError("is odd")
        return np.arange(12).reshape(3, 4) % (3 if path.name == "a.png" else 5)

    failed = segment.segment(cue, paths, tmp_path / "out")
    assert failed == [f"{paths[1]}: is odd"]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["failed"] == failed
    assert [entry["regions"] for entry in report["images"]] == [3, 5]
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("1/3 a.png: 3 regions, 0.00 s, ETA 0 s")
    assert lines[1:] == [f"2/3 {failed[0]}", lines[2], f"2 images in {tmp_path / 'out'}"]


def test_the_time_left_is_estimated_by_the_images_before(tmp_path, monkeypatch, capsys):
    now = [1000.0]

    def cue(path):
        now[0] += 10.1236
        return np.zeros((2, 2))

    monkeypatch.setattr(segment, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    paths = [tmp_path / name for name in "abc"]
    assert segment.segment(cue, paths, tmp_path / "out") == []
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(": ")[2] for line in lines[:3]] == [
        f"1 regions, 10.12 s, ETA {left} s" for left in (20, 10, 0)
    ]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [entry["seconds"] for entry in report["images"]] == [10.124] * 3


NEEDED = ("--cue=depth", "--images=i", "--out=o")


def test_what_is_not_said_is_estimated():
    options = segment._parse(list(NEEDED))
    assert (options.threshold, options.textures, options.layers) == (0.37, 0, 0)
    for value in (0.0, 1.0):
        assert segment._parse([*NEEDED, f"--threshold={value}"]).threshold == value
    for left_out in range(3):
        with pytest.raises(SystemExit):
            segment._parse([*NEEDED[:left_out], *NEEDED[left_out + 1 :]])


def test_a_cue_takes_its_own_option_and_files(tmp_path, monkeypatch):
    asked = []
    for name in ("boundary", "texture", "depth"):

        def cue(path, out, option, name=name):
            asked.append((name, path.name, option))
            return np.zeros((2, 2))

        monkeypatch.setattr(segment, f"by_{name}", cue)
    np.save(tmp_path / "a.npy", np.ones((2, 2)))
    Image.fromarray(np.ones((2, 2), np.uint8)).save(tmp_path / "b.jpg")
    for name, file, option in (
        ("boundary", "b.jpg", 0.37),
        ("texture", "b.jpg", None),
        ("depth", "a.npy", None),
    ):
        call(f"--cue={name}", f"--images={tmp_path}", f"--out={tmp_path}/out")
        assert asked.pop() == (name, file, option)


@pytest.mark.parametrize("metres", [0, 2])
def test_a_depth_map_without_a_range_is_black(tmp_path, monkeypatch, metres):
    """Of one depth, or of none; the cues and the layers have tests of their own."""
    kept = {}
    for name, stand_in in {
        "layers": SimpleNamespace(
            layers=lambda depth, count: np.zeros(depth.shape, np.int32),
            surfaces=lambda depth: np.zeros(depth.shape, np.int32),
        ),
        "depth": SimpleNamespace(
            fill=lambda depth: depth,
            edges=lambda depth: depth,
            normals=lambda depth, focal: np.full((*depth.shape, 3), focal),
        ),
        "jax": SimpleNamespace(jit=lambda function: function),
        "image_files": SimpleNamespace(save=lambda path, picture: kept.update(normals=picture)),
    }.items():
        monkeypatch.setattr(segment, name, stand_in)
    keep = lambda path, values: kept.update({path.parent.name: values})
    monkeypatch.setattr(segment.label_files, "save_grey", keep)
    np.save(tmp_path / "a.npy", np.full((3, 5), float(metres), np.float32))
    segment.by_depth(tmp_path / "a.npy", tmp_path, None)
    assert kept["filled"].tolist() == [[0.0] * 5] * 3
    assert kept["normals"].shape == (1, 3, 5, 3)
    assert (kept["normals"] == 5 / 2 + 0.5).all()  # the longer side is the focal length


def test_label_0_has_a_colour_where_it_is_a_region(tmp_path):
    image = np.full((2, 3, 3), 100, np.uint8)
    labels = np.array([[0, 1, 255]] * 2, np.uint8)
    overlays = {}
    for first in (0, 1):
        segment._save_regions(tmp_path / str(first), "x", image, labels, first)
        overlays[first] = read(tmp_path / str(first) / "overlays" / "x.png")[0]
    changed = lambda overlay: (overlay != 100).any(-1).tolist()
    assert changed(overlays[0]) == [False, True, True]
    assert changed(overlays[1]) == [True, True, False]  # unknown stays as it is


def test_textures_are_found(tmp_path):
    rng = np.random.default_rng(0)
    picture = np.empty((96, 96), np.uint8)
    stripes = 127 + 100 * np.sin(np.arange(96) * 1.2)
    picture[:, :48] = np.broadcast_to(stripes, (96, 96))[:, :48]
    picture[:, 48:] = rng.integers(27, 227, (96, 48))
    deep = 3000 + 4 * picture.astype(np.uint16)  # as a camera of 12 bits gives it
    Image.fromarray(deep).save(tmp_path / "t.png")
    call("--cue=texture", f"--images={tmp_path}/t.png", f"--out={tmp_path}/out", "--textures=2")
    labels = read(tmp_path / "out" / "regions" / "t.png")
    truth = np.arange(96) >= 48
    agree = (labels == truth).mean()
    assert max(agree, 1 - agree) > 0.93
    overlay = read(tmp_path / "out" / "overlays" / "t.png")
    assert (overlay != picture[..., None]).any(-1).mean() > 0.99  # the first has a colour too


def test_one_bad_image_does_not_cost_the_others(halves):
    (halves / "in").mkdir()
    (halves / "in" / "bad.png").write_bytes(b"not a picture")
    (halves / "depth.png").rename(halves / "in" / "depth.png")
    with pytest.raises(UserError, match=r"1 of 2 images.*\n.*bad.png"):
        call("--cue=depth", f"--images={halves}/in", f"--out={halves}/out")
    report = json.loads((halves / "out" / "report.json").read_text())
    assert [entry["regions"] for entry in report["images"]] == [3]
    assert len(report["failed"]) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cue=texture", "--images=nowhere"], "no such file"),
        (["--cue=boundary", "--images=.", "--threshold=2"], "threshold"),
        (["--cue=depth", "--images=.", "--layers=-1"], "layers"),
        (["--cue=texture", "--images=.", "--textures=-1"], "textures"),
        (["--cue=boundary", "--images=.", "--threshold=-0.1"], "threshold"),
        (["--cue=depth", "--images=.", "--config.seed=1"], "takes no config"),
    ],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(UserError, match=message):
        call(*arguments, "--out=unused")
