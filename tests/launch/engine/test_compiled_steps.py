"""The same losses however the step is compiled, laid out and fed."""

import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from launch.checkpoints import restoring
from launch.checkpoints.writer import CheckpointWriter
from launch.config import schema
from launch.data import batches
from launch.engine import compiled_steps, experiments
from launch.engine.compiled_steps import StepOutputs
from tests.launch.engine.small import compiled

STEPS = 10
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
    "streamed": {"mesh.data": 1, "data.cache_mib": 0, "data.workers": 0},
    "computed again, on 8": {"mesh.data": 8, "train.remat": "all"},
    "computed again, resident": {"mesh.data": 1, "data.resident": True, "train.remat": "all"},
    "4 micro-batches": {"mesh.data": 1, "train.accumulate": 4},
    "2 micro-batches, fsdp 2 on 8": {"mesh.data": 4, "mesh.fsdp": 2, "train.accumulate": 2},
    "2 micro-batches, pmap on 4": {"mesh.data": 4, "train.accumulate": 2, "parallel": "pmap"},
}


def losses(config, start=0, steps=STEPS, state=None):
    """The loss of each step from `start` on, and the state after them."""
    data = batches.open_data(config.data, config.data.split)
    experiment = experiments.build(config, data)
    compiled, stride = experiment.compiled, config.train.steps_per_dispatch
    if state is None:
        state = experiments.initial_state(experiment)
    elif not isinstance(state, tuple):
        state = state(compiled.template)
    state, found = compiled.load(state), []
    feed = batches.feed(data, config.data, config.seed, start, stride)
    for number, batch in enumerate(itertools.islice(feed, steps // stride)):
        state, outputs = compiled.train(state, compiled.put_feed(batch), start + number * stride)
        assert outputs.skipped is None
        found.append(np.asarray(outputs.sums["loss"]) / np.asarray(outputs.sums["count"]))
    return np.concatenate(found), compiled.unreplicate(state)


def layout(small, name, **more):
    """The small config in a layout, on images of 4 x 4."""
    square = {"name": "launch.data.transforms:square", "size": 4}
    config = schema.with_values(small, {"data.preprocess": square} | LAYOUTS[name] | more)
    schema.check_values(config)
    return config


@pytest.fixture(scope="module")
def straight(small_config):
    """(layout) -> losses and state of a run of that layout, trained once for all tests."""
    return functools.cache(lambda name: losses(layout(small_config, name)))


@pytest.mark.parametrize("name", list(LAYOUTS)[1:])
def test_every_layout_gives_the_losses_of_one_device(straight, name):
    found, state = straight(name)
    wanted, reference = straight("one device")
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)
    pairs = zip(jax.tree.leaves(state.params), jax.tree.leaves(reference.params), strict=True)
    for one, other in pairs:
        np.testing.assert_allclose(one, other, atol=2e-3)


def test_augmentation_is_the_same_on_any_layout(small, straight):
    shift = [{"name": "jaxgen.augmentations:shift"}]
    found = [
        losses(layout(small, name, **{"data.augment": shift}), steps=5)[0]
        for name in ("one device", "pmap on 8", "resident on 8, 5 steps a dispatch")
    ]
    assert np.abs(found[0] - straight("one device")[0][:5]).max() > 0.1
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], atol=1e-5)


def test_a_step_belongs_to_its_number_whatever_the_dispatch(small, straight):
    # The first of several steps a dispatch, and one alone, are compiled in different ways.
    one = layout(small, "resident", **{"train.steps_per_dispatch": 1})
    found, _ = losses(one, start=5, steps=5, state=losses(one, steps=5)[1])
    np.testing.assert_allclose(found, straight("one device")[0][5:], atol=1e-5)


def test_fsdp_shards_parameters_and_optimiser_state(small):
    config = layout(small, "fsdp 4")
    data = batches.open_data(config.data, "train")
    state = experiments.initial_state(experiments.build(config, data))
    kernel = state.params["encoder"]["Dense_0"]["kernel"]
    assert kernel.size < 4096  # small leaves stay whole ...
    assert kernel.sharding.is_fully_replicated
    config.model.encoder.widths = (256,)
    state = experiments.initial_state(experiments.build(config, data))
    kernels = [x for x in jax.tree.leaves(state) if x.shape == (16, 256)]
    assert len(kernels) == 4  # ... large ones are split, with Adam's moments and the average
    for kernel in kernels:
        assert {s.data.shape for s in kernel.addressable_shards} == {(16, 64)}


@pytest.mark.parametrize("target", ["one device", "fsdp 4", "pmap on 8"])
def test_a_checkpoint_of_8_devices_goes_on_anywhere(small, straight, tmp_path, target):
    _, state = losses(layout(small, "fsdp 8"), steps=5)
    writer = CheckpointWriter(tmp_path / "checkpoints", 2, "")
    writer.save(5, state, {}, {})
    writer.close()
    restore = lambda template: restoring.restore(tmp_path / "checkpoints", 5, template)
    found, _ = losses(layout(small, target), start=5, steps=5, state=restore)
    np.testing.assert_allclose(found, straight("fsdp 8")[0][5:], atol=1e-5)


