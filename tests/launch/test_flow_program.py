"""Flows on several devices: the same losses; and from a command line to an image."""

import json

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from launch import distributed, evaluate, sample, train
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


@pytest.mark.parametrize(
    "changes",
    [{"mesh.data": 2, "mesh.fsdp": 2}, {"mesh.data": 2, "parallel": "pmap"}],
    ids=["fsdp", "pmap"],
)
def test_several_devices_give_the_losses_of_one(changes):
    wanted, _ = losses(config_of(), steps=4)
    assert np.ptp(wanted) > 0.01
    found, _ = losses(config_of(**changes), steps=4)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


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


def test_a_run_is_sampled_by_seed_with_any_sampler(tmp_path, capsys):
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
    points = list(evaluate._grid(evaluate._arguments().parse_args(command), [], distributed.ALONE))
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
