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
    config = loading.with_defaults(config, "here")
    config.update_from_flattened_dict(changes)
    return config


PMAP = {"mesh.data": 2, "parallel": "pmap"}


def test_two_devices_give_the_losses_of_one():
    """By pmap, where what a step gathers beside parameters is averaged by the engine."""
    wanted, state = losses(config_of(), steps=3)
    found, other = losses(config_of(**PMAP), steps=3)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    np.testing.assert_allclose(other.class_frequencies, state.class_frequencies, atol=1e-5)


ENCODERS = {
    "batch norm": {
        "name": "jaxseg.nets.encoders:EfficientNetLite0",
        "stem": 4,
        "widths": (4,) * 7,
        "repeats": (1,) * 7,
    },
    "layer norm": {
        "name": "jaxseg.nets.encoders:ConvNeXt",
        "widths": (4, 4, 4, 4),
        "depths": (1, 1, 1, 1),
        "stochastic_depth": 0.2,
    },
}


def with_encoder(norm, **changes):
    """A net of an encoder and a decoder, without augmentation."""
    config = config_of(**changes, **{"data.augment": []})
    with config.unlocked():
        config.model = {
            "name": "jaxseg.nets:EncoderDecoder",
            "encoder": ENCODERS[norm],
            "decoder": {"name": "jaxseg.nets.decoders:FPN", "width": 8},
            "dropout": 0.2,
        }
    return config


# By pmap each device normalises its half of a batch by itself.
@pytest.mark.parametrize(
    ("norm", "layout"), [("batch norm", {"mesh.data": 1, "mesh.fsdp": 2}), ("layer norm", PMAP)]
)
def test_an_encoder_with_a_decoder_trains_alike_on_any_layout(norm, layout):
    wanted, _ = losses(with_encoder(norm), steps=2)
    found, _ = losses(with_encoder(norm, **layout), steps=2)
    np.testing.assert_allclose(found, wanted, rtol=1e-4)


def test_scores_are_exact_for_any_batch_size_and_device_count():
    def evaluate(devices, rows):
        config = config_of(**{"mesh.data": devices})
        data = batches.open_data(config.data, "test")
        experiment = experiments.build(config, data, training=False)
        state = experiments.initial_state(experiment)
        step = experiment.compiled.score_step
        return experiments.evaluate(experiment, state, data, rows, step)

    whole, found = evaluate(1, 24), evaluate(2, 7)
    assert {"mean_iou", "boundary_f1", "hausdorff95", "calibration_error"} <= whole.keys()
    for name, value in whole.items():
        assert found[name] == pytest.approx(value, rel=1e-5), name


def test_batch_statistics_are_averaged_over_devices():
    """In the first layer, the mean of the means of equal halves is that of the whole."""

    def means(**changes):
        config = config_of(**changes, **{"data.augment": []})
        with config.unlocked():
            config.model.norm = "batch"
        _, state = losses(config, steps=1)
        leaves = jax.tree_util.tree_leaves_with_path(state.batch_stats)
        assert all(np.isfinite(leaf).all() for _, leaf in leaves)
        return [np.asarray(leaf) for path, leaf in leaves if path[-1].key == "mean"]

    pairs = list(zip(means(**PMAP), means(), strict=True))
    assert len(pairs) > 1
    # Deeper layers differ, as each half is normalised by itself.
    assert min(np.abs(one - two).max() for one, two in pairs) < 1e-6
    assert all(np.abs(two).max() > 1e-4 for _, two in pairs)


def test_a_run_says_when_the_data_names_no_classes():
    config = config_of(**{"task.classes": -1})
    data = batches.open_data(config.data, "test")
    with pytest.raises(Exception, match="names no classes"):
        experiments.with_classes(config, data.split)
