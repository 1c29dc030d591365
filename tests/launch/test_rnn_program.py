"""Autoregressive models on several devices: the same losses."""

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from launch.config import loading
from launch.config.errors import UserError
from launch.data import batches
from launch.engine import experiments
from tests.launch.engine.test_compiled_steps import losses

HERE = "tests.launch.test_rnn_program"


def pictures(split, count=48):
    """Noisy stripes with a label."""
    rng = np.random.default_rng(["train", "test"].index(split))
    bright = rng.integers(0, 3, (count, 1, 3, 1))
    image = 60 * bright + rng.integers(0, 100, (count, 4, 3, 1))
    return {"image": image.astype(np.uint8), "label": rng.integers(0, 2, count).astype(np.int32)}


NETS = {
    "row": {"name": "jaxgen.nets:PixelRNN", "layer": "row"},
    "diagonal": {"name": "jaxgen.nets:PixelRNN", "layer": "diagonal"},
    "cnn": {"name": "jaxgen.nets:PixelCNN", "first": 3},
}
LIKELIHOODS = {
    "row": {"name": "jaxgen.likelihoods:softmax", "levels": 4},
    "diagonal": {"name": "jaxgen.likelihoods:binary"},
    "cnn": {"name": "jaxgen.likelihoods:logistic_mixture", "components": 2},
}


def config_of(name, **changes):
    config = ConfigDict(
        {
            "task": {
                "name": "jaxgen.autoregressive:pixel_rnn",
                "classes": 2,
                "likelihood": LIKELIHOODS[name],
            },
            "model": NETS[name] | {"layers": 1, "features": 8, "head": 8},
            "optimizer": {"name": "optax:adam", "learning_rate": 1e-3, "ema": 0.9},
            "data": {"name": f"{HERE}:pictures", "batch_size": 8},
            "mesh": {"data": 1},
        }
    )
    config = loading.with_defaults(config, "here")
    config.update_from_flattened_dict(changes)
    return config


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("row", {"mesh.data": 2, "mesh.fsdp": 2, "model.features": 32}),  # enough to be divided
        ("diagonal", {"mesh.data": 2, "parallel": "pmap"}),
        ("cnn", {"mesh.data": 2}),
    ],
    ids=str,
)
def test_several_devices_give_the_losses_of_one(name, changes):
    alone = {"mesh.data": 1, "mesh.fsdp": 1, "parallel": "jit"}
    wanted, state = losses(config_of(name, **changes | alone), steps=5)
    assert np.ptp(wanted) > 0.01
    found, other = losses(config_of(name, **changes), steps=5)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)
    for one, two in zip(jax.tree.leaves(other.params), jax.tree.leaves(state.params), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-3)


def test_evaluation_is_exact_for_any_batch_size_and_device_count():
    def evaluate(rows, **changes):
        config = config_of("cnn", **changes)
        data = batches.open_data(config.data, "test")
        experiment = experiments.build(config, data, training=False)
        state = experiments.initial_state(experiment)
        step = experiment.compiled.score_step
        return experiments.evaluate(experiment, state, data, rows, step)

    whole = evaluate(48)
    assert set(whole) == {"loss", "nll", "nll_bits_per_dim"}
    assert evaluate(7, **{"mesh.data": 2}) == pytest.approx(whole, rel=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task.given_rows": 5}, "given_rows must be 0 to 3 of 4, got 5"),
        ({"model.layer": "column"}, "layer must be row or diagonal, got 'column'"),
        ({"model.kernel": 4}, "side of a convolution must be odd and at least 3, got 4"),
        ({"task.likelihood.levels": 300}, "levels must be 2 to 256, got 300"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_compiles(changes, message):
    config = config_of("row")
    with config.unlocked():
        config.update_from_flattened_dict(changes)
    data = batches.open_data(config.data, "train")
    with pytest.raises(UserError, match=message):
        experiments.build(config, data)
