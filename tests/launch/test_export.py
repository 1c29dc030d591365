"""A run as one file: it does the same, with jax alone, and tells what was done to it."""

import hashlib
import io
import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image
from safetensors import numpy as safetensors

from jaxgen.task import Task
from launch import export, sample, train
from launch.config import loading
from launch.config.errors import CommandExit, UserError
from launch.engine import experiments
from launch.exported import archive, loader, tracing
from launch.inference import sampling
from launch.reporting import image_files
from tests.launch import (
    test_gan_program,
    test_rnn_program,
    test_sample,
    test_segmentation_program,
)

SHORT = {"train.steps": 4, "eval.every": 4, "eval.batch_size": 16, "checkpoint.every": 4}
ALONE = ("jax", "jaxlib", "numpy", "ml_dtypes", "opt_einsum", "scipy")  # what pip brings with jax


PLAYERS = {
    "task": {"name": "jaxgen.gan:gan", "latents": 4, "classes": 2},
    "model": {
        "generator": {"name": "jaxgen.nets:MLPDecoder", "widths": (8,)},
        "discriminator": {"name": "jaxgen.nets:MLPDiscriminator", "widths": (8,)},
    },
}


def pixelcnn():
    config = test_rnn_program.config_of("cnn", **SHORT)
    with config.unlocked():
        config.model.update(features=8, head=8)
        config.task.likelihood = test_rnn_program.LIKELIHOODS["diagonal"]
    return config


def batch_normed():
    config = test_segmentation_program.config_of(**SHORT)
    with config.unlocked():
        config.model.norm, config.data.augment = "batch", []
    return config


def painter():
    config = {
        "task": {"name": "tests.launch.test_sample:painter"},
        "optimizer": {"name": "optax:sgd", "learning_rate": 0.1},
        "data": {"name": "tests.launch.test_sample:blocks", "batch_size": 4},
        "mesh": {"data": 1},
    }
    config = loading.complete(ConfigDict(config), "painter")
    config.update_from_flattened_dict(SHORT)
    return config


