"""GANs on several devices: the same losses; and by the same commands as any task."""

import functools

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from launch.checkpoints import restoring
from launch.checkpoints.writer import CheckpointWriter
from launch.config import loading
from launch.config.errors import UserError
from launch.data import batches
from launch.engine import experiments
from tests.launch.engine.test_compiled_steps import losses

HERE = "tests.launch.test_gan_program"


def pictures(split, count=48):
    """Noisy stripes with a label map and a label."""
    rng = np.random.default_rng(["train", "test"].index(split))
    ids = np.broadcast_to(rng.integers(0, 3, (count, 1, 9)), (count, 8, 9))
    image = 60 * ids + rng.integers(0, 100, ids.shape)
    return {
        "image": image.astype(np.uint8)[..., None],
        "segmentation": ids.astype(np.uint8)[..., None],
        "label": rng.integers(0, 2, count).astype(np.int32),
    }


CLASSES = {
    "task": {
        "name": "jaxgen.gan:gan",
        "latents": 4,
        "classes": 2,
        "discriminator_steps": 2,
        "loss": {"name": "jaxgen.losses:hinge"},
        "spectral_norm": True,
        "penalty": "r1",
        "penalty_weight": 0.1,
        "penalty_every": 2,
        "augmentations": ({"name": "jaxgen.augmentations:translation"},),
    },
    "model": {
        "generator": {"name": "jaxgen.nets:DCGANGenerator", "widths": (4,)},
        "discriminator": {"name": "jaxgen.nets:DCGANDiscriminator", "widths": (4,)},
    },
}
MAPS = {
    "task": {"name": "jaxgen.translation:translation", "classes": 3, "latents": 2},
    "model": {
        "generator": {"name": "jaxgen.nets:UNetGenerator", "widths": (8,)},
        "discriminator": {"name": "jaxgen.nets:PatchDiscriminator", "widths": (8,)},
    },
}

KINDS = {"gan": CLASSES, "translation": MAPS}


def config_of(kind, **changes):
    adam = {"name": "optax:adam", "learning_rate": 1e-3, "b1": 0.5, "ema": 0.0}
    config = ConfigDict(
        kind
        | {
            "optimizer": {"generator": adam | {"ema": 0.9}, "discriminator": adam},
            "data": {"name": f"{HERE}:pictures", "batch_size": 16},
            "mesh": {"data": 1},
        }
    )
    config = loading.with_defaults(config, "here")
    config.update_from_flattened_dict(changes)
    return config


STEPS = 4


@functools.cache
def reference(name):
    """Losses and the last state on one device."""
    return losses(config_of(KINDS[name]), steps=STEPS)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("gan", {"mesh.data": 2, "parallel": "pmap"}),
        ("translation", {"mesh.data": 2}),
    ],
    ids=str,
)
def test_two_devices_give_the_losses_of_one(name, changes):
    wanted, state = reference(name)
    found, other = losses(config_of(KINDS[name], **changes), steps=STEPS)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    for one, two in zip(jax.tree.leaves(other.params), jax.tree.leaves(state.params), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-3)
    for vector, same in zip(other.vectors.values(), state.vectors.values(), strict=True):
        np.testing.assert_allclose(vector, same, atol=1e-4)


def test_a_run_goes_on_to_the_bit(tmp_path):
    """Both nets, both optimisers, the power iteration and the count of updates."""
    wanted, whole = reference("gan")
    _, state = losses(config_of(CLASSES), steps=2)
    writer = CheckpointWriter(tmp_path / "checkpoints", 2, "")
    writer.save(2, state, {}, {})
    writer.close()
    restore = lambda template: restoring.restore(tmp_path / "checkpoints", 2, template)
    found, state = losses(config_of(CLASSES), start=2, steps=STEPS - 2, state=restore)
    np.testing.assert_array_equal(found, wanted[2:])
    for one, two in zip(jax.tree.leaves(state), jax.tree.leaves(whole), strict=True):
        np.testing.assert_array_equal(one, two)


def test_evaluation_is_exact_for_any_batch_size_and_device_count():
    def evaluate(rows, **changes):
        config = config_of(CLASSES, **changes)
        data = batches.open_data(config.data, "test")
        experiment = experiments.build(config, data, training=False)
        state = experiments.initial_state(experiment)
        step = experiment.compiled.score_step
        return experiments.evaluate(experiment, state, data, rows, step)

    whole = evaluate(48)
    for name, value in evaluate(7, **{"mesh.data": 2}).items():
        assert value == pytest.approx(whole[name], rel=1e-5, abs=1e-6), name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train.accumulate": 2}, "not that of its micro-batches"),
        ({"data.batch_size": 9}, "discriminator_steps=2 does not divide a batch of 9"),
        (
            {"data.batch_size": 8, "mesh.data": 8, "parallel": "pmap"},
            "discriminator_steps=2 does not divide a batch of 1",
        ),
        ({"model.generator.widths": (8, 8, 8, 8)}, "at least 16 pixels; got 8 x 9"),
        ({"model.discriminator.widths": (8,) * 5}, "at least 32 pixels; got 8 x 9"),
        ({"task.penalty": "r7"}, "penalty must be r1, gradient or empty; got 'r7'"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_compiles(changes, message):
    config = config_of(CLASSES, **changes)
    data = batches.open_data(config.data, "train")
    with pytest.raises(UserError, match=message):
        experiments.build(config, data)
