"""The same losses however the step is compiled, laid out and fed."""

import itertools

import jax
import numpy as np
import pytest

from launch import train as training
from launch.checkpoints import restoring
from launch.checkpoints.writer import CheckpointWriter
from launch.config import schema
from launch.config.errors import UserError
from launch.data import batches
from launch.engine import compiled_steps, experiments

STEPS = 20
LARGE = "tests.launch.engine.test_compiled_steps:large"

LAYOUTS = {
    "one device": {"mesh.data": 1},
    "jit on 8": {"mesh.data": 8},
    "fsdp 4": {"mesh.data": 2, "mesh.fsdp": 4},
    "fsdp 8": {"mesh.data": 1, "mesh.fsdp": 8},
    "pmap on 8": {"mesh.data": 8, "parallel": "pmap"},
    "resident": {"mesh.data": 1, "data.resident": True},
    "resident on 8, 5 steps a dispatch": {
        "mesh.data": 8,
        "data.resident": True,
        "train.steps_per_dispatch": 5,
    },
    "streamed": {"mesh.data": 1, "data.cache_mib": 0},
    "4 micro-batches": {"mesh.data": 1, "train.accumulate": 4},
    "2 micro-batches, fsdp 2 on 8": {"mesh.data": 4, "mesh.fsdp": 2, "train.accumulate": 2},
    "2 micro-batches, pmap on 4": {"mesh.data": 4, "train.accumulate": 2, "parallel": "pmap"},
}


def losses(config, start=0, steps=STEPS, state=None):
    """Per-step metrics from `start` on, and the state after them."""
    data = batches.open_data(config.data, config.data.split)
    experiment = experiments.build(config, data)
    if state is None:
        state = experiments.initial_state(config, experiment)
    elif not isinstance(state, tuple):
        state = state(experiment.compiled.template)
    state = experiment.compiled.load(state)
    found = []
    stride = config.train.steps_per_dispatch
    feed = itertools.islice(training.feed(config, data, start), steps // stride)
    for number, batch in enumerate(feed):
        state, sums, _ = experiment.compiled.train(
            state, experiment.compiled.put_feed(batch), start + number * stride
        )
        found.append(np.asarray(sums["loss"]) / np.asarray(sums["count"]))
    return np.concatenate(found), experiment.compiled.unreplicate(state)


def layout(small, name, **more):
    config = small.copy_and_resolve_references()
    config.update_from_flattened_dict(LAYOUTS[name] | more)
    schema.check_values(config)
    return config


@pytest.fixture(scope="module")
def reference():
    return {}


@pytest.mark.parametrize("name", list(LAYOUTS)[1:])
def test_every_layout_gives_the_losses_of_one_device(small, reference, name):
    if not reference:
        reference["losses"], reference["state"] = losses(layout(small, "one device"))
    found, state = losses(layout(small, name))
    np.testing.assert_allclose(found, reference["losses"], rtol=0, atol=1e-5)
    for got, wanted in zip(
        jax.tree.leaves(state.params), jax.tree.leaves(reference["state"].params), strict=True
    ):
        np.testing.assert_allclose(got, wanted, atol=2e-3)


def test_augmentation_is_the_same_on_any_layout(small):
    shift = [{"name": "jaxgen.augmentations:shift"}]
    found = [
        losses(layout(small, name, **{"data.augment": shift}), steps=5)[0]
        for name in ("one device", "jit on 8", "pmap on 8", "resident")
    ]
    plain = losses(layout(small, "one device"), steps=5)[0]
    assert np.abs(found[0] - plain).max() > 0.1
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], atol=1e-5)


def test_fsdp_shards_parameters_and_optimiser_state(small):
    config = layout(small, "fsdp 4")
    data = batches.open_data(config.data, "train")
    state = experiments.initial_state(config, experiments.build(config, data))
    kernel = state.params["encoder"]["Dense_0"]["kernel"]
    assert kernel.size < 4096  # small leaves stay whole ...
    assert kernel.sharding.is_fully_replicated
    config.model.encoder.widths = (256,)
    state = experiments.initial_state(config, experiments.build(config, data))
    kernels = [x for x in jax.tree.leaves(state) if x.shape == (64, 256)]
    assert len(kernels) == 4  # ... large ones are split, with Adam's moments and the average
    for kernel in kernels:
        assert {s.data.shape for s in kernel.addressable_shards} == {(64, 64)}