RUNS = {
    "gan": lambda: test_gan_program.config_of(PLAYERS, **SHORT),
    "painter": painter,
    "pixels": pixelcnn,
    "unet": batch_normed,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("export")


@pytest.fixture(scope="module")
def made(folder, small_config):
    """Makes a run, once, and its file; returns both."""
    done = {}

    def make(name):
        if name not in done:
            config = RUNS[name]() if name in RUNS else small_config.copy_and_resolve_references()
            train.train(config, folder / name)
            done[name] = call(folder / name, folder / f"{name}.zip")
        return folder / name, done[name]

    return make


def call(workdir, out, *arguments):
    """Runs the command in this process; returns the file."""
    export.main([f"--workdir={workdir}", f"--out={out}", *map(str, arguments)])
    return out


def opened_of(workdir):
    return experiments.restore(workdir, ["--config.mesh.data=1"], None, None)


def alike(found, wanted):
    """Images of two compiled programs: at most a grey level apart, and few that are."""
    apart = np.abs(found.astype(int) - wanted.astype(int))
    assert found.shape == wanted.shape
    assert apart.max() <= 1
    assert np.count_nonzero(apart) <= max(1, 0.001 * apart.size)


def changed(file, target, **members):
    """A copy of an archive in which members are others."""
    with zipfile.ZipFile(file) as archived:
        content = {name: archived.read(name) for name in archived.namelist()}
    archive.write(target, content | members)
    return target


@pytest.mark.parametrize("name", ["vae", *RUNS])
def test_a_file_holds_to_what_the_run_gave(made, name):
    model = loader.load(made(name)[1])
    assert not model.beyond(model.differences())
    assert model.check() <= (1e-5 if name == "unet" else 1)
    assert model.card["step"] == (40 if name == "vae" else 4)
    assert model.card["platforms"] == ["cpu", "cuda", "tpu"]


def test_images_are_those_that_sample_writes(made, tmp_path):
    workdir, file = made("vae")
    out = tmp_path / "grid.png"
    sample.main([f"--workdir={workdir}", f"--out={out}", "--seeds=0-8", "--config.mesh.data=1"])
    with Image.open(out) as picture:
        alike(image_files.grid(loader.load(file)(seeds=range(9))["images"]), np.asarray(picture))


@pytest.mark.parametrize("name", ["gan", "pixels"])
def test_any_number_of_seeds_and_classes_is_drawn(made, name):
    workdir, file = made(name)
    model = loader.load(file)
    assert model.card["classes"] == ["0", "1"]
    seeds = [11, 2, 2, 7, 30]
    wanted = sampling.sample_images(opened_of(workdir), seeds, None, 8)
    found = model(seeds=seeds, labels=np.array(seeds) % 2)["images"]
    assert found.dtype == np.uint8
    alike(found, np.asarray(tracing.levels(jnp.asarray(wanted))))
    alone = model(seeds=[7], labels=[1])["images"]
    alike(alone, found[3:4])


def test_a_segmenter_takes_images_and_gives_labels(made):
    workdir, file = made("unet")
    model, restored = loader.load(file), opened_of(workdir)
    assert set(model.inputs) == {"image"}
    assert set(model.outputs) == {"probability", "entropy", "labels"}
    image = test_segmentation_program.blocks("test", 7)["image"]
    batch = {"image": image, "index": np.arange(7, dtype=np.int32)}
    wanted = restored.experiment.compiled.predict(
        restored.state, restored.experiment.compiled.put_batch(batch)
    )
    found = model(image=image)
    for key in ("probability", "entropy"):
        np.testing.assert_allclose(found[key], wanted[key], atol=1e-5)
    np.testing.assert_array_equal(found["labels"], found["probability"].argmax(-1))
    assert found["labels"].dtype == np.uint8


def test_masks_become_images(made):
    workdir, file = made("painter")
    model, restored = loader.load(file), opened_of(workdir)
    assert model.card["what"] == "complete"
    assert model.card["parameters"] == {"arrays": 0, "bytes": 0}
    assert model.inputs["segmentation"]["values"] == [0, 1, 2, 255]
    masks = np.stack([one["segmentation"] for one in test_sample.blocks("test")[:5]])
    columns = {"segmentation": masks, "label": np.zeros(5, np.int32)}
    wanted = sampling.run_by_seed(
        restored, restored.experiment.compiled.complete, list(range(5)), columns, 8
    )
    found = model(seeds=np.arange(5), segmentation=masks)["images"]
    alike(found, np.asarray(tracing.levels(jnp.asarray(wanted))))


def test_what_else_a_task_can_do_is_exported_when_asked_for(made, folder):
    model = loader.load(call(made("vae")[0], folder / "rebuild.zip", "--what=complete"))
    assert model.card["what"] == "complete"
    assert not model.beyond(model.differences())
    assert model(image=np.zeros((2, 8, 8, 1), np.uint8), seeds=[0, 1])["images"].shape[0] == 2


def test_only_what_is_read_is_stored_and_once(made, folder):
    workdir, file = made("vae")
    parameters = folder / "vae.safetensors"
    call(workdir, file, f"--params={parameters}")
    decoder = opened_of(workdir).state.params["decoder"]
    theirs = safetensors.load_file(parameters)
    with zipfile.ZipFile(file) as archived:
        ours = loader.tensors(archived.read(loader.PARAMETERS))
        assert len(archived.read(loader.PROGRAM)) < 50_000
    assert ours.keys() == theirs.keys()
    assert all("/ema/decoder/" in name for name in theirs)
    assert len(theirs) == len(jax.tree.leaves(decoder))
    for name, array in theirs.items():
        np.testing.assert_array_equal(ours[name], array)


def test_a_file_says_nothing_of_the_machine(made):
    with zipfile.ZipFile(made("unet")[1]) as archived:
        program = archived.read(loader.PROGRAM)
    assert b"jaxseg/nets/unet.py" in program
    assert str(Path(export.__file__).parents[1]).encode() not in program
    assert sys.prefix.encode() not in program


def test_every_type_of_parameter_is_read_back():
    arrays = {
        "half": np.asarray(jnp.arange(6, dtype=jnp.bfloat16).reshape(2, 3)).T,
        "count": np.int32(7),
        "none": np.zeros((0, 3), np.float32),
        "yes": np.array([True, False]),
        "wide": np.arange(3.0),
    }
    found = loader.tensors(archive.parameters(arrays))
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"seeds": [1]}, r"takes seeds, labels; got seeds"),
        ({"seeds": [1], "labels": [0], "image": [0]}, r"got image, labels, seeds"),
        ({"seeds": [1.5], "labels": [0]}, r"seeds must be int32 \[B\] .*; got float64 \[1\]"),
        ({"seeds": [2**40], "labels": [0]}, r"seeds must be int32 \[B\]"),
        ({"seeds": [], "labels": []}, r"at least one row; got float64 \[0\]"),
        ({"seeds": 3, "labels": 0}, r"got int64 \[\]"),
        ({"seeds": [[1]], "labels": [0]}, r"got int64 \[1, 1\]"),
        ({"seeds": [1, 2], "labels": [0]}, r"same number of rows; got .*'seeds': 2"),
        ({"seeds": [1], "labels": [2]}, r"labels: 2 is none of 0, 1"),
    ],
)
def test_inputs_that_cannot_be_meant_are_refused(made, arrays, message):
    model = loader.load(made("gan")[1])
    with pytest.raises(ValueError, match=message):
        model(**dict(sorted(arrays.items())))


