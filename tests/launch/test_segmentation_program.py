"""A segmenter on several devices: the same losses, the same scores."""

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from launch.config import loading
from launch.data import batches
from launch.engine import experiments
from tests.launch.engine.test_compiled_steps import losses

HERE = "tests.launch.test_segmentation_program"


def blocks(split, count=24):
    """Blocks of three colours under noise, some pixels without a label."""
    rng = np.random.default_rng(["train", "test"].index(split))
    ids = rng.integers(0, 3, (count, 3, 5)).repeat(4, 1).repeat(4, 2)
    image = np.eye(3)[ids] * 150 + rng.integers(0, 100, (*ids.shape, 3))
    ids[rng.random(ids.shape) < 0.1] = 255
    return {"image": image.astype(np.uint8), "segmentation": ids.astype(np.uint8)[..., None]}


def config_of(**changes):
    config = ConfigDict(
        {
            "task": {"name": "jaxseg.segmentation:segmentation", "classes": 3},
            "model": {
                "name": "jaxseg.nets:UNet",
                "widths": (4, 8),
                "convolutions": 1,
                "dropout": 0.2,
                "groups": 2,
            },
            "optimizer": {"name": "optax:adam", "learning_rate": 1e-3, "ema": 0.9},
            "data": {
                "name": f"{HERE}:blocks",
                "batch_size": 8,
                "augment": [{"name": "jaxseg.augment:warp", "rotate": 20.0}],
            },
            "mesh": {"data": 1},
        }
    )
    config = loading.complete(config, "here")
    config.update_from_flattened_dict(changes)
    return config


@pytest.mark.parametrize(
    "changes",
    [
        {"mesh.data": 8},
        {"mesh.data": 8, "parallel": "pmap"},
        {"data.resident": True},
    ],
)
def test_every_layout_gives_the_losses_of_one_device(changes):
    wanted, state = losses(config_of(), steps=4)
    found, other = losses(config_of(**changes), steps=4)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    np.testing.assert_allclose(other.class_frequencies, state.class_frequencies, atol=1e-5)


@pytest.mark.parametrize(("devices", "batch_size"), [(1, 5), (1, 7), (8, 3), (8, 24)])
def test_scores_are_exact_for_any_batch_size_and_device_count(devices, batch_size):
    def evaluate(config, rows):
        data = batches.open_data(config.data, "test")
        experiment = experiments.build(config, data, training=False)
        state = experiments.initial_state(experiment)
        return experiments.evaluate(experiment, state, data, rows, experiment.compiled.score_step)

    whole = evaluate(config_of(), 24)
    found = evaluate(config_of(**{"mesh.data": devices}), batch_size)
    assert {"mean_iou", "boundary_f1", "hausdorff95", "calibration_error"} <= whole.keys()
    for name, value in whole.items():
        assert found[name] == pytest.approx(value, rel=1e-5), name


def test_batch_statistics_are_averaged_over_devices():
    config = config_of(parallel="pmap", **{"mesh.data": 8})
    with config.unlocked():
        config.model.norm = "batch"
    _, state = losses(config, steps=2)
    leaves = jax.tree.leaves(state.batch_stats)
    assert leaves
    assert all(np.isfinite(leaf).all() for leaf in leaves)


def test_a_run_says_when_the_data_names_no_classes():
    config = config_of(**{"task.classes": -1})
    data = batches.open_data(config.data, "test")
    with pytest.raises(Exception, match="names no classes"):
        config = experiments.with_classes(config, data.split)
