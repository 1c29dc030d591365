"""Flows on several devices: the same losses; and from a command line to an image."""

import functools
import json

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from launch import distributed, evaluate, sample, train
from launch.checkpoints import restoring
from launch.checkpoints.writer import CheckpointWriter
from launch.config import loading
from launch.config.errors import UserError
from launch.data import batches
from launch.engine import experiments
from tests.launch.engine.test_compiled_steps import losses

FLAGS = ("--steps=3", "--steps=5", "--sampler=sde", "--guidance=1", "--interval=0.5,1", "--ema=0.1")
HERE = "tests.launch.test_rnn_program"


def config_of(**changes):
    config = ConfigDict(
        {
            "task": {
                "name": "jaxgen.flow:flow",
                "classes": 2,
                "levels": 256,
                "sampling": {
                    "name": "jaxgen.flows:step_by_step",
                    "grid": {"name": "jaxgen.flows:even_times", "steps": 3},
                },
            },
            "model": {
                "name": "jaxgen.nets:ImageTransformer",
                **{"patch": 1, "width": 32, "layers": 1, "heads": 2},
            },
            "optimizer": {"name": "optax:adam", "learning_rate": 1e-3, "ema": 0.9},
            "data": {"name": f"{HERE}:pictures", "batch_size": 8},
            "mesh": {"data": 1},
        }
    )
    config = loading.with_defaults(config, "here")
    config.update_from_flattened_dict(changes)
    return config


STEPS = 4


@functools.cache
def reference():
    """Losses and the last state on one device."""
    return losses(config_of(), steps=STEPS)


@pytest.mark.parametrize(
    "changes",
    [{"mesh.data": 2, "mesh.fsdp": 2}, {"mesh.data": 2, "parallel": "pmap"}],
    ids=["fsdp", "pmap"],
)
def test_several_devices_give_the_losses_of_one(changes):
    wanted, state = reference()
    assert np.ptp(wanted) > 0.01
    found, other = losses(config_of(**changes), steps=STEPS)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)
    for one, two in zip(jax.tree.leaves(other.params), jax.tree.leaves(state.params), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-3)


def test_a_run_goes_on_to_the_bit(tmp_path):
    """Noise, times and dropped classes belong to the step; the moving average is saved too."""
    wanted, whole = reference()
    _, state = losses(config_of(), steps=2)
    writer = CheckpointWriter(tmp_path / "checkpoints", 2, "")
    writer.save(2, state, {}, {})
    writer.close()
    restore = lambda template: restoring.restore(tmp_path / "checkpoints", 2, template)
    found, state = losses(config_of(), start=2, steps=STEPS - 2, state=restore)
    np.testing.assert_array_equal(found, wanted[2:])
    for one, two in zip(jax.tree.leaves(state), jax.tree.leaves(whole), strict=True):
        np.testing.assert_array_equal(one, two)


def test_the_memory_of_a_step_does_not_grow():
    """The new state lies where the old one did, the moving average and Adam's moments too."""
    config = config_of()
    data = batches.open_data(config.data, "train")
    compiled = experiments.build(config, data).compiled
    feed = compiled.put_feed(next(batches.feed(data, config.data, 0, 0, 1)))
    program = compiled.lower_train(compiled.template, feed, 0).compile()
    leaves = jax.tree.leaves(compiled.template)
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
    assert program.memory_analysis().alias_size_in_bytes == size


def test_evaluation_is_exact_for_any_batch_size_and_device_count():
    def evaluate(rows, **changes):
        config = config_of(**changes)
        data = batches.open_data(config.data, "test")
        experiment = experiments.build(config, data, training=False)
        state = experiments.initial_state(experiment)
        step = experiment.compiled.score_step
        return experiments.evaluate(experiment, state, data, rows, step)

    whole = evaluate(48)
    assert {"loss", "negative_elbo", "bits_per_dim", "loss_t0.5"} <= set(whole)
    assert evaluate(7, **{"mesh.data": 2}) == pytest.approx(whole, rel=1e-5)