def test_images_are_not_guessed_from_floats(made):
    with pytest.raises(ValueError, match=r"image must be uint8 \[B, 12, 20, 3\]"):
        loader.load(made("unet")[1])(image=np.zeros((1, 12, 20, 3)))


@pytest.mark.parametrize("member", [loader.PROGRAM, loader.PARAMETERS, loader.GOLDEN])
def test_a_changed_member_is_named(made, tmp_path, member):
    with zipfile.ZipFile(made("vae")[1]) as archived:
        content = bytearray(archived.read(member))
    content[len(content) // 2] ^= 1
    file = changed(made("vae")[1], tmp_path / "changed.zip", **{member: bytes(content)})
    with pytest.raises(ValueError, match=f"{member} has changed since it was written"):
        loader.load(file)


def test_a_flipped_bit_and_half_a_file_are_noticed(made, tmp_path):
    whole, file = made("vae")[1].read_bytes(), tmp_path / "damaged.zip"
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for damaged in (whole[: len(whole) // 2], bytes(flipped), b"no archive"):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match="damaged"):
            loader.load(file)


@pytest.mark.parametrize(
    ("off", "beyond"),
    [
        ({}, []),
        ({"chance": 5e-6, "images": 1}, []),
        ({"chance": 2e-5}, ["chance"]),
        ({"chance": np.nan}, ["chance"]),
        ({"images": 2}, ["images"]),
        ({"images": 1, "many": True}, ["images"]),
    ],
)
def test_how_far_outputs_may_differ(off, beyond):
    outputs = {
        "chance": {"tolerance": 1e-5, "share": 1.0},
        "images": {"tolerance": 1, "share": 0.001},
    }
    inputs = {"seeds": {"dtype": "int32", "shape": ["B"], "values": None}}
    golden = {
        "1/in/seeds": np.zeros(1, np.int32),
        "1/out/chance": np.full((1, 4), 0.5),
        "1/out/images": np.full((1, 100), 7, np.uint8),
    }
    places = slice(None) if off.get("many") else slice(3, 4)
    images = jnp.full((1, 100), 7, jnp.uint8).at[:, places].add(off.get("images", 0))
    given = lambda parameters, rows: {
        "chance": jnp.full((1, 4), 0.5 + off.get("chance", 0)),
        "images": images,
    }
    model = loader.Model({"inputs": inputs, "outputs": outputs}, given, {}, golden)
    assert model.beyond(model.differences()) == beyond
    assert (model.check() <= 1e-5) == (not off)


def test_nothing_is_written_that_does_not_do_the_same(made, tmp_path, monkeypatch):
    wrong = export.golden.make
    monkeypatch.setattr(
        export.golden,
        "make",
        lambda *arguments: {
            name: array + 3 if "/out/" in name else array
            for name, array in wrong(*arguments).items()
        },
    )
    with pytest.raises(CommandExit, match="does not give what the run gives: images differ"):
        call(made("vae")[0], tmp_path / "model.zip")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workdir=nowhere"], r"no such directory: .*nowhere"),
        (["--out=none/model.zip"], r"--out=none/model.zip: no such folder: none; make it first"),
        (["--out=."], r"--out=\. is a folder; give the name of a file in it"),
        (["--params=model.zip"], r"--params=model.zip is --out"),
        (
            ["--what=predict"],
            r"--what=predict: jaxgen.vae:vae has no predict\(\); it has sample, comp",
        ),
        (["--step=3"], r"--step=3: .* has steps"),
    ],
)
def test_what_cannot_be_exported_is_named(made, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        export.main([f"--workdir={made('vae')[0]}", "--out=model.zip", *arguments])
    assert not list(tmp_path.iterdir())


def test_an_unknown_function_is_a_mistake(made, capsys):
    with pytest.raises(SystemExit) as left:
        export.main([f"--workdir={made('vae')[0]}", "--out=model.zip", "--what=train"])
    assert left.value.code == 2
    assert "predict" in capsys.readouterr().err


def test_a_task_that_promises_nothing_is_named():
    config = ConfigDict({"task": {"name": "mine:task"}})
    task = Task(*[None] * 5, complete=lambda state, batch, rng: batch["image"])
    restored = experiments.Restored(
        config, None, experiments.Experiment(task, None, None, {}), None, 0
    )
    with pytest.raises(
        UserError, match=r"mine:task has no predict\(\), sample\(\) or complete\(\)"
    ):
        tracing.choose(restored, None)


def of_seeds(function):
    seeds = {"seeds": jax.ShapeDtypeStruct((), np.int32)}
    return tracing.ExportedFunction(
        "sample", {}, seeds, seeds, lambda _, inputs: function(inputs["seeds"])
    )


def test_a_function_that_counts_its_rows_is_exported_row_by_row():
    counting = of_seeds(lambda seeds: {"images": jnp.zeros((len(seeds), 2)) + seeds[:, None]})
    exported = tracing.exported(counting, "mine")
    found = exported.call({}, {"seeds": np.arange(3, dtype=np.int32)})
    np.testing.assert_array_equal(found["images"], [[0, 0], [1, 1], [2, 2]])


def test_what_jax_cannot_export_is_a_mistake():
    like = jax.ShapeDtypeStruct((), np.float32)
    asking = lambda seeds: jax.vmap(
        lambda seed: jax.pure_callback(np.sin, like, seed, vmap_method="sequential")
    )(seeds * 1.0)
    with pytest.raises(UserError, match=r"mine: sample\(\) cannot be exported for cpu, cuda, tpu"):
        tracing.exported(of_seeds(asking), "mine")


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """Runs Python where jax and what it needs are installed, and nothing else is."""
    place = tmp_path_factory.mktemp("bare")
    venv.create(place / "venv", with_pip=False)
    (place / "site").mkdir()
    for name in ALONE:
        package = Path(sys.modules.get(name, __import__(name)).__file__).parent
        (place / "site" / name).symlink_to(package)
        for beside in package.parent.glob(f"{name}.libs"):  # shared libraries of its wheel
            (place / "site" / beside.name).symlink_to(beside)
    environment = os.environ | {"PYTHONPATH": str(place / "site")}

    def run(*command):
        python = place / "venv" / "bin" / "python"
        return subprocess.run(
            [python, *map(str, command)],
            cwd=place,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


def test_jax_alone_runs_it(made, bare):
    script = (
        "import importlib.util, json, sys\n"
        "names = 'jaxgen jaxseg launch flax optax safetensors flatbuffers'.split()\n"
        "there = [name for name in names if importlib.util.find_spec(name)]\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "import segen_model\n"
        "images = segen_model.load()(seeds=[3, 1], labels=[1, 1])['images']\n"
        "print(json.dumps([there, images.tolist()]))"
    )
    file = made("gan")[1]
    done = bare("-c", script, file)
    assert done.returncode == 0, done.stderr
    there, images = json.loads(done.stdout)
    assert not there
    alike(np.array(images), loader.load(file)(seeds=[3, 1], labels=[1, 1])["images"])


def test_running_the_file_checks_it(made, bare):
    done = bare(made("gan")[1])
    assert done.returncode == 0, done.stderr
    for text in (
        "sample of jaxgen.gan:gan, step 4",
        "in  seeds: int32 [B]",
        "out images: uint8 [B, 8, 9, 1]",
        "2 classes: 0, 1",
        "parity on cpu",
        "images: greatest difference",
    ):
        assert text in done.stdout


def test_a_check_that_fails_exits_with_one_and_says_why(made, tmp_path, capsys):
    file = made("gan")[1]
    broken = changed(file, tmp_path / "broken.zip", **{loader.GOLDEN: b"else"})
    assert loader.main(broken) == 1
    assert "golden.npz has changed since it was written" in capsys.readouterr().err
    with zipfile.ZipFile(file) as archived:
        golden = dict(np.load(io.BytesIO(archived.read(loader.GOLDEN))))
        card = json.loads(archived.read(loader.CARD))
    stream = io.BytesIO()
    np.savez(stream, **golden | {"3/out/images": golden["3/out/images"] ^ 2})
    card["sha256"][loader.GOLDEN] = hashlib.sha256(stream.getvalue()).hexdigest()
    members = {loader.GOLDEN: stream.getvalue(), loader.CARD: json.dumps(card).encode()}
    assert loader.main(changed(file, tmp_path / "other.zip", **members)) == 1
    assert "FAILED: images differ by more than the card allows" in capsys.readouterr().err
