import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from scipy import io

from launch.benchmarks import bsds
from launch.config.errors import UserError
from tests.launch.data.test_bsds import write


def test_perfect_maps_score_one(tmp_path, capsys):
    write(tmp_path)
    maps = tmp_path / "maps"
    maps.mkdir()
    for name, shape in {"one": (20, 30), "two": (30, 20)}.items():
        strength = np.zeros(shape)
        strength[[5, 9]] = 0.9
        np.save(maps / f"{name}.npy", strength)
    bsds.main([f"--data={tmp_path}", f"--maps={maps}", "--processes=1", "--thresholds=9"])
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["ODS"] == found["OIS"] == 1.0
    assert (found["images"], found["thresholds"], found["split"]) == (2, 9, "val")
    assert "2 of 2 images" in err


def test_maps_are_read_from_any_kind_of_file(tmp_path):
    strength = np.round(np.random.default_rng(0).random((6, 9)) * 255) / 255
    np.save(tmp_path / "a.npy", strength)
    Image.fromarray((strength * 255).round().astype(np.uint8)).save(tmp_path / "b.png")
    Image.fromarray((strength * 65535).round().astype(np.uint16)).save(tmp_path / "c.png")
    double = np.zeros((13, 19))
    double[2::2, 2::2] = strength
    io.savemat(tmp_path / "d.mat", {"ucm2": double})
    io.savemat(tmp_path / "e.mat", {"anything": strength})
    for stem in "abcde":
        np.testing.assert_allclose(bsds.read_map(tmp_path, stem), strength, atol=1e-5)
    with pytest.raises(UserError, match="has no f"):
        bsds.read_map(tmp_path, "f")
    io.savemat(tmp_path / "g.mat", {"one": strength, "two": strength})
    with pytest.raises(ValueError, match=r"g.mat holds 2 arrays; it must hold one map"):
        bsds.read_map(tmp_path, "g")


def test_portraits_are_turned_and_turned_back():
    image = np.arange(6 * 4 * 3).reshape(6, 4, 3)
    shapes = []

    def middle(image):
        shapes.append(image.shape)
        return image[..., 1]

    np.testing.assert_array_equal(bsds.as_landscape(middle, image), image[..., 1])
    np.testing.assert_array_equal(bsds.as_landscape(middle, image[:3]), image[:3, :, 1])
    assert shapes == [(4, 6, 3), (3, 4, 3)]


def test_mistakes_are_named(tmp_path):
    with pytest.raises(UserError, match="give one of them"):
        bsds.main([f"--data={tmp_path}", "--method=canny", f"--maps={tmp_path}"])
    with pytest.raises(UserError, match="no such folder"):
        bsds.main([f"--data={tmp_path}", f"--maps={tmp_path}"])
    with pytest.raises(UserError, match="at least 1"):
        bsds.main([f"--data={tmp_path}", "--limit=0", f"--maps={tmp_path}"])
    for wrong in ("--thresholds=0", "--processes=0"):
        with pytest.raises(UserError, match="at least 1"):
            bsds.main([f"--data={tmp_path}", wrong])
    with pytest.raises(SystemExit):
        bsds.main([])


def options_of(*arguments):
    return bsds._parse(["--data=d", *arguments])[0]


def test_the_defaults_are_the_protocol():
    options = options_of()
    assert (options.split, options.thresholds, options.limit) == ("val", 99, None)
    assert options.processes == os.cpu_count()
    assert bsds.source(options, [])[1] == "classical"
    least = options_of("--thresholds=1", "--processes=1", "--limit=1")
    assert (least.thresholds, least.processes, least.limit) == (1, 1, 1)


@pytest.mark.parametrize(
    ("limit", "scored"),
    [((), range(10)), (("--limit=3",), (0, 3, 6)), (("--limit=20",), range(10))],
)
def test_some_images_are_spread_evenly(monkeypatch, capsys, limit, scored):
    files = [(number, Path(f"{number}.mat")) for number in range(10)]
    monkeypatch.setattr(bsds.bsds, "pairs", lambda data, split: files)
    monkeypatch.setattr(bsds, "source", lambda options, overrides: (lambda image: image, "mine"))
    monkeypatch.setattr(bsds, "ProcessPoolExecutor", lambda count, _: ThreadPoolExecutor(count))
    monkeypatch.setattr(bsds, "score", lambda strength, truth, thresholds: (strength, thresholds))
    seen = []
    summarise = lambda counts: seen.append(counts) or {"ODS": 0.123456}
    monkeypatch.setattr(bsds.edge_scores, "summarise", summarise)
    found = bsds.measure(options_of("--processes=1", "--thresholds=7", *limit), [])
    assert seen == [[(number, 7) for number in scored]]
    assert 0 <= found.pop("seconds") < 600
    expected = {"ODS": 0.1235, "maps": "mine", "split": "val", "thresholds": 7}
    assert found == expected | {"images": len(scored)}
    err = capsys.readouterr().err
    assert err.startswith(f"\r1 of {len(scored)} images")
    assert err.endswith(f"\r{len(scored)} of {len(scored)} images\n")


def test_methods_get_levels_from_0_to_1(monkeypatch, tmp_path):
    image = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3) * 4
    Image.fromarray(image).save(tmp_path / "a.png")
    strength = lambda image, thinned: image[..., 0] + 10 * thinned
    monkeypatch.setattr(bsds.boundary, "strength", strength)
    monkeypatch.setattr(bsds.regions, "ucm", lambda soft, thin: np.stack([soft, thin]))
    read, name = bsds.source(options_of("--method=ucm"), [])
    assert name == "ucm"
    grey = image[..., 0] / 255
    np.testing.assert_allclose(read(tmp_path / "a.png"), [grey, grey + 10], rtol=1e-5)
    monkeypatch.setitem(bsds.METHODS, "canny", lambda image: image[..., 1])
    read, _ = bsds.source(options_of("--method=canny"), [])
    np.testing.assert_allclose(read(tmp_path / "a.png"), image[..., 1] / 255, rtol=1e-6)


def test_a_trained_run_predicts_one_image_at_a_time(monkeypatch, tmp_path):
    image = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    Image.fromarray(image).save(tmp_path / "a.png")

    def predict(state, batch, rng):
        assert {key: array.shape for key, array in batch.items()} == {
            "image": (1, 4, 5, 3),
            "index": (1,),
            "mask": (1,),
        }
        grey = batch["image"][..., 0] + batch["index"][0]
        return {name: grey * batch["mask"][:, None, None] + state}

    name = "strength"
    task = SimpleNamespace(predict=predict)
    restored = SimpleNamespace(
        experiment=SimpleNamespace(task=task),
        state=np.uint8(3),
        config=SimpleNamespace(task=SimpleNamespace(name="mine")),
    )
    monkeypatch.setattr(bsds.trained_runs, "restore", lambda *arguments: restored)
    monkeypatch.setattr(bsds.boundary, "ridges", lambda strength: 2 * strength)
    read, title = bsds.source(options_of(f"--workdir={tmp_path}"), [])
    assert title == str(tmp_path)
    np.testing.assert_array_equal(read(tmp_path / "a.png"), 2 * (image[..., 0] + 3.0))
    name = "other"
    with pytest.raises(UserError, match="mine predicts other, not `strength`"):
        bsds.source(options_of(f"--workdir={tmp_path}"), [])[0](tmp_path / "a.png")
    task.predict = None
    with pytest.raises(UserError, match=r"mine has no predict\(\)"):
        bsds.source(options_of(f"--workdir={tmp_path}"), [])