def test_a_run_is_sampled_by_seed_with_any_sampler(tmp_path, capsys, caplog):
    run, flags = tmp_path / "run", "--config.train.steps=8 --config.data.batch_size=8"
    flags += " --config.model.width=16 --config.model.layers=1 --config.task.sampling.grid.steps=3"
    flags += " --config.train.steps_per_dispatch=1 --config.data.resident=False"
    flags += " --config.optimizer.learning_rate.peak_value=0.02 --config.optimizer.ema=0.4,0.1"
    flags += " --config.optimizer.power_ema=0.05,0.1"
    train.main(["--config=configs/flow.py:conditional", f"--workdir={run}", *flags.split()])
    images = {}
    itself = f"--guidance=3 --weaker={run}"  # which leads nowhere
    for flag in (*FLAGS, itself):
        out = tmp_path / "images.npy"
        sample.main([f"--workdir={run}", f"--out={out}", "--seeds=5,7", *flag.split()])
        images[flag] = np.load(out)
    given = np.random.default_rng(0).integers(0, 256, (8, 8)).astype(np.uint8)
    hole = np.pad(np.full((4, 4), 255, np.uint8), 2)
    for name, picture in {"given": given, "hole": hole}.items():
        Image.fromarray(picture).save(tmp_path / f"{name}.png")
    flags = [f"--condition={tmp_path}/given.png", f"--mask={tmp_path}/hole.png", "--seeds=5,7"]
    sample.main([f"--workdir={run}", f"--out={out}", *flags])
    completed = np.round(255 * np.load(out)[..., 0]).astype(int)
    for picture in completed:
        np.testing.assert_array_equal(picture[hole == 0], given[hole == 0])
    assert np.abs(completed[0] - completed[1]).max() > 2
    with pytest.raises(UserError, match=r"--mask: jaxgen.flow:flow .* cannot keep pixels"):
        sample.main([f"--workdir={run}", *flags, "--config.task.sampling.start=0.5"])
    plain = images.pop("--steps=3")
    np.testing.assert_allclose(images[itself], images["--guidance=1"], atol=1e-5)
    assert plain.shape == (2, 8, 8, 1)
    for flag, other in images.items():
        assert np.abs(other - plain).max() > 0, flag
    evaluate.main([f"--workdir={run}", "--ema=0.4,0.1,none,power:0.1"])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["ema"] for row in rows] == ["0.4", "0.1", "none", "power:0.1"]
    assert len({row["loss"] for row in rows}) == 4
    command = [f"--workdir={run}", "--samples=40", "--guidance=1,2", "--interval=0.5,1"]
    options, said = evaluate._arguments().parse_args(command), set()
    caplog.clear()
    points = list(evaluate._grid(options, [], distributed.ALONE, said))
    assert caplog.text.count("the newest") == 1  # both points open the same checkpoint
    asked = [named for _, named in points]
    assert asked == [{"guidance": 1.0}, {"guidance": 2.0, "interval": (0.5, 1.0)}]
    found = [tuple(point.config.task.sampling.interval) for point, _ in points]
    assert found == [(0.1, 1.0), (0.5, 1.0)]
    with pytest.raises(UserError, match=r"mixed from 2 averages of 1 checkpoints"):
        evaluate.main([f"--workdir={run}", "--ema=power:0.25"])
    with pytest.raises(UserError, match="--interval has no effect with a guidance of 1"):
        sample.main([f"--workdir={run}", f"--out={out}", "--guidance=1", "--interval=0.5,1"])
    with pytest.raises(UserError, match="steps=0: sampling needs at least 1"):
        sample.main([f"--workdir={run}", f"--out={out}", "--steps=0"])


def test_bits_of_256_levels_of_colour_images(tmp_path, monkeypatch, caplog):
    """As docs/generation.md compares a flow with a PixelCNN: on a folder, by the bound."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rng, folder = np.random.default_rng(0), tmp_path / "images"
    for split in ("train", "test"):
        (folder / split).mkdir(parents=True)
        for number in range(4):
            image = rng.integers(0, 256, (4, 4, 3), np.uint8)
            Image.fromarray(image).save(folder / split / f"{number}.png")
    flags = f"--config.data.path={folder} --config.data.kwargs.size=4 --config.data.batch_size=4"
    flags += " --config.model.width=8 --config.model.multiples=(1,) --config.mesh.data=1"
    flags += " --config.task.levels=256 --config.task.weight.name=jaxgen.flows:bound"
    flags += " --config.task.parametrisation.name=jaxgen.flows:preconditioned"
    flags += " --config.task.density.name=jaxgen.flows:log_snr --config.task.density.high=13"
    config = loading.override(loading.load("configs/flow.py:folder"), flags.split())
    _, data = batches.open_splits(config.data, "test", tmp_path, config.task)
    assert "256 levels" not in caplog.text
    experiment = experiments.build(config, data, training=False)
    state, step = experiments.initial_state(experiment), experiment.compiled.score_step
    found = experiments.evaluate(experiment, state, data, 4, step)
    parts = found["prior"] + found["reconstruction"] + found["diffusion"]
    assert found["bits_per_dim"] == pytest.approx(parts / (48 * np.log(2)), rel=1e-5)
    # An untrained net knows little: not far above 8 bits, where all levels are as likely.
    assert 8 < found["bits_per_dim"] < 16
    assert found["reconstruction"] < 0.1 * found["negative_elbo"]
