"""The command: a run becomes a file that does the same, or nothing is written."""

import json
import zipfile

import numpy as np
import pytest
from PIL import Image
from safetensors import numpy as safetensors

from launch import export, sample, train
from launch.config.errors import CommandExit, UserError
from launch.exported import golden, loader
from launch.reporting import image_files
from tests.launch.exported import families

SHORT = {"train.steps": 2, "eval.every": 2, "eval.batch_size": 4, "checkpoint.every": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("export")


@pytest.fixture(scope="module")
def workdir(folder):
    """A run that draws images and has parameters that it does not need."""
    train.train(families.config_of("spots", **SHORT), folder / "spots")
    return folder / "spots"


@pytest.fixture(scope="module")
def files(workdir, folder):
    """The run as a file, its parameters, and the file once more."""
    out, again, params = (folder / name for name in ("a.zip", "b.zip", "spots.safetensors"))
    for path in (again, out):
        export.main([f"--workdir={workdir}", f"--out={path}", f"--params={params}"])
    return out, params, again


def test_images_are_those_that_sample_writes(workdir, files, tmp_path):
    out = tmp_path / "grid.png"
    sample.main([f"--workdir={workdir}", f"--out={out}", "--seeds=0-8", "--config.mesh.data=1"])
    found = image_files.grid(loader.load(files[0])(seeds=range(9))["images"]).astype(int)
    with Image.open(out) as picture:
        written = np.asarray(picture)
    assert found.shape == written.shape
    assert np.abs(found - written).max() <= 1
    assert np.count_nonzero(found - written) <= max(1, 0.001 * written.size)


def test_the_card_says_what_is_in_the_file(files):
    model = loader.load(files[0])
    assert not model.beyond_tolerance(model.differences())
    assert model.inputs == {"seeds": {"dtype": "int32", "shape": ["B"], "values": None}}
    assert model.outputs == {
        "images": {"dtype": "uint8", "shape": ["B", 4, 3, 1], "tolerance": 1, "share": 0.001}
    }
    card = model.card
    assert (card["function"], card["step"], card["classes"]) == ("sample", 2, [])
    assert card["task"] == card["config"]["task"]["name"] == "tests.launch.exported.families:spots"
    assert card["platforms"] == ["cpu", "cuda", "tpu"]
    assert card["parameters"] == {"arrays": 1, "bytes": 12}
    assert card["data"]["example"]["image"] == ["uint8", 4, 3, 1]


def test_the_parameters_that_are_read_are_a_file_too(files):
    out, params, _ = files
    theirs = safetensors.load_file(params)
    with zipfile.ZipFile(out) as archived:
        ours = loader.tensors(archived.read(loader.PARAMETERS))
    assert ours.keys() == theirs.keys() == {"params/bright"}
    for arrays in (ours, theirs):
        np.testing.assert_array_equal(arrays["params/bright"], np.float32(families.BRIGHT))


def test_the_same_run_gives_the_same_file(files):
    out, _, again = files
    assert out.read_bytes() == again.read_bytes()


def test_the_function_and_the_step_can_be_chosen(workdir, tmp_path, capsys):
    out = tmp_path / "model.zip"
    export.main([f"--workdir={workdir}", f"--out={out}", "--what=sample", "--step=2"])
    assert list(tmp_path.iterdir()) == [out]
    lines = capsys.readouterr().err.splitlines()
    assert lines[-2].startswith("  images: greatest difference 0")
    assert lines[-1].startswith(f"sample(seeds) of step 2 in {out}, 0.")
    assert lines[-1].endswith(f"`python {out}` checks it on any machine")


def test_nothing_is_written_that_differs_from_the_run(workdir, tmp_path, monkeypatch):
    make = golden.make
    monkeypatch.setattr(
        golden,
        "make",
        lambda *arguments: {
            name: array + 3 if "/out/" in name else array
            for name, array in make(*arguments).items()
        },
    )
    with pytest.raises(CommandExit, match="differs from the run: images; nothing was written"):
        export.main([f"--workdir={workdir}", f"--out={tmp_path}/model.zip"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workdir=nowhere"], r"no such directory: .*nowhere"),
        (["--out=none/model.zip"], r"--out=none/model.zip: no such folder: none; make it first"),
        (["--out=."], r"--out=\. is a folder; give the name of a file in it"),
        (["--params=model.zip"], r"--params=model.zip is --out"),
        (["--params=none/p.safetensors"], r"--params=none/p.safetensors: no such folder"),
        (["--what=predict"], r"--what=predict: .*spots has no predict\(\); it has sample"),
        (["--step=3"], r"--step=3: .* has steps"),
    ],
)
def test_mistakes_are_named(workdir, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        export.main([f"--workdir={workdir}", "--out=model.zip", *arguments])
    assert not list(tmp_path.iterdir())


def test_a_run_and_a_file_are_required(capsys):
    for arguments in (["--workdir=w"], ["--out=model.zip"]):
        with pytest.raises(SystemExit):
            export.main(arguments)
    assert "required: --workdir" in capsys.readouterr().err


def test_an_unknown_function_is_a_mistake(workdir, capsys):
    with pytest.raises(SystemExit) as left:
        export.main([f"--workdir={workdir}", "--out=model.zip", "--what=train"])
    assert left.value.code == 2
    assert "predict" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("dtype", "name", "array", "expected"),
    [
        ("float32", "probability", np.zeros(1, np.float32), (1e-5, 1.0)),
        ("bfloat16", "probability", np.zeros(1, np.float32), (0.05, 1.0)),
        ("float32", "images", np.zeros(1, np.uint8), (1, 0.001)),
        ("bfloat16", "images", np.zeros(1, np.uint8), (13, 0.05)),
        ("float32", "labels", np.zeros(1, np.uint16), (65535, 0.001)),
    ],
)
def test_how_far_outputs_may_be_from_those_of_the_run(dtype, name, array, expected):
    found = export._tolerance(dtype, name, array)
    assert (found["tolerance"], found["share"]) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ["ground", "red", "blue"]),
        ({"task.names": ("a", "b", "c")}, ["a", "b", "c"]),
        ({"task.names": ("a", "b")}, ["0", "1", "2"]),
    ],
)
def test_classes_have_names_or_numbers(changes, expected):
    config = families.config_of("unet")
    with config.unlocked():
        config.task.update({key.removeprefix("task."): value for key, value in changes.items()})
    split = type("Split", (), {"classes": families.Examples.classes})
    restored = type("Restored", (), {"config": config, "data": type("Data", (), {"split": split})})
    assert export._class_names(restored) == expected


def test_the_card_is_json(files):
    with zipfile.ZipFile(files[0]) as archived:
        assert json.loads(archived.read(loader.CARD))["format"] == 1