@pytest.mark.parametrize("target", ["one device", "fsdp 4", "jit on 8", "pmap on 8"])
def test_a_checkpoint_of_8_devices_goes_on_anywhere(small, tmp_path, target):
    whole, _ = losses(layout(small, "fsdp 8"), steps=20)
    _, state = losses(layout(small, "fsdp 8"), steps=10)
    writer = CheckpointWriter(tmp_path / "checkpoints", 2, "")
    writer.save(10, state, {}, {})
    writer.close()
    restore = lambda template: restoring.restore(tmp_path / "checkpoints", 10, template)
    found, _ = losses(layout(small, target), start=10, steps=10, state=restore)
    np.testing.assert_allclose(found, whole[10:], atol=1e-5)


def test_bfloat16_computes_with_float32_state(small):
    config = layout(small, "one device", dtype="bfloat16")
    found, state = losses(config, steps=10)
    plain, _ = losses(layout(small, "one device"), steps=10)
    assert {x.dtype for x in jax.tree.leaves(state.params)} == {np.dtype("float32")}
    assert 0 < np.abs(found - plain).max() < 0.2


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("batch_size", [7, 64, 1000])
def test_evaluation_is_exact_for_any_batch_size_and_device_count(small, devices, batch_size):
    config = layout(small, "one device", **{"mesh.data": devices})
    data = batches.open_data(config.data, "test")
    experiment = experiments.build(config, data, training=False)
    state = experiments.initial_state(config, experiment)
    found = experiments.evaluate(
        experiment, state, data, batch_size, experiment.compiled.score_step
    )
    one = experiments.build(layout(small, "one device"), data, training=False)
    whole = experiments.evaluate(
        one, experiments.initial_state(small, one), data, data.split.size, one.compiled.score_step
    )
    assert found == pytest.approx(whole, rel=1e-6)


def test_sums_are_added_in_float64():
    parts = [{"a": np.float32(1e8)}, {"a": np.float32(1)}, {"a": np.float32(1)}]
    assert compiled_steps.total(parts)["a"] == 1e8 + 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mesh.data": 3}, r"batch_size=32 is not divisible by 3 devices; use a multiple of 3"),
        ({"mesh.data": 8, "train.accumulate": 8}, r"8 devices x 8 micro-batches"),
        ({"mesh.data": 9}, r"needs 9 devices; there are 8"),
        ({"mesh.fsdp": 0}, r"use positive sizes"),
        ({"data.resident": True, "data.cache_mib": 0, "data.name": LARGE}, r"so it streams"),
        ({"task.classes": 3, "data.name": LARGE}, "needs examples with an"),
        (
            {"model.encoder.name": "jaxgen.nets:ConvEncoder", "model.encoder.widths": (4, 4, 4, 4)},
            r"init\(\) fails .*ValueError: 4 widths halve the image 4 times",
        ),
        ({"model.encoder.widht": 3}, "did you mean 'widths'"),
        ({"task.objective": "elbow"}, "objective must be elbo"),
    ],
)
def test_what_cannot_work_is_named_before_anything_compiles(small, change, message):
    config = small.copy_and_resolve_references()
    with config.unlocked():
        config.update(nested(change))
    data = batches.open_data(config.data, config.data.split)
    with pytest.raises(UserError, match=message):
        experiments.build(config, data)


def large(split):
    return [{"image": np.zeros((20, 20, 1), np.uint8)}] * 3000


def nested(flat):
    """{"a.b": value} -> {"a": {"b": value}}, for keys that the config has not yet."""
    whole = {}
    for key, value in flat.items():
        *parents, last = key.split(".")
        place = whole
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return whole


def test_a_state_of_finite_numbers_is_recognised():
    state = lambda value: {
        "kernel": jax.numpy.array([0.0, value]),
        "count": jax.numpy.zeros((), int),
    }
    assert compiled_steps.all_finite(state(1.0) | {"key": jax.random.key(0)})
    assert not compiled_steps.all_finite(state(np.nan))
    assert not compiled_steps.all_finite(state(-np.inf))