def test_bfloat16_computes_with_float32_state(small, straight):
    found, state = losses(layout(small, "one device", dtype="bfloat16"))
    assert {x.dtype for x in jax.tree.leaves(state.params)} == {np.dtype("float32")}
    assert 0 < np.abs(found - straight("one device")[0]).max() < 0.2


def test_a_step_that_is_not_finite_is_skipped_where_that_is_asked_for():
    one = lambda state, batch, step: (
        state + batch,
        StepOutputs({"loss": batch[None]}, {"rate": jnp.ones(1)}),
    )
    skip = lambda batch: compiled_steps.skip_if_nonfinite(
        one, None, jnp.float32(2.0), jnp.float32(batch), 0
    )
    state, outputs = skip(1.0)
    assert (state, outputs.sums["loss"], outputs.skipped) == (3.0, 1.0, 0.0)
    assert outputs.skipped.shape == (1,)
    state, outputs = skip(jnp.inf)
    assert (state, outputs.sums["loss"], outputs.skipped) == (2.0, 0.0, 1.0)


class Counting(NamedTuple):
    """A task that is no model; its step gives no number where the batch says so."""

    def init(self, rng, batch):
        return (jnp.zeros(3),)

    def train_step(self, state, batch, rng):
        loss = jnp.where(batch["poison"].any(), jnp.nan, 1.0)
        return (state[0] + loss,), {"loss": loss}

    def eval_step(self, state, batch, rng):
        return {"loss": state[0].sum()}

    def finish(self, sums):
        return sums

    def figures(self, state, batch, rng):
        return {}


@pytest.mark.parametrize("skip", [False, True])
def test_skipping_is_compiled_only_where_it_is_asked_for(skip):
    made = compiled(Counting(), skip_nonfinite=skip)
    batch = {"poison": np.array([False])}
    # The task itself chooses once, by `where`; skipping chooses each leaf of state and sums.
    program = made.train.lower(made.template, batch, 0).as_text()
    assert program.count("stablehlo.select") == (3 if skip else 1)
    state, outputs = made.train(made.init(batch), made.put_feed(batch), 0)
    assert (outputs.skipped is not None) == skip
    _, outputs = made.train(state, made.put_feed({"poison": np.array([True])}), 1)
    assert np.isfinite(outputs.sums["loss"]).all() == skip


def test_micro_batches_take_every_so_many_th_row():
    parts = compiled_steps.split_rows({"x": np.arange(12).reshape(6, 2)}, 3)
    np.testing.assert_array_equal(parts["x"][1], [[2, 3], [8, 9]])
    assert parts["x"].shape == (3, 2, 2)


def test_functions_that_a_task_lacks_are_none():
    made = compiled(Counting())
    assert [getattr(made, name) for name in ("sample", "complete", "predict")] == [None] * 3
    assert float(made.score_step(made.init({}), {})["loss"]) == 0.0  # eval_step serves


def test_finite_states():
    good = {"a": jnp.ones(2), "b": jnp.zeros((0, 3)), "c": jnp.arange(3)}
    good["key"] = jax.random.key(0)
    assert compiled_steps.all_finite(good)
    for bad in (jnp.inf, -jnp.inf, jnp.nan):
        assert not compiled_steps.all_finite(good | {"a": jnp.array([1.0, bad])})
    assert compiled_steps.all_finite({"c": jnp.arange(3)})


def test_sums_are_added_in_float64():
    parts = [{"a": np.float32(1e8)}, {"a": np.float32(1)}, {"a": np.float32(1)}]
    assert compiled_steps.total(parts)["a"] == 1e8 + 2


@pytest.mark.parametrize("name", ["one device", "resident"])
def test_the_new_state_takes_the_memory_of_the_old_one(small, name):
    config = layout(small, name)
    data = batches.open_data(config.data, "train")
    compiled = experiments.build(config, data).compiled
    feed = next(batches.feed(data, config.data, 0, 0, 1))
    program = compiled.lower_train(compiled.template, compiled.put_feed(feed), 0).compile()
    leaves = jax.tree.leaves(compiled.template)
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
    assert program.memory_analysis().alias_size_in_bytes == size


def test_a_planned_program_does_not_depend_on_the_number_of_steps(small):
    """So a plan that times a step has compiled the training's."""
    texts, found = {}, {}
    for plan, steps in itertools.product(({}, {"name": "a:plan"}), (4, 40)):
        config = layout(small, "resident")
        schedule = {"name": "optax:cosine_decay_schedule", "init_value": 0.1, "decay_steps": steps}
        config.plan, config.train.steps = plan, steps
        config.optimizer = {"name": "optax:adam", "learning_rate": schedule}
        case = bool(plan), steps
        found[case], _ = losses(config, steps=4)
        data = batches.open_data(config.data, "train")
        steps_of = experiments.build(config, data).compiled
        feed = steps_of.put_feed(next(batches.feed(data, config.data, 0, 0, 1)))
        texts[case] = steps_of.lower_train(steps_of.template, feed, 0).as_text()
    assert texts[True, 4] == texts[True, 40]
    assert texts[False, 4] != texts[False, 40]
    for steps in (4, 40):
        np.testing.assert_allclose(found[True, steps], found[False, steps], atol=1e-5)
    assert np.abs(found[True, 4] - found[True, 40]).max() > 1e-3
